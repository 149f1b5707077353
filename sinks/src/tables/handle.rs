//! Table writers from outside: their state, which partitions they have, and what can be asked of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_pipeline::log::{Clock, Log, TopicPartition};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{Cover, TableSpec};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::maintenance::Upkeep;
use super::writer::{TableWriter, WriterParts};
use super::{MemoryBudget, TablesConfig};
use crate::SinkError;

/// What a table writer is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum TableState {
    /// None of the table's partitions is this process's: others write it, or nobody does.
    Idle,
    /// Opening the table, or waiting for its topics to exist.
    Starting,
    /// Reading and committing.
    Running,
    /// A step fails for now and is being tried again; why.
    Retrying(String),
    /// Stopped for a reason a person has to look at.
    Failed(String),
    /// Stopped as asked, everything read is committed.
    Stopped,
}

/// How a table stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// The table.
    pub table: String,
    /// What its writer is doing.
    #[serde(flatten)]
    pub state: TableState,
    /// Latest Delta version this writer wrote or found.
    pub version: Option<u64>,
    /// Where the table stands in the partitions this process has: (topic, partition, next offset it needs), sorted.
    pub positions: Vec<(String, i32, i64)>,
    /// Records in those partitions that the table does not hold yet, control records included.
    pub lag_records: i64,
}

impl TableStatus {
    /// Where the table stands in a partition, as far as this process has it and the table ever had it.
    pub fn position(&self, key: &TopicPartition) -> Option<i64> {
        self.positions.iter().find(|p| is_of(p, key)).map(|(_, _, at)| *at)
    }
}

fn is_of((topic, partition, _): &(String, i32, i64), key: &TopicPartition) -> bool {
    **topic == *key.topic && *partition == key.partition
}

/// The status, shared between a writer and its handle.
#[derive(Debug, Clone)]
pub(super) struct StatusCell(Arc<Mutex<Cell>>);

#[derive(Debug)]
struct Cell {
    status: TableStatus,
    /// The partitions whose positions are shown.
    shown: BTreeSet<TopicPartition>,
}

impl StatusCell {
    pub(super) fn new(table: &str) -> Self {
        let status = TableStatus {
            table: table.to_string(),
            state: TableState::Idle,
            version: None,
            positions: Vec::new(),
            lag_records: 0,
        };
        Self(Arc::new(Mutex::new(Cell { status, shown: BTreeSet::new() })))
    }

    pub(super) fn get(&self) -> TableStatus {
        self.0.lock().status.clone()
    }

    pub(super) fn set_state(&self, state: TableState) {
        self.0.lock().status.state = state;
    }

    pub(super) fn retrying(&self, error: &SinkError) {
        self.set_state(TableState::Retrying(error.to_string()));
    }

    pub(super) fn set_lag(&self, records: i64) {
        self.0.lock().status.lag_records = records;
    }

    /// There are partitions, or there are none.
    pub(super) fn owned(&self, some: bool) {
        let status = &mut self.0.lock().status;
        match (&status.state, some) {
            (TableState::Idle, true) => status.state = TableState::Starting,
            (_, false) => {
                status.state = TableState::Idle;
                status.lag_records = 0;
            }
            _ => {}
        }
    }

    /// A partition is ours, and the table stands here in it.
    pub(super) fn found(&self, key: &TopicPartition, stands_at: Option<i64>) {
        let mut cell = self.0.lock();
        cell.shown.insert(key.clone());
        cell.status.positions.retain(|p| !is_of(p, key));
        cell.status.positions.extend(stands_at.map(|at| (key.topic.to_string(), key.partition, at)));
        cell.status.positions.sort();
    }

    /// A partition is no longer ours.
    pub(super) fn let_go(&self, key: &TopicPartition) {
        let mut cell = self.0.lock();
        cell.shown.remove(key);
        cell.status.positions.retain(|p| !is_of(p, key));
    }

    pub(super) fn running(&self, version: u64) {
        let status = &mut self.0.lock().status;
        status.version = Some(version);
        if status.state != TableState::Idle {
            status.state = TableState::Running;
        }
    }

    pub(super) fn committed(&self, version: u64, covers: &[Cover]) {
        self.running(version);
        let mut cell = self.0.lock();
        for cover in covers {
            let key = TopicPartition { topic: cover.topic.as_str().into(), partition: cover.partition };
            if !cell.shown.contains(&key) {
                continue;
            }
            match cell.status.positions.iter_mut().find(|p| is_of(p, &key)) {
                Some((_, _, offset)) => *offset = cover.to,
                None => cell.status.positions.push((cover.topic.clone(), cover.partition, cover.to)),
            }
        }
        cell.status.positions.sort();
    }
}

