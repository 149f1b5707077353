//! Why a connection was closed by us.

use crate::kafka::frame::FrameError;

/// Why a connection was closed by us.
#[derive(Debug, thiserror::Error)]
pub(in crate::kafka) enum Closed {
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(std::io::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    /// A client that has not logged in asked for more than it may.
    #[error("API key {key} was asked for before a login")]
    Stranger {
        /// What it asked for.
        key: i16,
    },
    /// The login failed.
    #[error("the login failed")]
    Login,
    /// A size that is negative, too small for a header, or above the limit.
    #[error("a request claims {size_bytes} bytes, but may have {least} to {most}")]
    Size {
        /// The size it claims.
        size_bytes: i32,
        /// The smallest there is.
        least: usize,
        /// The limit.
        most: usize,
    },
    /// Nothing came for too long.
    #[error("nothing came for {timeout_ms} ms")]
    Idle {
        /// The limit.
        timeout_ms: u64,
    },
    /// The client left in the middle of a request.
    #[error("the client left in the middle of a request")]
    Half,
    /// A request or an answer took too long.
    #[error("{what} took longer than {timeout_ms} ms")]
    Slow {
        /// What took so long.
        what: &'static str,
        /// The limit.
        timeout_ms: u64,
    },
    /// A frame that is not answered.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Closed {
    /// A word for metrics.
    pub(in crate::kafka) fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "socket",
            Self::Handshake(_) => "tls",
            Self::Stranger { .. } | Self::Login => "login",
            Self::Size { .. } => "size",
            Self::Idle { .. } => "idle",
            Self::Half => "half",
            Self::Slow { .. } => "slow",
            Self::Frame(error) => error.reason(),
        }
    }
}
