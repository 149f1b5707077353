//! Where partitions begin and end. The high watermark is Kafka's last stable offset: readers see everything below it, and nothing of
//! an open transaction.
//!
//! Asking costs a round trip, so answers are kept for a moment. An old answer is never wrong, only low.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_broker::PartitionOffsets;
use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{Cluster, TIMEOUT};
use super::topics::Topics;
use crate::log::{LogError, TopicPartition};

pub(super) struct Watermarks {
    cluster: Arc<Cluster>,
    topics: Arc<Topics>,
    seen: Mutex<HashMap<TopicPartition, Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    offsets: PartitionOffsets,
    at_ms: i64,
}

impl Watermarks {
    pub(super) fn new(cluster: &Arc<Cluster>, topics: &Arc<Topics>) -> Self {
        Self { cluster: Arc::clone(cluster), topics: Arc::clone(topics), seen: Mutex::default() }
    }

    /// As they are now.
    pub(super) async fn fresh(&self, at: &TopicPartition) -> Result<PartitionOffsets, LogError> {
        // librdkafka waits for a topic that does not exist; the metadata says so at once.
        self.topics.check(&at.topic, at.partition).await?;
        let doing = format!("the offsets of {}/{}", at.topic, at.partition);
        let (topic, partition) = (at.topic.to_string(), at.partition);
        let client = Arc::clone(self.cluster.lookup_client());
        let result = self.cluster.blocking(move || client.fetch_watermarks(&topic, partition, TIMEOUT)).await?;
        let result = self.cluster.outcome_of(&doing, &at.topic, at.partition, result);
        if matches!(result, Err(LogError::UnknownTopicOrPartition { .. })) {
            self.topics.forget(&at.topic);
        }
        let (log_start, high_watermark) = result?;
        let offsets = PartitionOffsets { log_start, high_watermark };
        self.seen.lock().insert(at.clone(), Seen { offsets, at_ms: self.cluster.clock.now_ms() });
        Ok(offsets)
    }

    /// As they were at most this long ago.
    pub(super) async fn within(&self, at: &TopicPartition, max_age_ms: u64) -> Result<PartitionOffsets, LogError> {
        let now_ms = self.cluster.clock.now_ms();
        let seen = self.seen.lock().get(at).copied();
        match seen {
            Some(seen) if now_ms.abs_diff(seen.at_ms) <= max_age_ms => Ok(seen.offsets),
            _ => self.fresh(at).await,
        }
    }

    /// A reader stands at `next_offset`, so the high watermark is there at least. Answers with what is known.
    pub(super) fn reached(&self, at: &TopicPartition, next_offset: i64) -> PartitionOffsets {
        let mut seen = self.seen.lock();
        let known = seen.entry(at.clone()).or_insert(Seen {
            offsets: PartitionOffsets { log_start: 0, high_watermark: next_offset },
            at_ms: i64::MIN,
        });
        known.offsets.high_watermark = known.offsets.high_watermark.max(next_offset);
        known.offsets
    }

    /// This process has written there: what is known is too low.
    pub(super) fn moved(&self, topic: &Arc<str>, partition: i32) {
        let at = TopicPartition { topic: Arc::clone(topic), partition };
        if let Some(seen) = self.seen.lock().get_mut(&at) {
            seen.at_ms = i64::MIN;
        }
    }

    pub(super) fn forget(&self, topic: &str) {
        self.seen.lock().retain(|at, _| &*at.topic != topic);
    }

    /// First offset whose append time is at or after `timestamp_ms`; `None` past the end.
    pub(super) async fn offset_for_time(
        &self,
        topic: &str,
        partition: i32,
        timestamp_ms: i64,
    ) -> Result<Option<i64>, LogError> {
        self.topics.check(topic, partition).await?;
        let doing = format!("the offset of {topic}/{partition} at time {timestamp_ms}");
        let (name, client) = (topic.to_owned(), Arc::clone(self.cluster.lookup_client()));
        let result = self
            .cluster
            .blocking(move || {
                let mut asked = TopicPartitionList::with_capacity(1);
                // Negative times mean something else to Kafka.
                asked.add_partition_offset(&name, partition, Offset::Offset(timestamp_ms.max(0)))?;
                let answer = client.offsets_for_times(asked, TIMEOUT)?;
                let elements = answer.elements();
                let Some(found) = elements.first() else { return Ok(None) };
                found.error()?;
                Ok(match found.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                })
            })
            .await?;
        self.cluster.outcome_of(&doing, topic, partition, result)
    }
}
