//! Access logs of Apache and nginx (common and combined): `10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0"
//! 200 2326 ...`.
//!
//! They state no level; the status does: 5xx is `ERROR`, 4xx `WARNING`, the rest `INFO`.

use super::scan::{Scan, instant};
use super::{Context, Found};

/// Host, identity and user come before the bracket.
const BRACKET_WITHIN_BYTES: usize = 400;

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let head = line.as_bytes();
    let head = head.get(..BRACKET_WITHIN_BYTES).unwrap_or(head);
    let bracket = memchr::memmem::find(head, b" [")?;
    let mut scan = Scan::new(line.get(bracket + 2..)?);
    let day = scan.digits(2)?;
    scan.byte(b'/')?;
    let month = scan.month_name()?;
    scan.byte(b'/')?;
    let year = i32::try_from(scan.digits(4)?).ok()?;
    scan.byte(b':')?;
    let time = scan.time()?;
    let zone = scan.zone();
    scan.byte(b']')?;
    let timestamp_us = Some(instant(year, month, day, time, zone, context)?);
    Some(Found { timestamp_us, level: level_by_status(scan.rest()) })
}

/// The three digits behind the quoted request.
fn level_by_status(text: &str) -> Option<&'static str> {
    let request = text.strip_prefix(" \"")?;
    let bytes = request.as_bytes();
    let end = memchr::memchr_iter(b'"', bytes).find(|at| *at == 0 || bytes[at - 1] != b'\\')?;
    let mut scan = Scan::new(request.get(end + 1..)?);
    scan.spaces();
    match scan.digits(3)? {
        500..=599 => Some("ERROR"),
        400..=499 => Some("WARNING"),
        _ => Some("INFO"),
    }
}
