//! Apache's error log: `[Sun Dec 04 04:47:44 2005] [error] text`, since 2.4 with microseconds and `[module:level]`.

use super::scan::{Scan, instant};
use super::{Context, Found, words};

const WEEKDAYS: [&str; 7] = ["Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun "];

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let inner = line.strip_prefix('[')?;
    let weekday = WEEKDAYS.iter().find(|day| inner.starts_with(**day))?;
    let mut scan = Scan::new(inner.get(weekday.len()..)?);
    let month = scan.month_name()?;
    scan.byte(b' ')?;
    let day = scan.day()?;
    scan.byte(b' ')?;
    let time = scan.time()?;
    scan.byte(b' ')?;
    let year = i32::try_from(scan.digits(4)?).ok()?;
    scan.byte(b']')?;
    let timestamp_us = Some(instant(year, month, day, time, None, context)?);
    Some(Found { timestamp_us, level: bracketed(scan.rest()) })
}

/// ` [error] ` or ` [core:error] `; `trace1` to `trace8` are one level.
fn bracketed(text: &str) -> Option<&str> {
    let inner = text.strip_prefix(" [")?.split(']').next()?;
    let level = inner.rsplit(':').next()?;
    words::stated(level.trim_end_matches(|c: char| c.is_ascii_digit()))
}
