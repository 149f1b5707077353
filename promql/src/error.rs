//! Why a query has no answer.

use crate::source::SourceError;

/// What kind of failure an [`Error`] is: Prometheus's `errorType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// `bad_data`: the query or a parameter is wrong (HTTP 400).
    BadData,
    /// `execution`: the query is well formed and cannot be answered (HTTP 422).
    Execution,
    /// `canceled`: whoever asked went away (HTTP 503).
    Canceled,
    /// `timeout`: it took too long (HTTP 503).
    Timeout,
    /// `internal`: samples could not be read (HTTP 500).
    Internal,
}

impl ErrorKind {
    /// The value of `errorType` in an answer of the HTTP API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::BadData => "bad_data",
            ErrorKind::Execution => "execution",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Internal => "internal",
        }
    }

    /// The HTTP status that Prometheus answers with.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            ErrorKind::BadData => 400,
            ErrorKind::Execution => 422,
            ErrorKind::Canceled | ErrorKind::Timeout => 503,
            ErrorKind::Internal => 500,
        }
    }
}

/// A place in a query's text, in bytes: from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// `line:column` of the start in a text, both from 1.
    #[must_use]
    pub fn line_and_column(self, text: &str) -> (usize, usize) {
        let before = &text.as_bytes()[..self.start.min(text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.len() - before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1) + 1;
        (line, column)
    }
}

/// Where and why a text is no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes.
    pub span: Span,
    /// Where: line, from 1; 0 in a text that is empty, where Prometheus knows no place.
    pub line: usize,
    /// Where: column in bytes, from 1.
    pub column: usize,
}

impl ParseError {
    pub(crate) fn new(text: &str, span: Span, message: impl Into<String>) -> Self {
        let (line, column) = if text.is_empty() { (0, 0) } else { span.line_and_column(text) };
        ParseError { message: message.into(), span, line, column }
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            return write!(f, "unknown position: parse error: {}", self.message);
        }
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Why a query has no answer. The text is Prometheus's where it has one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The text is no query.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A parameter beside the query is wrong: times, step, matchers.
    #[error("{0}")]
    BadParameter(String),
    /// The query cannot be answered on these samples.
    #[error("{0}")]
    Execution(String),
    /// It would hold more samples in memory than it may.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// A selector found more series than a query may read.
    #[error("query would read more than {limit} series (selector {selector}); narrow its matchers or raise the limit")]
    TooManySeries {
        /// The limit.
        limit: usize,
        /// The selector that went past it.
        selector: String,
    },
    /// Whoever asked went away.
    #[error("query was canceled in query execution")]
    Canceled,
    /// It took too long.
    #[error("query timed out in query execution")]
    Timeout,
    /// Samples could not be had.
    #[error("{0}")]
    Source(#[from] SourceError),
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Parse(_) | Error::BadParameter(_) => ErrorKind::BadData,
            Error::Execution(_)
            | Error::TooManySamples
            | Error::TooManySeries { .. }
            | Error::Source(SourceError::TooMuch(_)) => ErrorKind::Execution,
            Error::Canceled => ErrorKind::Canceled,
            Error::Timeout => ErrorKind::Timeout,
            Error::Source(SourceError::Storage(_)) => ErrorKind::Internal,
        }
    }

    /// Whether the same query can succeed if it is asked again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Timeout | ErrorKind::Internal)
    }
}

pub(crate) fn execution<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Execution(message.into()))
}
