//! A writer: owns the logs of some partitions, writes what arrives and syncs once per group.
//!
//! A group is whatever is waiting when the writer looks. While it syncs one group the next one gathers, so under load a sync is
//! shared by many appends, and without load an append waits for nobody.
//!
//! [`Writer`] is what is done with a group, and does not wait; [`start`] gives it a thread that does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use uuid::Uuid;

use crate::append::{Append, Appended, Guard};
use crate::batch::CheckedBatch;
use crate::clock::Clock;
use crate::config::Durability;
use crate::coordinator::CoordinatorView;
use crate::error::BrokerError;
use crate::fs::FsLock;
use crate::log::{LogSettings, PartitionLog, Retained, RetentionLimits, TaskState};
use crate::raw::{PartitionEnds, Produced, TransactionMarker};

use super::meter::PartitionMetrics;

/// Appends that share one sync at most; more would only make the first of them wait.
const MAX_GROUP_APPENDS: usize = 4096;
const MAX_GROUP_SIZE_BYTES: usize = 32 << 20;

/// A partition of one particular topic; a topic made anew under the same name has another id.
pub(super) type Key = (Uuid, i32);
pub(super) type Reply<T> = oneshot::Sender<Result<T, BrokerError>>;

/// What is done with a log at a time, in Unix milliseconds.
pub(super) type OnLog = Box<dyn FnOnce(Result<&mut PartitionLog, BrokerError>, i64) + Send>;

pub(super) enum Command {
    Adopt {
        key: Key,
        log: Box<PartitionLog>,
        ends: watch::Sender<PartitionEnds>,
    },
    Append {
        key: Key,
        append: Append,
        permit: OwnedSemaphorePermit,
        reply: Reply<Appended>,
    },
    /// A batch of a client.
    Produce {
        key: Key,
        topic: Arc<str>,
        batch: CheckedBatch,
        permit: OwnedSemaphorePermit,
        reply: Reply<Produced>,
    },
    EndTransaction {
        key: Key,
        topic: Arc<str>,
        marker: TransactionMarker,
        reply: Reply<i64>,
    },
    AdvanceLogStart {
        key: Key,
        offset: i64,
        reply: Reply<i64>,
    },
    Retain {
        key: Key,
        limits: RetentionLimits,
        reply: Reply<Retained>,
    },
    /// Changes the settings of a partition's log.
    Configure {
        key: Key,
        settings: Box<LogSettings>,
        reply: Reply<()>,
    },
    /// Does something with a partition's log, which the error stands for where it is not there any more.
    OnLog {
        key: Key,
        run: OnLog,
    },
    /// Asks where a task stands in a partition.
    TaskState {
        key: Key,
        task: Arc<str>,
        reply: Reply<Option<TaskState>>,
    },
    /// Lets go of a partition whose topic is being deleted.
    Abandon {
        key: Key,
        reply: Reply<()>,
    },
    /// Closes all logs and ends the thread.
    Shutdown,
}

/// What every writer needs.
pub(super) struct WriterContext {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) coordinator: Arc<CoordinatorView>,
    pub(super) durability: Durability,
    pub(super) relaxed_sync_interval_ms: u64,
    pub(super) checkpoint_interval_ms: u64,
    /// Held until the last writer has ended.
    pub(super) lock: Arc<dyn FsLock>,
}

/// Starts a writer on a thread of its own.
pub(super) fn start(name: String, context: WriterContext) -> Result<(Sender<Command>, JoinHandle<()>), BrokerError> {
    let (sender, receiver) = channel();
    let writer = Writer::new(context);
    let thread = std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || run(writer, &receiver))
        .map_err(|e| BrokerError::io("start the thread", name, &e))?;
    Ok((sender, thread))
}

/// Waits and works, until told to end.
fn run(mut writer: Writer, receiver: &Receiver<Command>) {
    loop {
        let first = match wait(receiver, writer.due_ms()) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Shutdown),
        };
        if !writer.step(first, receiver) {
            return;
        }
    }
}

