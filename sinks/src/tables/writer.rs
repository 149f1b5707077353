//! The loop of one table: look where it stands, read, buffer, flush.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use highwater_pipeline::data::Decoder;
use highwater_pipeline::log::{Clock, Log, LogError, TopicPartition};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{TableSpec, table_path};
use object_store::prefix::PrefixStore;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::buffer::{Buffer, Chunk};
use super::fetch::Fetcher;
use super::flush::{Flushed, Flusher, is_first, random};
use super::handle::{Command, StatusCell};
use super::look::Looked;
use super::maintenance::Upkeep;
use super::partitions::{Holding, Partitions};
use super::{MemoryBudget, TableHandle, TableState, TableStatus, TablesConfig, metrics};
use crate::SinkError;

/// How often a missing topic is looked for.
const TOPIC_POLL: Duration = Duration::from_millis(500);
/// How long a checkpoint or upkeep may hold up the end.
const PATIENCE: Duration = Duration::from_secs(3);
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
    /// Turns and pace at keeping tables in shape, shared with other tables.
    pub upkeep: Upkeep,
    /// Cancelled: flush and stop.
    pub shutdown: CancellationToken,
}

/// Starts table writers.
pub struct TableWriter;

impl TableWriter {
    /// Starts the writer of a table as a task of the current runtime. It has no partitions yet: see [`TableHandle::assign`].
    pub fn start(parts: WriterParts) -> TableHandle {
        let (table, topics) = (parts.spec.name.clone(), parts.spec.topics.clone());
        let stop = parts.shutdown.clone();
        let status = StatusCell::new(&table);
        let (commands, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(parts, inbox, status.clone()));
        TableHandle { table, topics, commands, status, stop, task }
    }
}

