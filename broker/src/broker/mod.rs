//! The broker: the async face of the log. Threads, channels and waiting are here; what is written, and what is true after a
//! crash, is decided by the synchronous cores ([`crate::log`] and the coordinator of groups and tasks).
//!
//! ```text
//! append, produce ──▶ writer thread of the partition: write, write, write, fdatasync, answer all ──▶ readers see it
//! commit_offsets, begin_task ──▶ commit thread, likewise
//! read, fetch ──▶ blocking pool: positioned reads below the high watermark
//! retention thread ──▶ writer threads, every `retention_interval_ms`
//! ```
//!
//! In a simulation there are no threads: what they do, step by step, a [`Stepper`] does when it is told to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot};

use crate::append::{Append, Appended};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::coordinator::{Coordinator, OffsetOfTopic};
use crate::error::BrokerError;
use crate::fs::file::create_dir_durably;
use crate::fs::{Fs, FsLock};
use crate::log::{LogSettings, PartitionLog, TaskState};
use crate::raw::{PartitionEnds, TimeQuery};
use crate::topic::{Fetched, GroupOffset, PartitionInfo, PartitionOffsets, TopicInfo, check_name};
use crate::topic_config::TopicConfig;

mod check;
mod cluster;
mod committer;
mod compaction;
mod groups_journal;
mod inner;
mod maintenance;
mod meter;
mod raw;
#[cfg(test)]
mod raw_tests;
mod stepped;
#[cfg(test)]
mod tests;
mod topic_changes;
#[cfg(test)]
mod topic_changes_tests;
mod topics;
mod transact;
mod writer;

pub(crate) use groups_journal::GroupsJournal;
pub use maintenance::HOLDING_GROUP_PREFIX;
pub(crate) use raw::Prepared;
pub use stepped::Stepper;
pub(crate) use transact::Orphan;

use check::{check_append, check_size};
use inner::{Crew, Inner, Topic, groups_dir, open_read_only, recover_all};
use topics::TopicStore;
use transact::find_orphans;
use writer::{Command, WriterContext};

