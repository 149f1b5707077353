//! One task at work: everything about it that waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::Clock;
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::alignment::Place;
use super::append::appends;
use super::chunks::Scratch;
use super::clock_records::ClockSchedule;
use super::core::TaskCore;
use super::effects::{Effect, Effects};
use super::error::RuntimeError;
use super::history::{History, Slice, SliceRequest};
use super::input::InputKind;
use super::processor::ProcessorError;
use super::retry::{Retried, retry};
use super::snapshot::{INLINE_BYTES, SnapshotStore};
use super::status::{TaskState, TaskStatus};
use super::tasks::TaskSpec;
use crate::log::{Append, Fetched, Guard, Log, LogError, StoredRecord, TaskCommit};

mod progress;
mod start;

/// Most bytes of outputs in one commit, on a log that takes them ahead of the progress.
const MAX_PART_BYTES: usize = 16 << 20;

/// How a driver paces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverConfig {
    /// About how much is read at a time, in bytes.
    pub fetch_size_bytes: usize,
    /// The longest wait for new records, in milliseconds.
    pub max_wait_ms: i64,
    /// Time between commits of C, in milliseconds.
    pub commit_interval_ms: i64,
    /// A snapshot is due after this many records...
    pub snapshot_records: i64,
    /// ... or after this many milliseconds in which there were any.
    pub snapshot_interval_ms: i64,
    /// A snapshot whose new chunks come to no more than this has them in itself; others write them beside it, once.
    pub snapshot_inline_bytes: u64,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            fetch_size_bytes: 1 << 20,
            max_wait_ms: 1_000,
            commit_interval_ms: 500,
            snapshot_records: 20_000,
            snapshot_interval_ms: 30_000,
            snapshot_inline_bytes: INLINE_BYTES,
        }
    }
}

/// Runs one task over a log until it is asked to stop, is fenced, or fails.
pub struct TaskDriver {
    spec: TaskSpec,
    log: Arc<dyn Log>,
    snapshots: SnapshotStore,
    clock: Arc<dyn Clock>,
    config: DriverConfig,
    status: Arc<Mutex<TaskStatus>>,
    stop: CancellationToken,
    place: Option<Place>,
    history: Option<Arc<dyn History>>,
    scratch: Option<Arc<dyn Scratch>>,
}

/// Why a run ended other than by an error.
struct Stopped;

/// A step of the driver: a value, or the end of the run.
type Step<T> = Result<T, End>;

enum End {
    Stopped,
    Error(RuntimeError),
}

impl From<RuntimeError> for End {
    fn from(error: RuntimeError) -> Self {
        Self::Error(error)
    }
}

/// What changes while a run lasts.
struct Run {
    epoch: i32,
    core: TaskCore,
    /// C as last committed.
    committed: i64,
    committed_ms: i64,
    snapshot_offset: i64,
    snapshot_ms: i64,
    schedule: ClockSchedule,
    high_watermark: i64,
}

impl Run {
    /// True where everything there was at the last read has been stepped through.
    fn at_end(&self) -> bool {
        self.core.next_offset() >= self.high_watermark
    }
}

impl TaskDriver {
    /// A driver for this task; [`Self::run`] starts it.
    pub fn new(
        spec: TaskSpec,
        log: Arc<dyn Log>,
        storage: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        config: DriverConfig,
        stop: CancellationToken,
    ) -> Self {
        let status = TaskStatus::starting(&spec.name, &spec.input.topic, spec.input.partition);
        let snapshots = SnapshotStore::new(storage, &spec.name).with_inline_bytes(config.snapshot_inline_bytes);
        Self {
            spec,
            log,
            snapshots,
            clock,
            config,
            status: Arc::new(Mutex::new(status)),
            stop,
            place: None,
            history: None,
            scratch: None,
        }
    }

    /// With tables to read.
    pub(super) fn reading(self, history: Option<Arc<dyn History>>) -> Self {
        Self { history, ..self }
    }

    /// With a place for state that memory has no room for.
    pub(super) fn putting_aside(self, scratch: Option<Arc<dyn Scratch>>) -> Self {
        Self { snapshots: self.snapshots.with_scratch(scratch.clone()), scratch, ..self }
    }

