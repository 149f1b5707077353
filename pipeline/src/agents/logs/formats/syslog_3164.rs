//! Syslog as RFC 3164 describes it and `/var/log` has it: `[<PRI>]Jun 14 15:16:01 host tag[pid]: message`.
//!
//! There is no year (some devices add one after the day). rsyslog's form with an ISO stamp in the place of the date is
//! read too.
//!
//! The level is the priority's severity. Files seldom keep the priority; then it is what the message begins with
//! (`error: text`), else `WARNING` or `ERROR` where a word of it says so ([`super::words::guessed`]), else `INFO`.

use super::scan::{Scan, instant, latest};
use super::{Context, Found, words};

/// Severity 0 to 7, in syslog's words.
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let mut scan = Scan::new(line);
    let severity = if scan.peek() == Some(b'<') { Some(priority(&mut scan)?) } else { None };
    let timestamp_us = match scan.peek()? {
        b'0'..=b'9' if severity.is_some() => scan.iso(context)?,
        _ => stamp(&mut scan, context)?,
    };
    Some(Found { timestamp_us: Some(timestamp_us), level: Some(severity.unwrap_or_else(|| level_of(scan.rest()))) })
}

/// `<34>`: the name of its severity.
pub(super) fn priority(scan: &mut Scan<'_>) -> Option<&'static str> {
    scan.byte(b'<')?;
    let priority = scan.number().filter(|priority| *priority <= 191)?;
    scan.byte(b'>')?;
    SEVERITIES.get(priority as usize % 8).copied()
}

/// The level of `host tag[pid]: message` by its message.
pub(super) fn level_of(text: &str) -> &str {
    let message = text.split_once(": ").map_or(text, |(_, message)| message);
    words::leading(message).unwrap_or_else(|| words::guessed(message))
}

/// Whether this, behind an ISO stamp, is ` host tag[pid]: ` or ` host tag: `.
pub(super) fn is_header(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let host = words.next().unwrap_or_default();
    let tag = words.next().unwrap_or_default();
    let named = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    named(host) && !host.ends_with(':') && named(tag) && tag.ends_with(':')
}

fn stamp(scan: &mut Scan<'_>, context: &Context) -> Option<i64> {
    let month = scan.month_name()?;
    scan.byte(b' ')?;
    let day = scan.day()?;
    scan.byte(b' ')?;
    let mut with_year = *scan;
    if let Some(year) = with_year.digits(4).filter(|_| with_year.accept(b' ')) {
        let time = with_year.time()?;
        *scan = with_year;
        return instant(i32::try_from(year).ok()?, month, day, time, None, context);
    }
    let time = scan.time()?;
    latest(month, day, time, context)
}
