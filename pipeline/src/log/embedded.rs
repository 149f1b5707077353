//! The embedded log: the broker in this process, called directly.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_broker::{Broker, GroupOffset};

use super::{
    Append, Appended, CommittedOffset, EffectMark, Fetched, Log, LogError, Membership, PartitionOffsets, SoleMember,
    TopicConfig, TopicInfo,
};

/// [`Log`] over a [`Broker`] of this process.
#[derive(Clone)]
pub struct EmbeddedLog {
    broker: Arc<Broker>,
}

impl EmbeddedLog {
    /// The log of this broker.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }

    /// The broker behind it.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, LogError> {
        Ok(self.broker.ensure_topic(name, config).await?)
    }

    async fn delete_topic(&self, name: &str) -> Result<(), LogError> {
        Ok(self.broker.delete_topic(name).await?)
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Ok(self.broker.topics())
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, LogError> {
        Ok(self.broker.topic(name))
    }

    async fn append(&self, append: Append) -> Result<Appended, LogError> {
        Ok(self.broker.append(append).await?)
    }

    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        max_wait: Duration,
    ) -> Result<Fetched, LogError> {
        Ok(self.broker.read(topic, partition, offset, max_size_bytes, max_wait).await?)
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, LogError> {
        Ok(self.broker.offsets(topic, partition)?)
    }

    async fn offset_for_time(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<Option<i64>, LogError> {
        Ok(self.broker.offset_for_time(topic, partition, timestamp_ms).await?)
    }

    async fn begin_task(&self, task: &str) -> Result<i32, LogError> {
        Ok(self.broker.begin_task(task).await?)
    }

    async fn effect_marks(&self, task: &str, topic: &str) -> Result<Vec<(i32, EffectMark)>, LogError> {
        let unknown = || LogError::UnknownTopicOrPartition { topic: topic.to_owned(), partition: 0 };
        let partitions = self.broker.topic(topic).ok_or_else(unknown)?.config.partitions;
        let mut marks = Vec::new();
        for partition in 0..partitions {
            let state = self.broker.task_state(topic, partition, task).await?;
            marks.extend(state.map(|state| (partition, state.mark)));
        }
        Ok(marks)
    }

    async fn join(self: Arc<Self>, topics: Vec<String>) -> Result<Box<dyn Membership>, LogError> {
        // One process at a time opens a data directory.
        Ok(Box::new(SoleMember::join(self, topics).await?))
    }

    async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
        task: Option<(&str, i32)>,
    ) -> Result<(), LogError> {
        let offsets = offsets
            .iter()
            .map(|o| GroupOffset {
                topic: Arc::clone(&o.topic),
                partition: o.partition,
                offset: o.offset,
                metadata: o.metadata.clone(),
            })
            .collect();
        Ok(self.broker.commit_offsets(group, offsets, task).await?)
    }

    async fn groups(&self) -> Result<Vec<String>, LogError> {
        Ok(self.broker.groups())
    }

    async fn committed(&self, group: &str) -> Result<Vec<CommittedOffset>, LogError> {
        let offsets = self.broker.committed(group);
        Ok(offsets
            .into_iter()
            .map(|o| CommittedOffset { topic: o.topic, partition: o.partition, offset: o.offset, metadata: o.metadata })
            .collect())
    }
}
