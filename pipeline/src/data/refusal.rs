//! Why one entry was refused.

use super::json::Position;

/// Why an entry did not become a row. The message is for its sender; [`Refusal::code`] is for counters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The entry is no object.
    #[error("an entry must be a JSON object, not {found}")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A required field is not there (or null).
    #[error("`{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A required field is there and empty.
    #[error("`{field}` is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A field of the wrong type.
    #[error("`{field}` must be {wanted}, not {found}")]
    WrongType {
        /// The field.
        field: String,
        /// What it should be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A field that says nothing we understand.
    #[error("`{field}` is {value:?}, which is not {wanted}")]
    BadValue {
        /// The field.
        field: &'static str,
        /// Its text, cut short.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A key or value above the limit.
    #[error("`{field}` has {size_bytes} bytes; the limit is {limit_bytes}")]
    TooLong {
        /// The field, cut short.
        field: String,
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The name of an attribute or a label above the limit.
    #[error("the name `{name}` has {size_bytes} bytes; the limit is {limit_bytes}")]
    NameTooLong {
        /// The name, cut short.
        name: String,
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// A label of a sample above the limit.
    #[error("label `{name}` has {size_bytes} bytes; the limit is {limit_bytes}")]
    LabelTooLong {
        /// The label's name.
        name: String,
        /// The size of its value.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// A series that its tenant has not, and too many others.
    #[error(
        "the tenant has {limit} active series, which is its limit (max_active_series): samples of new ones are refused"
    )]
    TooManySeries {
        /// How many it may have.
        limit: usize,
    },
    /// More attributes or labels than the limit.
    #[error("more than {limit} {what}")]
    TooMany {
        /// `attributes` or `labels`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A label that is there twice.
    #[error("label `{label}` is there twice")]
    Repeated {
        /// The label, cut short.
        label: String,
    },
    /// Labels of a stream that are none.
    #[error("{reason}")]
    Labels {
        /// What is wrong.
        reason: &'static str,
    },
    /// Texts that are not UTF-8.
    #[error("`{field}` is not UTF-8")]
    NotText {
        /// The field.
        field: &'static str,
    },
    /// A native histogram that contradicts itself.
    #[error("a native histogram with {reason}")]
    Histogram {
        /// What is wrong.
        reason: &'static str,
    },
    /// A line that is not JSON.
    #[error("malformed JSON at {position}: {what}")]
    Malformed {
        /// Where in the body.
        position: Position,
        /// What was expected or found.
        what: &'static str,
    },
    /// A line that is not UTF-8.
    #[error("not UTF-8 at {position}")]
    NotUtf8 {
        /// Where in the body.
        position: Position,
    },
}

impl Refusal {
    /// A short name of the kind of refusal: a metric label of few values.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnObject { .. } => "not_an_object",
            Self::Missing { .. } => "missing_field",
            Self::Empty { .. } => "empty_field",
            Self::WrongType { .. } => "wrong_type",
            Self::BadValue { .. } => "bad_value",
            Self::TooLong { .. } => "too_long",
            Self::NameTooLong { .. } => "name_too_long",
            Self::LabelTooLong { .. } => "label_too_long",
            Self::TooMany { .. } => "too_many",
            Self::TooManySeries { .. } => "series_limit",
            Self::Malformed { .. } => "malformed",
            Self::NotUtf8 { .. } | Self::NotText { .. } => "not_utf8",
            Self::Repeated { .. } => "repeated_label",
            Self::Labels { .. } => "labels",
            Self::Histogram { .. } => "histogram",
        }
    }

    /// `text` short enough for a message.
    pub(crate) fn excerpt(text: &str) -> String {
        const MAX_CHARS: usize = 64;
        match text.char_indices().nth(MAX_CHARS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        }
    }
}
