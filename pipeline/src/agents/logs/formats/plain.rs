//! Lines without a date that still state a level at their start: `WARNING:root:text` (Python's default), `[INFO] text`, `error: text`, and
//! logback's `17:41:44.747 [main] INFO c.example.App - text`. A time of day without a date is not taken for a time: in a
//! file of last week it would be wrong by a week.

use super::scan::Scan;
use super::{Found, words};

pub(super) fn parse(line: &str) -> Option<Found<'_>> {
    let mut scan = Scan::new(line);
    let level = if scan.time().is_some() { words::stated_near(scan.rest()) } else { first_word(line) };
    level.map(|level| Found { timestamp_us: None, level: Some(level) })
}

/// A level before a colon or in brackets, or one in capitals.
fn first_word(line: &str) -> Option<&str> {
    let word = line.split_ascii_whitespace().next()?;
    let bare = word.trim_start_matches(['[', '(', '<']);
    let end = bare.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(bare.len());
    let (level, behind) = bare.split_at(end);
    let closed = behind.starts_with([':', ']', ')', '>']);
    let capitals = behind.is_empty() && !level.bytes().any(|byte| byte.is_ascii_lowercase());
    words::stated(level).filter(|_| closed || capitals)
}
