//! What is refused before it reaches a writer thread.

use crate::append::{Append, EFFECT_HEADER, Guard, IDEMPOTENCY_HEADER};
use crate::batch::record_size_bytes;
use crate::error::BrokerError;
use crate::topic_config::TopicConfig;

/// What an append costs of the bytes in flight beside its records, so that many tiny ones are bounded as well.
const APPEND_OVERHEAD_BYTES: usize = 512;
/// Limit of a task's name and of an idempotency key with its tenant, in bytes.
const MAX_GUARD_NAME_SIZE_BYTES: usize = 1024;

/// What an append takes at most, uncompressed, in bytes. It must be possible to unpack it again.
pub(super) fn check_size(append: &Append, limit_bytes: usize) -> Result<usize, BrokerError> {
    let guard = match &append.guard {
        Guard::None => 0,
        Guard::Effects { task, marks, .. } => (task.len() + 64) * marks.len(),
        Guard::Idempotency { scope } => scope.len() + 32,
    };
    let records: usize = append.records.iter().map(record_size_bytes).sum();
    let size_bytes = records + guard + APPEND_OVERHEAD_BYTES;
    if size_bytes <= limit_bytes {
        return Ok(size_bytes);
    }
    let topic = append.topic.to_string();
    Err(BrokerError::BatchTooLarge { topic, partition: append.partition, size_bytes, limit_bytes })
}

/// Refuses appends that contradict themselves or their topic.
pub(super) fn check_append(append: &Append, config: &TopicConfig) -> Result<(), BrokerError> {
    let refuse = |reason: String| {
        Err(BrokerError::InvalidRequest { topic: append.topic.to_string(), partition: append.partition, reason })
    };
    if append.records.is_empty() {
        return refuse("an append needs at least one record".into());
    }
    if config.cleanup.compacts() && append.records.iter().any(|record| record.key.is_none()) {
        return refuse("every record of a compacted topic needs a key, by which newer ones replace older ones".into());
    }
    let is_guard = |name: &str| name == EFFECT_HEADER || name == IDEMPOTENCY_HEADER;
    let headers = append.records.iter().flat_map(|r| &r.headers);
    if let Some(header) = headers.into_iter().find(|h| is_guard(&h.name)) {
        return refuse(format!("header {} is the broker's own; pass a guard instead", header.name));
    }
    match &append.guard {
        Guard::None => Ok(()),
        Guard::Idempotency { scope } if scope.len() > MAX_GUARD_NAME_SIZE_BYTES => {
            refuse(format!("an idempotency key with its tenant has at most {MAX_GUARD_NAME_SIZE_BYTES} bytes"))
        }
        Guard::Idempotency { .. } => Ok(()),
        Guard::Effects { task, marks, .. } => {
            if task.is_empty() || task.len() > MAX_GUARD_NAME_SIZE_BYTES || task.contains('\0') {
                return refuse(format!("a task name has 1 to {MAX_GUARD_NAME_SIZE_BYTES} bytes and no NUL"));
            }
            if marks.len() != append.records.len() {
                return refuse(format!("{} records have {} effect marks", append.records.len(), marks.len()));
            }
            if !marks.is_sorted_by(|a, b| a < b) {
                return refuse("effect marks are not strictly ascending".into());
            }
            Ok(())
        }
    }
}