pub(super) enum Command {
    /// Commit everything that is in the log now.
    Flush(oneshot::Sender<Result<TableStatus, SinkError>>),
    /// Write these partitions too.
    Assign(Vec<TopicPartition>),
    /// Commit what was read of these, then let them go and answer.
    Revoke(Vec<TopicPartition>, oneshot::Sender<()>),
    /// Let these go as they are.
    Lose(Vec<TopicPartition>),
}

/// A running table writer.
#[derive(Debug)]
pub struct TableHandle {
    pub(super) table: String,
    pub(super) topics: Vec<String>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) status: StatusCell,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<Result<(), SinkError>>,
}

impl TableHandle {
    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// How the table stands.
    pub fn status(&self) -> TableStatus {
        self.status.get()
    }

    /// Gives the writer these partitions, as far as they are of the table's topics. One it has already stays as it is.
    pub fn assign(&self, partitions: &[TopicPartition]) {
        self.send(Command::Assign(self.of_table(partitions)));
    }

    /// Takes these partitions from the writer: commits what it has read of them, and returns once it has let them go. For ever,
    /// if need be: see [`Tables::revoke`] for an end.
    pub async fn revoke(&self, partitions: &[TopicPartition]) {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Revoke(self.of_table(partitions), reply));
        if answer.await.is_err() {
            tracing::debug!(table = %self.table, "partitions were revoked from a writer that has stopped");
        }
    }

    /// Takes these partitions from the writer at once. What it had read and not committed is for the next owner to read.
    pub fn lose(&self, partitions: &[TopicPartition]) {
        self.send(Command::Lose(self.of_table(partitions)));
    }

    fn of_table(&self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        partitions.iter().filter(|p| self.topics.iter().any(|topic| **topic == *p.topic)).cloned().collect()
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!(table = %self.table, "the writer has stopped and has no partitions any more");
        }
    }

    /// Commits everything that is in the log at the time of the call, in the writer's partitions, and answers once it is durable.
    ///
    /// # Errors
    /// [`SinkError::Stopped`] where the writer stops first.
    pub async fn flush(&self) -> Result<TableStatus, SinkError> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Flush(reply)).is_err() {
            return Err(self.stopped_error());
        }
        answer.await.unwrap_or_else(|_| Err(self.stopped_error()))
    }

    /// Waits until the writer has stopped (cancel its token first).
    ///
    /// # Errors
    /// What stopped it, if it was not the token.
    pub async fn join(self) -> Result<(), SinkError> {
        match self.task.await {
            Ok(result) => result,
            Err(e) => Err(SinkError::Broken { table: self.table, reason: e.to_string() }),
        }
    }

    /// Ends the writer where it is, as a crash would: nothing is flushed.
    pub fn abort(&self) {
        self.task.abort();
    }

    fn stopped_error(&self) -> SinkError {
        let reason = match self.status().state {
            TableState::Failed(reason) => reason,
            other => format!("{other:?}"),
        };
        SinkError::Stopped { table: self.table.clone(), reason }
    }
}

/// All table writers of a worker, and the partitions it has.
pub struct Tables {
    log: Arc<dyn Log>,
    storage: Storage,
    config: Arc<TablesConfig>,
    clock: Arc<dyn Clock>,
    budget: MemoryBudget,
    upkeep: Upkeep,
    shutdown: CancellationToken,
    writers: Mutex<Writers>,
}

#[derive(Default)]
struct Writers {
    handles: Vec<Arc<TableHandle>>,
    owned: BTreeSet<TopicPartition>,
}

