//! The log of one partition: a synchronous, deterministic core over [`crate::Fs`], with time as an argument. Threads are somebody
//! else's business, so a seeded simulation can drive it call by call.
//!
//! A partition is a directory:
//!
//! ```text
//! 00000000000000000000.log     a segment: batches back to back, then the zeros of preallocation
//! 00000000000000000000.index   its sparse index, once it is closed       (index.rs)
//! 00000000000000004711.log     the segment being written
//! 00000000000000004711.state   what it remembers of all below 4711       (snapshot.rs)
//! checkpoint                   log start and recovery point              (checkpoint.rs)
//! ```
//!
//! Invariants:
//! - [`PartitionLog::append`] writes, [`PartitionLog::sync`] makes durable, and readers ([`PartitionView`]) see only what is synced.
//! - An append that is refused leaves nothing behind. Room is reserved before it is written to.
//! - A failed sync, or a failed write that cannot be undone, stops the partition: nothing is tried again on a file of which
//!   nobody knows what is on disk. Reads go on.
//! - What was durable once is never cut away by recovery, even where bytes before it are damaged (see `recovery.rs`).
//! - What a partition remembers (`state.rs`) is a function of its batches: the same after a restart as before.
//! - The log start is advanced durably before a file is unlinked.

use std::fmt;
use std::sync::Arc;

use crate::batch::Compression;
use crate::config::{BrokerConfig, TimestampType};
use crate::error::BrokerError;
use crate::fs::Fs;
use crate::topic_config::TopicConfig;

mod checkpoint;
mod compaction;
mod cursor;
mod guard_state;
mod index;
#[cfg(test)]
mod model_tests;
mod partition;
mod producers;
mod recovery;
mod replay;
mod retention;
mod segment;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use compaction::{Compacted, Compaction, Damage, Interrupted, NewSegment, Tally};
pub use cursor::BadRange;
pub use guard_state::TaskState;
pub(crate) use partition::KnownProducer;
pub use partition::PartitionLog;
pub(crate) use producers::OngoingTransactions;
pub use recovery::RecoveryReport;
pub(crate) use retention::disk_limit_plan;
pub use retention::{Retained, RetentionLimits};
pub use view::{DamagedRange, PartitionView};

use cursor::{BatchCursor, Bounds, Step};
use index::SparseIndex;
use segment::Segment;

/// Bytes of a segment read at a time while it is scanned.
const SCAN_CHUNK_SIZE_BYTES: usize = 1 << 20;

/// Which partition of which topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl PartitionId {
    /// Labels for metrics of this partition.
    pub(crate) fn labels(&self) -> [(&'static str, String); 2] {
        [("topic", self.topic.to_string()), ("partition", self.partition.to_string())]
    }
}

/// What a partition's log takes from the settings of broker and topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Size at which a segment is closed.
    pub segment_size_bytes: u64,
    /// Largest batch.
    pub max_batch_size_bytes: usize,
    /// Largest unpacked batch.
    pub max_decompressed_size_bytes: usize,
    /// Idempotency keys remembered.
    pub max_idempotency_keys: usize,
    /// Whose time records carry.
    pub timestamp_type: TimestampType,
    /// How the batches made here are compressed.
    pub compression: Compression,
    /// How batches of Kafka clients are compressed; `None` leaves them as they are.
    pub recompression: Option<Compression>,
    /// A segment is closed this long after its first append, in milliseconds.
    pub segment_ms: Option<i64>,
    /// Under `CreateTime`, how far a record's time may lie before its append, in milliseconds.
    pub timestamp_before_max_ms: Option<i64>,
    /// Under `CreateTime`, how far a record's time may lie after its append, in milliseconds.
    pub timestamp_after_max_ms: Option<i64>,
    /// How the log is compacted; `None`: not at all, and records need no key.
    pub compaction: Option<CompactionSettings>,
}

/// How a log is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionSettings {
    /// Tombstones stay this long once compaction has come upon them, in milliseconds.
    pub delete_retention_ms: i64,
    /// It is time once more than this share of the log is new, in millionths.
    pub min_dirty_ratio_ppm: u32,
    /// Records younger than this are left alone, in milliseconds.
    pub min_lag_ms: i64,
    /// It is time once a record has waited this long, in milliseconds.
    pub max_lag_ms: Option<i64>,
    /// Keys held in memory at once.
    pub max_keys: usize,
}

impl LogSettings {
    /// The settings of a topic's partitions.
    pub fn new(broker: &BrokerConfig, topic: &TopicConfig) -> Self {
        Self {
            segment_size_bytes: topic.segment_size_bytes.unwrap_or(broker.segment_size_bytes),
            max_batch_size_bytes: topic
                .max_batch_size_bytes
                .map_or(broker.max_batch_size_bytes, |limit| limit.min(broker.max_batch_size_bytes)),
            max_decompressed_size_bytes: broker.max_decompressed_size_bytes,
            max_idempotency_keys: broker.max_idempotency_keys,
            timestamp_type: topic.timestamp_type,
            compression: topic.compression,
            recompression: topic.recompression,
            segment_ms: topic.segment_ms,
            timestamp_before_max_ms: topic.timestamp_before_max_ms,
            timestamp_after_max_ms: topic.timestamp_after_max_ms,
            compaction: topic.cleanup.compacts().then_some(CompactionSettings {
                delete_retention_ms: topic.delete_retention_ms,
                min_dirty_ratio_ppm: topic.min_dirty_ratio_ppm,
                min_lag_ms: topic.min_compaction_lag_ms,
                max_lag_ms: topic.max_compaction_lag_ms,
                max_keys: broker.max_compaction_keys,
            }),
        }
    }
}

/// A segment, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Its first offset.
    pub base_offset: i64,
    /// One past its last readable offset.
    pub next_offset: i64,
    /// Bytes of readable batches.
    pub size_bytes: u64,
    /// Largest timestamp, Unix milliseconds; `i64::MIN` where it is empty.
    pub max_timestamp_ms: i64,
    /// False for the one being written.
    pub closed: bool,
}

/// Makes the index of a closed segment from the segment itself.
fn rebuild_index(fs: &dyn Fs, segment: &Segment, next_offset: i64) -> Result<SparseIndex, BrokerError> {
    let path = &segment.paths.log;
    let io = |e: std::io::Error| BrokerError::io("read", path, &e);
    let file = segment.open(fs)?;
    let end = file.size_bytes().map_err(io)?;
    let bounds = Bounds { position: 0, end, expected_offset: segment.base_offset, max_offset: next_offset };
    let mut cursor = BatchCursor::new(file.as_ref(), bounds, SCAN_CHUNK_SIZE_BYTES);
    let mut index = SparseIndex::new(segment.base_offset);
    loop {
        match cursor.step().map_err(io)? {
            Step::Batch(batch) => index.add(&batch.header, batch.position),
            Step::Bad(_) => {}
            Step::End { position, .. } => {
                index.skip_to(next_offset, position);
                return Ok(index);
            }
        }
    }
}