/// The embedded log broker. Dropping it closes it, as [`Broker::shutdown`] does.
pub struct Broker {
    inner: Arc<Inner>,
    /// Serialises creating, altering and deleting topics.
    topic_changes: Arc<tokio::sync::Mutex<()>>,
    in_flight: Arc<Semaphore>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    retention: Option<(Sender<()>, JoinHandle<()>)>,
    writers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Broker {
    /// Opens the broker on its data directory, takes the lock of it, and recovers every partition. Blocks while it scans.
    /// Install the `metrics` recorder first: handles are looked up here.
    pub fn open(config: BrokerConfig, fs: Arc<dyn Fs>, clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        let Opened { inner, topics, writers, coordinator, lock } = Opened::open(config, fs, clock, Crew::Threads)?;
        let mut inner = inner;
        let mut threads = Threads::default();
        for (i, context) in writers.into_iter().enumerate() {
            let (sender, thread) = writer::start(format!("highwater-log-{i}"), context)?;
            inner.writers.push(sender);
            threads.writers.push(thread);
        }
        let (committer, thread) = committer::start(coordinator, lock)?;
        inner.committer = Some(committer);
        threads.writers.push(thread);
        for (info, logs) in topics {
            inner.adopt(info, logs)?;
        }
        let inner = Arc::new(inner);
        threads.retention = Some(maintenance::start(Arc::downgrade(&inner), inner.config.retention_interval_ms)?);
        Ok(Self::new(inner, threads))
    }

    /// Opens the data directory as it is at this moment, for reading only, also while another process runs on it. Takes no
    /// lock and changes nothing; every write is refused with [`BrokerError::ReadOnly`]. Later appends are not seen.
    pub fn open_read_only(
        data_dir: impl Into<PathBuf>,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        let config = BrokerConfig::new(data_dir);
        // What another process rolls or deletes meanwhile makes a look fail; another look does not.
        let mut tries = 0;
        loop {
            match Self::look(&config, &fs, &clock) {
                Err(BrokerError::Io { kind: std::io::ErrorKind::NotFound, .. }) if tries < 3 => tries += 1,
                other => return other,
            }
        }
    }

    fn look(config: &BrokerConfig, fs: &Arc<dyn Fs>, clock: &Arc<dyn Clock>) -> Result<Self, BrokerError> {
        let store = TopicStore::new(Arc::clone(fs), &config.data_dir);
        let mut topics: BTreeMap<Arc<str>, Arc<Topic>> = BTreeMap::new();
        for info in store.load()? {
            let name = Arc::clone(&info.name);
            topics.insert(name, Arc::new(open_read_only(config, fs, &store, info)?));
        }
        let id_of = |topic: &str| topics.get(topic).map(|t| t.info.id);
        let coordinator = Coordinator::open_read_only(fs.as_ref(), &groups_dir(&config.data_dir), id_of)?;
        let inner = Inner {
            config: config.clone(),
            fs: Arc::clone(fs),
            clock: Arc::clone(clock),
            store,
            topics: RwLock::new(topics),
            coordinator: Arc::new(coordinator),
            writers: Vec::new(),
            committer: None,
            next_writer: AtomicUsize::new(0),
            orphans: Mutex::default(),
            crew: Crew::Threads,
            maintenance: Mutex::default(),
        };
        Ok(Self::new(Arc::new(inner), Threads::default()))
    }

    fn new(inner: Arc<Inner>, threads: Threads) -> Self {
        let in_flight = Arc::new(Semaphore::new(inner.config.max_in_flight_bytes));
        Self { inner, topic_changes: Arc::default(), in_flight, threads: Mutex::new(threads) }
    }

    /// Creates the topic if it is missing, durably; an existing one is returned as it is.
    pub async fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, BrokerError> {
        if let Some(topic) = self.inner.topic(name) {
            return Ok(topic.info.clone());
        }
        check_name(name)?;
        config.validate_for(&self.inner.config)?;
        self.check_writable("create a topic")?;
        let changes = Arc::clone(&self.topic_changes).lock_owned().await;
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        let create = move || {
            let _changes = changes;
            match inner.topic(&name) {
                Some(topic) => Ok(topic.info.clone()),
                None => inner.create_topic(&name, config),
            }
        };
        self.inner.crew.blocking(create).await
    }

    /// Deletes a topic, its records and the offsets committed for it.
    pub async fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        self.check_writable("delete a topic")?;
        self.check_threaded("delete a topic")?;
        let changes = Arc::clone(&self.topic_changes).lock_owned().await;
        let unknown = || BrokerError::UnknownTopicOrPartition { topic: name.to_owned(), partition: 0 };
        let topic = self.inner.topics.write().remove(name).ok_or_else(unknown)?;
        let inner = Arc::clone(&self.inner);
        let delete = move || {
            let _changes = changes;
            for partition in &topic.partitions {
                let (reply, answer) = oneshot::channel();
                let key = (topic.info.id, partition.id.partition);
                inner.send(partition.writer, Command::Abandon { key, reply })?;
                answer.blocking_recv().map_err(|_| BrokerError::Closed)??;
            }
            inner.store.delete(&topic.info)?;
            let (reply, answer) = oneshot::channel();
            inner.send_commit(committer::Command::ForgetTopic { topic_id: topic.info.id, reply })?;
            answer.blocking_recv().map_err(|_| BrokerError::Closed)?
        };
        self.inner.crew.blocking(delete).await
    }

