//! logfmt: `time="2024-01-02T03:04:05Z" level=info msg="it works" n=3`. The time is the first of `ts`, `time`,
//! `timestamp`, `t`, `at`, `@timestamp` that reads as one (RFC 3339 or a Unix number), the level the first of `level`,
//! `lvl`, `severity`, `loglevel`. A line with neither is not logfmt.

use super::{Context, Found, words};
use crate::agents::logs::formats::scan::Scan;
use crate::data::time;

/// Both come early.
const PAIRS: usize = 24;

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let mut found = Found::default();
    let mut rest = line;
    for _ in 0..PAIRS {
        let Some((key, value, behind)) = pair(rest) else { break };
        match key {
            "ts" | "time" | "timestamp" | "t" | "at" | "@timestamp" if found.timestamp_us.is_none() => {
                found.timestamp_us = Scan::new(value).iso(context).or_else(|| time::parse(value));
            }
            "level" | "lvl" | "severity" | "loglevel" if found.level.is_none() => found.level = words::stated(value),
            _ => {}
        }
        if found.timestamp_us.is_some() && found.level.is_some() {
            break;
        }
        rest = behind;
    }
    (found != Found::default()).then_some(found)
}

/// The pair at the start of `text`: key, value without its quotes, what follows.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim_start();
    let (key, rest) = text.split_once('=')?;
    if key.is_empty()
        || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@'))
    {
        return None;
    }
    match rest.strip_prefix('"') {
        None => {
            let end = rest.find(' ').unwrap_or(rest.len());
            Some((key, &rest[..end], &rest[end..]))
        }
        Some(quoted) => {
            let bytes = quoted.as_bytes();
            let mut at = 0;
            while *bytes.get(at)? != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            Some((key, &quoted[..at], &quoted[at + 1..]))
        }
    }
}
