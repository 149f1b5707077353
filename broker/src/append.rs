//! What an append asks for and what it answers: the guard that makes a retry harmless is part of the request.

use std::sync::Arc;

use crate::record::Record;

/// Name of the header that carries an effect's identity: `task` NUL `epoch` NUL `position` NUL `index` (decimal).
pub const EFFECT_HEADER: &str = "highwater-effect";
/// Name of the header that carries a sender's idempotency key: `tenant` NUL `key`.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// How long an idempotency key is remembered, in milliseconds of append time.
pub const IDEMPOTENCY_HORIZON_MS: i64 = 24 * 60 * 60 * 1000;

/// The place of an effect in the order of its task: the input offset that caused it, and its index among the effects
/// of that offset. Ordered lexicographically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectMark {
    /// Offset of the input record that caused the effect.
    pub position: i64,
    /// Index of the effect among all effects (to whatever topic) of that input record.
    pub index: i32,
}

/// How an append is protected against being applied twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Not protected: at least once.
    None,
    /// Outputs of a task. One ascending mark per record. The partition keeps the highest mark per task: records at or below it are left
    /// out (and counted in [`Appended::suppressed`]); an epoch below the task's current one is refused with `Fenced`.
    Effects {
        /// The task's name, e.g. `logs/2`.
        task: Arc<str>,
        /// The epoch that [`crate::Broker::begin_task`] gave this run of the task.
        epoch: i32,
        /// One mark per record, strictly ascending.
        marks: Vec<EffectMark>,
    },
    /// One request of a sender that may retry. If the partition already holds this key (for 24 h), nothing is appended and
    /// [`Appended::duplicate`] is true.
    Idempotency {
        /// `tenant` NUL `key`.
        scope: Arc<str>,
    },
}

/// One append to one partition: all of it becomes one batch, or none of it.
#[derive(Debug, Clone)]
pub struct Append {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// The records, at least one.
    pub records: Vec<Record>,
    /// Protection against repetition.
    pub guard: Guard,
}

/// The answer to an append, given after the batch is durable (fdatasync done, unless the broker runs `relaxed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record written (of the earlier batch where `duplicate`).
    pub base_offset: i64,
    /// Offset of the last record written; `base_offset - 1` where all were suppressed.
    pub last_offset: i64,
    /// Append time of the batch, Unix milliseconds.
    pub append_time_ms: i64,
    /// True where the guard's idempotency key was already there and nothing was written.
    pub duplicate: bool,
    /// How many records were left out because their effect was already in the log.
    pub suppressed: usize,
}