    /// All topics, sorted by name.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.inner.all_topics().iter().map(|t| t.info.clone()).collect()
    }

    /// One topic, or `None`.
    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.inner.topic(name).map(|t| t.info.clone())
    }

    /// The state of each partition of a topic, for people and health checks.
    pub fn describe_topic(&self, name: &str) -> Result<Vec<PartitionInfo>, BrokerError> {
        let (topic, _) = self.inner.find(name, 0)?;
        let describe = |p: &inner::Partition| {
            let segments = p.view.segments();
            PartitionInfo {
                partition: p.id.partition,
                offsets: p.view.offsets(),
                size_bytes: segments.iter().map(|s| s.size_bytes).sum(),
                segments: segments.len(),
                stopped: p.view.stopped().map(str::to_owned),
                damaged: p.view.damaged(),
            }
        };
        Ok(topic.partitions.iter().map(describe).collect())
    }

    /// Appends one batch to one partition. Durable when it returns `Ok`, unless durability is relaxed. Waits while too many bytes are
    /// on their way. If the future is dropped before it is ready, the append may happen or not.
    pub async fn append(&self, append: Append) -> Result<Appended, BrokerError> {
        self.check_writable("append")?;
        let (topic, index) = self.inner.find(&append.topic, append.partition)?;
        check_append(&append, &topic.info.config)?;
        let size_bytes = check_size(&append, self.inner.config.max_decompressed_size_bytes)?;
        let permits = u32::try_from(size_bytes.min(self.inner.config.max_in_flight_bytes)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.in_flight).acquire_many_owned(permits).await.map_err(|_| BrokerError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let key = (topic.info.id, append.partition);
        self.inner.send(topic.partitions[index].writer, Command::Append { key, append, permit, reply })?;
        answer.await.map_err(|_| BrokerError::Closed)?
    }

    /// Reads committed records from `offset` on: at least one batch if there is one, no further batch once `max_size_bytes` are reached,
    /// and nothing above the last stable offset. There it waits up to `max_wait` for more, and then answers with no records.
    /// Values share memory with the bytes read; nothing is copied.
    pub async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        max_wait: Duration,
    ) -> Result<Fetched, BrokerError> {
        let (found, index) = self.inner.find(topic, partition)?;
        let found = &found.partitions[index];
        let is_at_end = |PartitionEnds { last_stable_offset, high_watermark, .. }| {
            (last_stable_offset..=high_watermark).contains(&offset)
        };
        if is_at_end(found.view.ends()) && !max_wait.is_zero() {
            let mut ends = found.ends.clone();
            let wait = ends.wait_for(|ends| ends.last_stable_offset > offset);
            let has_writer = !matches!(tokio::time::timeout(max_wait, wait).await, Ok(Err(_)));
            if !has_writer {
                // Deleted, shut down, or read-only from the start.
                self.inner.find(topic, partition)?;
                if !self.inner.writers.is_empty() {
                    return Err(BrokerError::Closed);
                }
                tokio::time::sleep(max_wait).await;
            }
        }
        let ends = found.view.ends();
        if is_at_end(ends) {
            let PartitionEnds { log_start, last_stable_offset: high_watermark, .. } = ends;
            return Ok(Fetched { next_offset: offset, high_watermark, log_start, ..Fetched::default() });
        }
        let view = Arc::clone(&found.view);
        let result = self.inner.crew.blocking(move || view.read(offset, max_size_bytes)).await;
        if result.is_err() {
            // Where the topic was deleted meanwhile, that is the answer, not the file that is missing.
            self.inner.find(topic, partition)?;
        }
        result
    }

    /// Between which offsets [`Self::read`] finds what it finds now: the log start, and as high watermark the last stable offset, so that
    /// a reader who reads up to it gets there. [`Self::ends`] tells the two apart.
    pub fn offsets(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, BrokerError> {
        let PartitionEnds { log_start, last_stable_offset, .. } = self.ends(topic, partition)?;
        Ok(PartitionOffsets { log_start, high_watermark: last_stable_offset })
    }

    /// First offset whose timestamp is at or after `timestamp_ms` (Unix milliseconds); `None` past the end.
    pub async fn offset_for_time(
        &self,
        topic: &str,
        partition: i32,
        timestamp_ms: i64,
    ) -> Result<Option<i64>, BrokerError> {
        let (topic, index) = self.inner.find(topic, partition)?;
        let view = Arc::clone(&topic.partitions[index].view);
        let query = TimeQuery::At(timestamp_ms);
        let found = self.inner.crew.blocking(move || view.timestamp_lookup(query)).await?;
        Ok(found.map(|(offset, _)| offset))
    }

    /// Deletes the records before `offset`, durably, whoever still wants to read them, and frees the segments wholly below it.
    /// Answers with the log start.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, BrokerError> {
        self.check_writable("delete records")?;
        let (found, index) = self.inner.find(topic, partition)?;
        let PartitionOffsets { log_start, high_watermark } = found.partitions[index].view.offsets();
        if offset > high_watermark || offset < 0 {
            let topic = topic.to_owned();
            return Err(BrokerError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark });
        }
        let (reply, answer) = oneshot::channel();
        let key = (found.info.id, partition);
        self.inner.send(found.partitions[index].writer, Command::AdvanceLogStart { key, offset, reply })?;
        answer.await.map_err(|_| BrokerError::Closed)?
    }

    /// Applies retention and the disk limit, and compacts where it is time, now. Answers with the bytes that retention and limit freed.
    pub async fn apply_retention(&self) -> Result<u64, BrokerError> {
        self.check_writable("apply retention")?;
        self.check_threaded("apply retention")?;
        let inner = Arc::clone(&self.inner);
        self.inner.crew.blocking(move || Ok(maintenance::apply(&inner, &|| false))).await
    }

    /// Starts a run of a task: an epoch higher than any before, durable when this returns. Earlier runs are fenced from here on.
    pub async fn begin_task(&self, task: &str) -> Result<i32, BrokerError> {
        self.check_writable("begin a task")?;
        let (reply, answer) = oneshot::channel();
        self.inner.send_commit(committer::Command::Begin { task: Arc::from(task), reply })?;
        answer.await.map_err(|_| BrokerError::Closed)?
    }

    /// The highest effect of a task in a partition, durable or on its way; `None` where it has none there. Ask after [`Self::begin_task`]: then
    /// nothing of an earlier run is added any more.
    pub async fn task_state(&self, topic: &str, partition: i32, task: &str) -> Result<Option<TaskState>, BrokerError> {
        self.check_writable("ask for a task's state")?;
        let (found, index) = self.inner.find(topic, partition)?;
        let (reply, answer) = oneshot::channel();
        let key = (found.info.id, partition);
        self.inner.send(found.partitions[index].writer, Command::TaskState { key, task: Arc::from(task), reply })?;
        answer.await.map_err(|_| BrokerError::Closed)?
    }

    /// Where every task stands in a partition, as recovery would find it from what is on disk. For checks; it reads much.
    pub async fn recovered_tasks(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<(Arc<str>, TaskState)>, BrokerError> {
        let (found, index) = self.inner.find(topic, partition)?;
        let view = Arc::clone(&found.partitions[index].view);
        let dir = self.inner.store.partition_dir(topic, partition);
        let settings = LogSettings::new(&self.inner.config, &found.info.config);
        let now_ms = self.inner.clock.now_ms();
        self.inner.crew.blocking(move || view.recovered_tasks(&dir, &settings, now_ms)).await
    }

    /// Commits a group's progress, durably, all of it or none. With `task`, refused as [`BrokerError::Fenced`] where that
    /// epoch is not the task's current one.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: Vec<GroupOffset>,
        task: Option<(&str, i32)>,
    ) -> Result<(), BrokerError> {
        self.check_writable("commit offsets")?;
        let with_id = |offset: GroupOffset| {
            let (topic, _) = self.inner.find(&offset.topic, offset.partition)?;
            Ok(OffsetOfTopic { topic_id: topic.info.id, offset })
        };
        let offsets = offsets.into_iter().map(with_id).collect::<Result<_, BrokerError>>()?;
        let (reply, answer) = oneshot::channel();
        self.inner.send_commit(committer::Command::Commit {
            group: Arc::from(group),
            offsets,
            task: task.map(|(task, epoch)| (task.to_owned(), epoch)),
            reply,
        })?;
        answer.await.map_err(|_| BrokerError::Closed)?
    }

    /// The identity of the topic that has this partition.
    pub(crate) fn topic_id_of(&self, topic: &str, partition: i32) -> Result<(Arc<str>, uuid::Uuid), BrokerError> {
        let (found, _) = self.inner.find(topic, partition)?;
        Ok((Arc::clone(&found.info.name), found.info.id))
    }

    /// All committed offsets of a group, sorted by topic and partition.
    pub fn committed(&self, group: &str) -> Vec<GroupOffset> {
        self.inner.coordinator.committed(group)
    }

    /// Names of all groups that committed an offset, sorted.
    pub fn groups(&self) -> Vec<String> {
        self.inner.coordinator.groups()
    }

    /// Syncs and closes every log, so that the next start has nothing to scan, and frees the data directory. Appends on their
    /// way are finished first; later writes are refused with [`BrokerError::Closed`].
    pub async fn shutdown(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        let inner = Arc::clone(&self.inner);
        let closed = self.inner.crew.blocking(move || {
            close(&inner, threads);
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "the broker did not close in order");
        }
    }

    fn check_writable(&self, action: &'static str) -> Result<(), BrokerError> {
        if self.inner.writers.is_empty() { Err(BrokerError::ReadOnly { action }) } else { Ok(()) }
    }

    /// Refuses what waits for a writer while it blocks, where nobody else could do the writer's work meanwhile.
    fn check_threaded(&self, action: &'static str) -> Result<(), BrokerError> {
        match self.inner.crew {
            Crew::Threads => Ok(()),
            Crew::Stepper(_) => Err(BrokerError::Stepped { action }),
        }
    }
}

