//! Why a query failed, and whose fault it was.

use std::time::Duration;

use datafusion::error::DataFusionError;
use deltalake_core::DeltaTableError;
use highwater_pipeline::log::LogError;

/// A place in the text of a query, both counted from 1. A column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The character in it.
    pub column: u64,
}

/// Why a query was refused or cut.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The text is not SQL.
    #[error("syntax error: {message}")]
    Syntax {
        /// What the parser says, with line and column where it knows them.
        message: String,
        /// Where, as far as it is known.
        at: Option<Place>,
    },
    /// SQL, but it does not fit the tables: an unknown table, column or function, or types that do not go together.
    #[error("{message}")]
    Invalid {
        /// What does not fit, with a suggestion where there is one.
        message: String,
        /// Where, as far as it is known.
        at: Option<Place>,
    },
    /// A parameter is missing, or one too many, or its value is not of its type.
    #[error("{message}")]
    Parameter {
        /// Which, and what is wrong with it.
        message: String,
    },
    /// A statement that would write, or reach outside the tables.
    #[error("{what} is not allowed: queries only read ({hint})")]
    Forbidden {
        /// The statement or construct, by name.
        what: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// The query ran longer than it may.
    #[error("the query was cut after {}: `sql.timeout` allows no more; narrow the time range, or raise the limit", humantime::format_duration(*.limit))]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The query needs more memory, or more spill space, than it may have.
    #[error(
        "the query needs more than `sql.memory_limit_bytes` ({limit_bytes} bytes) or `sql.spill_limit_bytes` allow: {message}"
    )]
    Memory {
        /// The memory limit of one query, bytes.
        limit_bytes: usize,
        /// Which operator asked for how much.
        message: String,
    },
    /// Too many queries are running.
    #[error("{limit} queries are running, as many as `sql.max_concurrent_queries` allows; try again in a moment")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// A value could not be computed: division by zero, a cast that does not fit, an overflow.
    #[error("{message}")]
    Execution {
        /// What happened.
        message: String,
    },
    /// A table's files or its Delta log could not be read.
    #[error("table {table} cannot be read: {source}")]
    Storage {
        /// The table.
        table: String,
        /// The reason.
        source: Box<DeltaTableError>,
    },
    /// A data file could not be read.
    #[error("a data file cannot be read: {message}")]
    File {
        /// The reason.
        message: String,
    },
    /// The live tail could not be read.
    #[error("the live tail of table {table} cannot be read: {source}")]
    Log {
        /// The table.
        table: String,
        /// The reason.
        source: LogError,
    },
    /// A row of the log does not fit its table.
    #[error("the live tail of table {table} does not fit it: {message}")]
    Tail {
        /// The table.
        table: String,
        /// The reason.
        message: String,
    },
    /// The engine could not be started.
    #[error("the SQL engine cannot start: {message}")]
    Start {
        /// The reason.
        message: String,
    },
    /// A bug: a panic or a broken invariant. The query is lost, the server is not.
    #[error("internal error, please report it: {message}")]
    Internal {
        /// What is known.
        message: String,
    },
}

