//! Why a request was refused as a whole.

use crate::access::Limited;
use crate::data::InvalidTenant;
use crate::data::ipc::IpcError;
use crate::data::json::BodyError;
use crate::log::LogError;

/// Why nothing (or, where it says so, not everything) of a request was stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The settings contradict themselves.
    #[error("invalid ingest setting: {reason}")]
    Config {
        /// Which, and what is allowed.
        reason: String,
    },
    /// The body cannot be read as entries.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A tenant that cannot be.
    #[error(transparent)]
    Tenant(#[from] InvalidTenant),
    /// An idempotency key that cannot be.
    #[error("an idempotency key has 1 to 256 visible ASCII characters")]
    InvalidKey,
    /// A body above the limit.
    #[error("the body has more than {limit_bytes} bytes{}: send less at a time", if *decompressed { " once decompressed" } else { "" })]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
        /// Whether it was within the limit before decompression.
        decompressed: bool,
    },
    /// Rows that repeat long texts until there is too much of them.
    #[error(
        "its rows, each with the labels or attributes it shares with others, take more than {limit_bytes} bytes: send less at a time"
    )]
    Expanded {
        /// The limit.
        limit_bytes: usize,
    },
    /// Bytes that are not the message they should be.
    #[error("not a readable {message}: {reason}")]
    Message {
        /// What was expected.
        message: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A content type that the path does not take.
    #[error("content type {content_type:?} is not supported: use {wanted}")]
    ContentType {
        /// The header.
        content_type: String,
        /// What is.
        wanted: &'static str,
    },
    /// A content encoding that is not known.
    #[error("content encoding {encoding:?} is not supported: use {wanted}")]
    UnknownEncoding {
        /// The header.
        encoding: String,
        /// What is.
        wanted: &'static str,
    },
    /// A body that does not decompress.
    #[error("the body does not decompress as {encoding}: {reason}")]
    Undecompressable {
        /// The encoding it claims.
        encoding: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A body that stopped coming.
    #[error("the body did not arrive: {reason}")]
    Incomplete {
        /// What happened.
        reason: String,
    },
    /// A body that came too slowly.
    #[error("no byte of the body came for {timeout_ms} ms")]
    TooSlow {
        /// How long a sender may pause.
        timeout_ms: u64,
    },
    /// The tenant's limits.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// Too many bytes of requests at once.
    #[error("requests of more than {limit_bytes} bytes are in flight: try again")]
    Busy {
        /// The budget.
        limit_bytes: usize,
    },
    /// The log took not everything.
    #[error("{source}; {}", after_failure(*stored, *accepted, *keyed))]
    Log {
        /// Why.
        #[source]
        source: LogError,
        /// Rows that are durable all the same.
        stored: u64,
        /// Rows that were to be.
        accepted: u64,
        /// Whether the request carried a key.
        keyed: bool,
    },
    /// A topic could not be made.
    #[error("topic {topic} cannot be opened: {source}")]
    Topic {
        /// The topic.
        topic: &'static str,
        /// Why.
        #[source]
        source: LogError,
    },
    /// Rows could not be encoded; a fault of ours.
    #[error("the rows could not be encoded: {0}")]
    Encode(#[from] IpcError),
    /// The work did not finish; a fault of ours, or shutdown.
    #[error("the request was given up: {reason}")]
    Abandoned {
        /// Why.
        reason: String,
    },
}

impl IngestError {
    /// True where the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Limited(_)
            | Self::Busy { .. }
            | Self::TooSlow { .. }
            | Self::Incomplete { .. }
            | Self::Abandoned { .. } => true,
            Self::Log { source, .. } | Self::Topic { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// A short name of the kind of error: a metric label of few values.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "config",
            Self::Body(_) | Self::Message { .. } => "malformed",
            Self::Tenant(_) => "tenant",
            Self::InvalidKey => "idempotency_key",
            Self::TooLarge { .. } | Self::Expanded { .. } => "too_large",
            Self::ContentType { .. } => "content_type",
            Self::UnknownEncoding { .. } | Self::Undecompressable { .. } => "encoding",
            Self::Incomplete { .. } | Self::TooSlow { .. } => "incomplete",
            Self::Limited(limited) => limited.code(),
            Self::Busy { .. } => "busy",
            Self::Log { .. } | Self::Topic { .. } => "log",
            Self::Encode(_) | Self::Abandoned { .. } => "internal",
        }
    }
}

/// What is stored of a request that the log did not take whole, and what to do.
fn after_failure(stored: u64, accepted: u64, keyed: bool) -> String {
    match (stored, keyed) {
        (0, _) => "nothing of the request is stored: send it again".to_owned(),
        (_, true) => {
            format!("{stored} of {accepted} rows are stored: send it again with its key, and only the rest is added")
        }
        (_, false) => {
            format!(
                "{stored} of {accepted} rows are stored: sent again, they are stored twice (an Idempotency-Key prevents that)"
            )
        }
    }
}
