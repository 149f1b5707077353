//! A bridge at work: everything about it that waits.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::Clock;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::config::Start;
use super::pending::Pending;
use super::rows::RowReader;
use super::{BridgeError, BridgeSpec, Progress, ledger_source};
use crate::data::{Refused, dead_letter};
use crate::ledger::Origin;
use crate::log::{CommittedOffset, EffectMark, Fetched, Log, LogError, StoredRecord, TaskCommit};
use crate::runtime::{Effect, Retried, TASKS_GROUP, TaskState, TaskStatus, appends, retry};

/// How a bridge paces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeTimes {
    /// About how much is read at a time, in bytes.
    pub fetch_size_bytes: usize,
    /// The longest wait for new records, in milliseconds.
    pub max_wait_ms: u64,
    /// Time between commits of C, in milliseconds. On Kafka every append commits it.
    pub commit_interval_ms: i64,
    /// How often to look for a partition that does not exist, in milliseconds.
    pub look_interval_ms: u64,
}

impl Default for BridgeTimes {
    fn default() -> Self {
        Self { fetch_size_bytes: 1 << 20, max_wait_ms: 1_000, commit_interval_ms: 500, look_interval_ms: 10_000 }
    }
}

/// Bridges one partition until it is asked to stop, is fenced, or fails.
pub struct BridgeTask {
    spec: BridgeSpec,
    input: Arc<dyn Log>,
    output: Arc<dyn Log>,
    reader: RowReader,
    clock: Arc<dyn Clock>,
    times: BridgeTimes,
    status: Arc<Mutex<TaskStatus>>,
    stop: CancellationToken,
}

enum End {
    Stopped,
    Error(BridgeError),
}

impl From<BridgeError> for End {
    fn from(error: BridgeError) -> Self {
        Self::Error(error)
    }
}

type Step<T> = Result<T, End>;

/// What changes while a run lasts.
struct Run {
    epoch: i32,
    /// The next foreign offset to read.
    next_offset: i64,
    /// C as last committed.
    committed: i64,
    committed_ms: i64,
    /// Counts of all below `next_offset`.
    progress: Progress,
    partitions: i32,
    pending: Pending,
    dead_letters: Vec<Effect>,
}

impl BridgeTask {
    /// A bridge from `input`, the foreign cluster, to `output`, our log; [`Self::run`] starts it.
    pub fn new(
        spec: BridgeSpec,
        input: Arc<dyn Log>,
        output: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
        times: BridgeTimes,
        stop: CancellationToken,
    ) -> Self {
        let status = TaskStatus::starting(&spec.name, &spec.input.topic, spec.input.partition);
        let reader = RowReader::new(&spec.source);
        Self { spec, input, output, reader, clock, times, status: Arc::new(Mutex::new(status)), stop }
    }

    /// Where the bridge writes its status.
    pub fn status(&self) -> Arc<Mutex<TaskStatus>> {
        Arc::clone(&self.status)
    }

    /// Runs to the end. `Ok` where it was asked to stop; the status says the same as the result.
    ///
    /// # Errors
    /// Why it cannot go on. What may pass is waited out and is no error.
    pub async fn run(self) -> Result<(), BridgeError> {
        let result = match self.attempt().await {
            Ok(()) | Err(End::Stopped) => Ok(()),
            Err(End::Error(error)) => Err(error),
        };
        let state = match &result {
            Ok(()) => TaskState::Stopped,
            Err(error) if error.is_fenced() => TaskState::Fenced,
            Err(error) => {
                tracing::error!(task = %self.spec.name, %error, "a bridge stopped; its topic waits until a restart");
                TaskState::Failed(error.to_string())
            }
        };
        self.status.lock().state = state;
        result
    }

    async fn attempt(&self) -> Step<()> {
        self.wait_for_partition().await?;
        let mut run = self.start().await?;
        while !self.stop.is_cancelled() {
            let fetched = match self.read(&mut run).await {
                Err(End::Stopped) => break,
                other => other?,
            };
            for record in &fetched.records {
                self.take(&mut run, record)?;
                tokio::task::consume_budget().await;
            }
            for gap in &fetched.gaps {
                tracing::error!(task = %self.spec.name, from = gap.from, to = gap.to, reason = gap.reason, "records are damaged");
            }
            run.next_offset = run.next_offset.max(fetched.next_offset);
            self.commit(&mut run, false).await?;
            self.publish(&run, fetched.high_watermark);
        }
        self.commit(&mut run, true).await
    }

    /// Waits until the partition exists. There are more claims than partitions, so most bridges of a small topic stay here.
    async fn wait_for_partition(&self) -> Step<()> {
        let (topic, partition) = (&*self.spec.input.topic, self.spec.input.partition);
        self.status.lock().state = TaskState::Waiting;
        loop {
            match self.input.topic(topic).await {
                Ok(Some(info)) if partition < info.config.partitions => {
                    self.status.lock().state = TaskState::Starting;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(task = %self.spec.name, %error, "the cluster to bridge from does not answer")
                }
            }
            self.pause(self.times.look_interval_ms).await?;
        }
    }

