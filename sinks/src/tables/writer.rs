//! The loop of one table: read, buffer, flush.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use highwater_pipeline::data::Decoder;
use highwater_pipeline::log::{Clock, Log, TopicInfo};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{TableSpec, table_path};
use object_store::prefix::PrefixStore;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::buffer::{Buffer, Chunk};
use super::delta::DeltaLog;
use super::fetch::Fetcher;
use super::flush::Flusher;
use super::handle::{Command, StatusCell};
use super::{MemoryBudget, TableHandle, TableState, TableStatus, TablesConfig, metrics};
use crate::SinkError;

/// How often a missing topic is looked for.
const TOPIC_POLL: Duration = Duration::from_millis(500);
/// How often the lag is measured.
const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// What a table writer needs.
pub struct WriterParts {
    /// The table.
    pub spec: TableSpec,
    /// Where its topics are.
    pub log: Arc<dyn Log>,
    /// Where its files go.
    pub storage: Storage,
    /// Settings.
    pub config: Arc<TablesConfig>,
    /// Wall clock, for commit times and ages of files.
    pub clock: Arc<dyn Clock>,
    /// Memory shared with other tables.
    pub budget: MemoryBudget,
    /// Cancelled: flush and stop.
    pub shutdown: CancellationToken,
}

/// Starts table writers.
pub struct TableWriter;

impl TableWriter {
    /// Starts the writer of a table as a task of the current runtime.
    pub fn start(parts: WriterParts) -> TableHandle {
        let table = parts.spec.name.clone();
        let status = StatusCell::new(&table);
        let (commands, inbox) = mpsc::channel(16);
        let task = tokio::spawn(run(parts, inbox, status.clone()));
        TableHandle { table, commands, status, task }
    }
}

async fn run(parts: WriterParts, inbox: mpsc::Receiver<Command>, status: StatusCell) -> Result<(), SinkError> {
    let table = parts.spec.name.clone();
    metrics::up(&table, true);
    let result = match Writer::open(parts, inbox, status.clone()).await {
        Ok(Some(writer)) => writer.run().await,
        Ok(None) => Ok(()),
        Err(e) => Err(e),
    };
    metrics::up(&table, false);
    match &result {
        Ok(()) => status.set_state(TableState::Stopped),
        Err(error) => {
            tracing::error!(%table, %error, "the table's writer has stopped");
            status.set_state(TableState::Failed(error.to_string()));
        }
    }
    result
}

/// A partition of one of the table's topics.
struct Partition {
    topic: TopicInfo,
    number: i32,
    /// Next offset to read.
    next: i64,
    reading: bool,
    failures: u32,
}

/// A `flush()` waiting for its answer.
struct Pending {
    /// Per partition, what has to be committed.
    targets: Vec<i64>,
    reply: oneshot::Sender<Result<TableStatus, SinkError>>,
}

type ReadResult = (usize, Result<Option<Chunk>, SinkError>);
type FlushResult = (Flusher, Result<(), SinkError>);

struct Writer {
    config: Arc<TablesConfig>,
    log: Arc<dyn Log>,
    fetcher: Fetcher,
    budget: MemoryBudget,
    shutdown: CancellationToken,
    status: StatusCell,
    inbox: mpsc::Receiver<Command>,
    partitions: Vec<Partition>,
    reads: FuturesUnordered<BoxFuture<'static, ReadResult>>,
    buffer: Buffer,
    /// Runs since the first row in the buffer.
    row_timer: Option<Pin<Box<Sleep>>>,
    /// Runs since the buffer's first progress.
    empty_timer: Option<Pin<Box<Sleep>>>,
    due: bool,
    /// At rest, or away in `flushing`.
    flusher: Option<Flusher>,
    flushing: Option<AbortOnDropHandle<FlushResult>>,
    pending: Vec<Pending>,
    stopping: bool,
}

enum Event {
    Shutdown,
    Read(ReadResult),
    Flushed(Result<FlushResult, tokio::task::JoinError>),
    Due,
    MeasureLag,
    Command(Option<Command>),
}

