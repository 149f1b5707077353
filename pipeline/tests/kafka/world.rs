//! A log on the shared broker, and ways to write to it and read from it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_broker::{SystemClock, TopicConfig};
use highwater_pipeline::log::kafka::{KafkaConfig, KafkaLog};
use highwater_pipeline::log::{
    Append, Appended, CommittedOffset, EffectMark, Guard, Log, LogError, Record, StoredRecord, TaskCommit,
};

use crate::fixture::{Kafka, unique};

/// Longest wait of a test for something that must come.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A log, with a group and topics nobody else has.
pub struct World {
    pub config: KafkaConfig,
    pub log: Arc<KafkaLog>,
}

impl World {
    /// On the shared broker.
    pub fn new() -> Option<Self> {
        Kafka::shared().map(Self::on)
    }

    pub fn on(kafka: &Kafka) -> Self {
        let config = KafkaConfig { group: unique("group"), ..KafkaConfig::new(kafka.brokers()) };
        Self { log: open(&config), config }
    }

    /// Another process, as far as Kafka can tell: the same group, clients of its own.
    pub fn another(&self) -> Arc<KafkaLog> {
        open(&self.config)
    }

    pub async fn topic(&self, partitions: i32) -> Arc<str> {
        let name = unique("topic");
        let info = self.log.ensure_topic(&name, TopicConfig::with_partitions(partitions)).await.unwrap();
        assert_eq!(info.config.partitions, partitions);
        info.name
    }
}

pub fn open(config: &KafkaConfig) -> Arc<KafkaLog> {
    Arc::new(KafkaLog::open(config.clone(), Arc::new(SystemClock)).unwrap())
}

pub fn record(value: &str) -> Record {
    Record { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Record::default() }
}

pub fn append(topic: &Arc<str>, partition: i32, values: &[&str], guard: Guard) -> Append {
    Append { topic: Arc::clone(topic), partition, records: values.iter().map(|v| record(v)).collect(), guard }
}

pub async fn write(log: &KafkaLog, topic: &Arc<str>, values: &[&str]) -> Result<Appended, LogError> {
    log.append(append(topic, 0, values, Guard::None)).await
}

/// Effects of the input record at `position`, one per value, into one partition.
pub fn effects(task: &Arc<str>, epoch: i32, topic: &Arc<str>, position: i64, values: &[&str]) -> Append {
    let marks = (0..).map(|index| EffectMark { position, index }).take(values.len()).collect();
    append(topic, 0, values, Guard::Effects { task: Arc::clone(task), epoch, marks })
}

/// A commit of a task whose input is named in its name.
pub fn commit(task: &Arc<str>, epoch: i32, appends: Vec<Append>, offset: i64) -> TaskCommit {
    TaskCommit { task: Arc::clone(task), epoch, appends, progress: progress(task, offset), progress_due: true }
}

pub fn progress(task: &str, offset: i64) -> CommittedOffset {
    let (topic, partition) = task.rsplit_once('/').unwrap();
    CommittedOffset { topic: topic.into(), partition: partition.parse().unwrap(), offset, metadata: String::new() }
}

pub fn text(record: &StoredRecord) -> String {
    String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap()
}

/// Reads from `offset` until the reader stands at the high watermark; answers with offsets and values, and where it stands.
pub async fn read_to_end(log: &KafkaLog, topic: &str, partition: i32, offset: i64) -> (Vec<(i64, String)>, i64) {
    let target = log.offsets(topic, partition).await.unwrap().high_watermark;
    let (mut next, mut found) = (offset, Vec::new());
    let reading = async {
        while next < target {
            let fetched = log.read(topic, partition, next, 1 << 20, Duration::from_millis(100)).await.unwrap();
            assert!(fetched.next_offset >= next && fetched.high_watermark >= fetched.next_offset, "{fetched:?}");
            found.extend(fetched.records.iter().map(|r| (r.offset, text(r))));
            next = fetched.next_offset;
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("the reader gets to the high watermark");
    (found, next)
}

/// All values, in order.
pub async fn values(log: &KafkaLog, topic: &str) -> Vec<String> {
    read_to_end(log, topic, 0, 0).await.0.into_iter().map(|(_, value)| value).collect()
}

/// All values, once there are as many as expected: what a transaction wrote is seen a moment after it is committed.
pub async fn assert_values<S: AsRef<str>>(log: &KafkaLog, topic: &str, expected: &[S]) {
    let mut found = values(log, topic).await;
    for _ in 0..200 {
        if found.len() >= expected.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = values(log, topic).await;
    }
    assert_eq!(found, expected.iter().map(AsRef::as_ref).collect::<Vec<_>>());
}