    async fn pause(&self, duration_ms: u64) -> Step<()> {
        tokio::select! {
            () = self.stop.cancelled() => Err(End::Stopped),
            () = self.clock.sleep(Duration::from_millis(duration_ms)) => Ok(()),
        }
    }

    /// Takes the epoch, finds C, and asks the log what of this bridge it has above C.
    async fn start(&self) -> Step<Run> {
        let BridgeSpec { name, claim, input, source } = &self.spec;
        let epoch = self.call("begin_task", || self.output.begin_task(name)).await?;
        let committed = self.call("committed", || self.output.committed(TASKS_GROUP)).await?;
        let committed = committed.into_iter().find(|o| o.topic == claim.topic && o.partition == claim.partition);
        let ledger_source = ledger_source(&input.topic);
        let signal = self.reader.topic().to_owned();
        let fresh = || Progress { source: ledger_source.clone(), signal, ..Progress::default() };
        let (offset, progress) = match committed {
            Some(CommittedOffset { offset, metadata, .. }) => {
                let unreadable = |reason| BridgeError::Progress { name: Arc::clone(name), reason };
                (offset, Progress::parse(&metadata).map_err(unreadable)?.unwrap_or_else(fresh))
            }
            None => {
                let offsets = self.call("offsets", || self.input.offsets(&input.topic, input.partition)).await?;
                let offset = match source.start {
                    Start::Earliest => offsets.log_start,
                    Start::Latest => offsets.high_watermark,
                };
                (offset, fresh())
            }
        };
        let topic = self.reader.topic();
        let info = self.call("topic", || self.output.topic(topic)).await?;
        let partitions = info.map(|info| info.config.partitions);
        let partitions = partitions.ok_or_else(|| {
            let source = LogError::UnknownTopicOrPartition { topic: topic.to_owned(), partition: 0 };
            BridgeError::Log { name: Arc::clone(name), what: "opening the output", source }
        })?;
        // After the epoch was taken: no earlier run adds to them any more.
        let marks = self.call("effect_marks", || self.output.effect_marks(name, topic)).await?;
        let sent: BTreeMap<i32, EffectMark> = marks.into_iter().collect();
        let origin = Origin::lasting(&ledger_source);
        let pending = Pending::new(topic, origin, sent);
        let mut run = Run {
            epoch,
            next_offset: offset,
            committed: -1,
            committed_ms: self.clock.now_ms(),
            progress,
            partitions,
            pending,
            dead_letters: Vec::new(),
        };
        // Committed at once: where a partition begins at its end, that end is settled now.
        self.commit(&mut run, true).await?;
        self.status.lock().epoch = epoch;
        tracing::debug!(task = %name, epoch, from = offset, "bridge started");
        Ok(run)
    }

    async fn read(&self, run: &mut Run) -> Step<Fetched> {
        let (topic, partition) = (&self.spec.input.topic, self.spec.input.partition);
        let wait = Duration::from_millis(self.times.max_wait_ms);
        loop {
            let (offset, size) = (run.next_offset, self.times.fetch_size_bytes);
            let reading = retry(&self.spec.name, "read", self.clock.as_ref(), &self.stop, || {
                self.input.read(topic, partition, offset, size, wait)
            });
            let read = tokio::select! {
                () = self.stop.cancelled() => return Err(End::Stopped),
                read = reading => read,
            };
            match read {
                Retried::Done(fetched) => return Ok(fetched),
                Retried::Stopped => return Err(End::Stopped),
                Retried::Failed(LogError::OffsetOutOfRange { log_start, .. }) if offset < log_start => {
                    self.pass_over(run, log_start);
                }
                Retried::Failed(LogError::OffsetOutOfRange { high_watermark: end, .. }) => {
                    let (name, topic) = (Arc::clone(&self.spec.name), Arc::clone(topic));
                    return Err(BridgeError::Behind { name, topic, partition, offset, end }.into());
                }
                Retried::Failed(source) => return Err(self.failed("read", source).into()),
            }
        }
    }

    /// Goes on behind records that the foreign log has removed, and leaves word of it.
    fn pass_over(&self, run: &mut Run, log_start: i64) {
        let (from, lost) = (run.next_offset, log_start.abs_diff(run.next_offset));
        metrics::counter!("highwater_task_records_lost_total", "task" => self.spec.name.to_string()).increment(lost);
        tracing::error!(
            task = %self.spec.name, from, to = log_start,
            "records were removed from the bridged topic before they were read; the bridge goes on behind the gap"
        );
        let reason = format!("offsets {from}..{log_start} were removed from the bridged topic before they were read");
        let refused = Refused { row: -1, reason, bytes: bytes::Bytes::new() };
        self.dead_letter(run, from, 0, &refused, 0);
        run.progress.lost += lost;
        run.next_offset = log_start;
    }

