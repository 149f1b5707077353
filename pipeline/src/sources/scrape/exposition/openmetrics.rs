//! The text format of OpenMetrics 1.0.
//!
//! It is stricter than the other: no empty lines, no comments of one's own, one blank between words, times in seconds, exemplars behind samples (which are
//! checked and not kept), and `# EOF` at its end, without which it was cut off on its way.

use super::tokens::{Cursor, Wrong, family, number};
use super::{Event, Kind, Place, ReadError};

type Each<'e> = &'e mut dyn FnMut(Event<'_>) -> Result<(), String>;

pub(super) fn read(page: &[u8], each: Each<'_>) -> Result<(), ReadError> {
    let mut ended = false;
    // The line feed behind the last line begins none.
    let page = page.strip_suffix(b"\n").unwrap_or(page);
    let mut last = 0;
    for (index, line) in page.split(|byte| *byte == b'\n').enumerate() {
        last = index + 1;
        let malformed = |what| ReadError::Malformed { what, place: Place::Line(index + 1) };
        if ended {
            return Err(malformed("something after # EOF"));
        }
        let line = std::str::from_utf8(line).map_err(|_| malformed("invalid UTF-8"))?;
        match event(line).map_err(malformed)? {
            Some(event) => each(event).map_err(ReadError::Stopped)?,
            None => ended = true,
        }
    }
    if ended { Ok(()) } else { Err(ReadError::Malformed { what: "no # EOF", place: Place::Line(last) }) }
}

/// What a line says; `None` at the end.
fn event(line: &str) -> Result<Option<Event<'_>>, Wrong> {
    if line == "# EOF" {
        return Ok(None);
    }
    if let Some(comment) = line.strip_prefix('#') {
        return described(comment).map(Some);
    }
    let mut cursor = Cursor::new(line);
    let series = cursor.series()?;
    if !cursor.eat(b' ') {
        return Err("no blank before the value");
    }
    let value = cursor.number()?;
    let mut timestamp_ms = None;
    if cursor.eat(b' ') && cursor.peek() != Some(b'#') {
        timestamp_ms = Some(timestamp(cursor.word())?);
        cursor.eat(b' ');
    }
    if cursor.eat(b'#') {
        exemplar(&mut cursor)?;
    }
    if !cursor.is_at_end() {
        return Err("something after the sample");
    }
    Ok(Some(Event::Sample { series, value, timestamp_ms }))
}

fn described(comment: &str) -> Result<Event<'_>, Wrong> {
    let mut cursor = Cursor::new(comment);
    if !cursor.eat(b' ') {
        return Err("a comment, which OpenMetrics has not");
    }
    let what = cursor.word();
    if !cursor.eat(b' ') {
        return Err("a comment, which OpenMetrics has not");
    }
    let name = family(&mut cursor)?;
    let text = if cursor.eat(b' ') {
        cursor.rest()
    } else if cursor.is_at_end() {
        ""
    } else {
        return Err("a name of a metric that does not end");
    };
    let kind = match (what, text) {
        ("HELP", text) => return Ok(Event::Help(name, text)),
        ("UNIT", unit) => {
            let fits = unit.is_empty() || name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'));
            return if fits { Ok(Event::Unit(name, unit)) } else { Err("a unit that the name does not end with") };
        }
        ("TYPE", "counter") => Kind::Counter,
        ("TYPE", "gauge") => Kind::Gauge,
        ("TYPE", "histogram") => Kind::Histogram,
        ("TYPE", "gaugehistogram") => Kind::GaugeHistogram,
        ("TYPE", "summary") => Kind::Summary,
        ("TYPE", "info") => Kind::Info,
        ("TYPE", "stateset") => Kind::StateSet,
        ("TYPE", "unknown") => Kind::Unknown,
        ("TYPE", _) => return Err("a type that there is not"),
        _ => return Err("a comment, which OpenMetrics has not"),
    };
    Ok(Event::Type(name, kind))
}

/// Seconds since 1970, with a fraction, in milliseconds.
fn timestamp(text: &str) -> Result<i64, Wrong> {
    const WRONG: Wrong = "a timestamp that is no number of seconds";
    let seconds = number(text).filter(|seconds| seconds.is_finite()).ok_or(WRONG)?;
    let ms = seconds * 1000.0;
    if ms.abs() < 9.2e18 { Ok(ms as i64) } else { Err(WRONG) }
}

/// ` {labels} value [seconds]`, behind the `#`.
fn exemplar(cursor: &mut Cursor<'_>) -> Result<(), Wrong> {
    const WRONG: Wrong = "an exemplar that is not {labels} and a value";
    if !cursor.eat(b' ') || cursor.peek() != Some(b'{') {
        return Err(WRONG);
    }
    // Labels are those of a series with some name.
    let rest = cursor.rest();
    let named = format!("e{rest}");
    let mut inner = Cursor::new(&named);
    let taken = inner.series().map_err(|_| WRONG)?.len() - 1;
    *cursor = Cursor::new(&rest[taken..]);
    if !cursor.eat(b' ') {
        return Err(WRONG);
    }
    cursor.number().map_err(|_| WRONG)?;
    if cursor.eat(b' ') {
        timestamp(cursor.word())?;
    }
    Ok(())
}
