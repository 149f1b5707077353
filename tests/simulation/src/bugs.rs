//! Bugs put in on purpose, each behind a seam that is there anyway: what the histories are worth is what they catch.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use highwater_broker::fs::{DirEntry, FsLock, OpenMode};
use highwater_broker::{Fs, FsFile};
use highwater_pipeline::definitions;
use highwater_pipeline::log::{
    Append, Appended, CommittedOffset, Fetched, Guard, Log, LogError, Membership, PartitionOffsets, TASKS_GROUP,
    TaskCommit, TaskCommitted, TopicConfig, TopicInfo,
};
use highwater_pipeline::runtime::snapshot::SnapshotStore;
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::log::SimLog;
use crate::random::Random;
use crate::time::Time;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The log writes effects that it has already.
    NoEffectCheck,
    /// The log writes requests whose key it knows.
    NoKeyCheck,
    /// Runs of an older epoch are taken for the current one.
    LetsZombiesIn,
    /// C is committed before the outputs below it.
    CommitsFirst,
    /// The newest snapshot is restored and taken for C, although the outputs below it may not be durable.
    RestoresAhead,
    /// A fetch of several records loses its last one, now and then.
    SkipsRecords,
    /// A segment is synced one write too late.
    SyncsLate,
    /// A failed sync is taken for a good one.
    IgnoresFailedSyncs,
    /// The names in directories are never synced.
    ForgetsDirectories,
    /// Where partitions end is told as it was at the call before.
    StaleWatermarks,
    /// A table's writer that was not first commits all the same, without looking where the table stands.
    TableDoesNotLook,
    /// A task that asks for stored rows below an offset is given newer ones too.
    ReadsPastTheCut,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::NoEffectCheck,
        Self::NoKeyCheck,
        Self::LetsZombiesIn,
        Self::CommitsFirst,
        Self::RestoresAhead,
        Self::SkipsRecords,
        Self::SyncsLate,
        Self::IgnoresFailedSyncs,
        Self::ForgetsDirectories,
        Self::StaleWatermarks,
        Self::TableDoesNotLook,
        Self::ReadsPastTheCut,
    ];

    /// The disk with this bug, if it is one of the disk's.
    pub fn disk(this: Option<Self>, disk: impl Fs) -> Arc<dyn Fs> {
        match this {
            Some(bug @ (Self::SyncsLate | Self::IgnoresFailedSyncs | Self::ForgetsDirectories)) => {
                Arc::new(BadDisk { disk, bug })
            }
            _ => Arc::new(disk),
        }
    }
}

struct BadDisk<F> {
    disk: F,
    bug: Bug,
}

impl<F: Fs> Fs for BadDisk<F> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let file = self.disk.open(path, mode)?;
        let is_segment = path.extension().is_some_and(|e| e == "log");
        Ok(match self.bug {
            Bug::SyncsLate if is_segment => Arc::new(LateFile { file, owes: AtomicBool::new(false) }),
            Bug::IgnoresFailedSyncs => Arc::new(ProudFile { file }),
            _ => file,
        })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.bug == Bug::ForgetsDirectories { Ok(()) } else { self.disk.sync_dir(path) }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>> {
        self.disk.lock(path)
    }
}

/// Syncs when the next write comes.
struct LateFile {
    file: Arc<dyn FsFile>,
    owes: AtomicBool,
}

impl LateFile {
    fn pay(&self) -> io::Result<()> {
        if self.owes.swap(false, Ordering::SeqCst) { self.file.sync_data() } else { Ok(()) }
    }
}

impl FsFile for LateFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.pay()?;
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.owes.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        self.file.allocate(size_bytes)
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.pay()?;
        self.file.set_len(size_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }
}

/// Never admits that a sync has failed.
struct ProudFile {
    file: Arc<dyn FsFile>,
}

impl FsFile for ProudFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().or(Ok(()))
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        self.file.allocate(size_bytes)
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }
}

/// The log with one of its bugs.
pub struct BadLog {
    log: Arc<SimLog>,
    bug: Bug,
    storage: Arc<dyn ObjectStore>,
    random: Mutex<Random>,
    epochs: Mutex<BTreeMap<String, i32>>,
    /// Where partitions ended at the last call.
    ends: Mutex<BTreeMap<(String, i32), PartitionOffsets>>,
    /// Commits that were answered before they were made.
    promised: UnboundedSender<TaskCommit>,
}

impl BadLog {
    /// The log, and what keeps its promises for as long as it is run.
    pub fn new(
        log: Arc<SimLog>,
        bug: Bug,
        storage: Arc<dyn ObjectStore>,
        time: Time,
        random: Random,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send) {
        let (promised, promises) = unbounded_channel();
        let keeping = keep(promises, Arc::clone(&log), time);
        let random = Mutex::new(random);
        let (epochs, ends) = (Mutex::default(), Mutex::default());
        (Arc::new(Self { log, bug, storage, random, epochs, ends, promised }), keeping)
    }

