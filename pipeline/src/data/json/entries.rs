//! The forms of a body, decided by its content, and its entries one by one.
//!
//! | first byte | form |
//! |---|---|
//! | `[` | an array of entries |
//! | `{`, with a member `logs` (`metrics`) that is an array | a wrapper: its array's entries |
//! | `{`, and nothing after the object | one entry |
//! | else | one entry per line; blank lines count for nothing |
//!
//! A byte order mark is skipped. In an array, a wrapper or a single entry, malformed JSON refuses the whole body; in lines it
//! refuses its line.

use super::{BodyError, Position, Reader, Str, SyntaxError, Value};
use crate::data::refusal::Refusal;
use crate::data::signal::Signal;

#[cfg(test)]
mod tests;

/// What one entry may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Largest key or value, in bytes as written.
    pub(crate) max_value_size_bytes: usize,
    /// Most attributes (labels) of one entry.
    pub(crate) max_attributes: usize,
    /// Largest name of an attribute or a label, in bytes.
    pub(crate) max_name_size_bytes: usize,
    /// Largest value of a sample's label, in bytes. Every sample repeats it.
    pub(crate) max_label_size_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_value_size_bytes: 1 << 20,
            max_attributes: 256,
            max_name_size_bytes: 1 << 10,
            max_label_size_bytes: 16 << 10,
        }
    }
}

impl Limits {
    /// Refuses what is too long of a sample's label; `name` is asked for only then.
    pub(crate) fn label(
        &self,
        name_size_bytes: usize,
        size_bytes: usize,
        name: impl FnOnce() -> String,
    ) -> Result<(), Refusal> {
        if name_size_bytes <= self.max_name_size_bytes && size_bytes > self.max_label_size_bytes {
            return Err(Refusal::LabelTooLong { name: name(), size_bytes, limit_bytes: self.max_label_size_bytes });
        }
        self.name(name_size_bytes, name)
    }

    /// Refuses what is too long of an attribute; `name` is asked for only then.
    pub(crate) fn attribute(
        &self,
        name_size_bytes: usize,
        size_bytes: usize,
        name: impl FnOnce() -> String,
    ) -> Result<(), Refusal> {
        if name_size_bytes <= self.max_name_size_bytes && size_bytes > self.max_value_size_bytes {
            return Err(Refusal::TooLong { field: name(), size_bytes, limit_bytes: self.max_value_size_bytes });
        }
        self.name(name_size_bytes, name)
    }

    fn name(&self, size_bytes: usize, name: impl FnOnce() -> String) -> Result<(), Refusal> {
        let limit_bytes = self.max_name_size_bytes;
        if size_bytes > limit_bytes {
            Err(Refusal::NameTooLong { name: name(), size_bytes, limit_bytes })
        } else {
            Ok(())
        }
    }
}

/// Takes the entries of a body, in order. Indexes count entries from 0, refused ones too.
pub(crate) trait EntrySink<'a, S: Signal> {
    /// An entry that became a row.
    fn row(&mut self, index: i32, row: &S::Row<'a>);
    /// An entry that did not, and its bytes.
    fn refused(&mut self, index: i32, refusal: Refusal, bytes: &'a [u8]);
}

/// Reads all entries of a body into `sink`. `lines` says that the sender declared one entry per line.
///
/// # Errors
/// Where the body as a whole is refused; what the sink has taken by then must be thrown away.
pub(crate) fn read_entries<'a, S: Signal>(
    body: &'a [u8],
    lines: bool,
    limits: &Limits,
    sink: &mut impl EntrySink<'a, S>,
) -> Result<(), BodyError> {
    let mark = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut entries = Entries { limits, row: S::Row::default(), index: 0, sink };
    let text = std::str::from_utf8(body);
    let valid = match text {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default(),
    };
    let form = Form::of(body, &valid[mark.min(valid.len())..], S::TOPIC, lines);
    if form == Form::Lines {
        return entries.lines(body, mark);
    }
    let Ok(text) = text else {
        return Err(BodyError::NotUtf8 { position: Position::of(body, valid.len()) });
    };
    let mut reader = Reader::new(&text[mark..]);
    let read = match form {
        Form::Array => entries.array(&mut reader),
        Form::Wrapped => entries.wrapper(&mut reader)?,
        Form::Single | Form::Lines => entries.entry(&mut reader),
    };
    read.and_then(|()| reader.end()).map_err(|error| {
        if form == Form::Single && valid[mark..].trim_ascii().is_empty() {
            return BodyError::Empty;
        }
        BodyError::Malformed { position: Position::of(body, mark + error.offset), what: error.what }
    })?;
    if form == Form::Single {
        entries.commit(text[mark..].trim_ascii().as_bytes());
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Single,
    Array,
    Wrapped,
    Lines,
}

impl Form {
    /// `text` is the part of `body` that is UTF-8, behind the byte order mark.
    fn of(body: &[u8], text: &str, plural: &str, lines: bool) -> Self {
        let mut reader = Reader::new(text);
        match reader.peek() {
            Some(b'[') => return Self::Array,
            Some(b'{') => match first_object(&mut reader, plural) {
                Ok(Some(form)) => return form,
                // The first object ends, and something follows.
                Ok(None) => return Self::Lines,
                Err(_) => {}
            },
            _ => {}
        }
        // The first value is not whole. It is a bad line among others where one of them starts an object: in a single
        // object spread over lines, the second begins with a key.
        let mut rest =
            body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).skip(1);
        if lines || rest.any(|line| line.starts_with(b"{")) { Self::Lines } else { Self::Single }
    }
}

