//! `{"streams": [{"stream": {"app": "web"}, "values": [["<ns>", "line", {"trace_id": "..."}]]}]}`

use std::borrow::Cow;

use super::lines::{Lines, Pairs};
use super::selector;
use crate::data::Refusal;
use crate::data::json::{BodyError, Position, Reader, Str, SyntaxError, Value};
use crate::data::logs::Logs;
use crate::data::time;
use crate::sources::IngestError;
use crate::sources::batcher::Dealer;

/// Reads a request into rows.
pub(super) fn read(body: &[u8], dealer: &mut Dealer<'_, Logs>) -> Result<(), IngestError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| BodyError::NotUtf8 { position: Position::of(body, error.valid_up_to()) })?;
    let mut lines = Lines::new(dealer);
    let mut reader = Reader::new(text);
    request(&mut reader, &mut lines)
        .and_then(|()| reader.end())
        .map_err(|error| BodyError::Malformed { position: Position::of(body, error.offset), what: error.what })?;
    Ok(())
}

fn request(reader: &mut Reader<'_>, lines: &mut Lines<'_, '_>) -> Result<(), SyntaxError> {
    let mut members = reader.begin_object()?;
    while let Some(name) = reader.next_key(&mut members)? {
        if !name.same_as(Str::plain("streams")) || reader.peek() != Some(b'[') {
            let at = reader.offset();
            let value = reader.value()?;
            if name.same_as(Str::plain("streams")) && value != Value::Null {
                return Err(SyntaxError { offset: at, what: "expected `streams` to be an array" });
            }
            continue;
        }
        let mut streams = reader.begin_array()?;
        while reader.next_element(&mut streams)? {
            stream(reader, lines)?;
            if lines.dealer.is_failed() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// One stream. Its labels may come behind its lines, so the lines are read once the whole of it has been seen.
fn stream(reader: &mut Reader<'_>, lines: &mut Lines<'_, '_>) -> Result<(), SyntaxError> {
    let mut labels: Option<Result<Pairs<'_>, Refusal>> = None;
    let mut selector: Option<Cow<'_, str>> = None;
    let (mut values, mut entries) = (None, None);
    let mut members = reader.begin_object()?;
    while let Some(name) = reader.next_key(&mut members)? {
        let (from, is_list) = (reader.offset(), reader.peek() == Some(b'['));
        if name.same_as(Str::plain("stream")) {
            let mut members = reader.begin_object()?;
            let labels = labels.get_or_insert_with(|| Ok(Pairs::new()));
            while let Some(name) = reader.next_key(&mut members)? {
                let at = reader.offset();
                let Value::String(value) = reader.value()? else {
                    return Err(SyntaxError { offset: at, what: "expected a label's value to be a string" });
                };
                push(labels, name, value);
            }
        } else if name.same_as(Str::plain("values")) && is_list {
            reader.value()?;
            values = Some((from, reader.offset()));
        } else if name.same_as(Str::plain("entries")) && is_list {
            reader.value()?;
            entries = Some((from, reader.offset()));
        } else if let (Value::String(text), true) = (reader.value()?, name.same_as(Str::plain("labels"))) {
            selector = Some(text.text());
        }
    }
    // As it was before Loki 1.0: `{"labels": "{app=\"web\"}", "entries": [{"ts": "2026-03-01T12:00:00Z", "line": "..."}]}`.
    let labels = labels.or_else(|| selector.as_deref().map(selector::parse)).unwrap_or_else(|| Ok(Pairs::new()));
    let stream = labels.as_ref().map_err(Refusal::clone).and_then(|labels| lines.stream(labels));
    for (span, read) in [(values, entry as ReadEntry), (entries, old_entry as ReadEntry)] {
        let Some((from, to)) = span else { continue };
        let mut inner = Reader::new(reader.span(from, to));
        let shift = |error: SyntaxError| SyntaxError { offset: from + error.offset, ..error };
        let mut walk = inner.begin_array().map_err(shift)?;
        while inner.next_element(&mut walk).map_err(shift)? {
            let entry = read(&mut inner).map_err(shift)?;
            match (&stream, &entry.metadata) {
                (Err(refusal), _) | (_, Err(refusal)) => lines.refuse(refusal),
                (Ok(labels), Ok(metadata)) => lines.line(labels, entry.unix_ns, &entry.line.text(), metadata),
            }
        }
    }
    Ok(())
}

type ReadEntry = for<'a> fn(&mut Reader<'a>) -> Result<Entry<'a>, SyntaxError>;

struct Entry<'a> {
    unix_ns: Option<i128>,
    line: Str<'a>,
    metadata: Result<Pairs<'a>, Refusal>,
}

/// `["<ns>", "line"]`, and maybe an object of metadata.
fn entry<'a>(reader: &mut Reader<'a>) -> Result<Entry<'a>, SyntaxError> {
    let mut elements = reader.begin_array()?;
    let missing = |reader: &Reader<'_>| SyntaxError { offset: reader.offset(), what: "expected [\"<ns>\", \"line\"]" };
    if !reader.next_element(&mut elements)? {
        return Err(missing(reader));
    }
    let unix_ns = match reader.value()? {
        value @ (Value::String(_) | Value::Number(_)) => value.as_text().text().trim().parse().ok(),
        _ => return Err(missing(reader)),
    };
    if !reader.next_element(&mut elements)? {
        return Err(missing(reader));
    }
    let Value::String(line) = reader.value()? else { return Err(missing(reader)) };
    let mut metadata = Ok(Pairs::new());
    if reader.next_element(&mut elements)? {
        let mut members = reader.begin_object()?;
        while let Some(name) = reader.next_key(&mut members)? {
            let at = reader.offset();
            let Value::String(value) = reader.value()? else {
                return Err(SyntaxError { offset: at, what: "expected structured metadata to be strings" });
            };
            push(&mut metadata, name, value);
        }
        if reader.next_element(&mut elements)? {
            return Err(SyntaxError { offset: reader.offset(), what: "expected `]` behind the metadata" });
        }
    }
    Ok(Entry { unix_ns, line, metadata })
}

/// `{"ts": "<RFC 3339>", "line": "line"}`
fn old_entry<'a>(reader: &mut Reader<'a>) -> Result<Entry<'a>, SyntaxError> {
    let at = reader.offset();
    let (mut unix_ns, mut line) = (None, None);
    let mut members = reader.begin_object()?;
    while let Some(name) = reader.next_key(&mut members)? {
        match reader.value()? {
            Value::String(text) if name.same_as(Str::plain("ts")) => {
                unix_ns = time::parse(text.text().trim()).map(|us| i128::from(us) * 1_000);
            }
            Value::String(text) if name.same_as(Str::plain("line")) => line = Some(text),
            _ => {}
        }
    }
    let line = line.ok_or(SyntaxError { offset: at, what: "expected {\"ts\": \"<RFC 3339>\", \"line\": \"...\"}" })?;
    Ok(Entry { unix_ns, line, metadata: Ok(Pairs::new()) })
}

/// Adds a label; of one that is there twice, JSON keeps the last.
fn push<'a>(labels: &mut Result<Pairs<'a>, Refusal>, name: Str<'a>, value: Str<'a>) {
    /// More than any limit on labels: who has as many is refused without looking for repeated ones.
    const MAX_LABELS: usize = 4_096;
    if let Ok(pairs) = labels {
        if pairs.len() == MAX_LABELS {
            *labels = Err(Refusal::TooMany { what: "labels", limit: MAX_LABELS });
        } else {
            pairs.push((name.text(), value.text()));
        }
    }
}
