//! What the broker's callers and threads share.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use uuid::Uuid;

use super::topics::TopicStore;
use super::transact::Orphan;
use super::writer::Command;
use super::{committer, writer};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::coordinator::CoordinatorView;
use crate::error::BrokerError;
use crate::fs::Fs;
use crate::log::{LogSettings, PartitionId, PartitionLog, PartitionView, RecoveryReport};
use crate::raw::PartitionEnds;
use crate::topic::TopicInfo;
use crate::topic_config::TopicConfig;

pub(super) struct Inner {
    pub(super) config: BrokerConfig,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: TopicStore,
    pub(super) topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    pub(super) coordinator: Arc<CoordinatorView>,
    /// Empty where the broker is read-only.
    pub(super) writers: Vec<Sender<Command>>,
    pub(super) committer: Option<Sender<committer::Command>>,
    /// Partitions are dealt to the writers in turn.
    pub(super) next_writer: AtomicUsize,
    /// What the coordinator of transactions is to abort once it starts.
    pub(super) orphans: Mutex<Vec<Orphan>>,
    pub(super) crew: Crew,
    /// Held while retention and compaction are at work.
    pub(super) maintenance: Mutex<()>,
}

/// Who does the work that blocks.
pub(super) enum Crew {
    /// Threads: our own for writing, the runtime's pool for reading.
    Threads,
    /// Nobody but the caller: a simulation, which has one thread and decides when each step is taken. With it, what topics are
    /// identified by, which must not be left to chance there.
    Stepper(Box<dyn Fn() -> Uuid + Send + Sync>),
}

impl Crew {
    /// Runs something that blocks.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        match self {
            // The task fails only by panicking or because the runtime is going down.
            Self::Threads => tokio::task::spawn_blocking(run).await.map_err(|_| BrokerError::Closed)?,
            Self::Stepper(_) => run(),
        }
    }

    pub(super) fn new_id(&self) -> Uuid {
        match self {
            Self::Threads => Uuid::new_v4(),
            Self::Stepper(new_id) => new_id(),
        }
    }
}

pub(super) struct Topic {
    pub(super) info: TopicInfo,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Clone)]
pub(super) struct Partition {
    pub(super) id: PartitionId,
    pub(super) view: Arc<PartitionView>,
    /// Follows where it begins and ends; closed once the partition has no writer any more.
    pub(super) ends: watch::Receiver<PartitionEnds>,
    /// Which writer thread owns the log.
    pub(super) writer: usize,
}

impl Inner {
    pub(super) fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    /// A topic and the index of one of its partitions.
    pub(super) fn find(&self, topic: &str, partition: i32) -> Result<(Arc<Topic>, usize), BrokerError> {
        let unknown = || BrokerError::UnknownTopicOrPartition { topic: topic.to_owned(), partition };
        let found = self.topic(topic).ok_or_else(unknown)?;
        let index = usize::try_from(partition).ok().filter(|i| *i < found.partitions.len()).ok_or_else(unknown)?;
        Ok((found, index))
    }

    pub(super) fn send(&self, writer: usize, command: Command) -> Result<(), BrokerError> {
        let sender = self.writers.get(writer).ok_or(BrokerError::ReadOnly { action: "write" })?;
        sender.send(command).map_err(|_| BrokerError::Closed)
    }

    pub(super) fn send_commit(&self, command: committer::Command) -> Result<(), BrokerError> {
        let sender = self.committer.as_ref().ok_or(BrokerError::ReadOnly { action: "commit offsets" })?;
        sender.send(command).map_err(|_| BrokerError::Closed)
    }

    /// Creates a topic on disk, opens its partitions and makes it known. Blocks.
    pub(super) fn create_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, BrokerError> {
        self.check_room(config.partitions)?;
        let info = self.store.create(name, self.crew.new_id(), config)?;
        let opened = self.open_partitions(&info, 0..info.config.partitions);
        let logs = opened.inspect_err(|_| {
            if let Err(error) = self.store.delete(&info) {
                tracing::warn!(topic = name, %error, "a topic that could not be opened could not be deleted either");
            }
        })?;
        self.adopt(info.clone(), logs)?;
        Ok(info)
    }

