//! A log in memory whose every look can be watched and delayed: what a test of interleavings needs and the broker cannot give.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use highwater_pipeline::log::{
    Append, Appended, CommittedOffset, Fetched, Log, LogError, Membership, PartitionOffsets, SoleMember, StoredRecord,
    TopicConfig, TopicInfo,
};
use parking_lot::Mutex;
use uuid::Uuid;

/// What to do while a query looks at offsets.
pub(crate) type Hook = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Default)]
pub(crate) struct MemoryLog {
    topics: Mutex<BTreeMap<String, Topic>>,
    /// Runs before each answer to `offsets`.
    pub(crate) before_offsets: Mutex<Option<Hook>>,
    /// Reads so far, for tests of the cache.
    pub(crate) reads: std::sync::atomic::AtomicUsize,
}

struct Topic {
    info: TopicInfo,
    partitions: Vec<Partition>,
}

#[derive(Default, Clone)]
struct Partition {
    log_start: i64,
    records: Vec<StoredRecord>,
}

impl MemoryLog {
    /// Drops the records below `offset`, as retention does.
    pub(crate) fn trim(&self, topic: &str, partition: i32, offset: i64) {
        let mut topics = self.topics.lock();
        let partition = &mut topics.get_mut(topic).unwrap().partitions[usize::try_from(partition).unwrap()];
        partition.log_start = offset;
        partition.records.retain(|r| r.offset >= offset);
    }

    fn partition(&self, topic: &str, partition: i32) -> Result<Partition, LogError> {
        let unknown = || LogError::UnknownTopicOrPartition { topic: topic.to_string(), partition };
        let topics = self.topics.lock();
        let found = usize::try_from(partition).ok().and_then(|p| topics.get(topic)?.partitions.get(p).cloned());
        found.ok_or_else(unknown)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, LogError> {
        let mut topics = self.topics.lock();
        let topic = topics.entry(name.to_string()).or_insert_with(|| Topic {
            partitions: vec![Partition::default(); usize::try_from(config.partitions).unwrap()],
            info: TopicInfo { name: name.into(), id: Uuid::new_v4(), config },
        });
        Ok(topic.info.clone())
    }

    async fn delete_topic(&self, name: &str) -> Result<(), LogError> {
        self.topics.lock().remove(name);
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Ok(self.topics.lock().values().map(|t| t.info.clone()).collect())
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, LogError> {
        Ok(self.topics.lock().get(name).map(|t| t.info.clone()))
    }

    async fn join(self: Arc<Self>, topics: Vec<String>) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(SoleMember::join(self, topics).await?))
    }

    async fn append(&self, append: Append) -> Result<Appended, LogError> {
        let mut topics = self.topics.lock();
        let topic = topics.get_mut(&*append.topic).unwrap();
        let partition = &mut topic.partitions[usize::try_from(append.partition).unwrap()];
        let base_offset = partition.records.last().map_or(partition.log_start, |r| r.offset + 1);
        let mut offset = base_offset;
        for record in append.records {
            partition.records.push(StoredRecord {
                offset,
                timestamp_ms: record.timestamp_ms.unwrap_or(0),
                key: record.key,
                value: record.value,
                headers: record.headers,
            });
            offset += 1;
        }
        Ok(Appended { base_offset, last_offset: offset - 1, append_time_ms: 0, duplicate: false, suppressed: 0 })
    }

    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        _max_wait: Duration,
    ) -> Result<Fetched, LogError> {
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let held = self.partition(topic, partition)?;
        let high_watermark = held.records.last().map_or(held.log_start, |r| r.offset + 1);
        if offset < held.log_start || offset > high_watermark {
            let (topic, log_start) = (topic.to_string(), held.log_start);
            return Err(LogError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark });
        }
        let mut size = 0;
        let mut records = Vec::new();
        for record in held.records.into_iter().filter(|r| r.offset >= offset) {
            size += record.value.as_ref().map_or(0, bytes::Bytes::len);
            if size > max_size_bytes && !records.is_empty() {
                break;
            }
            records.push(record);
        }
        let next_offset = records.last().map_or(offset, |r| r.offset + 1);
        Ok(Fetched { records, next_offset, high_watermark, log_start: held.log_start, gaps: Vec::new() })
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, LogError> {
        let hook = self.before_offsets.lock().clone();
        if let Some(hook) = hook {
            hook().await;
        }
        let held = self.partition(topic, partition)?;
        let high_watermark = held.records.last().map_or(held.log_start, |r| r.offset + 1);
        Ok(PartitionOffsets { log_start: held.log_start, high_watermark })
    }

    async fn offset_for_time(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<Option<i64>, LogError> {
        let held = self.partition(topic, partition)?;
        Ok(held.records.iter().find(|r| r.timestamp_ms >= timestamp_ms).map(|r| r.offset))
    }

    async fn begin_task(&self, _: &str) -> Result<i32, LogError> {
        unreachable!("queries run no task")
    }

    async fn commit_offsets(&self, _: &str, _: &[CommittedOffset], _: Option<(&str, i32)>) -> Result<(), LogError> {
        unreachable!("queries commit nothing")
    }

    async fn committed(&self, _: &str) -> Result<Vec<CommittedOffset>, LogError> {
        unreachable!("queries ask for no group")
    }
}
