//! Where the table stands in partitions just given to us: read afresh from its Delta log, and checked against the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_pipeline::log::{TopicInfo, TopicPartition};

use super::flush::Flusher;
use crate::SinkError;

/// Where a partition is to be read from.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) topic: TopicInfo,
    /// The next offset to read.
    pub(super) next: i64,
    /// Where the table stands; `None` where it never had the partition.
    pub(super) stands_at: Option<i64>,
}

/// What a look has found.
#[derive(Debug)]
pub(super) struct Looked {
    /// The Delta version looked at; `None` where there was nothing to look for.
    pub(super) version: Option<u64>,
    /// For each partition asked for, in order; `None` where it does not exist yet.
    pub(super) found: Vec<Option<Found>>,
}

impl Flusher {
    /// Finds out where to read these partitions from: where the table stands, or at the start of the log in those it never had. Tells the log how
    /// far the table is: a crash between a commit and the group's offset leaves the log behind.
    pub(super) async fn look(&mut self, keys: &[TopicPartition]) -> Result<Looked, SinkError> {
        let mut topics: BTreeMap<Arc<str>, Option<TopicInfo>> = BTreeMap::new();
        for key in keys {
            if !topics.contains_key(&key.topic) {
                topics.insert(Arc::clone(&key.topic), self.log.topic(&key.topic).await?);
            }
        }
        let topic_of = |key: &TopicPartition| {
            let topic = topics.get(&key.topic).and_then(Option::as_ref);
            topic.filter(|topic| key.partition < topic.config.partitions)
        };
        if !keys.iter().any(|key| topic_of(key).is_some()) {
            return Ok(Looked { version: None, found: keys.iter().map(|_| None).collect() });
        }
        let delta = self.delta().await?;
        // All partitions of the topics at once: one given later is then known from the commits in between.
        let existing: Vec<TopicInfo> = topics.values().flatten().cloned().collect();
        delta.load_positions(&existing).await?;
        let version = Some(delta.version());
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(match topic_of(key) {
                Some(topic) => Some(self.find(key, topic).await?),
                None => None,
            });
        }
        let known = keys
            .iter()
            .zip(&found)
            .filter_map(|(key, found)| Some((key.topic.as_ref(), key.partition, found.as_ref()?.stands_at?)));
        self.commit_group(known).await;
        Ok(Looked { version, found })
    }

    async fn find(&mut self, key: &TopicPartition, topic: &TopicInfo) -> Result<Found, SinkError> {
        let offsets = self.log.offsets(&key.topic, key.partition).await?;
        let stands_at = self.delta().await?.position(topic.id, key.partition);
        match stands_at {
            Some(stands_at) if stands_at > offsets.high_watermark => {
                return Err(SinkError::AheadOfLog {
                    table: self.spec.name.clone(),
                    topic: key.topic.to_string(),
                    partition: key.partition,
                    stands_at,
                    high_watermark: offsets.high_watermark,
                });
            }
            None if offsets.log_start > 0 => {
                tracing::warn!(
                    table = %self.spec.name, topic = %key.topic, partition = key.partition, log_start = offsets.log_start,
                    "the table is new to a partition whose oldest records are gone; it begins where the log does"
                );
            }
            _ => {}
        }
        Ok(Found { topic: topic.clone(), next: stands_at.unwrap_or(offsets.log_start), stands_at })
    }
}
