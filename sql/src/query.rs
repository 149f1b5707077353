//! One running query, seen from outside: a stream of batches that ends in time, whatever the query does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::{FutureExt, Stream, StreamExt};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Sleep;

use crate::config::SqlConfig;
use crate::error::SqlError;
use crate::priority::Rank;
use crate::table::TableCut;

/// Batches that wait for the reader before the query does.
const BUFFERED_BATCHES: usize = 2;

/// Stack of a query thread, bytes. Plans nest as deep as the query text lets them; the memory is only reserved.
const STACK_BYTES: usize = 64 << 20;

/// What a query looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueryInfo {
    /// The tables it scanned, and which part of each it saw.
    pub tables: Vec<TableCut>,
}

/// The rows of a query, as they come. It runs on threads of its own; dropping this stops it.
///
/// The stream ends after its first error. Errors are the timeout, too much memory, a value that cannot be computed, unreadable files
/// or a panic inside the query.
pub struct QueryResult {
    schema: SchemaRef,
    info: QueryInfo,
    batches: mpsc::Receiver<Result<RecordBatch, SqlError>>,
    task: JoinHandle<()>,
    // Dropped with the result, and what runs on them with it.
    _threads: Threads,
    deadline: Pin<Box<Sleep>>,
    limit: Duration,
    outcome: Outcome,
}

impl std::fmt::Debug for QueryResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryResult").field("schema", &self.schema).field("info", &self.info).finish_non_exhaustive()
    }
}

impl QueryResult {
    /// Runs `plan` and what it gives, for at most `limit`. Returns once it is planned.
    pub(crate) async fn start<P>(
        config: &SqlConfig,
        limit: Duration,
        plan: P,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, SqlError>
    where
        P: Future<Output = Result<(SendableRecordBatchStream, QueryInfo), SqlError>> + Send + 'static,
    {
        let limit_bytes = config.memory_limit_bytes;
        let threads = Threads::start(config.thread_count())?;
        let mut deadline = Box::pin(tokio::time::sleep(limit));
        let (planned, wait_planned) = oneshot::channel();
        let (send, batches) = mpsc::channel(BUFFERED_BATCHES);
        let run = async move {
            // Held until the work has really ended, not until somebody gave up on it.
            let _permit = permit;
            match plan.await {
                Ok((stream, info)) => {
                    if planned.send(Ok((stream.schema(), info))).is_ok() {
                        forward(stream, &send, limit_bytes).await;
                    }
                }
                // Nobody listens any more: the query was given up.
                Err(error) => drop(planned.send(Err(error))),
            }
        };
        let mut task = threads.spawn(run)?;
        let planned = tokio::select! {
            biased;
            planned = wait_planned => planned,
            () = &mut deadline => return Err(SqlError::Timeout { limit }),
        };
        let (schema, info) = match planned {
            Ok(planned) => planned?,
            // The sender is gone without a word: the task has panicked.
            Err(_) => return Err(died((&mut task).await)),
        };
        Ok(Self { schema, info, batches, task, _threads: threads, deadline, limit, outcome: Outcome::new() })
    }

    /// The columns of every batch.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// What the query looks at.
    pub fn info(&self) -> &QueryInfo {
        &self.info
    }

    fn fail(&mut self, error: SqlError) -> Poll<Option<Result<RecordBatch, SqlError>>> {
        self.outcome.set(error.code());
        self.task.abort();
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for QueryResult {
    type Item = Result<RecordBatch, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.outcome.is_set() {
            return Poll::Ready(None);
        }
        // The deadline first: a query with many quick batches ends too.
        if self.deadline.poll_unpin(cx).is_ready() {
            let limit = self.limit;
            return self.fail(SqlError::Timeout { limit });
        }
        match ready!(self.batches.poll_recv(cx)) {
            Some(Ok(batch)) => {
                metrics::counter!("highwater_sql_rows_total").increment(batch.num_rows() as u64);
                Poll::Ready(Some(Ok(batch)))
            }
            Some(Err(error)) => self.fail(error),
            // The end, or a panic: only the task knows.
            None => match ready!(self.task.poll_unpin(cx)) {
                Ok(()) => {
                    self.outcome.set("ok");
                    Poll::Ready(None)
                }
                ended => {
                    let error = died(ended);
                    self.fail(error)
                }
            },
        }
    }
}

/// Runs something that is no query, such as planning one, on threads of its own, for at most `limit`.
pub(crate) async fn apart<T: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
    permit: OwnedSemaphorePermit,
) -> Result<T, SqlError> {
    let threads = Threads::start(1)?;
    let (send, done) = oneshot::channel();
    let mut task = threads.spawn(async move {
        let _permit = permit;
        // Where nobody listens, it was given up.
        drop(send.send(work.await));
    })?;
    match tokio::time::timeout(limit, done).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(died((&mut task).await)),
        Err(_) => Err(SqlError::Timeout { limit }),
    }
}

async fn forward(
    mut stream: SendableRecordBatchStream,
    send: &mpsc::Sender<Result<RecordBatch, SqlError>>,
    limit_bytes: usize,
) {
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| SqlError::from_datafusion(e, limit_bytes));
        let last = batch.is_err();
        if send.send(batch).await.is_err() || last {
            return;
        }
    }
}

/// Why a task ended that said nothing.
fn died(ended: Result<(), JoinError>) -> SqlError {
    let message = match ended {
        Err(error) if error.is_panic() => {
            let panic = error.into_panic();
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!(panic = text, "a query panicked");
            format!("the query panicked: {text}")
        }
        Err(_) => "the query was stopped".to_string(),
        Ok(()) => "the query ended without a result".to_string(),
    };
    SqlError::Internal { message }
}

/// The threads of one query. A query can be stopped only where it yields, and some joins compute for long before they do; on threads of its own it
/// keeps nobody else waiting meanwhile, and they give way to those that take rows in ([`Rank`]). Dropping them does not wait for it.
struct Threads(Option<Runtime>);

impl Threads {
    fn start(count: usize) -> Result<Self, SqlError> {
        let rank = Rank::falling();
        let left = Arc::clone(&rank);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("highwater-sql")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(move || rank.enter())
            .on_thread_stop(move || left.leave())
            .enable_all()
            .build()
            .map_err(|e| SqlError::Start { message: format!("no threads for a query: {e}") })?;
        Ok(Self(Some(runtime)))
    }

    fn spawn(&self, run: impl Future<Output = ()> + Send + 'static) -> Result<JoinHandle<()>, SqlError> {
        let runtime = self.0.as_ref();
        let runtime = runtime.ok_or_else(|| SqlError::Internal { message: "the query has no threads".to_string() })?;
        Ok(runtime.spawn(run))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How a query ended, counted once.
struct Outcome(Option<&'static str>);

impl Outcome {
    fn new() -> Self {
        metrics::gauge!("highwater_sql_queries_running").increment(1.0);
        Self(None)
    }

    fn is_set(&self) -> bool {
        self.0.is_some()
    }

    fn set(&mut self, outcome: &'static str) {
        self.0 = Some(outcome);
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        metrics::gauge!("highwater_sql_queries_running").decrement(1.0);
        metrics::counter!("highwater_sql_queries_total", "outcome" => self.0.unwrap_or("dropped")).increment(1);
    }
}
