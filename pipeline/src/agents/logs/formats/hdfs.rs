//! Hadoop's short form: `081109 203615 148 INFO dfs.DataNode$PacketResponder: text` (yyMMdd HHmmss thread level).

use super::scan::{Scan, Time, instant};
use super::{Context, Found, words};

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let mut scan = Scan::new(line);
    let year = i32::try_from(scan.digits(2)?).ok()?;
    let (month, day) = (scan.digits(2)?, scan.digits(2)?);
    scan.byte(b' ')?;
    let time = Time::of(scan.digits(2)?, scan.digits(2)?, scan.digits(2)?, 0)?;
    scan.byte(b' ')?;
    scan.number()?;
    scan.byte(b' ')?;
    let level = words::stated(scan.rest().split(' ').next()?)?;
    let timestamp_us = Some(instant(2000 + year, month, day, time, None, context)?);
    Some(Found { timestamp_us, level: Some(level) })
}