    /// Keeps it together with the other tasks of its topic while they catch up.
    pub(super) fn aligned(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Where the driver writes its status.
    pub fn status(&self) -> Arc<Mutex<TaskStatus>> {
        Arc::clone(&self.status)
    }

    /// Runs to the end. `Ok` where it was asked to stop; the status says the same as the result.
    pub async fn run(self) -> Result<(), RuntimeError> {
        let result = match self.attempt().await {
            Ok(Stopped) | Err(End::Stopped) => Ok(()),
            Err(End::Error(error)) => Err(error),
        };
        let state = match &result {
            Ok(()) => TaskState::Stopped,
            Err(error) if error.is_fenced() => TaskState::Fenced,
            Err(error) => TaskState::Failed(chain(error)),
        };
        match &state {
            TaskState::Failed(reason) => {
                metrics::counter!("highwater_task_failures_total", "task" => self.spec.name.to_string()).increment(1);
                tracing::error!(task = %self.spec.name, reason, "task stopped; its outputs stay as they are until a restart");
            }
            other => tracing::debug!(task = %self.spec.name, state = other.name(), "task ended"),
        }
        self.status.lock().state = state;
        result
    }

    async fn attempt(&self) -> Step<Stopped> {
        let mut run = self.start().await?;
        let mut effects = Effects::putting_aside(self.scratch.clone());
        self.reach_end(&mut run);
        while !self.stop.is_cancelled() {
            let fetched = match self.read(&mut run).await {
                Err(End::Stopped) => break,
                other => other?,
            };
            run.high_watermark = fetched.high_watermark;
            if !fetched.records.is_empty() {
                // After the read and before the first step: see `definitions`.
                match self.catch_up().await {
                    Err(End::Stopped) => break,
                    other => other?,
                }
            }
            self.work(&mut run, &fetched, &mut effects).await?;
            self.commit_if_due(&mut run).await?;
            self.snapshot_if_due(&mut run).await?;
            self.write_clock_if_due(&mut run).await?;
            self.publish(&run);
        }
        self.commit(&mut run).await?;
        self.snapshot(&mut run).await?;
        self.publish(&run);
        Ok(Stopped)
    }

    /// Steps through what was fetched and makes the effects durable; in pieces where it has to wait for other tasks of the topic.
    async fn work(&self, run: &mut Run, fetched: &Fetched, effects: &mut Effects) -> Step<()> {
        let mut rest = fetched.records.as_slice();
        while let Some(next) = rest.first() {
            if let Some(place) = &self.place {
                place.reach(next.timestamp_ms);
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(()),
                    () = place.wait_for(next.timestamp_ms) => {}
                }
            }
            let mut stepped = 0;
            for record in rest {
                if self.place.as_ref().is_some_and(|place| place.is_ahead(record.timestamp_ms)) {
                    break;
                }
                let slice = match run.core.asks(record) {
                    Ok(None) => None,
                    Ok(Some(request)) => Some(self.slice(request).await?),
                    Err(source) => return Err(self.failed(record.offset, source).into()),
                };
                self.step(run, record, slice, effects)?;
                stepped += 1;
                tokio::task::consume_budget().await;
            }
            rest = &rest[stepped..];
            self.append(run, effects).await?;
        }
        run.core.skip_to(fetched.next_offset);
        self.reach_end(run);
        Ok(())
    }

    /// Tells the other tasks of the topic that this one has nothing left to read, where that is so.
    fn reach_end(&self, run: &mut Run) {
        if let (Some(place), true) = (&self.place, run.at_end()) {
            place.reach_end();
        }
    }

