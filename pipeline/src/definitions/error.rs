//! Errors of definitions.

use super::TOPIC;
use crate::log::LogError;

/// Why the definitions in the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// The log refused or failed.
    #[error("the log refused to {action} {TOPIC}")]
    Log {
        /// `read`, `append to`, ...
        action: &'static str,
        /// What it said.
        #[source]
        source: LogError,
    },
    /// A record is of a format this version does not know. Passing over it would apply other definitions than everybody else does.
    #[error(
        "record {offset} of {TOPIC} has format {format}, written by a newer version of Highwater; upgrade this process"
    )]
    Newer {
        /// Its offset.
        offset: i64,
        /// Its format.
        format: u64,
    },
    /// The first record of the topic is gone.
    #[error(
        "{TOPIC} begins at offset {log_start}: its first records are gone, so nobody can tell which definitions applied; restore the topic"
    )]
    Truncated {
        /// Where it begins.
        log_start: i64,
    },
    /// A record could not be written as JSON.
    #[error("definitions cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

impl DefinitionsError {
    /// True where the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log { source, .. } => source.is_retryable(),
            Self::Newer { .. } | Self::Truncated { .. } | Self::Json(_) => false,
        }
    }
}