    /// Reads one foreign record.
    fn take(&self, run: &mut Run, record: &StoredRecord) -> Result<(), BridgeError> {
        if record.offset < run.next_offset {
            return Ok(());
        }
        let partition = self.spec.input.partition;
        let dealt = catch_unwind(AssertUnwindSafe(|| self.reader.read(partition, record, run.partitions)));
        let dealt = dealt.map_err(|_| BridgeError::Panicked {
            topic: Arc::clone(&self.spec.input.topic),
            partition,
            offset: record.offset,
        })?;
        let dealt = dealt.map_err(BridgeError::Arrow)?;
        run.progress.received += dealt.rows + dealt.refused.len() as u64;
        run.progress.rows += dealt.rows;
        for (partition, batch) in dealt.partitions {
            run.pending.add(partition, record.offset, batch)?;
        }
        for (index, refused) in (0..).zip(&dealt.refused) {
            self.dead_letter(run, record.offset, index, refused, 1);
        }
        run.next_offset = record.offset + 1;
        Ok(())
    }

    fn dead_letter(&self, run: &mut Run, position: i64, index: i32, refused: &Refused, entries: u64) {
        let (topic, partition) = (&self.spec.input.topic, self.spec.input.partition);
        metrics::counter!("highwater_task_dead_letters_total", "topic" => topic.to_string()).increment(entries);
        let mut record = dead_letter::record(refused, topic, partition, position, self.reader.tenant());
        record.headers.push(Origin::lasting(&ledger_source(topic)).header(self.reader.topic(), entries));
        let mark = EffectMark { position, index };
        run.dead_letters.push(Effect { mark, topic: dead_letter::TOPIC.into(), partition: 0, record });
    }

    /// Makes everything taken so far durable, and C where it is due.
    async fn commit(&self, run: &mut Run, last: bool) -> Step<()> {
        let mut effects = run.pending.take()?;
        effects.append(&mut run.dead_letters);
        let appends = appends(&self.spec.name, run.epoch, effects);
        let now_ms = self.clock.now_ms();
        let interval_ms = self.times.commit_interval_ms.unsigned_abs();
        let progress_due =
            run.next_offset > run.committed && (last || now_ms.abs_diff(run.committed_ms) >= interval_ms);
        if appends.is_empty() && !progress_due {
            return Ok(());
        }
        let commit = TaskCommit {
            task: Arc::clone(&self.spec.name),
            epoch: run.epoch,
            appends,
            progress: CommittedOffset {
                topic: Arc::clone(&self.spec.claim.topic),
                partition: self.spec.claim.partition,
                offset: run.next_offset,
                metadata: run.progress.to_text(),
            },
            progress_due,
        };
        // Also on the way out: what was read is worth a moment's patience.
        let patience = CancellationToken::new();
        let committing = retry(&self.spec.name, "commit_task", self.clock.as_ref(), &patience, || {
            self.output.commit_task(commit.clone())
        });
        let out_of_patience = async {
            self.stop.cancelled().await;
            self.clock.sleep(Duration::from_secs(5)).await;
        };
        let committed = tokio::select! {
            committed = committing => committed,
            () = out_of_patience => return Err(End::Stopped),
        };
        match committed {
            Retried::Done(committed) => {
                if committed.progressed {
                    (run.committed, run.committed_ms) = (run.next_offset, now_ms);
                }
                Ok(())
            }
            Retried::Stopped => Err(End::Stopped),
            Retried::Failed(source) => Err(self.failed("commit_task", source).into()),
        }
    }

    fn publish(&self, run: &Run, high_watermark: i64) {
        let mut status = self.status.lock();
        status.offset = run.next_offset;
        status.committed_offset = run.committed;
        status.lag = high_watermark.saturating_sub(run.next_offset).max(0);
        status.idle = status.lag == 0;
        status.state = TaskState::Running;
    }

    /// A call that is retried until it succeeds or the bridge is to stop.
    async fn call<T, F, Fut>(&self, what: &'static str, call: F) -> Step<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, LogError>>,
    {
        match retry(&self.spec.name, what, self.clock.as_ref(), &self.stop, call).await {
            Retried::Done(value) => Ok(value),
            Retried::Stopped => Err(End::Stopped),
            Retried::Failed(source) => Err(self.failed(what, source).into()),
        }
    }

    fn failed(&self, what: &'static str, source: LogError) -> BridgeError {
        BridgeError::Log { name: Arc::clone(&self.spec.name), what, source }
    }
}