fn wait(receiver: &Receiver<Command>, due_ms: Option<u64>) -> Result<Command, RecvTimeoutError> {
    match due_ms {
        Some(due_ms) => receiver.recv_timeout(Duration::from_millis(due_ms)),
        None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

pub(super) struct Writer {
    context: WriterContext,
    /// By key, so that what is done for all of them is done in the same order each time.
    logs: BTreeMap<Key, Owned>,
    /// Partitions with something written and not synced.
    dirty: BTreeSet<Key>,
    /// Answers that are due after the sync of their partition.
    waiting: Vec<Waiting>,
    uncheckpointed: bool,
    checkpointed_ms: i64,
    synced_ms: i64,
}

struct Owned {
    log: PartitionLog,
    ends: watch::Sender<PartitionEnds>,
    metrics: PartitionMetrics,
}

/// An answer, given the error of the sync if it failed.
type Answer = Box<dyn FnOnce(Option<&BrokerError>) + Send>;

struct Waiting {
    key: Key,
    answer: Answer,
    permit: Option<OwnedSemaphorePermit>,
}

impl Owned {
    /// Tells those who wait for more.
    fn publish_ends(&self) {
        let ends = self.log.view().ends();
        self.ends.send_if_modified(|known| std::mem::replace(known, ends) != ends);
    }
}

impl Writer {
    pub(super) fn new(context: WriterContext) -> Self {
        let now_ms = context.clock.now_ms();
        Self {
            context,
            logs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            waiting: Vec::new(),
            uncheckpointed: false,
            checkpointed_ms: now_ms,
            synced_ms: now_ms,
        }
    }

    /// Handles one group: `first` (`None` where nothing came in time) and all that waits behind it. False once it is to end.
    pub(super) fn step(&mut self, first: Option<Command>, receiver: &Receiver<Command>) -> bool {
        let idle = first.is_none();
        let mut next = first;
        let mut group_bytes = 0;
        while let Some(command) = next {
            match command {
                Command::Append { key, append, permit, reply } => {
                    group_bytes += permit.num_permits();
                    self.append(key, &append, permit, reply);
                }
                Command::Produce { key, topic, batch, permit, reply } => {
                    group_bytes += permit.num_permits();
                    self.produce(key, &topic, &batch, permit, reply);
                }
                Command::EndTransaction { key, topic, marker, reply } => {
                    let result = self.end_transaction(key, &topic, &marker);
                    self.answer(key, result, reply, None, false);
                }
                other => {
                    self.sync(true);
                    if !self.handle(other) {
                        return false;
                    }
                }
            }
            let full = self.waiting.len() >= MAX_GROUP_APPENDS || group_bytes >= MAX_GROUP_SIZE_BYTES;
            next = if full { None } else { receiver.try_recv().ok() };
        }
        self.sync(idle);
        self.checkpoint_if_due();
        true
    }

    /// How long it may wait for work before something of its own is due; `None` for as long as it takes.
    fn due_ms(&self) -> Option<u64> {
        if !self.dirty.is_empty() {
            Some(self.context.relaxed_sync_interval_ms)
        } else if self.uncheckpointed {
            Some(self.context.checkpoint_interval_ms)
        } else {
            None
        }
    }

    fn append(&mut self, key: Key, append: &Append, permit: OwnedSemaphorePermit, reply: Reply<Appended>) {
        let result = self.write(key, append);
        let may_be_lost = !matches!(append.guard, Guard::Effects { .. });
        self.answer(key, result, reply, Some(permit), may_be_lost);
    }

    fn produce(
        &mut self,
        key: Key,
        topic: &Arc<str>,
        batch: &CheckedBatch,
        permit: OwnedSemaphorePermit,
        reply: Reply<Produced>,
    ) {
        let result = self.write_batch(key, topic, batch);
        // A transaction is all or nothing across partitions, so none of it may be lost once its sender goes on.
        let may_be_lost = !batch.header().is_transactional();
        self.answer(key, result, reply, Some(permit), may_be_lost);
    }

    /// Has this answered after the sync of its partition; earlier where durability is relaxed and it may be lost.
    fn answer<T: Send + 'static>(
        &mut self,
        key: Key,
        result: Result<T, BrokerError>,
        reply: Reply<T>,
        permit: Option<OwnedSemaphorePermit>,
        may_be_lost: bool,
    ) {
        if self.logs.get(&key).is_some_and(|owned| owned.log.is_dirty()) {
            self.dirty.insert(key);
        }
        // A caller that no longer waits is no concern of ours.
        let answer: Answer = Box::new(move |failed: Option<&BrokerError>| {
            let result = match failed {
                Some(error) => result.and(Err(error.clone())),
                None => result,
            };
            reply.send(result).ok();
        });
        if self.context.durability == Durability::Relaxed && may_be_lost {
            drop(permit);
            answer(None);
        } else {
            self.waiting.push(Waiting { key, answer, permit });
        }
    }

    fn write(&mut self, key: Key, append: &Append) -> Result<Appended, BrokerError> {
        if let Guard::Effects { task, epoch, .. } = &append.guard {
            // Asked here and not earlier, so that nothing queued before a new epoch began gets in after it.
            let current = self.context.coordinator.epoch(task);
            if *epoch != current {
                return Err(BrokerError::Fenced { task: task.to_string(), epoch: *epoch, current });
            }
        }
        let now_ms = self.context.clock.now_ms();
        let owned = self.owned(key, &append.topic)?;
        let before = owned.log.written_bytes();
        let appended = owned.log.append(&append.records, &append.guard, now_ms)?;
        owned.metrics.note(&appended, owned.log.written_bytes() - before);
        Ok(appended)
    }

    fn write_batch(&mut self, key: Key, topic: &Arc<str>, batch: &CheckedBatch) -> Result<Produced, BrokerError> {
        // Asked by the thread that also writes the markers, so that nothing of a transaction gets in after its end.
        let ongoing = Arc::clone(&self.context.coordinator);
        let now_ms = self.context.clock.now_ms();
        let owned = self.owned(key, topic)?;
        let before = owned.log.written_bytes();
        let produced = owned.log.produce(batch, now_ms, ongoing.as_ref())?;
        let Produced { base_offset, last_offset, duplicate, .. } = produced;
        let appended = Appended { base_offset, last_offset, append_time_ms: now_ms, duplicate, suppressed: 0 };
        owned.metrics.note(&appended, owned.log.written_bytes() - before);
        Ok(produced)
    }

    fn end_transaction(&mut self, key: Key, topic: &Arc<str>, marker: &TransactionMarker) -> Result<i64, BrokerError> {
        let now_ms = self.context.clock.now_ms();
        self.owned(key, topic)?.log.end_transaction(marker, now_ms)
    }

    fn owned(&mut self, key: Key, topic: &Arc<str>) -> Result<&mut Owned, BrokerError> {
        let unknown = || BrokerError::UnknownTopicOrPartition { topic: topic.to_string(), partition: key.1 };
        self.logs.get_mut(&key).ok_or_else(unknown)
    }

    /// Syncs what is dirty and answers those who wait. Under relaxed durability, partitions that nobody waits for are left until
    /// their interval is over, or `all` is asked for.
    fn sync(&mut self, all: bool) {
        let now_ms = self.context.clock.now_ms();
        let interval_ms = self.context.relaxed_sync_interval_ms as i64;
        let all = all || !(0..interval_ms).contains(&now_ms.saturating_sub(self.synced_ms));
        let awaited: BTreeSet<Key> = self.waiting.iter().map(|w| w.key).collect();
        let mut failed = HashMap::new();
        let due: Vec<Key> = self.dirty.iter().filter(|key| all || awaited.contains(key)).copied().collect();
        for key in due {
            self.dirty.remove(&key);
            let Some(owned) = self.logs.get_mut(&key) else { continue };
            match timed(|| owned.log.sync()) {
                (Ok(()), seconds) => owned.metrics.note_sync(seconds, owned.log.next_offset()),
                (Err(error), _) => {
                    failed.insert(key, error);
                }
            }
            owned.publish_ends();
            self.uncheckpointed = true;
        }
        if self.dirty.is_empty() {
            self.synced_ms = now_ms;
        }
        for Waiting { key, answer, permit } in self.waiting.drain(..) {
            // Given back first: who has an answer may count on the room.
            drop(permit);
            answer(failed.get(&key));
        }
    }

    fn checkpoint_if_due(&mut self) {
        let now_ms = self.context.clock.now_ms();
        let interval_ms = self.context.checkpoint_interval_ms as i64;
        if !self.uncheckpointed || (0..interval_ms).contains(&now_ms.saturating_sub(self.checkpointed_ms)) {
            return;
        }
        for owned in self.logs.values_mut() {
            if owned.log.stopped().is_none()
                && let Err(error) = owned.log.write_recovery_point()
            {
                // It has stopped itself and said so; the next append learns of it.
                tracing::debug!(partition = %owned.log.id(), %error, "no checkpoint");
            }
            owned.metrics.note_size(&owned.log);
        }
        self.uncheckpointed = !self.dirty.is_empty();
        self.checkpointed_ms = now_ms;
    }

    /// Handles everything but appends; false ends the writer.
    fn handle(&mut self, command: Command) -> bool {
        match command {
            // Those that share a sync; `step` stages them.
            Command::Append { key, append, permit, reply } => self.append(key, &append, permit, reply),
            Command::Produce { key, topic, batch, permit, reply } => self.produce(key, &topic, &batch, permit, reply),
            Command::EndTransaction { key, topic, marker, reply } => {
                let result = self.end_transaction(key, &topic, &marker);
                self.answer(key, result, reply, None, false);
            }
            Command::Adopt { key, log, ends } => {
                let metrics = PartitionMetrics::new(&log);
                metrics.note_size(&log);
                self.logs.insert(key, Owned { log: *log, ends, metrics });
            }
            Command::AdvanceLogStart { key, offset, reply } => {
                let result = self.log(key).and_then(|owned| {
                    let log_start = owned.log.advance_log_start(offset)?;
                    owned.metrics.note_size(&owned.log);
                    owned.publish_ends();
                    Ok(log_start)
                });
                reply.send(result).ok();
            }
            Command::Retain { key, limits, reply } => {
                let now_ms = self.context.clock.now_ms();
                let result = self.log(key).and_then(|owned| {
                    let retained = owned.log.apply_retention(&limits, now_ms)?;
                    owned.metrics.note_size(&owned.log);
                    owned.publish_ends();
                    Ok(retained)
                });
                reply.send(result).ok();
            }
            Command::Configure { key, settings, reply } => {
                let result = self.log(key).map(|owned| owned.log.configure(*settings));
                reply.send(result).ok();
            }
            Command::OnLog { key, run } => {
                let now_ms = self.context.clock.now_ms();
                run(self.log(key).map(|owned| &mut owned.log), now_ms);
                if let Ok(owned) = self.log(key) {
                    owned.metrics.note_size(&owned.log);
                }
            }
            Command::TaskState { key, task, reply } => {
                let result = self.log(key).map(|owned| {
                    let mut tasks = owned.log.tasks();
                    tasks.find(|(name, _)| **name == task).map(|(_, state)| *state)
                });
                reply.send(result).ok();
            }
            Command::Abandon { key, reply } => {
                self.logs.remove(&key);
                self.dirty.remove(&key);
                reply.send(Ok(())).ok();
            }
            Command::Shutdown => {
                for owned in self.logs.values_mut() {
                    if let Err(error) = owned.log.close() {
                        tracing::warn!(partition = %owned.log.id(), %error, "not closed in order; the next start scans its tail");
                    }
                }
                return false;
            }
        }
        true
    }

    fn log(&mut self, key: Key) -> Result<&mut Owned, BrokerError> {
        self.logs.get_mut(&key).ok_or(BrokerError::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The lock goes last: by now every log of this writer is closed.
        tracing::trace!(locks = Arc::strong_count(&self.context.lock), "writer ends");
    }
}

/// Runs something and says how many seconds it took.
fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    #[expect(clippy::disallowed_methods, reason = "measures the disk for a metric; nothing depends on it")]
    let start = std::time::Instant::now();
    let result = run();
    (result, start.elapsed().as_secs_f64())
}
