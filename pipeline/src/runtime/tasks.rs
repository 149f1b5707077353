//! Many tasks in one process.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_broker::Clock;
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::alignment::Alignment;
use super::driver::{DriverConfig, TaskDriver};
use super::input::InputKind;
use super::processor::{Processor, ProcessorError};
use super::status::TaskStatus;
use crate::log::{Log, TopicPartition};

/// Makes a processor with no state, from the configuration it was given.
pub type ProcessorFactory = Arc<dyn Fn() -> Result<Box<dyn Processor>, ProcessorError> + Send + Sync>;

/// A task to run.
#[derive(Clone)]
pub struct TaskSpec {
    /// Its name, `<topic>/<partition>`. Names the epoch, the guard of its effects and the directory of its snapshots.
    pub name: Arc<str>,
    /// The partition it owns.
    pub input: TopicPartition,
    /// What that partition holds.
    pub kind: InputKind,
    /// What it does.
    pub processor: ProcessorFactory,
}

impl TaskSpec {
    /// The task of this input partition.
    pub fn new(input: TopicPartition, kind: InputKind, processor: ProcessorFactory) -> Self {
        Self { name: format!("{}/{}", input.topic, input.partition).into(), input, kind, processor }
    }
}

/// Running tasks. Dropping it ends them where they stand, as a crash would; cancel the token and [`TasksHandle::join`] to stop them.
pub struct TasksHandle {
    statuses: Vec<Arc<Mutex<TaskStatus>>>,
    tasks: JoinSet<()>,
}

impl TasksHandle {
    /// Every task as it is now, in the order given to [`run_tasks`].
    pub fn status(&self) -> Vec<TaskStatus> {
        self.statuses.iter().map(|status| status.lock().clone()).collect()
    }

    /// Something that gives the same answer as [`Self::status`] and outlives the wait for the end.
    pub fn status_source(&self) -> impl Fn() -> Vec<TaskStatus> + Clone + Send + Sync + 'static {
        let statuses = self.statuses.clone();
        move || statuses.iter().map(|status| status.lock().clone()).collect()
    }

    /// Waits until every task has ended; returns how each did.
    pub async fn join(mut self) -> Vec<TaskStatus> {
        while self.tasks.join_next().await.is_some() {}
        self.status()
    }
}

/// Starts the tasks. Each ends when `shutdown` is cancelled (it commits and writes a snapshot first), or by itself where
/// it fails or is fenced; the others go on.
pub fn run_tasks(
    log: &Arc<dyn Log>,
    storage: &Arc<dyn ObjectStore>,
    tasks: Vec<TaskSpec>,
    clock: &Arc<dyn Clock>,
    config: DriverConfig,
    shutdown: &CancellationToken,
) -> TasksHandle {
    let mut handle = TasksHandle { statuses: Vec::with_capacity(tasks.len()), tasks: JoinSet::new() };
    let mut alignments: BTreeMap<Arc<str>, Arc<Alignment>> = BTreeMap::new();
    for spec in tasks {
        // Stage topics have an order of their own: what their tasks wait for comes in the records.
        let is_table = matches!(spec.kind, InputKind::Table(_));
        let place = is_table.then(|| alignments.entry(Arc::clone(&spec.input.topic)).or_default().place());
        let driver = TaskDriver::new(
            spec,
            Arc::clone(log),
            Arc::clone(storage),
            Arc::clone(clock),
            config,
            shutdown.child_token(),
        );
        let driver = match place {
            Some(place) => driver.aligned(place),
            None => driver,
        };
        handle.statuses.push(driver.status());
        handle.tasks.spawn(async move {
            // The driver has put its result into the status, where everybody looks for it.
            drop(driver.run().await);
        });
    }
    handle
}
