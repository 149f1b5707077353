//! Table writers from outside: their state, and what can be asked of them.

use std::sync::Arc;

use highwater_pipeline::log::{Clock, Log};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{Cover, TableSpec};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::writer::{TableWriter, WriterParts};
use super::{MemoryBudget, TablesConfig};
use crate::SinkError;

/// What a table writer is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum TableState {
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
    /// Where the table stands: (topic, partition, next offset it needs), sorted.
    pub positions: Vec<(String, i32, i64)>,
    /// Records in the log that the table does not hold yet, control records included.
    pub lag_records: i64,
}

/// The status, shared between a writer and its handle.
#[derive(Debug, Clone)]
pub(super) struct StatusCell(Arc<Mutex<TableStatus>>);

impl StatusCell {
    pub(super) fn new(table: &str) -> Self {
        Self(Arc::new(Mutex::new(TableStatus {
            table: table.to_string(),
            state: TableState::Starting,
            version: None,
            positions: Vec::new(),
            lag_records: 0,
        })))
    }

    pub(super) fn get(&self) -> TableStatus {
        self.0.lock().clone()
    }

    pub(super) fn set_state(&self, state: TableState) {
        self.0.lock().state = state;
    }

    pub(super) fn retrying(&self, error: &SinkError) {
        self.set_state(TableState::Retrying(error.to_string()));
    }

    pub(super) fn set_lag(&self, records: i64) {
        self.0.lock().lag_records = records;
    }

    pub(super) fn opened(&self, version: u64, positions: Vec<(String, i32, i64)>) {
        let mut status = self.0.lock();
        status.state = TableState::Running;
        status.version = Some(version);
        status.positions = positions;
    }

    pub(super) fn committed(&self, version: u64, covers: &[Cover]) {
        let mut status = self.0.lock();
        status.state = TableState::Running;
        status.version = Some(version);
        for cover in covers {
            let known = status.positions.iter_mut().find(|(t, p, _)| *t == cover.topic && *p == cover.partition);
            match known {
                Some((_, _, offset)) => *offset = cover.to,
                None => status.positions.push((cover.topic.clone(), cover.partition, cover.to)),
            }
        }
        status.positions.sort();
    }
}

pub(super) enum Command {
    /// Commit everything that is in the log now.
    Flush(oneshot::Sender<Result<TableStatus, SinkError>>),
}

/// A running table writer.
#[derive(Debug)]
pub struct TableHandle {
    pub(super) table: String,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: StatusCell,
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

    /// Commits everything that is in the log at the time of the call, and answers once it is durable.
    ///
    /// # Errors
    /// [`SinkError::Stopped`] where the writer stops first.
    pub async fn flush(&self) -> Result<TableStatus, SinkError> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Flush(reply)).await.is_err() {
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

/// All table writers of a worker.
pub struct Tables {
    log: Arc<dyn Log>,
    storage: Storage,
    config: Arc<TablesConfig>,
    clock: Arc<dyn Clock>,
    budget: MemoryBudget,
    shutdown: CancellationToken,
    handles: Mutex<Vec<Arc<TableHandle>>>,
}

impl Tables {
    /// No tables yet. They stop, flushed, when `shutdown` is cancelled: stop whatever writes to the log first.
    pub fn new(
        log: Arc<dyn Log>,
        storage: Storage,
        config: TablesConfig,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Self {
        let budget = MemoryBudget::new(config.memory_limit_bytes);
        Self { log, storage, config: Arc::new(config), clock, budget, shutdown, handles: Mutex::default() }
    }

    /// Starts a table's writer. It waits for the table's topics to exist. A table already started is left as it is.
    pub fn start(&self, spec: TableSpec) {
        let mut handles = self.handles.lock();
        if handles.iter().any(|h| h.table == spec.name) {
            return;
        }
        handles.push(Arc::new(TableWriter::start(WriterParts {
            spec,
            log: Arc::clone(&self.log),
            storage: self.storage.clone(),
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.clock),
            budget: self.budget.clone(),
            shutdown: self.shutdown.child_token(),
        })));
    }

    /// How all tables stand, in the order they were started.
    pub fn statuses(&self) -> Vec<TableStatus> {
        self.handles.lock().iter().map(|h| h.status()).collect()
    }

    /// Commits everything that is in the log now, in all tables.
    ///
    /// # Errors
    /// The first table's that has stopped; the others are flushed all the same.
    pub async fn flush(&self) -> Result<Vec<TableStatus>, SinkError> {
        let handles = self.handles.lock().clone();
        let flushed = futures::future::join_all(handles.iter().map(|h| h.flush())).await;
        flushed.into_iter().collect()
    }

    /// Ends all writers where they are, as a crash would: nothing is flushed.
    pub fn abort(&self) {
        for handle in self.handles.lock().iter() {
            handle.abort();
        }
    }

    /// Waits until all writers have stopped; cancel the token first.
    ///
    /// # Errors
    /// The first failure.
    pub async fn join(&self) -> Result<(), SinkError> {
        let handles = std::mem::take(&mut *self.handles.lock());
        let mut first = Ok(());
        for handle in handles {
            // Only a flush still under way keeps another reference, and it ends with the writer.
            while Arc::strong_count(&handle) > 1 && !handle.task.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            let stopped = match Arc::try_unwrap(handle) {
                Ok(handle) => handle.join().await,
                Err(handle) => Err(handle.stopped_error()),
            };
            first = first.and(stopped);
        }
        first
    }
}
