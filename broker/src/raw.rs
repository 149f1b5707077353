//! The partition as Kafka clients use it: whole record batches in, whole record batches out, transactions between them. Also the
//! types of it; what happens with them is in [`crate::log`].

use bytes::Bytes;

/// The answer to [`crate::Broker::produce`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Offset of the first record (of the earlier batch where `duplicate`).
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The time that every record was given, in topics of LogAppendTime; `None` in others. Unix milliseconds.
    pub append_time_ms: Option<i64>,
    /// First offset held by the partition.
    pub log_start: i64,
    /// True where the partition held this batch already, by its producer and sequence, and nothing was written.
    pub duplicate: bool,
}

/// Where a partition begins and ends, for each kind of reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionEnds {
    /// First offset held.
    pub log_start: i64,
    /// No record below it belongs to a transaction that is still open: readers of committed records see what is below it.
    pub last_stable_offset: i64,
    /// One past the last durable offset.
    pub high_watermark: i64,
}

/// Which records a fetch may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All durable ones, of open and aborted transactions too.
    ReadUncommitted,
    /// Nothing from the first open transaction on; with the batches comes the list of what was aborted among them.
    ReadCommitted,
}

/// A transaction that was aborted: its records, from `first_offset` up to its marker, are not to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose transaction it was.
    pub producer_id: i64,
    /// Offset of its first record in this partition.
    pub first_offset: i64,
}

/// The answer to [`crate::Broker::fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedBatches {
    /// Whole batches back to back, the first of which holds the offset asked for or, where that one is gone, a later one. The leader epoch of
    /// all of them is 0.
    pub batches: Bytes,
    /// Where the partition began and ended when they were read.
    pub ends: PartitionEnds,
    /// What was aborted among the batches, by first offset. Empty under [`Isolation::ReadUncommitted`].
    pub aborted: Vec<AbortedTransaction>,
}

/// What to look for by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeQuery {
    /// The first record whose timestamp is at or after this, Unix milliseconds.
    At(i64),
    /// The first record of those with the largest timestamp.
    Latest,
}

/// The end of a transaction in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionMarker {
    /// Whose transaction ends.
    pub producer_id: i64,
    /// The epoch it ends under; older ones are fenced from here on.
    pub producer_epoch: i16,
    /// Committed, or else aborted.
    pub commit: bool,
    /// Epoch of the coordinator that decided it; one that is older than the last seen is refused.
    pub coordinator_epoch: i32,
}
