//! Settings of the broker and of a topic, with their defaults and limits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::BrokerError;
use crate::transactions::TransactionSettings;

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After `fdatasync` (shared by the appends of a group). The default.
    #[default]
    Sync,
    /// After the write; a sync follows every [`BrokerConfig::relaxed_sync_interval_ms`]. A power loss may take what was
    /// acknowledged since the last one. Readers still see only synced records, and effects of tasks, epochs and
    /// committed offsets are synced as ever, so exactly-once behind the log holds: what can be lost is ingest.
    Relaxed,
}

/// Settings of a [`crate::Broker`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerConfig {
    /// Where segments, topics and committed offsets live. Created if missing.
    pub data_dir: PathBuf,
    /// When an append is acknowledged.
    pub durability: Durability,
    /// How long acknowledged data may wait for its sync where durability is relaxed, in milliseconds.
    pub relaxed_sync_interval_ms: u64,
    /// A segment is closed at this size, in bytes, unless its topic says otherwise. 1 MiB to 1 GiB (tests go lower).
    pub segment_size_bytes: u64,
    /// Threads that write and sync; partitions are dealt to them in turn.
    pub writer_threads: usize,
    /// Largest batch (one append) in bytes, as it stands on disk.
    pub max_batch_size_bytes: usize,
    /// Largest size of one batch's records once decompressed, in bytes.
    pub max_decompressed_size_bytes: usize,
    /// Bytes of appends that may be on their way at once; beyond them, callers of `append` wait.
    pub max_in_flight_bytes: usize,
    /// Bytes all segments together may take. Past it the oldest closed segments go, read or not, loudly. `None`: no limit.
    pub disk_limit_bytes: Option<u64>,
    /// How often retention is applied, in milliseconds.
    pub retention_interval_ms: u64,
    /// How often a partition that was written to notes its recovery point, in milliseconds.
    pub checkpoint_interval_ms: u64,
    /// Idempotency keys remembered per partition; past it the oldest are forgotten early (and counted).
    pub max_idempotency_keys: usize,
    /// Partitions that all topics together may have. Each has two files open.
    pub max_partitions: usize,
    /// Keys that compaction holds in memory at once, some 50 bytes each; a topic with more is compacted in several passes.
    pub max_compaction_keys: usize,
    /// Limits and times of transactions.
    pub transactions: TransactionSettings,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("highwater-data"),
            durability: Durability::Sync,
            relaxed_sync_interval_ms: 200,
            segment_size_bytes: 128 << 20,
            writer_threads: 4,
            max_batch_size_bytes: 32 << 20,
            max_decompressed_size_bytes: 128 << 20,
            max_in_flight_bytes: 64 << 20,
            disk_limit_bytes: None,
            retention_interval_ms: 30_000,
            checkpoint_interval_ms: 5_000,
            max_idempotency_keys: 1 << 20,
            max_partitions: 4_000,
            max_compaction_keys: 1 << 20,
            transactions: TransactionSettings::default(),
        }
    }
}

impl BrokerConfig {
    /// The defaults, with everything under `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<(), BrokerError> {
        let refuse = |what: String| Err(BrokerError::InvalidConfig { what });
        if self.writer_threads == 0 || self.writer_threads > 256 {
            return refuse(format!("writer_threads is {}, but must be 1 to 256", self.writer_threads));
        }
        check_segment_size(self.segment_size_bytes)?;
        if self.max_batch_size_bytes < 1024 || self.max_batch_size_bytes > MAX_SEGMENT_SIZE_BYTES as usize {
            return refuse(format!(
                "max_batch_size_bytes is {}, but must be 1 KiB to 1 GiB",
                self.max_batch_size_bytes
            ));
        }
        if self.max_in_flight_bytes < self.max_batch_size_bytes {
            return refuse(format!(
                "max_in_flight_bytes ({}) is below max_batch_size_bytes ({}): the largest batch could never be appended",
                self.max_in_flight_bytes, self.max_batch_size_bytes
            ));
        }
        if self.retention_interval_ms == 0 || self.checkpoint_interval_ms == 0 || self.relaxed_sync_interval_ms == 0 {
            return refuse(
                "retention_interval_ms, checkpoint_interval_ms and relaxed_sync_interval_ms must be above 0".into(),
            );
        }
        if self.max_compaction_keys == 0 {
            return refuse("max_compaction_keys must be above 0".into());
        }
        Ok(())
    }
}

const MIN_SEGMENT_SIZE_BYTES: u64 = 4 << 10;
pub(crate) const MAX_SEGMENT_SIZE_BYTES: u64 = 1 << 30;

pub(crate) fn check_segment_size(size_bytes: u64) -> Result<(), BrokerError> {
    if (MIN_SEGMENT_SIZE_BYTES..=MAX_SEGMENT_SIZE_BYTES).contains(&size_bytes) {
        return Ok(());
    }
    Err(BrokerError::InvalidConfig { what: format!("segment_size_bytes is {size_bytes}, but must be 4 KiB to 1 GiB") })
}

/// Whose time the records of a topic carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampType {
    /// The broker's time of append; what the sender says is ignored. The default.
    #[default]
    LogAppendTime,
    /// The sender's, or the time of append where it gave none.
    CreateTime,
}
