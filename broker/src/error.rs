//! Everything the broker refuses or fails at.

use std::path::PathBuf;

use crate::batch::BatchError;

/// Why the broker refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// No such topic or partition.
    #[error("unknown topic or partition {topic}/{partition}: create the topic first, or check the name")]
    UnknownTopicOrPartition {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
    },
    /// The offset is not in the log any more, or not yet.
    #[error("offset {offset} of {topic}/{partition} is out of range: the log holds {log_start}..{high_watermark}")]
    OffsetOutOfRange {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// The offset asked for.
        offset: i64,
        /// First offset held.
        log_start: i64,
        /// One past the last durable offset.
        high_watermark: i64,
    },
    /// A newer run of the task has taken over.
    #[error("task {task} epoch {epoch} is fenced: epoch {current} runs now; this run must stop")]
    Fenced {
        /// The task.
        task: String,
        /// The epoch that tried.
        epoch: i32,
        /// The epoch in charge; 0 where the task was never begun.
        current: i32,
    },
    /// A topic name that is not `[a-zA-Z0-9._-]{1,249}`, or `.` or `..`.
    #[error(
        "topic name {name:?} is not allowed: use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and neither \".\" nor \"..\""
    )]
    InvalidTopicName {
        /// The name.
        name: String,
    },
    /// There is a topic of this name.
    #[error("topic {topic} is there already")]
    TopicExists {
        /// Its name.
        topic: String,
    },
    /// A number of partitions that a topic cannot be given.
    #[error("topic {topic} has {now} partitions and cannot have {asked}: it can only be given more, up to 10,000")]
    InvalidPartitions {
        /// Topic name.
        topic: String,
        /// How many it has.
        now: i32,
        /// How many were asked for.
        asked: i32,
    },
    /// More partitions than the broker takes on.
    #[error(
        "{asked} more partitions would be more than the {limit} that this broker takes on: raise max_partitions, or delete topics"
    )]
    TooManyPartitions {
        /// How many more were asked for.
        asked: i32,
        /// How many all topics together may have.
        limit: usize,
    },
    /// A setting out of its bounds.
    #[error("invalid setting: {what}")]
    InvalidConfig {
        /// Which, and what is allowed.
        what: String,
    },
    /// An append or commit that contradicts itself.
    #[error("invalid request on {topic}/{partition}: {reason}")]
    InvalidRequest {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// What is wrong with it.
        reason: String,
    },
    /// A batch above the limit.
    #[error(
        "batch of {size_bytes} bytes for {topic}/{partition} is above the limit of {limit_bytes}: send fewer or smaller records"
    )]
    BatchTooLarge {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// A batch that is not what it says it is, or not what a client may write.
    #[error("the batch for {topic}/{partition} was refused: {source}")]
    InvalidBatch {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// What is wrong with it.
        source: BatchError,
    },
    /// A batch that does not follow the one before of the same producer: one is missing, or this one comes from long ago.
    #[error(
        "batch of producer {producer_id} for {topic}/{partition} begins at sequence {sequence}, but {expected} is next: a batch before it is missing"
    )]
    OutOfOrderSequence {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// The producer.
        producer_id: i64,
        /// Sequence of the batch's first record.
        sequence: i32,
        /// The sequence that would have been right.
        expected: i32,
    },
    /// A newer instance of the producer has taken over.
    #[error(
        "producer {producer_id} epoch {epoch} is fenced in {topic}/{partition}: epoch {current} has taken over; this producer must stop"
    )]
    ProducerFenced {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// The producer.
        producer_id: i64,
        /// The epoch that tried.
        epoch: i16,
        /// The epoch in charge.
        current: i16,
    },
    /// A transactional batch outside a transaction, or a plain one inside its producer's transaction.
    #[error("the batch of producer {producer_id} for {topic}/{partition} was refused: {reason}")]
    InvalidTransactionState {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// The producer.
        producer_id: i64,
        /// What does not fit.
        reason: &'static str,
    },
    /// A marker of a coordinator that has been replaced.
    #[error("coordinator epoch {epoch} is fenced in {topic}/{partition}: a marker of epoch {current} is there already")]
    CoordinatorFenced {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// The epoch that tried.
        epoch: i32,
        /// The epoch in charge.
        current: i32,
    },
    /// No room on the disk. Nothing was written; appends work again once there is room.
    #[error("disk full: no room for {needed_bytes} more bytes in {}; free space or lower retention", path.display())]
    DiskFull {
        /// File that could not grow.
        path: PathBuf,
        /// How much it needed.
        needed_bytes: u64,
    },
    /// A write or sync failed, so nobody knows what is on disk; this part of the broker takes no writes until a restart recovers it.
    #[error("{what} has stopped taking writes: {reason}; check the disk, then restart to recover from what it holds")]
    Stopped {
        /// What stopped, e.g. `logs/2` or `committed offsets`.
        what: String,
        /// The failure that stopped it.
        reason: String,
    },
    /// The filesystem failed.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Kind of the error.
        kind: std::io::ErrorKind,
        /// The system's words.
        reason: String,
    },
    /// A file that should be whole is not.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A stored batch does not decode.
    #[error("batch at offset {offset} of {topic}/{partition} does not decode: {source}")]
    Batch {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// Base offset of the batch.
        offset: i64,
        /// Why.
        source: BatchError,
    },
    /// Another process runs on the data directory.
    #[error("{} is in use by another highwater process: stop it, or give this one its own --data-dir", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The broker was opened with [`crate::Broker::open_read_only`].
    #[error("the broker is open for reading only, so it cannot {action}")]
    ReadOnly {
        /// What was asked.
        action: &'static str,
    },
    /// The broker was opened with [`crate::Broker::open_stepped`].
    #[error("the broker has no threads, so it cannot {action}")]
    Stepped {
        /// What was asked.
        action: &'static str,
    },
    /// The broker is shutting down.
    #[error("the broker is shut down")]
    Closed,
}

impl BrokerError {
    /// True where the same call may succeed later; false where it never will (or only after a restart).
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Turns an I/O error at a path into the broker's, telling a full disk from the rest.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        Self::Io { action, path: path.into(), kind: error.kind(), reason: error.to_string() }
    }
}

/// True where the disk, or the quota on it, is full.
pub(crate) fn is_disk_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
