//! Taking a series apart, and writing one.

use std::borrow::Cow;

use super::tokens::Cursor;
use crate::sources::scrape::labels::Labels;

/// The label of the name.
pub(in crate::sources::scrape) const NAME: &str = "__name__";

/// The labels of a series that a reader gave, its name among them. `None` where it is none, or has a label twice.
pub(in crate::sources::scrape) fn parse(series: &str) -> Option<Labels> {
    let mut labels = Labels::default();
    let mut cursor = Cursor::new(series);
    if let Some(name) = cursor.name(true) {
        labels.set(NAME, name);
    }
    cursor.blanks();
    if !cursor.eat(b'{') {
        return cursor.is_at_end().then_some(labels).filter(|labels| !labels.is_empty());
    }
    let mut seen: Vec<Cow<'_, str>> = Vec::new();
    loop {
        cursor.blanks();
        if cursor.eat(b'}') {
            return (cursor.is_at_end() && labels.get(NAME).is_some()).then_some(labels);
        }
        let name = match cursor.peek()? {
            b'"' => unescape(cursor.quoted()?),
            _ => Cow::Borrowed(cursor.name(false)?),
        };
        cursor.blanks();
        if cursor.eat(b'=') {
            cursor.blanks();
            let value = unescape(cursor.quoted()?);
            if seen.contains(&name) || (name == NAME && labels.get(NAME).is_some()) {
                return None;
            }
            labels.set(&name, &value);
            seen.push(name);
        } else {
            labels.set(NAME, &name);
        }
        cursor.blanks();
        cursor.eat(b',');
    }
}

/// `\\`, `\"` and `\n` for what they stand for; other escapes stay as they are.
pub(in crate::sources::scrape) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (plain, used) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'"') => ('"', 2),
            Some(b'n') => ('\n', 2),
            _ => ('\\', 1),
        };
        out.push(plain);
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Writes a series so that [`parse`] reads it: for formats that have no text of it.
pub(super) fn write<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>, out: &mut String) {
    out.clear();
    out.push('{');
    quote(name, out);
    for (name, value) in labels {
        out.push(',');
        quote(name, out);
        out.push('=');
        quote(value, out);
    }
    out.push('}');
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}