impl Writer {
    /// Opens the table and finds where it stands. `None` where shutdown came first.
    async fn open(
        parts: WriterParts,
        mut inbox: mpsc::Receiver<Command>,
        status: StatusCell,
    ) -> Result<Option<Self>, SinkError> {
        let WriterParts { spec, log, storage, config, clock, budget, shutdown } = parts;
        let spec = Arc::new(spec);
        let Some(topics) = wait_for_topics(&spec, log.as_ref(), &mut inbox, &status, &shutdown).await? else {
            return Ok(None);
        };
        let delta = {
            let mut attempt = 0;
            loop {
                let opened = open_delta(&spec, &storage, clock.now_ms(), &topics).await;
                match opened {
                    Ok(delta) => break delta,
                    Err(e) if e.is_retryable() && !shutdown.is_cancelled() => {
                        metrics::failed(&spec.name, "open");
                        tracing::warn!(table = %spec.name, attempt, error = %e, "the table cannot be opened; will try again");
                        status.retrying(&e);
                        let wait = config.backoff(attempt, u64::from(attempt));
                        attempt += 1;
                        tokio::select! {
                            () = tokio::time::sleep(wait) => {}
                            () = shutdown.cancelled() => return Ok(None),
                        }
                    }
                    Err(e) => return Err(e),
                }
            }
        };
        let partitions = stand(&spec, log.as_ref(), &delta, &topics).await?;
        let mut flusher = Flusher {
            spec: Arc::clone(&spec),
            config: Arc::clone(&config),
            log: Arc::clone(&log),
            clock,
            files: Arc::new(PrefixStore::new(Arc::clone(storage.objects()), table_path(&spec.name))),
            delta,
            status: status.clone(),
            shutdown: shutdown.clone(),
        };
        if let Err(error) = flusher.sweep().await {
            metrics::failed(&spec.name, "sweep");
            tracing::warn!(table = %spec.name, %error, "files that no commit names were not removed; the next start tries again");
        }
        let known: Vec<(String, i32, i64)> = partitions
            .iter()
            .filter_map(|p| {
                let at = flusher.delta.position(p.topic.id, p.number)?;
                Some((p.topic.name.to_string(), p.number, at))
            })
            .collect();
        // A crash between the commit and the group's offset leaves the log behind.
        flusher.commit_group(known.iter().map(|(t, p, at)| (t.as_str(), *p, *at))).await;
        status.opened(flusher.delta.version(), known);
        let decoder = Arc::new(Decoder::new(spec.kind.clone()));
        let fetcher = Fetcher { spec, log: Arc::clone(&log), decoder, fetch_size_bytes: config.fetch_size_bytes };
        Ok(Some(Self {
            config,
            log,
            fetcher,
            budget,
            shutdown,
            status,
            inbox,
            partitions,
            reads: FuturesUnordered::new(),
            buffer: Buffer::default(),
            row_timer: None,
            empty_timer: None,
            due: false,
            flusher: Some(flusher),
            flushing: None,
            pending: Vec::new(),
            stopping: false,
        }))
    }