impl SqlError {
    /// True where the same query may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Storage { .. } | Self::File { .. } | Self::Log { .. } => true,
            Self::Syntax { .. }
            | Self::Invalid { .. }
            | Self::Parameter { .. }
            | Self::Forbidden { .. }
            | Self::Timeout { .. }
            | Self::Memory { .. }
            | Self::Execution { .. }
            | Self::Tail { .. }
            | Self::Start { .. }
            | Self::Internal { .. } => false,
        }
    }

    /// A short name of the kind of error, for programs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax",
            Self::Invalid { .. } => "invalid",
            Self::Parameter { .. } => "parameter",
            Self::Forbidden { .. } => "forbidden",
            Self::Timeout { .. } => "timeout",
            Self::Memory { .. } => "memory",
            Self::Busy { .. } => "busy",
            Self::Execution { .. } => "execution",
            Self::Storage { .. } | Self::File { .. } | Self::Log { .. } | Self::Tail { .. } => "unavailable",
            Self::Start { .. } | Self::Internal { .. } => "internal",
        }
    }

    /// Where in the query's text, as far as it is known.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Syntax { at, .. } | Self::Invalid { at, .. } => *at,
            _ => None,
        }
    }

    /// A syntax error in the words of the parser, which end in where it is.
    pub(crate) fn syntax(message: String) -> Self {
        let at = place_in(&message);
        // The parser's error in its own notation: `ParserError("...")`.
        let inner = ["ParserError(\"", "TokenizerError(\""]
            .iter()
            .find_map(|kind| message.strip_prefix(kind)?.strip_suffix("\")"));
        let message = match inner {
            Some(inner) => inner.replace("\\\"", "\"").replace("\\'", "'"),
            None => message.trim_start_matches("sql parser error: ").to_string(),
        };
        Self::Syntax { message, at }
    }

    /// The same error, with a place where it has none yet.
    fn or_at(self, place: Option<Place>) -> Self {
        match self {
            Self::Syntax { message, at } => Self::Syntax { message, at: at.or(place) },
            Self::Invalid { message, at } => Self::Invalid { message, at: at.or(place) },
            other => other,
        }
    }

    /// From DataFusion, which wraps and nests. `limit_bytes` is the memory limit of the query, for the message.
    pub(crate) fn from_datafusion(error: DataFusionError, limit_bytes: usize) -> Self {
        match error {
            DataFusionError::Context(_, inner) => Self::from_datafusion(*inner, limit_bytes),
            DataFusionError::Diagnostic(diagnostic, inner) => {
                // Nodes that no text stands behind have an empty span, at line 0.
                let start = diagnostic.span.map(|span| span.start).filter(|start| start.line > 0);
                let at = start.map(|start| Place { line: start.line, column: start.column });
                Self::from_datafusion(*inner, limit_bytes).or_at(at)
            }
            DataFusionError::Collection(mut errors) if !errors.is_empty() => {
                Self::from_datafusion(errors.swap_remove(0), limit_bytes)
            }
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(own) => *own,
                // Libraries below DataFusion speak this way of values they refuse: a regular expression, a date.
                Err(inner) => Self::Execution { message: inner.to_string() },
            },
            DataFusionError::ArrowError(inner, backtrace) => match *inner {
                arrow::error::ArrowError::ExternalError(external) => match external.downcast::<DataFusionError>() {
                    Ok(inner) => Self::from_datafusion(*inner, limit_bytes),
                    Err(external) => Self::Execution { message: external.to_string() },
                },
                arrow::error::ArrowError::IoError(message, source) => {
                    Self::from_root(&DataFusionError::IoError(std::io::Error::new(source.kind(), message)), limit_bytes)
                }
                inner => Self::Execution {
                    message: plain(&DataFusionError::ArrowError(Box::new(inner), backtrace).strip_backtrace()),
                },
            },
            // Shared errors (join build sides) cannot be taken apart; their root can be looked at.
            DataFusionError::Shared(shared) => Self::from_root(shared.find_root(), limit_bytes),
            other => Self::from_root(&other, limit_bytes),
        }
    }

    fn from_root(error: &DataFusionError, limit_bytes: usize) -> Self {
        let message = plain(&error.strip_backtrace());
        match error {
            DataFusionError::SQL(..) => Self::syntax(message),
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_) => Self::Invalid { message, at: None },
            // The only word there is of spill space that has run out.
            DataFusionError::IoError(e) if e.to_string().contains("used disk space during the spilling") => {
                Self::Memory { limit_bytes, message: "no spill space is left".to_string() }
            }
            DataFusionError::ResourcesExhausted(_) => Self::Memory { limit_bytes, message },
            DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => Self::Execution { message },
            DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
                Self::File { message }
            }
            _ => Self::Internal { message },
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

/// The place that a message of the parser ends in: `... at Line: 3, Column: 7`.
fn place_in(message: &str) -> Option<Place> {
    let (_, place) = message.rsplit_once("Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok();
    Some(Place { line: digits(line)?, column: digits(column)? }).filter(|place| place.line > 0)
}

/// DataFusion's message without the kind in front of it, which [`SqlError`] says better.
fn plain(message: &str) -> String {
    const KINDS: [&str; 8] = [
        "SQL error: ",
        "Error during planning: ",
        "Schema error: ",
        "This feature is not implemented: ",
        "Resources exhausted: ",
        "Execution error: ",
        "Arrow error: ",
        "External error: ",
    ];
    let message = message.trim();
    KINDS.iter().fold(message, |m, kind| m.strip_prefix(kind).unwrap_or(m)).to_string()
}