/// A broker whose writers and committer are not at work yet.
struct Opened {
    inner: Inner,
    /// Topics with the logs of their partitions, to be adopted once there are writers.
    topics: Vec<(TopicInfo, Vec<PartitionLog>)>,
    /// One per writer.
    writers: Vec<WriterContext>,
    coordinator: Coordinator,
    lock: Arc<dyn FsLock>,
}

impl Opened {
    /// Locks the data directory and recovers all there is.
    fn open(config: BrokerConfig, fs: Arc<dyn Fs>, clock: Arc<dyn Clock>, crew: Crew) -> Result<Self, BrokerError> {
        config.validate()?;
        create_dir_durably(fs.as_ref(), &config.data_dir)?;
        let lock = lock_data_dir(fs.as_ref(), &config)?;
        let store = TopicStore::new(Arc::clone(&fs), &config.data_dir);
        store.prepare()?;
        let groups = groups_dir(&config.data_dir);
        create_dir_durably(fs.as_ref(), &groups)?;

        let topics = store.load()?;
        let threads = if matches!(crew, Crew::Threads) { config.writer_threads } else { 0 };
        let logs = recover_all(&config, &fs, clock.now_ms(), &store, &topics, threads)?;
        let ids: BTreeMap<_, _> = topics.iter().map(|t| (Arc::clone(&t.name), t.id)).collect();
        let mut coordinator =
            Coordinator::open(Arc::clone(&fs), groups, config.transactions, |topic| ids.get(topic).copied())?;
        for (task, state) in logs.iter().flatten().flat_map(|log| log.tasks()) {
            coordinator.raise_epoch(task, state.epoch);
        }
        let orphans = find_orphans(&mut coordinator, &logs);
        let view = Arc::clone(coordinator.view());
        let context = |_| WriterContext {
            clock: Arc::clone(&clock),
            coordinator: Arc::clone(&view),
            durability: config.durability,
            relaxed_sync_interval_ms: config.relaxed_sync_interval_ms,
            checkpoint_interval_ms: config.checkpoint_interval_ms,
            lock: Arc::clone(&lock),
        };
        let writers = (0..config.writer_threads).map(context).collect();

        // Named here too, so that nobody wonders later why a power loss took something.
        let relaxed = config.durability == crate::config::Durability::Relaxed;
        metrics::gauge!("highwater_broker_durability_relaxed").set(f64::from(u8::from(relaxed)));

        let inner = Inner {
            store,
            topics: RwLock::default(),
            coordinator: view,
            writers: Vec::new(),
            committer: None,
            next_writer: AtomicUsize::new(0),
            orphans: Mutex::new(orphans),
            config,
            fs,
            clock,
            crew,
            maintenance: Mutex::default(),
        };
        Ok(Self { inner, topics: topics.into_iter().zip(logs).collect(), writers, coordinator, lock })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let threads = std::mem::take(self.threads.get_mut());
        close(&self.inner, threads);
    }
}

/// Ends the threads, in order, and waits for them.
fn close(inner: &Inner, threads: Threads) {
    let join = |thread: JoinHandle<()>| {
        if thread.join().is_err() {
            tracing::error!("a thread of the broker panicked");
        }
    };
    if let Some((stop, thread)) = threads.retention {
        drop(stop);
        join(thread);
    }
    // A thread that has ended already needs no telling.
    for writer in &inner.writers {
        writer.send(Command::Shutdown).ok();
    }
    if let Some(committer) = &inner.committer {
        committer.send(committer::Command::Shutdown).ok();
    }
    threads.writers.into_iter().for_each(join);
}

fn lock_data_dir(fs: &dyn Fs, config: &BrokerConfig) -> Result<Arc<dyn FsLock>, BrokerError> {
    let path = config.data_dir.join("lock");
    match fs.lock(&path) {
        Ok(lock) => Ok(Arc::from(lock)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(BrokerError::Locked { path: config.data_dir.clone() })
        }
        Err(error) => Err(BrokerError::io("lock", path, &error)),
    }
}