    async fn run(mut self) -> Result<(), SinkError> {
        let mut lag = tokio::time::interval(LAG_INTERVAL);
        lag.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_reads();
            self.start_flush();
            self.answer();
            if self.stopping && self.flushing.is_none() && self.buffer.is_empty() {
                return Ok(());
            }
            match self.next_event(&mut lag).await {
                Event::Shutdown => {
                    self.stopping = true;
                    // What is being read is not lost: the log has it.
                    self.reads.clear();
                }
                Event::Read((i, result)) => self.take_chunk(i, result)?,
                Event::Flushed(Ok((flusher, result))) => {
                    self.flushing = None;
                    self.flusher = Some(flusher);
                    result?;
                }
                Event::Flushed(Err(e)) => {
                    return Err(SinkError::Broken { table: self.fetcher.spec.name.clone(), reason: e.to_string() });
                }
                Event::Due => {
                    self.due = true;
                    self.row_timer = None;
                    self.empty_timer = None;
                }
                Event::MeasureLag => self.measure_lag().await,
                Event::Command(Some(Command::Flush(reply))) => self.begin_flush(reply).await,
                Event::Command(None) => self.inbox.close(),
            }
        }
    }

    async fn next_event(&mut self, lag: &mut tokio::time::Interval) -> Event {
        let commands_open = !self.inbox.is_closed();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled(), if !self.stopping => Event::Shutdown,
            done = join(&mut self.flushing), if self.flushing.is_some() => Event::Flushed(done),
            () = expire(&mut self.row_timer), if self.row_timer.is_some() => Event::Due,
            () = expire(&mut self.empty_timer), if self.empty_timer.is_some() => Event::Due,
            command = self.inbox.recv(), if commands_open => Event::Command(command),
            _ = lag.tick() => Event::MeasureLag,
            Some(read) = self.reads.next(), if !self.reads.is_empty() => Event::Read(read),
        }
    }

    fn start_reads(&mut self) {
        // With nothing buffered and nothing on its way out there would be nobody to free memory: one round is read all the same.
        let nothing_held = self.buffer.bytes() == 0 && self.flushing.is_none();
        if self.stopping || (self.budget.is_exhausted() && !nothing_held) {
            return;
        }
        for (i, partition) in self.partitions.iter_mut().enumerate() {
            if partition.reading {
                continue;
            }
            partition.reading = true;
            let fetcher = self.fetcher.clone();
            let (topic, number, next) = (partition.topic.clone(), partition.number, partition.next);
            let wait =
                (partition.failures > 0).then(|| self.config.backoff(partition.failures - 1, next.unsigned_abs()));
            self.reads.push(Box::pin(async move {
                if let Some(wait) = wait {
                    tokio::time::sleep(wait).await;
                }
                (i, fetcher.fetch(&topic, number, next).await)
            }));
        }
    }

    fn take_chunk(&mut self, i: usize, result: Result<Option<Chunk>, SinkError>) -> Result<(), SinkError> {
        let table = &self.fetcher.spec.name;
        let Some(partition) = self.partitions.get_mut(i) else { return Ok(()) };
        partition.reading = false;
        match result {
            Ok(None) => partition.failures = 0,
            Ok(Some(chunk)) => {
                partition.failures = 0;
                partition.next = chunk.covers.last().map_or(partition.next, |c| c.to);
                if self.empty_timer.is_none() && self.buffer.is_empty() {
                    self.empty_timer = Some(Box::pin(tokio::time::sleep(self.config.empty_commit_interval())));
                }
                let held = self.budget.hold(chunk.bytes);
                self.buffer.add(chunk, held);
                if self.row_timer.is_none() && self.buffer.rows() > 0 {
                    self.row_timer = Some(Box::pin(tokio::time::sleep(self.config.commit_interval())));
                }
                metrics::buffered(table, self.buffer.bytes());
            }
            Err(e) if e.is_retryable() => {
                partition.failures += 1;
                metrics::failed(table, "read");
                tracing::warn!(%table, topic = %partition.topic.name, partition = partition.number, error = %e, "reading failed; will try again");
                self.status.retrying(&e);
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Hands the buffer to a flush where one is due and none is under way.
    fn start_flush(&mut self) {
        if self.buffer.is_empty() || self.flushing.is_some() {
            return;
        }
        let wanted = self.due
            || self.stopping
            || self.buffer.bytes() >= self.config.commit_size_bytes
            || self.buffer.has_gap()
            || (self.budget.is_exhausted() && self.buffer.rows() > 0)
            || self.pending.iter().any(|p| reached(&self.partitions, p));
        if !wanted {
            return;
        }
        let Some(mut flusher) = self.flusher.take() else { return };
        let batch = self.buffer.take();
        self.due = false;
        self.row_timer = None;
        self.empty_timer = None;
        metrics::buffered(&self.fetcher.spec.name, 0);
        self.flushing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let result = flusher.flush(batch).await;
            (flusher, result)
        })));
    }

    async fn begin_flush(&mut self, reply: oneshot::Sender<Result<TableStatus, SinkError>>) {
        let mut targets = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            match self.log.offsets(&partition.topic.name, partition.number).await {
                Ok(offsets) => targets.push(offsets.high_watermark),
                Err(e) => {
                    send(reply, Err(e.into()));
                    return;
                }
            }
        }
        self.pending.push(Pending { targets, reply });
    }

    /// Answers the flushes whose targets are committed.
    fn answer(&mut self) {
        if self.flushing.is_some() || !self.buffer.is_empty() {
            return;
        }
        let partitions = &self.partitions;
        for done in self.pending.extract_if(.., |p| reached(partitions, p)) {
            send(done.reply, Ok(self.status.get()));
        }
    }

    async fn measure_lag(&mut self) {
        let mut lag = 0;
        for partition in &self.partitions {
            let Ok(offsets) = self.log.offsets(&partition.topic.name, partition.number).await else { return };
            let committed = self
                .status
                .get()
                .positions
                .iter()
                .find(|(t, p, _)| *t == *partition.topic.name && *p == partition.number)
                .map_or(offsets.log_start, |(_, _, at)| *at);
            lag += (offsets.high_watermark - committed).max(0);
        }
        metrics::lag(&self.fetcher.spec.name, lag);
        self.status.set_lag(lag);
    }
}

