//! What the tests of this crate share: a log and a store whose faults the test decides, and rows to put into them.
//!
//! Tests of behaviour on the real broker are in `tests/`; here the log is in memory, so that its start, its damage and its
//! failures can be set at will.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod fault_store;
mod memory_log;
mod rows;

pub(crate) use fault_store::{Fault, FaultStore};
pub(crate) use memory_log::MemoryLog;
pub(crate) use rows::{Log as LogRow, clock_record, json_record, log_record};

/// Partitions of a topic.
pub(crate) fn partitions(
    topic: &str,
    numbers: impl IntoIterator<Item = i32>,
) -> Vec<highwater_pipeline::log::TopicPartition> {
    let topic: std::sync::Arc<str> = topic.into();
    let of = |partition| highwater_pipeline::log::TopicPartition { topic: std::sync::Arc::clone(&topic), partition };
    numbers.into_iter().map(of).collect()
}
