//! Why a frame is not answered. The connection it came on is closed: after a malformed frame nobody knows where the next one begins.

use super::RequestHead;
use super::shape::ShapeError;

/// Why a frame is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::kafka) enum FrameError {
    /// A header that is none.
    #[error("the header of a request is malformed: {reason}")]
    Header {
        /// Why.
        reason: ShapeError,
    },
    /// An API or version that is not served.
    #[error("API key {key} version {version} is not served; ask with ApiVersions what is")]
    Unserved {
        /// API key.
        key: i16,
        /// Version.
        version: i16,
    },
    /// A body that is not of the shape of its version.
    #[error("the body of API key {key} version {version} is malformed: {reason}")]
    Body {
        /// API key.
        key: i16,
        /// Version.
        version: i16,
        /// Why.
        reason: ShapeError,
    },
    /// A body that has its shape and yet does not decode: a bug of ours.
    #[error("the body of API key {key} version {version} does not decode: {reason}")]
    Undecodable {
        /// API key.
        key: i16,
        /// Version.
        version: i16,
        /// Why.
        reason: String,
    },
    /// An answer of ours that does not encode in that version: a bug of ours.
    #[error("the answer to API key {key} version {version} does not encode: {reason}")]
    Unencodable {
        /// API key.
        key: i16,
        /// Version.
        version: i16,
        /// Why.
        reason: String,
    },
}

impl FrameError {
    pub(in crate::kafka) fn unserved(head: &RequestHead) -> Self {
        Self::Unserved { key: head.key, version: head.version }
    }

    pub(in crate::kafka) fn undecodable(head: &RequestHead, reason: &dyn std::fmt::Display) -> Self {
        Self::Undecodable { key: head.key, version: head.version, reason: reason.to_string() }
    }

    pub(in crate::kafka) fn unencodable(head: &RequestHead, reason: &dyn std::fmt::Display) -> Self {
        Self::Unencodable { key: head.key, version: head.version, reason: reason.to_string() }
    }

    /// A word for metrics.
    pub(in crate::kafka) fn reason(&self) -> &'static str {
        match self {
            Self::Header { .. } => "header",
            Self::Unserved { .. } => "unserved",
            Self::Body { .. } | Self::Undecodable { .. } => "body",
            Self::Unencodable { .. } => "answer",
        }
    }
}
