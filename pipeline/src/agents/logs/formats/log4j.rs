//! Other layouts of log4j and its kin: the level first and an ISO stamp after it, or a date in the day's order.
//!
//! ```text
//! INFO  [main] 2015-07-29 17:41:44,747 Server.java:12 - text        (Cassandra; also `[INFO] 2015-...`, `WARN: 2015-...`)
//! 29 Jul 2015 17:41:44,747 INFO text                                 (`%d{dd MMM yyyy HH:mm:ss,SSS}`; also with `/` or `-`)
//! 17/06/09 20:10:40 INFO executor.Executor: text                     (Spark, yy/MM/dd)
//! ```

use super::scan::{Scan, instant};
use super::{Context, Found, words};

/// How many words may stand between the level and the stamp.
const STAMP_WITHIN_WORDS: usize = 4;

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    match line.bytes().next()? {
        b'0'..=b'9' => day_first(line, context).or_else(|| short_year_first(line, context)),
        _ => level_first(line, context),
    }
}

fn level_first<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let (first, mut rest) = line.split_once(' ')?;
    let level = words::stated(first.trim_matches(|c: char| !c.is_ascii_alphanumeric()))?;
    for _ in 0..STAMP_WITHIN_WORDS {
        rest = rest.trim_start();
        let mut scan = Scan::new(rest.strip_prefix('[').unwrap_or(rest));
        if let Some(timestamp_us) = scan.iso(context) {
            return Some(Found { timestamp_us: Some(timestamp_us), level: Some(level) });
        }
        rest = rest.split_once(' ')?.1;
    }
    None
}

fn day_first<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let mut scan = Scan::new(line);
    let day = scan.day()?;
    let between = scan.peek().filter(|byte| matches!(byte, b' ' | b'/' | b'-'))?;
    scan.byte(between)?;
    let month = scan.month_name()?;
    scan.byte(between)?;
    let year = i32::try_from(scan.digits(4)?).ok()?;
    scan.byte(b' ')?;
    let time = scan.time()?;
    let zone = scan.zone();
    let timestamp_us = Some(instant(year, month, day, time, zone, context)?);
    Some(Found { timestamp_us, level: words::stated_near(scan.rest()) })
}

fn short_year_first<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let mut scan = Scan::new(line);
    let year = i32::try_from(scan.digits(2)?).ok()?;
    scan.byte(b'/')?;
    let month = scan.digits(2)?;
    scan.byte(b'/')?;
    let day = scan.digits(2)?;
    scan.byte(b' ')?;
    let time = scan.time()?;
    let timestamp_us = Some(instant(2000 + year, month, day, time, None, context)?);
    Some(Found { timestamp_us, level: words::stated_near(scan.rest()) })
}
