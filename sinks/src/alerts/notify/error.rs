//! What can be wrong with notifiers.

/// Why a receiver cannot be, or could not be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The configuration of a receiver is wrong.
    #[error("notify.{receiver}: {reason}")]
    Config {
        /// Its kind and place, e.g. `slack[0]`.
        receiver: String,
        /// What is wrong and what would work.
        reason: String,
    },
    /// It could not be told; another try may help.
    #[error("{reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// When it asked to be told again, milliseconds from now.
        retry_after_ms: Option<u64>,
    },
    /// It does not want this message, and will not want it later.
    #[error("{reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
}

impl NotifyError {
    /// True where another try may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), retry_after_ms: None }
    }
}
