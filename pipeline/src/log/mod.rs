//! The log as everything above it sees it: one trait, whichever broker is behind it.
//!
//! Invariants every implementation keeps:
//! - an `Ok` from [`Log::append`] or [`Log::commit_offsets`] means durable (synced; acks=all on Kafka);
//! - readers see only durable records, in offset order, below the high watermark;
//! - a task's effects are in the log at most once, whatever is retried or restarted (see [`Guard::Effects`]).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use highwater_broker::{
    Append, Appended, CleanupPolicy, Clock, EFFECT_HEADER, EffectMark, Fetched, Guard, Header, PartitionOffsets,
    Record, StoredRecord, SystemClock, TopicConfig, TopicInfo,
};

mod embedded;
mod error;
pub mod kafka;
mod membership;
mod sole;
mod task;

pub use embedded::EmbeddedLog;
pub use error::LogError;
pub use membership::{Change, Done, Membership};
pub use sole::SoleMember;
pub use task::{TaskCommit, TaskCommitted};

/// Consumer group that holds C, the committed input offset of every task.
pub const TASKS_GROUP: &str = "__highwater.tasks";

/// A topic and one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

/// A consumer group's progress in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Free text kept with the offset.
    pub metadata: String,
}

/// A durable, partitioned, replayable log.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Creates the topic if it is missing; an existing one is returned as it is.
    async fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, LogError>;
    /// Deletes a topic and its records.
    async fn delete_topic(&self, name: &str) -> Result<(), LogError>;
    /// All topics, sorted by name.
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError>;
    /// One topic, or `None`.
    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, LogError>;
    /// Appends one batch to one partition. Durable when it returns `Ok`.
    async fn append(&self, append: Append) -> Result<Appended, LogError>;
    /// Reads records from `offset` on, up to about `max_size_bytes` (at least one batch), waiting up to `max_wait` for the first.
    /// An offset below the log start is [`LogError::OffsetOutOfRange`].
    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        max_wait: Duration,
    ) -> Result<Fetched, LogError>;
    /// Log start and high watermark of a partition.
    async fn offsets(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, LogError>;
    /// First offset whose append time is at or after `timestamp_ms`; `None` past the end.
    async fn offset_for_time(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<Option<i64>, LogError>;
    /// Starts a run of a task: a higher epoch than any before, durable before it returns. Earlier runs are fenced from here on.
    async fn begin_task(&self, task: &str) -> Result<i32, LogError>;
    /// Makes what a run of a task caused durable, with its progress. `Ok`: all of it is; `Err`: any part of it may be, none of it twice
    /// once the same commit is tried again or a later run replays. With nothing to append and no progress due, nothing happens. A log with transactions
    /// overrides it: outputs and progress become visible together.
    async fn commit_task(&self, commit: TaskCommit) -> Result<TaskCommitted, LogError> {
        task::outputs_then_progress(self, commit).await
    }
    /// Whether outputs of a task may be committed ahead of its progress, with the commits to come: a replay's are left out by their marks. Not so on a log with transactions.
    fn takes_outputs_first(&self) -> bool {
        true
    }
    /// By partition of an output topic, the highest effect of a task that the log has there, asked by a run that began. A task that makes records out of several inputs
    /// leaves out by it what an earlier run wrote above C. None on a log where outputs and progress are one: nothing is above C there.
    async fn effect_marks(&self, task: &str, topic: &str) -> Result<Vec<(i32, EffectMark)>, LogError> {
        let (_, _) = (task, topic);
        Ok(Vec::new())
    }
    /// Joins the group of workers that share these topics, which must exist.
    async fn join(self: Arc<Self>, topics: Vec<String>) -> Result<Box<dyn Membership>, LogError>;
    /// Commits a group's progress. With `task`, refused as `Fenced` where that epoch is no longer the task's current one.
    async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
        task: Option<(&str, i32)>,
    ) -> Result<(), LogError>;
    /// All committed offsets of a group.
    async fn committed(&self, group: &str) -> Result<Vec<CommittedOffset>, LogError>;
    /// Names of the groups that there are, sorted, as [`Log::committed`] takes them. A log that cannot list them knows none.
    async fn groups(&self) -> Result<Vec<String>, LogError> {
        Ok(Vec::new())
    }
}
