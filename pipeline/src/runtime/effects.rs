//! What a step causes: records for output topics, each with its place in the order of the task.

use std::sync::Arc;

use bytes::Bytes;

use crate::log::{EffectMark, Header, Record};

/// One output record and its identity within the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The input offset that caused it, and its index among the effects of that offset.
    pub mark: EffectMark,
    /// Output topic.
    pub topic: Arc<str>,
    /// Output partition.
    pub partition: i32,
    /// The record.
    pub record: Record,
}

/// Collects the effects of steps, in order. The index counts all effects of one position, to whatever topic, so it is
/// a function of the input record and of nothing else.
#[derive(Debug, Default)]
pub struct Effects {
    position: i64,
    next_index: i32,
    collected: Vec<Effect>,
}

impl Effects {
    /// An empty collector.
    pub fn new() -> Self {
        Self::default()
    }

    /// Effects pushed from here on are caused by the record at `position`.
    pub(super) fn begin(&mut self, position: i64) {
        self.position = position;
        self.next_index = 0;
    }

    /// Adds a record for a partition of a topic.
    pub fn push(&mut self, topic: &Arc<str>, partition: i32, record: Record) {
        let mark = EffectMark { position: self.position, index: self.next_index };
        self.next_index += 1;
        self.collected.push(Effect { mark, topic: Arc::clone(topic), partition, record });
    }

    /// Adds a record made of a key, a content type and a value.
    pub fn push_value(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        key: Option<Bytes>,
        content_type: Header,
        value: impl Into<Bytes>,
    ) {
        let record = Record { key, value: Some(value.into()), headers: vec![content_type], timestamp_ms: None };
        self.push(topic, partition, record);
    }

    /// What has been collected so far.
    pub fn as_slice(&self) -> &[Effect] {
        &self.collected
    }

    /// Takes everything collected, leaving the collector empty.
    pub fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.collected)
    }
}