    /// Opens some partitions of a topic.
    pub(super) fn open_partitions(
        &self,
        info: &TopicInfo,
        partitions: Range<i32>,
    ) -> Result<Vec<PartitionLog>, BrokerError> {
        partitions
            .map(|p| open_log(&self.config, &self.fs, self.clock.now_ms(), &self.store, info, p).map(|(log, _)| log))
            .collect()
    }

    /// Gives the logs of a topic to the writers and makes the topic known.
    pub(super) fn adopt(&self, info: TopicInfo, logs: Vec<PartitionLog>) -> Result<(), BrokerError> {
        let partitions = self.hand_over(&info, logs)?;
        self.topics.write().insert(Arc::clone(&info.name), Arc::new(Topic { info, partitions }));
        Ok(())
    }

    /// Gives logs of a topic to the writers.
    pub(super) fn hand_over(&self, info: &TopicInfo, logs: Vec<PartitionLog>) -> Result<Vec<Partition>, BrokerError> {
        let mut partitions = Vec::with_capacity(logs.len());
        for log in logs {
            let writer = self.next_writer.fetch_add(1, Ordering::Relaxed) % self.writers.len().max(1);
            let (sender, ends) = watch::channel(log.view().ends());
            let (id, view) = (log.id().clone(), Arc::clone(log.view()));
            let key: writer::Key = (info.id, id.partition);
            self.send(writer, Command::Adopt { key, log: Box::new(log), ends: sender })?;
            partitions.push(Partition { id, view, ends, writer });
        }
        Ok(partitions)
    }
}

fn open_log(
    config: &BrokerConfig,
    fs: &Arc<dyn Fs>,
    now_ms: i64,
    store: &TopicStore,
    info: &TopicInfo,
    partition: i32,
) -> Result<(PartitionLog, RecoveryReport), BrokerError> {
    let id = PartitionId { topic: Arc::clone(&info.name), partition };
    let dir = store.partition_dir(&info.name, partition);
    PartitionLog::open(id, Arc::clone(fs), dir, LogSettings::new(config, &info.config), now_ms)
}

/// Recovers all partitions of all topics, on so many threads, or in order on this one where that is 0. The answer is per
/// topic, in order.
pub(super) fn recover_all(
    config: &BrokerConfig,
    fs: &Arc<dyn Fs>,
    now_ms: i64,
    store: &TopicStore,
    topics: &[TopicInfo],
    threads: usize,
) -> Result<Vec<Vec<PartitionLog>>, BrokerError> {
    let jobs: VecDeque<(usize, i32)> =
        topics.iter().enumerate().flat_map(|(t, info)| (0..info.config.partitions).map(move |p| (t, p))).collect();
    let jobs = Mutex::new(jobs);
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((t, p)) = jobs.lock().pop_front() else { return };
            let opened = open_log(config, fs, now_ms, store, &topics[t], p);
            done.lock().push((t, p, opened));
        }
    };
    if threads == 0 {
        work();
    }
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(t, p, _)| (*t, *p));
    let mut logs: Vec<Vec<PartitionLog>> = topics.iter().map(|_| Vec::new()).collect();
    for (t, _, opened) in done {
        logs[t].push(opened?.0);
    }
    Ok(logs)
}

/// The partitions of a topic, for reading only.
pub(super) fn open_read_only(
    config: &BrokerConfig,
    fs: &Arc<dyn Fs>,
    store: &TopicStore,
    info: TopicInfo,
) -> Result<Topic, BrokerError> {
    let mut partitions = Vec::new();
    for partition in 0..info.config.partitions {
        let id = PartitionId { topic: Arc::clone(&info.name), partition };
        let dir = store.partition_dir(&info.name, partition);
        let limit = config.max_decompressed_size_bytes;
        let view = PartitionView::open_read_only(id.clone(), Arc::clone(fs), &dir, limit)?;
        let (_, ends) = watch::channel(view.ends());
        partitions.push(Partition { id, view: Arc::new(view), ends, writer: 0 });
    }
    Ok(Topic { info, partitions })
}

/// Where committed offsets are kept.
pub(super) fn groups_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("groups")
}
