//! nginx's error log and Go's `log`: `2024/01/02 03:04:05 [error] 12#0: text`, `2024/01/02 03:04:05.000001 text`.

use super::scan::{Scan, instant};
use super::{Context, Found, words};

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let mut scan = Scan::new(line);
    let year = i32::try_from(scan.digits(4)?).ok()?;
    scan.byte(b'/')?;
    let month = scan.digits(2)?;
    scan.byte(b'/')?;
    let day = scan.digits(2)?;
    scan.byte(b' ')?;
    let time = scan.time()?;
    let timestamp_us = Some(instant(year, month, day, time, None, context)?);
    Some(Found { timestamp_us, level: words::stated_near(scan.rest()) })
}