impl Tables {
    /// No tables and no partitions yet. Writers stop, flushed, when `shutdown` is cancelled: stop whatever writes to the log first.
    pub fn new(
        log: Arc<dyn Log>,
        storage: Storage,
        config: TablesConfig,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Self {
        let budget = MemoryBudget::new(config.memory_limit_bytes);
        let upkeep = Upkeep::new(config.compaction_bytes_per_s);
        Self { log, storage, config: Arc::new(config), clock, budget, upkeep, shutdown, writers: Mutex::default() }
    }

    /// Starts a table's writer, with those of the assigned partitions that are of its topics. It waits for one that does not exist yet.
    /// A table already started is left as it is.
    pub fn start(&self, spec: TableSpec) {
        let mut writers = self.writers.lock();
        if writers.handles.iter().any(|h| h.table == spec.name) {
            return;
        }
        let handle = TableWriter::start(WriterParts {
            spec,
            log: Arc::clone(&self.log),
            storage: self.storage.clone(),
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.clock),
            budget: self.budget.clone(),
            upkeep: self.upkeep.clone(),
            shutdown: self.shutdown.child_token(),
        });
        handle.assign(&writers.owned.iter().cloned().collect::<Vec<_>>());
        writers.handles.push(Arc::new(handle));
    }

    /// These partitions are this process's from now on: each table that consumes them reads them from where it stands. Giving one again changes
    /// nothing. A process that is alone gives itself all of them, once.
    pub fn assign(&self, partitions: &[TopicPartition]) {
        let mut writers = self.writers.lock();
        writers.owned.extend(partitions.iter().cloned());
        for handle in &writers.handles {
            handle.assign(partitions);
        }
    }

    /// These partitions go to another process: commits what was read of them, in all tables, and returns once they are let go. Where that takes longer
    /// than `revoke_timeout_ms` they are let go as they are: what was not committed the next owner reads again. Dropped before its
    /// end it has the same effect, but for the timeout.
    pub async fn revoke(&self, partitions: &[TopicPartition]) {
        let handles = self.take_away(partitions);
        let committed = futures::future::join_all(handles.iter().map(|h| h.revoke(partitions)));
        if tokio::time::timeout(self.config.revoke_timeout(), committed).await.is_err() {
            tracing::warn!(
                partitions = partitions.len(),
                waited_ms = self.config.revoke_timeout_ms,
                "partitions were taken away before all that was read of them could be committed; their next owner reads it again"
            );
            for handle in &handles {
                handle.lose(partitions);
            }
        }
    }

    /// These partitions are another process's already: lets them go without a commit.
    pub fn lose(&self, partitions: &[TopicPartition]) {
        for handle in self.take_away(partitions) {
            handle.lose(partitions);
        }
    }

    fn take_away(&self, partitions: &[TopicPartition]) -> Vec<Arc<TableHandle>> {
        let mut writers = self.writers.lock();
        for partition in partitions {
            writers.owned.remove(partition);
        }
        writers.handles.clone()
    }

    /// Stops one table's writer, flushed, and forgets it; what is in the table stays. Nothing happens where there is none of this name.
    ///
    /// # Errors
    /// What had stopped it before, or kept it from its last commit.
    pub async fn stop(&self, table: &str) -> Result<(), SinkError> {
        let stopped: Vec<_> = self.writers.lock().handles.extract_if(.., |h| h.table == table).collect();
        for handle in stopped {
            handle.stop.cancel();
            join_shared(handle).await?;
        }
        Ok(())
    }

    /// How all tables stand, in the order they were started.
    pub fn statuses(&self) -> Vec<TableStatus> {
        self.writers.lock().handles.iter().map(|h| h.status()).collect()
    }

    /// Commits everything that is in the log now, in all tables.
    ///
    /// # Errors
    /// The first table's that has stopped; the others are flushed all the same.
    pub async fn flush(&self) -> Result<Vec<TableStatus>, SinkError> {
        let handles = self.writers.lock().handles.clone();
        let flushed = futures::future::join_all(handles.iter().map(|h| h.flush())).await;
        flushed.into_iter().collect()
    }

    /// Ends all writers where they are, as a crash would: nothing is flushed.
    pub fn abort(&self) {
        for handle in &self.writers.lock().handles {
            handle.abort();
        }
    }

    /// Waits until all writers have stopped; cancel the token first.
    ///
    /// # Errors
    /// The first failure.
    pub async fn join(&self) -> Result<(), SinkError> {
        let handles = std::mem::take(&mut self.writers.lock().handles);
        let mut first = Ok(());
        for handle in handles {
            first = first.and(join_shared(handle).await);
        }
        first
    }
}

async fn join_shared(handle: Arc<TableHandle>) -> Result<(), SinkError> {
    // Only a flush or a revocation still under way keeps another reference, and it ends with the writer.
    while Arc::strong_count(&handle) > 1 && !handle.task.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    match Arc::try_unwrap(handle) {
        Ok(handle) => handle.join().await,
        Err(handle) => Err(handle.stopped_error()),
    }
}