/// Skips the first object, or as much of it as decides the form.
fn first_object(reader: &mut Reader<'_>, plural: &str) -> Result<Option<Form>, SyntaxError> {
    let mut walk = reader.begin_object()?;
    while let Some(key) = reader.next_key(&mut walk)? {
        if reader.peek() == Some(b'[') && key.same_as(Str::plain(plural)) {
            return Ok(Some(Form::Wrapped));
        }
        reader.value()?;
    }
    Ok(reader.peek().is_none().then_some(Form::Single))
}

struct Entries<'r, 'a, S: Signal, K> {
    limits: &'r Limits,
    row: S::Row<'a>,
    index: i32,
    sink: &'r mut K,
}

impl<'a, S: Signal, K: EntrySink<'a, S>> Entries<'_, 'a, S, K> {
    /// Parses one entry into the scratch row; [`Self::commit`] passes it on once the text around it is known to be whole.
    fn entry(&mut self, reader: &mut Reader<'a>) -> Result<(), SyntaxError> {
        S::clear(&mut self.row);
        if reader.peek() == Some(b'{') {
            return S::parse(reader, self.limits, &mut self.row);
        }
        let found = reader.value()?;
        S::refuse(&mut self.row, Refusal::NotAnObject { found: found.kind() });
        Ok(())
    }

    fn commit(&mut self, bytes: &'a [u8]) {
        match S::take_refusal(&mut self.row) {
            None => self.sink.row(self.index, &self.row),
            Some(refusal) => self.sink.refused(self.index, refusal, bytes),
        }
        self.index = self.index.saturating_add(1);
    }

    fn array(&mut self, reader: &mut Reader<'a>) -> Result<(), SyntaxError> {
        let mut walk = reader.begin_array()?;
        while reader.next_element(&mut walk)? {
            reader.peek();
            let from = reader.offset();
            self.entry(reader)?;
            self.commit(reader.span(from, reader.offset()).as_bytes());
        }
        Ok(())
    }

    /// The outer error is the wrapper's, the inner one the text's.
    fn wrapper(&mut self, reader: &mut Reader<'a>) -> Result<Result<(), SyntaxError>, BodyError> {
        let mut walk = match reader.begin_object() {
            Ok(walk) => walk,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let key = match reader.next_key(&mut walk) {
                Ok(Some(key)) => key,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            let entries = key.same_as(Str::plain(S::TOPIC)) && reader.peek() == Some(b'[');
            let read = if entries { self.array(reader) } else { reader.value().map(|_: Value<'_>| ()) };
            if let Err(error) = read {
                return Ok(Err(error));
            }
            if !entries {
                return Err(BodyError::UnknownField { field: Refusal::excerpt(&key.text()), plural: S::TOPIC });
            }
        }
    }

    fn lines(&mut self, body: &'a [u8], mark: usize) -> Result<(), BodyError> {
        let mut from = mark;
        let mut line_number = 0;
        while from < body.len() {
            let end = memchr::memchr(b'\n', &body[from..]).map_or(body.len(), |at| from + at);
            let line = body[from..end].trim_ascii();
            line_number += 1;
            if !line.is_empty() {
                // Positions are of the body; the line is trimmed on its left.
                let start = from + body[from..end].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                let position = |offset: usize| Position {
                    line: line_number,
                    column: start - from + offset + 1,
                    byte: start + offset,
                };
                self.line(line, position);
            }
            from = end + 1;
        }
        if self.index == 0 { Err(BodyError::Empty) } else { Ok(()) }
    }

    fn line(&mut self, line: &'a [u8], position: impl Fn(usize) -> Position) {
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => {
                S::clear(&mut self.row);
                S::refuse(&mut self.row, Refusal::NotUtf8 { position: position(error.valid_up_to()) });
                return self.commit(line);
            }
        };
        let mut reader = Reader::new(text);
        if let Err(error) = self.entry(&mut reader).and_then(|()| reader.end()) {
            S::clear(&mut self.row);
            S::refuse(&mut self.row, Refusal::Malformed { position: position(error.offset), what: error.what });
        }
        self.commit(line);
    }
}
