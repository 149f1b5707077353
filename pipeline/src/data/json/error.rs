//! What can be wrong with a body as a whole.

use std::fmt;

/// The text is not JSON at this byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Byte offset in the reader's text.
    pub(crate) offset: usize,
    /// What was expected or found.
    pub(crate) what: &'static str,
}

/// A place in a body, for people and for editors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// Byte offset in the body, from 0.
    pub byte: usize,
}

impl Position {
    /// The position of byte `offset` of `body`.
    pub(crate) fn of(body: &[u8], offset: usize) -> Self {
        let before = &body[..offset.min(body.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        Self { line, column: before.len() - line_start + 1, byte: offset }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {} (byte {})", self.line, self.column, self.byte)
    }
}

/// Why nothing of a body could be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON.
    #[error("malformed JSON at {position}: {what}")]
    Malformed {
        /// Where.
        position: Position,
        /// What was expected or found.
        what: &'static str,
    },
    /// Not UTF-8.
    #[error("the body is not UTF-8 at {position}: send JSON in UTF-8")]
    NotUtf8 {
        /// Where.
        position: Position,
    },
    /// Nothing in it.
    #[error("the body is empty: send a JSON object, an array of them, or one per line")]
    Empty,
    /// A wrapper object with something beside its entries.
    #[error("unknown field `{field}` beside `{plural}`: put it into each entry, or leave it out")]
    UnknownField {
        /// The field.
        field: String,
        /// `logs` or `metrics`.
        plural: &'static str,
    },
}
