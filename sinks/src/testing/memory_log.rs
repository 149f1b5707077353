//! A log in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use highwater_pipeline::log::{
    Append, Appended, CleanupPolicy, CommittedOffset, Fetched, Log, LogError, Membership, PartitionOffsets, Record,
    SoleMember, StoredRecord, TopicConfig, TopicInfo,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// Next offset per topic and partition.
type Offsets = BTreeMap<(String, i32), i64>;

#[derive(Default)]
struct Partition {
    start: i64,
    records: Vec<StoredRecord>,
    /// Damaged ranges.
    gaps: Vec<highwater_broker::Gap>,
    /// Offsets whose records compaction took.
    compacted: BTreeSet<i64>,
}

#[derive(Default)]
pub(crate) struct MemoryLog {
    topics: Mutex<BTreeMap<String, (TopicInfo, Vec<Partition>)>>,
    groups: Mutex<BTreeMap<String, Offsets>>,
    appended: Notify,
    /// Commits of group offsets fail while set.
    pub(crate) refuse_offsets: AtomicBool,
}

impl MemoryLog {
    pub(crate) fn with_topic(topic: &str, partitions: i32) -> Arc<Self> {
        let log = Arc::new(Self::default());
        log.add_topic(topic, partitions);
        log
    }

    pub(crate) fn add_topic(&self, topic: &str, partitions: i32) {
        let config = TopicConfig { partitions, ..TopicConfig::default() };
        let info = TopicInfo { name: topic.into(), id: Uuid::new_v4(), config };
        let parts = (0..partitions).map(|_| Partition::default()).collect();
        self.topics.lock().insert(topic.to_string(), (info, parts));
    }

    pub(crate) fn set_topic_id(&self, topic: &str, id: Uuid) {
        self.topics.lock().get_mut(topic).unwrap().0.id = id;
    }

    /// Appends one record; its offset.
    pub(crate) fn push(&self, topic: &str, partition: i32, record: Record) -> i64 {
        let mut topics = self.topics.lock();
        let part = &mut topics.get_mut(topic).unwrap().1[usize::try_from(partition).unwrap()];
        let offset = part.start + i64::try_from(part.records.len()).unwrap();
        part.records.push(StoredRecord {
            offset,
            timestamp_ms: 1_700_000_000_000 + offset,
            key: record.key,
            value: record.value,
            headers: record.headers,
        });
        drop(topics);
        self.appended.notify_waiters();
        offset
    }

    /// Moves the log start, as retention would.
    pub(crate) fn trim(&self, topic: &str, partition: i32, to: i64) {
        let mut topics = self.topics.lock();
        let part = &mut topics.get_mut(topic).unwrap().1[usize::try_from(partition).unwrap()];
        let count = usize::try_from(to - part.start).unwrap();
        part.records.drain(..count);
        part.start = to;
    }

    /// Takes the record at this offset away and declares nothing, as compaction would.
    pub(crate) fn compact(&self, topic: &str, partition: i32, offset: i64) {
        let mut topics = self.topics.lock();
        let part = &mut topics.get_mut(topic).unwrap().1[usize::try_from(partition).unwrap()];
        part.compacted.insert(offset);
    }

    /// Makes it a topic of this kind.
    pub(crate) fn set_cleanup(&self, topic: &str, cleanup: CleanupPolicy) {
        self.topics.lock().get_mut(topic).unwrap().0.config.cleanup = cleanup;
    }

    /// Loses the records at `from..to`, as a bad disk would.
    pub(crate) fn damage(&self, topic: &str, partition: i32, from: i64, to: i64) {
        let mut topics = self.topics.lock();
        let part = &mut topics.get_mut(topic).unwrap().1[usize::try_from(partition).unwrap()];
        part.gaps.push(highwater_broker::Gap { from, to, reason: "damaged by the test".to_string() });
    }

    pub(crate) fn group(&self, group: &str) -> Offsets {
        self.groups.lock().get(group).cloned().unwrap_or_default()
    }

