//! What both text formats are made of: a cursor over one line, series, numbers.

/// A line that is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

/// What is wrong with a line.
pub(super) type Wrong = &'static str;

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self { line, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.line.len()
    }

    /// Passes one ASCII byte, if it is this one.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Passes blanks and tabs; true where there was one.
    pub(super) fn blanks(&mut self) -> bool {
        let from = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        self.at > from
    }

    /// Everything up to the next blank.
    pub(super) fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A name of letters, digits, `_`, and `:` if allowed; none may begin with a digit.
    pub(super) fn name(&mut self, colons: bool) -> Option<&'a str> {
        let rest = self.rest();
        let is_part = |byte: u8, first: bool| {
            byte.is_ascii_alphabetic() || byte == b'_' || (colons && byte == b':') || (!first && byte.is_ascii_digit())
        };
        let bytes = rest.as_bytes();
        let end = (0..bytes.len()).find(|at| !is_part(bytes[*at], *at == 0)).unwrap_or(bytes.len());
        self.at += end;
        (end > 0).then(|| &rest[..end])
    }

    /// A text in double quotes, quotes left out and escapes left in.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        if !self.eat(b'"') {
            return None;
        }
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut from = 0;
        loop {
            let at = from + memchr::memchr2(b'"', b'\\', &bytes[from..])?;
            if bytes[at] == b'"' {
                self.at += at + 1;
                return Some(&rest[..at]);
            }
            // Whatever is escaped belongs to the text; after the last byte there is nothing to escape.
            from = at + 2;
            if from > bytes.len() {
                return None;
            }
        }
    }

    /// A series: its name, labels in braces, or both, with what is told apart by quotes in UTF-8. Gives the text of it.
    pub(super) fn series(&mut self) -> Result<&'a str, Wrong> {
        let from = self.at;
        let has_name = self.name(true).is_some();
        let end = self.at;
        let mut ahead = *self;
        ahead.blanks();
        if ahead.peek() != Some(b'{') {
            return if has_name { Ok(&self.line[from..end]) } else { Err("no name of a metric") };
        }
        *self = ahead;
        self.labels(!has_name)?;
        Ok(&self.line[from..self.at])
    }

    /// Labels in braces. Where the name is not before them it is the first, in quotes and without a value.
    fn labels(&mut self, wants_name: bool) -> Result<(), Wrong> {
        let mut named = !wants_name;
        self.eat(b'{');
        loop {
            self.blanks();
            if self.eat(b'}') {
                return if named { Ok(()) } else { Err("no name of a metric") };
            }
            let is_quoted = self.peek() == Some(b'"');
            let name = if is_quoted { self.quoted() } else { self.name(false) };
            let name = name.ok_or("no name of a label")?;
            self.blanks();
            if self.eat(b'=') {
                self.blanks();
                self.quoted().ok_or("a value of a label that is not in quotes")?;
            } else if is_quoted && !named && !name.is_empty() {
                named = true;
            } else {
                return Err("no `=` after the name of a label");
            }
            self.blanks();
            if !self.eat(b',') && self.peek() != Some(b'}') {
                return Err("no `,` or `}` after a label");
            }
        }
    }

    /// A number, as Go reads it; neither hexadecimal nor with underscores.
    pub(super) fn number(&mut self) -> Result<f64, Wrong> {
        number(self.word()).ok_or("a value that is no number")
    }
}

/// A number, as Go reads it; neither hexadecimal nor with underscores.
pub(super) fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    match digits.as_bytes().first()? {
        // A number that is too large is none, as in Go.
        b'0'..=b'9' | b'.' => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => {
            let value = match digits.to_ascii_lowercase().as_str() {
                "inf" | "infinity" => f64::INFINITY,
                // Go takes no sign before it.
                "nan" if digits.len() == text.len() => f64::NAN,
                _ => return None,
            };
            Some(if text.starts_with('-') { -value } else { value })
        }
    }
}

/// A family that a line is about, by its name alone or in quotes.
pub(super) fn family<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Wrong> {
    let name = if cursor.peek() == Some(b'"') { cursor.quoted() } else { cursor.name(true) };
    name.filter(|name| !name.is_empty()).ok_or("no name of a metric")
}
