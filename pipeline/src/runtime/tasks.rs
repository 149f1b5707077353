//! Many tasks in one process, which come and go with the partitions it owns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use highwater_broker::Clock;
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::alignment::Alignment;
use super::chunks::Scratch;
use super::driver::{DriverConfig, TaskDriver};
use super::history::History;
use super::input::InputKind;
use super::processor::{Processor, ProcessorError};
use super::status::TaskStatus;
use super::versions::{OneVersion, Versions};
use crate::log::{Log, TopicPartition};

/// Makes a processor with no state, from the configuration it was given.
pub type ProcessorFactory = Arc<dyn Fn() -> Result<Box<dyn Processor>, ProcessorError> + Send + Sync>;

/// The first and the longest pause before a task that was fenced, and is still ours, is started again.
const RESTART_AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A task to run.
#[derive(Clone)]
pub struct TaskSpec {
    /// Its name, `<topic>/<partition>`. Names the epoch, the guard of its effects and the directory of its snapshots.
    pub name: Arc<str>,
    /// The partition it owns.
    pub input: TopicPartition,
    /// What that partition holds.
    pub kind: InputKind,
    /// What it does, at which offset.
    pub versions: Arc<dyn Versions>,
}

impl TaskSpec {
    /// The task of this input partition, with one processor for ever.
    pub fn new(input: TopicPartition, kind: InputKind, processor: ProcessorFactory) -> Self {
        Self::versioned(input, kind, Arc::new(OneVersion(processor)))
    }

    /// The task of this input partition.
    pub fn versioned(input: TopicPartition, kind: InputKind, versions: Arc<dyn Versions>) -> Self {
        Self { name: format!("{}/{}", input.topic, input.partition).into(), input, kind, versions }
    }
}

/// The tasks of this process. Dropped: they end where they stand, as by a crash.
pub struct Tasks {
    log: Arc<dyn Log>,
    storage: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    config: DriverConfig,
    history: Option<Arc<dyn History>>,
    scratch: Option<Arc<dyn Scratch>>,
    running: Mutex<BTreeMap<Arc<str>, Running>>,
    alignments: Mutex<BTreeMap<Arc<str>, Arc<Alignment>>>,
}

/// One run of something that works on a partition.
pub struct TaskRun {
    /// Where it writes its status.
    pub status: Arc<Mutex<TaskStatus>>,
    /// Runs to the end; true where it ended because a newer run has taken over.
    pub is_fenced: BoxFuture<'static, bool>,
}

struct Running {
    /// The partition whose owner runs it.
    owned_with: TopicPartition,
    status: Arc<Mutex<Arc<Mutex<TaskStatus>>>>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Running {
    fn status(&self) -> TaskStatus {
        self.status.lock().lock().clone()
    }
}

impl Tasks {
    /// None yet.
    pub fn new(log: Arc<dyn Log>, storage: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, config: DriverConfig) -> Self {
        let (running, alignments) = (Mutex::default(), Mutex::default());
        Self { log, storage, clock, config, history: None, scratch: None, running, alignments }
    }

    /// With tables that tasks may read.
    #[must_use]
    pub fn reading(self, history: Arc<dyn History>) -> Self {
        Self { history: Some(history), ..self }
    }

    /// With a place for state that memory has no room for.
    #[must_use]
    pub fn putting_aside(self, scratch: Arc<dyn Scratch>) -> Self {
        Self { scratch: Some(scratch), ..self }
    }

    /// Starts a task. One of the same name that runs already is left alone. It ends when it is stopped, or by itself where it fails; the others
    /// go on. Where another run takes over although nobody has told us to stop (two owners, for a moment), it is started again after a pause.
    pub fn start(&self, spec: TaskSpec) {
        let (name, input) = (Arc::clone(&spec.name), spec.input.clone());
        let drivers = self.drivers(spec);
        self.start_runs(name, input, move |stop| {
            let driver = drivers(stop);
            let status = driver.status();
            TaskRun { status, is_fenced: async { driver.run().await.is_err_and(|error| error.is_fenced()) }.boxed() }
        });
    }