    async fn read(&self, run: &mut Run) -> Step<Fetched> {
        let (topic, partition) = (&*self.spec.input.topic, self.spec.input.partition);
        loop {
            let offset = run.core.next_offset();
            let wait = self.wait(run);
            let size = self.config.fetch_size_bytes;
            let read = retry(&self.spec.name, "read", &*self.clock, &self.stop, || {
                self.log.read(topic, partition, offset, size, wait)
            });
            let read = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(End::Stopped),
                read = read => read,
            };
            match read {
                Retried::Done(fetched) => return Ok(fetched),
                Retried::Stopped => return Err(End::Stopped),
                Retried::Failed(LogError::OffsetOutOfRange { log_start, .. }) if offset < log_start => {
                    metrics::counter!("highwater_task_records_lost_total", "task" => self.spec.name.to_string())
                        .increment(log_start.abs_diff(offset));
                    tracing::error!(
                        task = %self.spec.name, from = offset, to = log_start,
                        "records were removed from the log before this task had read them; it goes on behind the gap"
                    );
                    run.core.skip_to(log_start);
                }
                Retried::Failed(source) => return Err(self.refused(source).into()),
            }
        }
    }

    /// Learns of every version of the processor that can apply to a record read before.
    async fn catch_up(&self) -> Step<()> {
        let caught_up = retry(&self.spec.name, "read the definitions in", &*self.clock, &self.stop, || {
            self.spec.versions.catch_up()
        });
        let caught_up = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(End::Stopped),
            caught_up = caught_up => caught_up,
        };
        match caught_up {
            Retried::Done(()) => Ok(()),
            Retried::Stopped => Err(End::Stopped),
            Retried::Failed(source) => {
                Err(RuntimeError::Definitions { task: self.spec.name.to_string(), source }.into())
            }
        }
    }

    /// How long a read may wait: until the next thing that is due whether or not a record comes.
    fn wait(&self, run: &Run) -> Duration {
        let mut wait_ms = self.config.max_wait_ms;
        if self.owns_clock() {
            let next_ms = run.schedule.next_us(run.core.watermark()).div_euclid(1_000).saturating_add(1);
            wait_ms = wait_ms.min(next_ms.saturating_sub(self.clock.now_ms()).max(10));
        }
        if run.core.next_offset() > run.committed {
            wait_ms = wait_ms.min(self.config.commit_interval_ms);
        }
        Duration::from_millis(u64::try_from(wait_ms).unwrap_or(1))
    }

    /// The stored rows that a record asks for.
    async fn slice(&self, request: SliceRequest) -> Step<(SliceRequest, Slice)> {
        let Some(history) = &self.history else {
            let source = ProcessorError::new("this process has no tables to read");
            return Err(RuntimeError::Build { task: self.spec.name.to_string(), source }.into());
        };
        let slice =
            retry(&self.spec.name, "read stored rows for", &*self.clock, &self.stop, || history.slice(&request));
        let slice = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(End::Stopped),
            slice = slice => slice,
        };
        match slice {
            Retried::Done(slice) => Ok((request, slice)),
            Retried::Stopped => Err(End::Stopped),
            Retried::Failed(source) => {
                let source = ProcessorError::caused("stored rows cannot be read", source);
                Err(RuntimeError::Build { task: self.spec.name.to_string(), source }.into())
            }
        }
    }

    fn step(
        &self,
        run: &mut Run,
        record: &StoredRecord,
        slice: Option<(SliceRequest, Slice)>,
        effects: &mut Effects,
    ) -> Step<()> {
        // The core is dropped after a panic, so nobody sees what it left behind.
        let stepped = catch_unwind(AssertUnwindSafe(|| run.core.step_with(record, slice, effects)));
        match stepped {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(self.failed(record.offset, source).into()),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                let (task, topic) = (self.spec.name.to_string(), self.spec.input.topic.to_string());
                let (partition, offset) = (self.spec.input.partition, record.offset);
                Err(RuntimeError::Panicked { task, topic, partition, offset, message }.into())
            }
        }
    }

    fn failed(&self, offset: i64, source: ProcessorError) -> RuntimeError {
        let (task, topic) = (self.spec.name.to_string(), self.spec.input.topic.to_string());
        RuntimeError::Processor { task, topic, partition: self.spec.input.partition, offset, source }
    }

    /// Makes all effects durable, and C with them where it is due or the log does both at once.
    async fn append(&self, run: &mut Run, effects: &mut Effects) -> Step<()> {
        let most_bytes = if self.log.takes_outputs_first() { MAX_PART_BYTES } else { usize::MAX };
        while !effects.is_empty() {
            let part = effects.take_part(most_bytes);
            let part = part.map_err(|source| End::Error(RuntimeError::Scratch { source }))?;
            self.append_part(run, part, effects.is_empty()).await?;
        }
        Ok(())
    }

    /// Makes a part of the effects durable; C goes with the last.
    async fn append_part(&self, run: &mut Run, mut collected: Vec<Effect>, is_last: bool) -> Step<()> {
        // Below C everything is durable; replay is for the state only.
        collected.retain(|effect| effect.mark.position >= run.committed);
        if collected.is_empty() {
            return Ok(());
        }
        let count = collected.len();
        let commit = TaskCommit {
            appends: appends(&self.spec.name, run.epoch, collected),
            ..self.progress(run, is_last && self.is_commit_due(run))
        };
        let committed = self.call("commit", || self.log.commit_task(commit.clone())).await?;
        self.progressed(run, &commit, committed);
        metrics::counter!("highwater_task_effects_total", "task" => self.spec.name.to_string())
            .increment((count - committed.suppressed.min(count)) as u64);
        metrics::counter!("highwater_task_effects_suppressed_total", "task" => self.spec.name.to_string())
            .increment(committed.suppressed as u64);
        Ok(())
    }

    fn owns_clock(&self) -> bool {
        matches!(self.spec.kind, InputKind::Table(_))
    }

    /// Appends a clock record to the input partition, once it has been read to its end and has been silent.
    async fn write_clock_if_due(&self, run: &mut Run) -> Step<()> {
        if !self.owns_clock() || !run.at_end() {
            return Ok(());
        }
        let now_us = self.clock.now_ms().saturating_mul(1_000);
        let Some(control) = run.schedule.due(run.core.watermark(), now_us) else { return Ok(()) };
        run.schedule.written(now_us);
        let append = Append {
            topic: Arc::clone(&self.spec.input.topic),
            partition: self.spec.input.partition,
            records: vec![control.to_record()],
            guard: Guard::None,
        };
        match self.log.append(append).await {
            Ok(_) => Ok(()),
            // The next one will say more.
            Err(error) if error.is_retryable() => {
                tracing::warn!(task = %self.spec.name, %error, "clock record not written");
                Ok(())
            }
            Err(source) => Err(self.refused(source).into()),
        }
    }

    fn publish(&self, run: &Run) {
        let core = &run.core;
        let lag = run.high_watermark.saturating_sub(core.next_offset()).max(0);
        let labels =
            [("topic", self.spec.input.topic.to_string()), ("partition", self.spec.input.partition.to_string())];
        metrics::gauge!("highwater_task_offset", &labels).set(core.next_offset() as f64);
        metrics::gauge!("highwater_task_lag_records", &labels).set(lag as f64);
        if let Some(watermark_us) = core.watermark_us() {
            metrics::gauge!("highwater_task_watermark_seconds", &labels).set(watermark_us as f64 / 1e6);
        }
        metrics::gauge!("highwater_task_definitions_version", &labels).set(f64::from(core.version()));
        let mut status = self.status.lock();
        status.epoch = run.epoch;
        status.version = core.version();
        status.offset = core.next_offset();
        status.committed_offset = run.committed;
        status.lag = lag;
        status.watermark_us = core.watermark_us();
        status.idle = core.watermark().is_idle();
        status.state = if core.next_offset() < run.committed { TaskState::Replaying } else { TaskState::Running };
    }

    /// A call to the log that is retried until it succeeds or the task is to stop.
    async fn call<T, F, Fut>(&self, what: &str, call: F) -> Step<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, LogError>>,
    {
        match retry(&self.spec.name, what, &*self.clock, &self.stop, call).await {
            Retried::Done(value) => Ok(value),
            Retried::Stopped => Err(End::Stopped),
            Retried::Failed(source) => Err(self.refused(source).into()),
        }
    }

    /// A call to the log on the way out: retried for a while, also after the stop.
    async fn finish<T, F, Fut>(&self, what: &str, call: F) -> Step<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, LogError>>,
    {
        let patience = CancellationToken::new();
        let timer = async {
            self.stop.cancelled().await;
            self.clock.sleep(Duration::from_secs(5)).await;
            patience.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            result = retry(&self.spec.name, what, &*self.clock, &patience, call) => match result {
                Retried::Done(value) => Ok(value),
                Retried::Stopped => Err(End::Stopped),
                Retried::Failed(source) => Err(self.refused(source).into()),
            },
            () = timer => Err(End::Stopped),
        }
    }

    fn refused(&self, source: LogError) -> RuntimeError {
        RuntimeError::Log { task: self.spec.name.to_string(), source }
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
