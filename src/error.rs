//! The binary's error: what went wrong, said to a person, and the exit code that says it to a script.

use crate::config::ConfigError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The config file or a setting is wrong (exit code 78, `EX_CONFIG`).
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The command line asks for something that does not fit together (exit code 2).
    #[error("{0}")]
    Usage(String),
    /// Anything else (exit code 1).
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// 1 failure, 2 usage, 78 bad config.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }

    /// A failure that says what was being done and why it did not work.
    pub(crate) fn failed(doing: &str, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{doing}: {error}"))
    }
}
