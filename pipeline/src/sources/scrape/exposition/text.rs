//! The text format of Prometheus, 0.0.4, and 1.0.0 with names in UTF-8.
//!
//! ```text
//! # HELP http_requests_total Requests so far.
//! # TYPE http_requests_total counter
//! http_requests_total{method="post",code="200"} 1027 1395066363000
//! {"name.in.utf-8", "a label"="value"} 1
//! ```

use super::tokens::{Cursor, Wrong, family};
use super::{Event, Kind, Place, ReadError};

type Each<'e> = &'e mut dyn FnMut(Event<'_>) -> Result<(), String>;

pub(super) fn read(page: &[u8], each: Each<'_>) -> Result<(), ReadError> {
    for (index, line) in page.split(|byte| *byte == b'\n').enumerate() {
        let malformed = |what| ReadError::Malformed { what, place: Place::Line(index + 1) };
        let line = std::str::from_utf8(line).map_err(|_| malformed("invalid UTF-8"))?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if let Some(event) = event(line).map_err(malformed)? {
            each(event).map_err(ReadError::Stopped)?;
        }
    }
    Ok(())
}

fn event(line: &str) -> Result<Option<Event<'_>>, Wrong> {
    let mut cursor = Cursor::new(line);
    cursor.blanks();
    if cursor.is_at_end() {
        return Ok(None);
    }
    if cursor.eat(b'#') {
        return comment(cursor);
    }
    let series = cursor.series()?;
    if !cursor.blanks() && !series.ends_with('}') {
        return Err("no value after the name of a metric");
    }
    let value = cursor.number()?;
    cursor.blanks();
    let timestamp_ms = match cursor.word() {
        "" => None,
        text => Some(text.parse().map_err(|_| "a timestamp that is no whole number of milliseconds")?),
    };
    cursor.blanks();
    if !cursor.is_at_end() {
        return Err("something after the timestamp");
    }
    Ok(Some(Event::Sample { series, value, timestamp_ms }))
}

/// What is not HELP or TYPE is for people.
fn comment(mut cursor: Cursor<'_>) -> Result<Option<Event<'_>>, Wrong> {
    if !cursor.blanks() {
        return Ok(None);
    }
    let is_help = match cursor.word() {
        "HELP" => true,
        "TYPE" => false,
        _ => return Ok(None),
    };
    cursor.blanks();
    let name = family(&mut cursor)?;
    let apart = cursor.blanks();
    if is_help {
        if !apart && !cursor.is_at_end() {
            return Err("a name of a metric that does not end");
        }
        return Ok(Some(Event::Help(name, cursor.rest())));
    }
    let kind = match cursor.word() {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "summary" => Kind::Summary,
        "untyped" | "unknown" => Kind::Unknown,
        _ => return Err("a type that there is not"),
    };
    cursor.blanks();
    if !cursor.is_at_end() {
        return Err("something after the type");
    }
    Ok(Some(Event::Type(name, kind)))
}