async fn run(parts: WriterParts, inbox: mpsc::UnboundedReceiver<Command>, status: StatusCell) -> Result<(), SinkError> {
    let table = parts.spec.name.clone();
    metrics::up(&table, true);
    let result = Writer::new(parts, inbox, status.clone()).run().await;
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

/// A `flush()` waiting for its answer.
struct Pending {
    /// What has to be committed.
    targets: Vec<(TopicPartition, i64)>,
    reply: oneshot::Sender<Result<TableStatus, SinkError>>,
}

/// A `revoke()` waiting for its answer.
struct Leaving {
    holdings: Vec<Holding>,
    reply: oneshot::Sender<()>,
}

/// The flusher at work.
struct Job {
    /// For which partitions.
    holdings: Vec<Holding>,
    task: AbortOnDropHandle<(Box<Flusher>, Outcome)>,
}

/// What the flusher comes back with.
enum Outcome {
    Looked(Result<Looked, SinkError>),
    Flushed(Result<Flushed, SinkError>),
}

type JobEnd = Result<(Box<Flusher>, Outcome), tokio::task::JoinError>;

/// What a partition waits for beside the flusher.
enum Step {
    Read(Result<Option<Chunk>, SinkError>),
    Rested,
}

struct Writer {
    config: Arc<TablesConfig>,
    log: Arc<dyn Log>,
    fetcher: Fetcher,
    budget: MemoryBudget,
    shutdown: CancellationToken,
    status: StatusCell,
    inbox: mpsc::UnboundedReceiver<Command>,
    partitions: Partitions,
    steps: FuturesUnordered<BoxFuture<'static, (Holding, Step)>>,
    buffer: Buffer,
    /// Runs since the first row in the buffer.
    row_timer: Option<Pin<Box<Sleep>>>,
    /// Runs since the buffer's first progress.
    empty_timer: Option<Pin<Box<Sleep>>>,
    due: bool,
    /// At rest, or away in `job`.
    flusher: Option<Box<Flusher>>,
    job: Option<Job>,
    upkeep: Option<AbortOnDropHandle<()>>,
    pending: Vec<Pending>,
    leaving: Vec<Leaving>,
    stopping: bool,
}

enum Event {
    Shutdown,
    Step(Holding, Step),
    JobDone(Vec<Holding>, JobEnd),
    Due,
    MeasureLag,
    Command(Option<Command>),
}

impl Writer {
    fn new(parts: WriterParts, inbox: mpsc::UnboundedReceiver<Command>, status: StatusCell) -> Self {
        let WriterParts { spec, log, storage, config, clock, budget, upkeep, shutdown } = parts;
        let spec = Arc::new(spec);
        let decoder = Arc::new(Decoder::new(spec.kind.clone()));
        let flusher = Flusher {
            spec: Arc::clone(&spec),
            config: Arc::clone(&config),
            log: Arc::clone(&log),
            clock,
            files: Arc::new(PrefixStore::new(Arc::clone(storage.objects()), table_path(&spec.name))),
            storage,
            delta: None,
            status: status.clone(),
            shutdown: shutdown.clone(),
            upkeep,
            checkpoint: None,
            checkpoint_due: false,
        };
        let fetcher = Fetcher { spec, log: Arc::clone(&log), decoder, fetch_size_bytes: config.fetch_size_bytes };
        Self {
            config,
            log,
            fetcher,
            budget,
            shutdown,
            status,
            inbox,
            partitions: Partitions::default(),
            steps: FuturesUnordered::new(),
            buffer: Buffer::default(),
            row_timer: None,
            empty_timer: None,
            due: false,
            flusher: Some(Box::new(flusher)),
            job: None,
            upkeep: None,
            pending: Vec::new(),
            leaving: Vec::new(),
            stopping: false,
        }
    }

    async fn run(mut self) -> Result<(), SinkError> {
        let mut lag = tokio::time::interval(LAG_INTERVAL);
        lag.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.let_go();
            self.start_reads();
            self.start_job();
            self.answer();
            if self.stopping && self.job.is_none() && self.buffer.is_empty() {
                self.finish_beside().await;
                return Ok(());
            }
            match self.next_event(&mut lag).await {
                Event::Shutdown => {
                    self.stopping = true;
                    // What is being read is not lost: the log has it.
                    self.steps.clear();
                }
                Event::Step(holding, Step::Read(result)) => self.take_chunk(&holding, result)?,
                Event::Step(holding, Step::Rested) => self.partitions.rested(&holding),
                Event::JobDone(holdings, Ok((flusher, outcome))) => {
                    self.job = None;
                    match outcome {
                        Outcome::Looked(result) => self.looked(&flusher, holdings, result)?,
                        Outcome::Flushed(result) => self.flushed(&holdings, result)?,
                    }
                    self.flusher = Some(flusher);
                }
                Event::JobDone(_, Err(e)) => {
                    return Err(SinkError::Broken { table: self.fetcher.spec.name.clone(), reason: e.to_string() });
                }
                Event::Due => {
                    self.due = true;
                    self.row_timer = None;
                    self.empty_timer = None;
                }
                Event::MeasureLag => self.measure_lag().await,
                Event::Command(Some(command)) => self.obey(command).await,
                Event::Command(None) => self.inbox.close(),
            }
        }
    }

    /// Gives what is done beside the flushes a little time to end: it reads the Delta log on threads that cannot be stopped half-way.
    async fn finish_beside(&mut self) {
        let checkpoint = self.flusher.as_mut().and_then(|flusher| flusher.checkpoint.take());
        for task in [checkpoint, self.upkeep.take()].into_iter().flatten() {
            if tokio::time::timeout(PATIENCE, task).await.is_err() {
                tracing::info!(table = %self.fetcher.spec.name, "stopping without the end of a checkpoint or of upkeep; a later one makes up for it");
            }
        }
    }

    async fn next_event(&mut self, lag: &mut tokio::time::Interval) -> Event {
        let commands_open = !self.inbox.is_closed();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled(), if !self.stopping => Event::Shutdown,
            (holdings, end) = finish(&mut self.job), if self.job.is_some() => Event::JobDone(holdings, end),
            () = expire(&mut self.row_timer), if self.row_timer.is_some() => Event::Due,
            () = expire(&mut self.empty_timer), if self.empty_timer.is_some() => Event::Due,
            command = self.inbox.recv(), if commands_open => Event::Command(command),
            _ = lag.tick() => Event::MeasureLag,
            Some((holding, step)) = self.steps.next(), if !self.steps.is_empty() => Event::Step(holding, step),
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Flush(reply) => self.begin_flush(reply).await,
            Command::Assign(keys) => {
                for key in keys {
                    if self.partitions.assign(&key) {
                        self.buffer.drop_partition(&key);
                    }
                }
                self.owned_changed();
            }
            Command::Revoke(keys, reply) => {
                let holdings = keys.iter().filter_map(|key| self.partitions.leave(key)).collect();
                self.leaving.push(Leaving { holdings, reply });
            }
            Command::Lose(keys) => {
                for key in &keys {
                    self.forget(key);
                }
                self.owned_changed();
            }
        }
    }

    /// Lets a partition go with what was read of it.
    fn forget(&mut self, key: &TopicPartition) {
        self.buffer.drop_partition(key);
        self.partitions.let_go(key);
        self.status.let_go(key);
        if is_first(&self.fetcher.spec, key) {
            self.upkeep = None;
        }
    }

    fn owned_changed(&self) {
        metrics::partitions(&self.fetcher.spec.name, self.partitions.len());
        metrics::buffered(&self.fetcher.spec.name, self.buffer.bytes());
        self.status.owned(!self.partitions.is_empty());
    }

    /// Lets go the partitions that were revoked and are committed, and says so.
    fn let_go(&mut self) {
        let committing = |key: &TopicPartition| {
            self.job.as_ref().is_some_and(|job| job.holdings.iter().any(|holding| holding.key == *key))
        };
        let done: Vec<TopicPartition> =
            self.partitions.leaving().filter(|key| !self.buffer.has(key) && !committing(key)).cloned().collect();
        for key in &done {
            self.forget(key);
        }
        if !done.is_empty() {
            self.owned_changed();
        }
        let partitions = &self.partitions;
        for left in self.leaving.extract_if(.., |l| !l.holdings.iter().any(|h| partitions.is_current(h))) {
            if left.reply.send(()).is_err() {
                tracing::trace!("nobody waits any more for a partition to be let go");
            }
        }
    }

    fn start_reads(&mut self) {
        // With nothing buffered and nothing on its way out there would be nobody to free memory: one round is read all the same.
        let nothing_held = self.buffer.bytes() == 0 && self.job.is_none();
        if self.stopping || (self.budget.is_exhausted() && !nothing_held) {
            return;
        }
        for read in self.partitions.take_reads() {
            let fetcher = self.fetcher.clone();
            let wait = (read.failures > 0).then(|| self.config.backoff(read.failures - 1, random()));
            self.steps.push(Box::pin(async move {
                if let Some(wait) = wait {
                    tokio::time::sleep(wait).await;
                }
                let result = fetcher.fetch(&read.topic, read.holding.key.partition, read.next).await;
                (read.holding, Step::Read(result))
            }));
        }
    }

    fn take_chunk(&mut self, holding: &Holding, result: Result<Option<Chunk>, SinkError>) -> Result<(), SinkError> {
        let table = &self.fetcher.spec.name;
        match result {
            Ok(chunk) => {
                let next = chunk.as_ref().and_then(|chunk| chunk.covers.last()).map(|c| c.to);
                let (true, Some(chunk)) = (self.partitions.read(holding, next), chunk) else { return Ok(()) };
                if self.empty_timer.is_none() && self.buffer.is_empty() {
                    self.empty_timer = Some(Box::pin(tokio::time::sleep(self.config.empty_commit_interval())));
                }
                let held = self.budget.hold(chunk.bytes);
                self.buffer.add(&holding.key, chunk, held);
                if self.row_timer.is_none() && self.buffer.rows() > 0 {
                    self.row_timer = Some(Box::pin(tokio::time::sleep(self.config.commit_interval())));
                }
                metrics::buffered(table, self.buffer.bytes());
            }
            Err(e) if !self.partitions.read_failed(holding) => {
                tracing::debug!(%table, error = %e, "a read of a partition that is no longer ours failed");
            }
            Err(e) if e.is_retryable() => {
                let TopicPartition { topic, partition } = &holding.key;
                metrics::failed(table, "read");
                tracing::warn!(%table, %topic, partition, error = %e, "reading failed; will try again");
                self.status.retrying(&e);
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Gives the flusher something to do, where it is at rest and there is something.
    fn start_job(&mut self) {
        if self.flusher.is_none() {
            return;
        }
        let let_go = self.partitions.leaving().any(|key| self.buffer.has(key));
        let look = if self.stopping || let_go { Vec::new() } else { self.partitions.take_wanted() };
        if !look.is_empty() {
            self.start_look(look);
        } else if !self.buffer.is_empty() && (let_go || self.is_flush_due()) {
            self.start_flush();
        }
    }

    fn is_flush_due(&self) -> bool {
        self.due
            || self.stopping
            || self.buffer.bytes() >= self.config.commit_size_bytes
            || self.buffer.has_gap()
            || (self.budget.is_exhausted() && self.buffer.rows() > 0)
            || self.pending.iter().any(|p| p.is_reached(&self.partitions))
    }

    fn start_look(&mut self, holdings: Vec<Holding>) {
        let Some(mut flusher) = self.flusher.take() else { return };
        let keys: Vec<TopicPartition> = holdings.iter().map(|h| h.key.clone()).collect();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let result = flusher.look(&keys).await;
            (flusher, Outcome::Looked(result))
        }));
        self.job = Some(Job { holdings, task });
    }

    fn start_flush(&mut self) {
        let Some(mut flusher) = self.flusher.take() else { return };
        let holdings = self.buffer.keys().filter_map(|key| self.partitions.holding(key)).collect();
        let batch = self.buffer.take();
        self.due = false;
        self.row_timer = None;
        self.empty_timer = None;
        metrics::buffered(&self.fetcher.spec.name, 0);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let result = flusher.flush(batch).await;
            (flusher, Outcome::Flushed(result))
        }));
        self.job = Some(Job { holdings, task });
    }

    fn looked(
        &mut self,
        flusher: &Flusher,
        holdings: Vec<Holding>,
        result: Result<Looked, SinkError>,
    ) -> Result<(), SinkError> {
        let looked = match result {
            Ok(looked) => looked,
            Err(e) if e.is_retryable() => {
                let table = &self.fetcher.spec.name;
                metrics::failed(table, "open");
                tracing::warn!(%table, error = %e, "where the table stands cannot be read; will try again");
                self.status.retrying(&e);
                for holding in holdings {
                    self.rest(holding, None);
                }
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let mut given = Vec::with_capacity(holdings.len());
        for (holding, found) in holdings.into_iter().zip(looked.found) {
            let Some(found) = found else {
                self.rest(holding, Some(TOPIC_POLL));
                continue;
            };
            if self.partitions.follow(&holding, found.topic, found.next) {
                self.status.found(&holding.key, found.stands_at);
                given.push(holding.key);
            }
        }
        if let Some(version) = looked.version {
            self.status.running(version);
        }
        if self.upkeep.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            self.upkeep = flusher.start_upkeep(given.iter());
        }
        Ok(())
    }

    /// Has a partition looked at again after `wait`, or after one that grows with its failures.
    fn rest(&mut self, holding: Holding, wait: Option<Duration>) {
        let Some(failures) = self.partitions.rest(&holding) else { return };
        let wait = wait.unwrap_or_else(|| self.config.backoff(failures - 1, random()));
        self.rest_for(holding, wait);
    }

    fn rest_for(&mut self, holding: Holding, wait: Duration) {
        self.steps.push(Box::pin(async move {
            tokio::time::sleep(wait).await;
            (holding, Step::Rested)
        }));
    }

    fn flushed(&mut self, holdings: &[Holding], result: Result<Flushed, SinkError>) -> Result<(), SinkError> {
        match result {
            Ok(flushed) => {
                for holding in holdings {
                    self.partitions.committed(holding);
                }
                self.status.committed(flushed.version, &flushed.covers);
                Ok(())
            }
            Err(error @ SinkError::AnotherOwner { .. }) if !self.stopping => {
                self.displaced(holdings, &error);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Another owner was at work in a partition of the commit, so nothing of it went in: all its partitions start over from where the table
    /// stands (their rows shared files), that one after a rest.
    fn displaced(&mut self, holdings: &[Holding], error: &SinkError) {
        let SinkError::AnotherOwner { topic, partition, .. } = error else { return };
        metrics::displaced(&self.fetcher.spec.name);
        tracing::warn!(%error, "what was read of it is dropped, and read again from where the table stands");
        for holding in holdings {
            if !self.partitions.is_current(holding) {
                continue;
            }
            self.buffer.drop_partition(&holding.key);
            if holding.key.partition != *partition || holding.key.topic.as_ref() != topic {
                self.partitions.start_over(holding);
            } else if let Some((times, fresh)) = self.partitions.displaced(holding) {
                let wait = self.config.backoff(times - 1, random());
                self.rest_for(fresh, wait);
            }
        }
        metrics::buffered(&self.fetcher.spec.name, self.buffer.bytes());
    }

    async fn begin_flush(&mut self, reply: oneshot::Sender<Result<TableStatus, SinkError>>) {
        let mut targets = Vec::with_capacity(self.partitions.len());
        for key in self.partitions.staying() {
            match self.log.offsets(&key.topic, key.partition).await {
                Ok(offsets) => targets.push((key.clone(), offsets.high_watermark)),
                // Nothing is in a topic that does not exist.
                Err(LogError::UnknownTopicOrPartition { .. }) => {}
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
        if self.job.is_some() || !self.buffer.is_empty() {
            return;
        }
        let partitions = &self.partitions;
        for done in self.pending.extract_if(.., |p| p.is_reached(partitions)) {
            send(done.reply, Ok(self.status.get()));
        }
    }

    async fn measure_lag(&mut self) {
        let status = self.status.get();
        let mut lag = 0;
        for key in self.partitions.staying() {
            let offsets = match self.log.offsets(&key.topic, key.partition).await {
                Ok(offsets) => offsets,
                Err(LogError::UnknownTopicOrPartition { .. }) => continue,
                Err(_) => return,
            };
            let committed = status.position(key).unwrap_or(offsets.log_start);
            lag += (offsets.high_watermark - committed).max(0);
        }
        metrics::lag(&self.fetcher.spec.name, lag);
        self.status.set_lag(lag);
    }
}

impl Pending {
    fn is_reached(&self, partitions: &Partitions) -> bool {
        self.targets.iter().all(|(key, target)| partitions.has_reached(key, *target))
    }
}

/// The end of the job under way; never comes where there is none.
async fn finish(job: &mut Option<Job>) -> (Vec<Holding>, JobEnd) {
    match job {
        Some(job) => {
            let end = (&mut job.task).await;
            (std::mem::take(&mut job.holdings), end)
        }
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

/// A caller that no longer waits for its answer is no error.
fn send(reply: oneshot::Sender<Result<TableStatus, SinkError>>, answer: Result<TableStatus, SinkError>) {
    if reply.send(answer).is_err() {
        tracing::trace!("the caller of a flush is gone");
    }
}
