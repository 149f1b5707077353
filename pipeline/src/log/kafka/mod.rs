//! The log on Apache Kafka, Redpanda, or whatever speaks the protocol.
//!
//! | | |
//! |---|---|
//! | [`appends`] | plain appends through one idempotent producer |
//! | [`keys`] | idempotency keys of senders, in a topic of their own |
//! | [`tasks`] | one transaction per commit of a task, a producer and a thread per run |
//! | [`lanes`], [`slot`] | many readers on a few consumers; how a reader gets past transaction markers |
//! | [`watermarks`] | where partitions begin and end |
//! | [`offsets`] | committed offsets of groups |
//! | [`membership`] | which partitions this process works on |
//! | [`topics`] | topics made, described, deleted |
//!
//! Invariants:
//! - An `Ok` means that all in-sync replicas have it (acks=all; how many there must be is the topic's `min.insync.replicas`).
//! - Readers see committed records only; the high watermark they hear is Kafka's last stable offset.
//! - Outputs of a task and its progress become visible in one transaction, and only those of its newest run.
//! - Whether trying again can help is data: a broker that is away, a leader that moves and a coordinator that loads are retryable, and all of it goes
//!   on by itself once the cluster is back. Credentials and permissions are not, and their message names what to check.
//!
//! What is weaker than on the embedded log: what a transaction wrote is seen a moment after `commit_task` has answered (the coordinator has
//! decided it, and tells the partitions then); retention is the cluster's and does not wait for tasks or tables (a gap is met as
//! [`LogError::OffsetOutOfRange`]); a plain append of several records may be left in part by a failure; a topic made again under its
//! name has its old id. `docs/guides/kafka.md` is for who runs it, `docs/decisions/0005-kafka-log.md` has the reasons.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use highwater_broker::Clock;

use super::{
    Append, Appended, CommittedOffset, Fetched, Guard, Log, LogError, Membership, PartitionOffsets, TaskCommit,
    TaskCommitted, TopicConfig, TopicInfo, TopicPartition,
};

mod appends;
mod cluster;
mod config;
mod context;
mod error;
mod keys;
mod lanes;
mod membership;
mod offsets;
mod slot;
mod tasks;
mod topics;
mod watermarks;

pub use config::{KafkaConfig, Property};
pub use error::KafkaError;
pub use offsets::is_progress_of_task;

use appends::Appends;
use cluster::Cluster;
use keys::Keys;
use lanes::Lanes;
use membership::KafkaMember;
use offsets::Offsets;
use tasks::Tasks;
use topics::Topics;
use watermarks::Watermarks;

/// How often queues that hold no records are served.
const TEND: Duration = Duration::from_millis(200);

/// [`Log`] over a Kafka cluster. Connections are made as they are needed, and again when they are lost.
pub struct KafkaLog {
    parts: Arc<Parts>,
}

struct Parts {
    cluster: Arc<Cluster>,
    topics: Arc<Topics>,
    watermarks: Arc<Watermarks>,
    lanes: Lanes,
    appends: Arc<Appends>,
    keys: Keys,
    offsets: Arc<Offsets>,
    tasks: Arc<Tasks>,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("config", &self.parts.cluster.config).finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// The log of this cluster. Waits for nobody: a cluster that is away shows in the first call, as a retryable error.
    ///
    /// # Errors
    /// Settings that cannot work, naming the key.
    pub fn open(config: KafkaConfig, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        let cluster = Arc::new(Cluster::new(config, clock)?);
        let topics = Arc::new(Topics::new(&cluster)?);
        let watermarks = Arc::new(Watermarks::new(&cluster, &topics));
        let lanes = Lanes::new(&cluster, &watermarks);
        let appends = Arc::new(Appends::new(&cluster, &watermarks)?);
        let keys = Keys::new(&cluster, &topics, &watermarks, &appends);
        let offsets = Arc::new(Offsets::new(&cluster, &topics));
        let tasks = Arc::new(Tasks::new(&cluster, &offsets, &watermarks));
        let parts = Arc::new(Parts { cluster, topics, watermarks, lanes, appends, keys, offsets, tasks });
        let tended = Arc::downgrade(&parts);
        std::thread::Builder::new()
            .name("kafka-tend".into())
            .spawn(move || tend(&tended))
            .map_err(|error| parts.cluster.unavailable("opening the log", format!("no thread: {error}")))?;
        Ok(Self { parts })
    }
}

