//! A string of a JSON text, as it stands between its quotes: unescaped only where it is used.

use std::borrow::Cow;
use std::fmt;

/// A borrowed string that may still hold JSON escapes (checked by the reader).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Str<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Str<'a> {
    /// A string that stands for itself.
    pub(crate) fn plain(text: &'a str) -> Self {
        Self { raw: text, escaped: false }
    }

    /// A string with escapes, as in the JSON text.
    pub(super) fn escaped(raw: &'a str) -> Self {
        Self { raw, escaped: true }
    }

    /// True for `""`.
    pub(crate) fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// Its size in the JSON text, in bytes: never less than its own.
    pub(crate) fn raw_size_bytes(self) -> usize {
        self.raw.len()
    }

    /// The string itself; a copy only where there are escapes.
    pub(crate) fn text(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut text = String::with_capacity(self.raw.len());
        unescape(self.raw, |part| text.push_str(part));
        Cow::Owned(text)
    }

    /// True where both are the same string, however they were written.
    pub(crate) fn same_as(self, other: Str<'_>) -> bool {
        if self.escaped || other.escaped { self.text() == other.text() } else { self.raw == other.raw }
    }
}

impl fmt::Display for Str<'_> {
    /// Writes the string piece by piece, with no copy between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl Str<'_> {
    /// Writes the string into `out`.
    pub(crate) fn write_to(self, out: &mut impl fmt::Write) -> fmt::Result {
        if !self.escaped {
            return out.write_str(self.raw);
        }
        let mut result = Ok(());
        unescape(self.raw, |part| {
            if result.is_ok() {
                result = out.write_str(part);
            }
        });
        result
    }
}

/// Calls `emit` with the parts of the unescaped string, in order. The escapes have been checked.
fn unescape(raw: &str, mut emit: impl FnMut(&str)) {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        emit(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        let mut taken = 2;
        match escape {
            b'b' => emit("\u{8}"),
            b'f' => emit("\u{c}"),
            b'n' => emit("\n"),
            b'r' => emit("\r"),
            b't' => emit("\t"),
            b'u' => {
                let (character, size) = code_point(&rest[at..]);
                taken = size;
                emit(character.encode_utf8(&mut [0; 4]));
            }
            // `"`, `\` and `/` stand for themselves.
            _ => emit(rest.get(at + 1..at + 2).unwrap_or_default()),
        }
        rest = rest.get(at + taken..).unwrap_or_default();
    }
    emit(rest);
}

/// The character of the `\uXXXX` (or surrogate pair) that `text` starts with, and its size in bytes. Half a pair is U+FFFD.
fn code_point(text: &str) -> (char, usize) {
    let unit = |from: usize| text.get(from..from + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let first = unit(2).unwrap_or(0xFFFD);
    if let Some(character) = char::from_u32(first) {
        return (character, 6);
    }
    let second = if text.get(6..8) == Some("\\u") { unit(8) } else { None };
    match (first, second) {
        (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) => {
            let code = 0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}