/// The flush under way; never ends where there is none.
async fn join(flushing: &mut Option<AbortOnDropHandle<FlushResult>>) -> Result<FlushResult, tokio::task::JoinError> {
    match flushing {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// The end of a timer; never comes where it does not run.
async fn expire(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}

fn reached(partitions: &[Partition], pending: &Pending) -> bool {
    partitions.iter().zip(&pending.targets).all(|(partition, target)| partition.next >= *target)
}

/// A caller that no longer waits for its answer is no error.
fn send(reply: oneshot::Sender<Result<TableStatus, SinkError>>, answer: Result<TableStatus, SinkError>) {
    if reply.send(answer).is_err() {
        tracing::trace!("the caller of a flush is gone");
    }
}

async fn open_delta(
    spec: &TableSpec,
    storage: &Storage,
    now_ms: i64,
    topics: &[TopicInfo],
) -> Result<DeltaLog, SinkError> {
    let mut delta = DeltaLog::open(spec, storage, now_ms).await?;
    delta.load_positions(topics).await?;
    Ok(delta)
}

/// The table's topics, once all of them exist; `None` where shutdown came first. Until then there is nothing to flush.
async fn wait_for_topics(
    spec: &TableSpec,
    log: &dyn Log,
    inbox: &mut mpsc::Receiver<Command>,
    status: &StatusCell,
    shutdown: &CancellationToken,
) -> Result<Option<Vec<TopicInfo>>, SinkError> {
    let mut topics = Vec::with_capacity(spec.topics.len());
    for name in &spec.topics {
        loop {
            if let Some(topic) = log.topic(name).await? {
                topics.push(topic);
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(TOPIC_POLL) => {}
                Some(Command::Flush(reply)) = inbox.recv() => send(reply, Ok(status.get())),
                () = shutdown.cancelled() => return Ok(None),
            }
        }
    }
    Ok(Some(topics))
}

/// Where reading starts: where the table stands, or at the start of the log in partitions it never read.
async fn stand(
    spec: &TableSpec,
    log: &dyn Log,
    delta: &DeltaLog,
    topics: &[TopicInfo],
) -> Result<Vec<Partition>, SinkError> {
    let mut partitions = Vec::new();
    for topic in topics {
        for number in 0..topic.config.partitions {
            let offsets = log.offsets(&topic.name, number).await?;
            let next = match delta.position(topic.id, number) {
                Some(stands_at) if stands_at > offsets.high_watermark => {
                    return Err(SinkError::AheadOfLog {
                        table: spec.name.clone(),
                        topic: topic.name.to_string(),
                        partition: number,
                        stands_at,
                        high_watermark: offsets.high_watermark,
                    });
                }
                Some(stands_at) => stands_at,
                None => {
                    if offsets.log_start > 0 {
                        tracing::warn!(
                            table = %spec.name, topic = %topic.name, partition = number, log_start = offsets.log_start,
                            "the table is new to a partition whose oldest records are gone; it begins where the log does"
                        );
                    }
                    offsets.log_start
                }
            };
            partitions.push(Partition { topic: topic.clone(), number, next, reading: false, failures: 0 });
        }
    }
    Ok(partitions)
}