/// Serves queues of log lines and errors until the log is dropped.
fn tend(parts: &Weak<Parts>) {
    while let Some(parts) = parts.upgrade() {
        while rdkafka::consumer::BaseConsumer::poll(parts.cluster.lookup_client(), Duration::ZERO).is_some() {}
        parts.lanes.tend();
        parts.offsets.tend();
        drop(parts);
        std::thread::sleep(TEND);
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        // Closing consumers and producers waits for their threads, which an async caller must not.
        let parts = Arc::clone(&self.parts);
        let close = move || {
            parts.appends.flush();
            drop(parts);
        };
        if std::thread::Builder::new().name("kafka-close".into()).spawn(close).is_err() {
            tracing::warn!("no thread to close the Kafka log with");
        }
    }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

#[async_trait]
impl Log for KafkaLog {
    async fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, LogError> {
        topics::check_name(name)?;
        self.parts.topics.ensure(name, config).await
    }

    async fn delete_topic(&self, name: &str) -> Result<(), LogError> {
        self.parts.topics.delete(name).await?;
        self.parts.watermarks.forget(name);
        self.parts.lanes.forget(name);
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.parts.topics.all().await
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, LogError> {
        self.parts.topics.one(name).await
    }

    async fn append(&self, append: Append) -> Result<Appended, LogError> {
        let parts = &self.parts;
        parts.topics.check(&append.topic, append.partition).await?;
        let written = match &append.guard {
            Guard::None => parts.appends.write(&append, None).await,
            Guard::Idempotency { scope } => parts.keys.write(&append, scope).await,
            Guard::Effects { task, .. } => Err(KafkaError::InvalidRequest {
                topic: append.topic.to_string(),
                partition: append.partition,
                reason: format!("effects of task {task} go with its progress: use commit_task"),
            }
            .into()),
        };
        if let Err(LogError::UnknownTopicOrPartition { .. }) = &written {
            parts.topics.forget(&append.topic);
        }
        written
    }

    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        max_wait: Duration,
    ) -> Result<Fetched, LogError> {
        self.parts.lanes.read(&at(topic, partition), offset, max_size_bytes, max_wait).await
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, LogError> {
        self.parts.watermarks.fresh(&at(topic, partition)).await
    }

    async fn offset_for_time(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<Option<i64>, LogError> {
        self.parts.watermarks.offset_for_time(topic, partition, timestamp_ms).await
    }

    async fn begin_task(&self, task: &str) -> Result<i32, LogError> {
        self.parts.tasks.begin(task).await
    }

    fn takes_outputs_first(&self) -> bool {
        false
    }

    async fn commit_task(&self, commit: TaskCommit) -> Result<TaskCommitted, LogError> {
        self.parts.tasks.commit(commit).await
    }

    async fn join(self: Arc<Self>, topics: Vec<String>) -> Result<Box<dyn Membership>, LogError> {
        for topic in &topics {
            self.parts.topics.check(topic, 0).await?;
        }
        let Parts { cluster, offsets, tasks, .. } = &*self.parts;
        Ok(Box::new(KafkaMember::join(cluster, offsets, tasks, &topics)?))
    }

    async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
        task: Option<(&str, i32)>,
    ) -> Result<(), LogError> {
        match task {
            Some((task, epoch)) => self.parts.tasks.commit_offsets(group, offsets, task, epoch).await,
            None => self.parts.offsets.commit(group, offsets).await,
        }
    }

    async fn committed(&self, group: &str) -> Result<Vec<CommittedOffset>, LogError> {
        self.parts.offsets.all(group).await
    }

    async fn groups(&self) -> Result<Vec<String>, LogError> {
        self.parts.offsets.groups().await
    }
}
