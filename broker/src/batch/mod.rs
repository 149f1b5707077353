//! Kafka RecordBatch v2.

use serde::{Deserialize, Serialize};

/// How the records of a batch are compressed; the numbers are Kafka's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (1).
    Gzip,
    /// Snappy in xerial framing (2).
    Snappy,
    /// LZ4 frames (3).
    Lz4,
    /// zstd (4).
    Zstd,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Placeholder
    #[error("truncated")]
    Truncated,
}