    async fn newest_snapshot(&self, offset: &CommittedOffset) -> i64 {
        let task = format!("{}/{}", offset.topic, offset.partition);
        let names = SnapshotStore::new(Arc::clone(&self.storage), &task).list().await.unwrap_or_default();
        names.first().map_or(0, |newest| newest.offset)
    }

    fn current_epoch(&self, task: &str, epoch: i32) -> i32 {
        let known = self.epochs.lock().get(task).copied();
        if self.bug == Bug::LetsZombiesIn { known.unwrap_or(epoch) } else { epoch }
    }
}

async fn keep(mut promises: UnboundedReceiver<TaskCommit>, log: Arc<SimLog>, time: Time) {
    while let Some(commit) = promises.recv().await {
        time.pause_ms(1_000).await;
        while log.commit_task(commit.clone()).await.is_err_and(|error| error.is_retryable()) {
            time.pause_ms(100).await;
        }
    }
}

#[async_trait]
impl Log for BadLog {
    async fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, LogError> {
        self.log.ensure_topic(name, config).await
    }

    async fn delete_topic(&self, name: &str) -> Result<(), LogError> {
        self.log.delete_topic(name).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.log.topics().await
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, LogError> {
        self.log.topic(name).await
    }

    async fn append(&self, mut append: Append) -> Result<Appended, LogError> {
        if let Guard::Effects { task, epoch, .. } = &mut append.guard {
            *epoch = self.current_epoch(task, *epoch);
        }
        let appended = self.log.append(append.clone()).await?;
        let again = match append.guard {
            Guard::Effects { .. } if self.bug == Bug::NoEffectCheck => appended.suppressed,
            Guard::Idempotency { .. } if self.bug == Bug::NoKeyCheck && appended.duplicate => append.records.len(),
            _ => 0,
        };
        if again > 0 {
            append.records.truncate(again);
            return self.log.append(Append { guard: Guard::None, ..append }).await;
        }
        Ok(appended)
    }

    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        max_wait: Duration,
    ) -> Result<Fetched, LogError> {
        let mut fetched = self.log.read(topic, partition, offset, max_size_bytes, max_wait).await?;
        if self.bug == Bug::SkipsRecords && fetched.records.len() > 1 && self.random.lock().chance(20) {
            fetched.records.pop();
        }
        Ok(fetched)
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, LogError> {
        let now = self.log.offsets(topic, partition).await?;
        let before = self.ends.lock().insert((topic.to_owned(), partition), now);
        // Not of the definitions themselves: that would be to miss a record, and not to misplace its start.
        let is_stale = self.bug == Bug::StaleWatermarks && topic != definitions::TOPIC;
        Ok(before.filter(|_| is_stale).unwrap_or(now))
    }

    async fn offset_for_time(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<Option<i64>, LogError> {
        self.log.offset_for_time(topic, partition, timestamp_ms).await
    }

    async fn begin_task(&self, task: &str) -> Result<i32, LogError> {
        let epoch = self.log.begin_task(task).await?;
        self.epochs.lock().insert(task.to_owned(), epoch);
        Ok(epoch)
    }

    async fn commit_task(&self, commit: TaskCommit) -> Result<TaskCommitted, LogError> {
        let epoch = self.current_epoch(&commit.task, commit.epoch);
        let mut commit = TaskCommit { epoch, ..commit };
        for append in &mut commit.appends {
            if let Guard::Effects { epoch: of_effects, .. } = &mut append.guard {
                *of_effects = epoch;
            }
        }
        match self.bug {
            Bug::CommitsFirst if commit.progress_due => {
                let task = Some((&*commit.task, commit.epoch));
                self.log.commit_offsets(TASKS_GROUP, std::slice::from_ref(&commit.progress), task).await?;
                let committed = self.log.commit_task(TaskCommit { progress_due: false, ..commit }).await?;
                Ok(TaskCommitted { progressed: true, ..committed })
            }
            Bug::RestoresAhead => {
                let progressed = commit.progress_due;
                self.promised.send(commit).ok();
                Ok(TaskCommitted { suppressed: 0, progressed })
            }
            Bug::NoEffectCheck => {
                let mut suppressed = 0;
                for append in std::mem::take(&mut commit.appends) {
                    suppressed += self.append(append).await?.suppressed;
                }
                Ok(TaskCommitted { suppressed, ..self.log.commit_task(commit).await? })
            }
            _ => self.log.commit_task(commit).await,
        }
    }

    async fn join(self: Arc<Self>, topics: Vec<String>) -> Result<Box<dyn Membership>, LogError> {
        Arc::clone(&self.log).join(topics).await
    }

    async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
        task: Option<(&str, i32)>,
    ) -> Result<(), LogError> {
        let task = task.map(|(task, epoch)| (task, self.current_epoch(task, epoch)));
        self.log.commit_offsets(group, offsets, task).await
    }

    async fn committed(&self, group: &str) -> Result<Vec<CommittedOffset>, LogError> {
        let mut committed = self.log.committed(group).await?;
        if self.bug == Bug::RestoresAhead && group == TASKS_GROUP {
            for offset in &mut committed {
                offset.offset = offset.offset.max(self.newest_snapshot(offset).await);
            }
        }
        Ok(committed)
    }
}