    /// [`Self::start`] for work that is no [`TaskSpec`]: `runs` makes a run, which ends once its token is cancelled. It belongs to whoever owns the
    /// partition `owned_with`.
    pub fn start_runs(
        &self,
        name: Arc<str>,
        owned_with: TopicPartition,
        runs: impl Fn(CancellationToken) -> TaskRun + Send + Sync + 'static,
    ) {
        let mut running = self.running.lock();
        if running.contains_key(&name) {
            return;
        }
        let stop = CancellationToken::new();
        let first = runs(stop.clone());
        let status = Arc::new(Mutex::new(Arc::clone(&first.status)));
        let latest = Arc::clone(&status);
        let (asked, clock) = (stop.clone(), Arc::clone(&self.clock));
        let task = tokio::spawn(async move {
            let mut run = first;
            let mut pause = RESTART_AFTER.0;
            // Any other end is final; it is in the status, where everybody looks for it.
            while run.is_fenced.await {
                if asked.run_until_cancelled(clock.sleep(pause)).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(RESTART_AFTER.1);
                run = runs(asked.clone());
                *latest.lock() = Arc::clone(&run.status);
            }
        });
        running.insert(name, Running { owned_with, status, stop, task: AbortOnDropHandle::new(task) });
    }

    /// Stops the tasks of these partitions, each at a commit and a snapshot, and waits for them. Returns how each ended.
    pub async fn stop(&self, partitions: &[TopicPartition]) -> Vec<TaskStatus> {
        Self::end(self.take(|one| partitions.contains(&one.owned_with))).await
    }

    /// Stops the tasks of these names, and waits for them. Returns how each ended.
    pub async fn stop_named(&self, names: &[Arc<str>]) -> Vec<TaskStatus> {
        let taken = names.iter().filter_map(|name| self.running.lock().remove(name)).collect();
        Self::end(taken).await
    }

    /// Stops all tasks, and waits for them. Returns how each ended.
    pub async fn stop_all(&self) -> Vec<TaskStatus> {
        Self::end(self.take(|_| true)).await
    }

    /// Ends the tasks of these partitions where they stand, as a crash would.
    pub fn abandon(&self, partitions: &[TopicPartition]) {
        drop(self.take(|one| partitions.contains(&one.owned_with)));
    }

    /// Every task as it is now, in the order of their names.
    pub fn status(&self) -> Vec<TaskStatus> {
        self.running.lock().values().map(Running::status).collect()
    }

    async fn end(running: Vec<Running>) -> Vec<TaskStatus> {
        for one in &running {
            one.stop.cancel();
        }
        join_all(running.into_iter().map(|Running { status, task, .. }| async move {
            // A task that panicked outside its processor says so in the log of the runtime; its status stays as it was.
            drop(task.await);
            status.lock().lock().clone()
        }))
        .await
    }

    fn take(&self, chosen: impl Fn(&Running) -> bool) -> Vec<Running> {
        self.running.lock().extract_if(.., |_, one| chosen(one)).map(|(_, one)| one).collect()
    }

    /// Makes drivers for runs of a task.
    fn drivers(&self, spec: TaskSpec) -> impl Fn(CancellationToken) -> TaskDriver + Send + Sync + 'static {
        let (log, storage, clock) = (Arc::clone(&self.log), Arc::clone(&self.storage), Arc::clone(&self.clock));
        let (config, history, scratch) = (self.config, self.history.clone(), self.scratch.clone());
        // Stage topics have an order of their own: what their tasks wait for comes in the records.
        let is_table = matches!(spec.kind, InputKind::Table(_));
        let alignment =
            is_table.then(|| Arc::clone(self.alignments.lock().entry(Arc::clone(&spec.input.topic)).or_default()));
        move |stop| {
            let (log, storage, clock) = (Arc::clone(&log), Arc::clone(&storage), Arc::clone(&clock));
            let driver = TaskDriver::new(spec.clone(), log, storage, clock, config, stop);
            let driver = driver.reading(history.clone()).putting_aside(scratch.clone());
            match &alignment {
                Some(alignment) => driver.aligned(alignment.place()),
                None => driver,
            }
        }
    }
}
