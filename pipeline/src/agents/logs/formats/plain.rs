//! Lines without a date that still state a level at their start: `WARNING:root:text` (Python's default), `[INFO] text`,
//! `error: text`, and logback's `17:41:44.747 [main] INFO c.example.App - text`. A time of day without a date is not
//! taken for a time: in a file of last week it would be wrong by a week.

use super::scan::Scan;
use super::{Found, words};

pub(super) fn parse(line: &str) -> Option<Found<'_>> {
    let mut scan = Scan::new(line);
    let level = if scan.time().is_some() {
        words::stated_near(scan.rest())
    } else {
        words::leading(line).or_else(|| capitals(line))
    };
    level.map(|level| Found { timestamp_us: None, level: Some(level) })
}

fn capitals(line: &str) -> Option<&str> {
    let word = line.split_ascii_whitespace().next()?;
    words::stated(word).filter(|word| !word.bytes().any(|byte| byte.is_ascii_lowercase()))
}
