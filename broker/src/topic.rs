//! Topics, as callers see them, and the rule for their names.

use std::sync::Arc;

use uuid::Uuid;

use crate::error::BrokerError;
use crate::log::DamagedRange;
use crate::record::StoredRecord;
use crate::topic_config::TopicConfig;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity: a topic deleted and made again under the same name is another one.
    pub id: Uuid,
    /// Its settings.
    pub config: TopicConfig,
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// First offset held.
    pub log_start: i64,
    /// One past the last durable offset: readers see everything below it.
    pub high_watermark: i64,
}

/// Offsets that the log gave out and cannot give back: their bytes are damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// First lost offset.
    pub from: i64,
    /// One past the last lost offset.
    pub to: i64,
    /// What was found wrong.
    pub reason: String,
}

/// What a read found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Records in offset order, none below the offset asked for.
    pub records: Vec<StoredRecord>,
    /// Where to read next; past the last record and past any gap.
    pub next_offset: i64,
    /// One past the last durable offset.
    pub high_watermark: i64,
    /// First offset held.
    pub log_start: i64,
    /// Damaged ranges that this read passed over, in order. Empty but for a broken disk: what compaction took, aborted records and markers
    /// are no gaps.
    pub gaps: Vec<Gap>,
}

/// The state of a partition, for people and health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Partition number.
    pub partition: i32,
    /// Where it begins and ends.
    pub offsets: PartitionOffsets,
    /// Bytes of its batches.
    pub size_bytes: u64,
    /// Number of its segments.
    pub segments: usize,
    /// Why it takes no writes any more, if so.
    pub stopped: Option<String>,
    /// Damage found so far.
    pub damaged: Vec<DamagedRange>,
}

/// A consumer group's progress in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Free text kept with the offset.
    pub metadata: String,
}

/// Refuses names that are not `[a-zA-Z0-9._-]{1,249}`, or are `.` or `..`. A good name is a good file name.
pub(crate) fn check_name(name: &str) -> Result<(), BrokerError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=249).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".." {
        return Ok(());
    }
    Err(BrokerError::InvalidTopicName { name: name.chars().take(300).collect() })
}
