//! A pull reader over one JSON text: strict RFC 8259, every value validated, strings and numbers as spans of the text.
//!
//! It builds no tree and allocates nothing: the caller walks objects and arrays member by member, and what it does not walk
//! comes back as a [`Value`] whose span has been checked. Lone surrogate escapes (`"\ud800"`) are legal JSON text; they read as
//! U+FFFD.

use super::{Str, SyntaxError, Value};

/// Deepest nesting that is read; deeper texts are refused, so that recursion is bounded.
pub(crate) const MAX_DEPTH: u32 = 64;

/// A position in a JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Where a walk over an object or array stands: whether a comma must come before the next member.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Walk {
    started: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Byte offset of the next byte to read.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// The text between two offsets that this reader has stood at.
    pub(crate) fn span(&self, from: usize, to: usize) -> &'a str {
        &self.text[from..to]
    }

    /// Skips white space and looks at the next byte; `None` at the end.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Refuses anything but white space up to the end.
    pub(crate) fn end(&mut self) -> Result<(), SyntaxError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("unexpected text after the value")),
        }
    }

    /// Reads `{` and starts a walk over the members.
    pub(crate) fn begin_object(&mut self) -> Result<Walk, SyntaxError> {
        self.expect(b'{', "expected `{`").map(|()| Walk::default())
    }

    /// Reads `[` and starts a walk over the elements.
    pub(crate) fn begin_array(&mut self) -> Result<Walk, SyntaxError> {
        self.expect(b'[', "expected `[`").map(|()| Walk::default())
    }

    /// The next key of an object, its colon read; `None` once `}` is read.
    pub(crate) fn next_key(&mut self, walk: &mut Walk) -> Result<Option<Str<'a>>, SyntaxError> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if walk.started => {
                self.at += 1;
                self.peek();
            }
            _ if walk.started => return Err(self.error("expected `,` or `}`")),
            _ => {}
        }
        walk.started = true;
        self.expect(b'"', "expected a key in quotes")?;
        let key = self.string()?;
        self.expect(b':', "expected `:` after the key")?;
        Ok(Some(key))
    }

    /// True where an array has one more element, which comes next; false once `]` is read.
    pub(crate) fn next_element(&mut self, walk: &mut Walk) -> Result<bool, SyntaxError> {
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if walk.started => {
                self.at += 1;
                if self.peek() == Some(b']') {
                    return Err(self.error("expected a value after `,`"));
                }
            }
            _ if walk.started => return Err(self.error("expected `,` or `]`")),
            _ => {}
        }
        walk.started = true;
        Ok(true)
    }

    /// Reads a whole value.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, SyntaxError> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: u32) -> Result<Value<'a>, SyntaxError> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(Value::String(self.string()?))
            }
            Some(b'{') => {
                let from = self.at;
                self.enter(depth)?;
                let mut walk = self.begin_object()?;
                while self.next_key(&mut walk)?.is_some() {
                    self.value_at(depth + 1)?;
                }
                Ok(Value::Object(self.span(from, self.at)))
            }
            Some(b'[') => {
                let from = self.at;
                self.enter(depth)?;
                let mut walk = self.begin_array()?;
                while self.next_element(&mut walk)? {
                    self.value_at(depth + 1)?;
                }
                Ok(Value::Array(self.span(from, self.at)))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("expected a value, found the end")),
        }
    }

    fn enter(&self, depth: u32) -> Result<(), SyntaxError> {
        if depth >= MAX_DEPTH { Err(self.error("nested too deep (more than 64 levels)")) } else { Ok(()) }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), SyntaxError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error(what))
    }

    fn literal(&mut self, word: &'static str, value: Value<'a>) -> Result<Value<'a>, SyntaxError> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.error("expected a value"))
    }

    fn number(&mut self) -> Result<Value<'a>, SyntaxError> {
        let from = self.at;
        if self.next_is(b'-') {
            self.at += 1;
        }
        if self.next_is(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.next_is(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if self.next_is(b'e') || self.next_is(b'E') {
            self.at += 1;
            if self.next_is(b'+') || self.next_is(b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Value::Number(self.span(from, self.at)))
    }

    fn next_is(&self, byte: u8) -> bool {
        self.text.as_bytes().get(self.at) == Some(&byte)
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), SyntaxError> {
        let from = self.at;
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == from { Err(self.error("expected a digit")) } else { Ok(()) }
    }

    /// The rest of a string whose opening quote has been read.
    fn string(&mut self) -> Result<Str<'a>, SyntaxError> {
        let bytes = self.text.as_bytes();
        let from = self.at;
        let mut escaped = false;
        loop {
            self.at = next_special(bytes, self.at);
            match bytes.get(self.at) {
                Some(b'"') => {
                    let raw = self.span(from, self.at);
                    self.at += 1;
                    return Ok(if escaped { Str::escaped(raw) } else { Str::plain(raw) });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.error("control character in a string (escape it)")),
                None => return Err(self.error("string without closing quote")),
            }
        }
    }

    /// Steps over one escape sequence.
    fn escape(&mut self) -> Result<(), SyntaxError> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u')
                if bytes.get(self.at + 2..self.at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) =>
            {
                self.at += 6;
            }
            _ => return Err(self.error("invalid escape in a string")),
        }
        Ok(())
    }

    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { offset: self.at, what }
    }
}

/// Index of the first quote, backslash or control character at or after `from`; the length where there is none.
/// Eight bytes at a time: each test leaves a byte's high bit set where it holds; the lowest such bit is exact.
fn next_special(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = zero_bytes(word ^ (ONES * b'"' as u64));
        let backslash = zero_bytes(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let hits = (quote | backslash | control) & HIGH;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && !matches!(bytes[at], b'"' | b'\\' | 0..0x20) {
        at += 1;
    }
    at
}