    fn fetch(&self, topic: &str, partition: i32, offset: i64, max_size_bytes: usize) -> Result<Fetched, LogError> {
        let topics = self.topics.lock();
        let unknown = || LogError::UnknownTopicOrPartition { topic: topic.to_string(), partition };
        let part = topics.get(topic).and_then(|t| t.1.get(usize::try_from(partition).unwrap())).ok_or_else(unknown)?;
        let high_watermark = part.start + i64::try_from(part.records.len()).unwrap();
        if offset < part.start || offset > high_watermark {
            let topic = topic.to_string();
            return Err(LogError::OffsetOutOfRange { topic, partition, offset, log_start: part.start, high_watermark });
        }
        let mut fetched = Fetched { next_offset: offset, high_watermark, log_start: part.start, ..Fetched::default() };
        let mut size = 0;
        for record in &part.records[usize::try_from(offset - part.start).unwrap()..] {
            let bytes = record.value.as_ref().map_or(0, bytes::Bytes::len);
            if size > 0 && size + bytes > max_size_bytes {
                break;
            }
            size += bytes;
            fetched.next_offset = record.offset + 1;
            if let Some(gap) = part.gaps.iter().find(|g| (g.from..g.to).contains(&record.offset)) {
                if !fetched.gaps.contains(gap) {
                    fetched.gaps.push(gap.clone());
                }
            } else if !part.compacted.contains(&record.offset) {
                fetched.records.push(record.clone());
            }
        }
        // A read goes past a damaged range whole.
        if let Some(gap) = fetched.gaps.last() {
            fetched.next_offset = fetched.next_offset.max(gap.to);
            fetched.records.retain(|r| r.offset < fetched.next_offset);
        }
        Ok(fetched)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, LogError> {
        if self.topics.lock().get(name).is_none() {
            self.add_topic(name, config.partitions);
        }
        Ok(self.topics.lock()[name].0.clone())
    }

    async fn delete_topic(&self, name: &str) -> Result<(), LogError> {
        self.topics.lock().remove(name);
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Ok(self.topics.lock().values().map(|t| t.0.clone()).collect())
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, LogError> {
        Ok(self.topics.lock().get(name).map(|t| t.0.clone()))
    }

    async fn join(self: Arc<Self>, topics: Vec<String>) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(SoleMember::join(self, topics).await?))
    }

    async fn append(&self, append: Append) -> Result<Appended, LogError> {
        let mut offsets = append.records.into_iter().map(|r| self.push(&append.topic, append.partition, r));
        let base_offset = offsets.next().unwrap();
        let last_offset = offsets.last().unwrap_or(base_offset);
        Ok(Appended { base_offset, last_offset, append_time_ms: 0, duplicate: false, suppressed: 0 })
    }

    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        max_wait: Duration,
    ) -> Result<Fetched, LogError> {
        let waiting = self.appended.notified();
        let fetched = self.fetch(topic, partition, offset, max_size_bytes)?;
        if fetched.next_offset > offset || max_wait.is_zero() {
            return Ok(fetched);
        }
        let _timed_out = tokio::time::timeout(max_wait, waiting).await;
        self.fetch(topic, partition, offset, max_size_bytes)
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, LogError> {
        let topics = self.topics.lock();
        let part = &topics
            .get(topic)
            .ok_or_else(|| LogError::UnknownTopicOrPartition { topic: topic.to_string(), partition })?
            .1[usize::try_from(partition).unwrap()];
        Ok(PartitionOffsets {
            log_start: part.start,
            high_watermark: part.start + i64::try_from(part.records.len()).unwrap(),
        })
    }

    async fn offset_for_time(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<Option<i64>, LogError> {
        let topics = self.topics.lock();
        let part = &topics[topic].1[usize::try_from(partition).unwrap()];
        Ok(part.records.iter().find(|r| r.timestamp_ms >= timestamp_ms).map(|r| r.offset))
    }

    async fn begin_task(&self, _task: &str) -> Result<i32, LogError> {
        Ok(1)
    }

    async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
        _task: Option<(&str, i32)>,
    ) -> Result<(), LogError> {
        if self.refuse_offsets.load(Ordering::SeqCst) {
            return Err(LogError::Fenced { task: "test".to_string(), epoch: 0, current: 1 });
        }
        let mut groups = self.groups.lock();
        let known = groups.entry(group.to_string()).or_default();
        for o in offsets {
            known.insert((o.topic.to_string(), o.partition), o.offset);
        }
        Ok(())
    }

    async fn committed(&self, group: &str) -> Result<Vec<CommittedOffset>, LogError> {
        Ok(self
            .group(group)
            .into_iter()
            .map(|((topic, partition), offset)| CommittedOffset {
                topic: topic.into(),
                partition,
                offset,
                metadata: String::new(),
            })
            .collect())
    }
}
