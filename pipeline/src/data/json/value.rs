//! One JSON value as a span.

use super::Str;

/// A value of a JSON text. Containers are spans that have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as written.
    Number(&'a str),
    /// A string.
    String(Str<'a>),
    /// An array, as written.
    Array(&'a str),
    /// An object, as written.
    Object(&'a str),
}

impl<'a> Value<'a> {
    /// What it is, for messages.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// As text: a string is itself, anything else its JSON text as written.
    pub(crate) fn as_text(self) -> Str<'a> {
        match self {
            Self::String(text) => text,
            Self::Null => Str::plain("null"),
            Self::Bool(true) => Str::plain("true"),
            Self::Bool(false) => Str::plain("false"),
            Self::Number(raw) | Self::Array(raw) | Self::Object(raw) => Str::plain(raw),
        }
    }
}
