//! Following topic `alerts` for one receiver.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::FutureExt;
use highwater_pipeline::data::alerts::Transition;
use highwater_pipeline::log::{Clock, CommittedOffset, Log, LogError, StoredRecord, TopicPartition};
use highwater_pipeline::runtime::{Snapshots, TaskRun, TaskState, TaskStatus};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::TOPIC;
use super::channel::Channel;
use super::config::{NotifyConfig, Written};
use super::data::{Notice, Origin};
use super::error::NotifyError;
use super::matchers::Matchers;

/// Bytes asked of the log per read.
const FETCH_SIZE_BYTES: usize = 1 << 20;
/// How long a read waits for something new.
const POLL: Duration = Duration::from_secs(1);
/// First and longest pause between tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Most transitions that are told at once.
const MAX_AT_ONCE: usize = 64;
/// How long a resolved alert is told again to those that want to be told again.
const RESOLVED_MS: i64 = 15 * 60 * 1_000;

/// Somebody who is told of alerts.
pub struct Receiver {
    kind: &'static str,
    name: String,
    channel: Box<dyn Channel>,
    matchers: Matchers,
    send_resolved: bool,
    origin: Origin,
    written: Written,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The receivers of a configuration. `external_url` is where people reach this server, `external_labels` are added to every alert.
///
/// # Errors
/// [`NotifyError::Config`].
pub fn receivers(
    config: &NotifyConfig,
    external_url: &str,
    external_labels: &BTreeMap<String, String>,
) -> Result<Vec<Arc<Receiver>>, NotifyError> {
    let origin = Origin { external_url: external_url.to_owned(), external_labels: external_labels.clone() };
    Ok(config.receivers(&origin)?.into_iter().map(Arc::new).collect())
}

/// Runs of a receiver, for whoever owns the partition of `alerts`: see `Tasks::start_runs`.
pub fn runs(
    receiver: Arc<Receiver>,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    owned: TopicPartition,
) -> impl Fn(CancellationToken) -> TaskRun + Send + Sync + 'static {
    move |stop| {
        let status = Arc::new(Mutex::new(TaskStatus {
            task: receiver.task_name(),
            topic: Arc::clone(&owned.topic),
            partition: owned.partition,
            epoch: 0,
            version: 0,
            offset: 0,
            committed_offset: 0,
            lag: 0,
            watermark_us: None,
            idle: false,
            snapshot_ms: None,
            snapshot_offset: None,
            snapshots: Snapshots::default(),
            state: TaskState::Starting,
        }));
        let follower = Follower {
            receiver: Arc::clone(&receiver),
            log: Arc::clone(&log),
            clock: Arc::clone(&clock),
            partition: owned.partition,
            status: Arc::clone(&status),
            stop,
            known: BTreeMap::new(),
            told_ms: 0,
        };
        TaskRun { status, is_fenced: follower.run().boxed() }
    }
}

impl Receiver {
    pub(super) fn new(
        kind: &'static str,
        name: String,
        channel: Box<dyn Channel>,
        matchers: Matchers,
        send_resolved: bool,
        origin: Origin,
        written: Written,
    ) -> Self {
        Self { kind, name, channel, matchers, send_resolved, origin, written }
    }

    /// True where the other would tell the same people the same in the same way: then the one may go on in place of it.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.kind, &self.name, &self.origin, &self.written) == (other.kind, &other.name, &other.origin, &other.written)
    }

    /// The name under which it runs.
    pub fn task_name(&self) -> Arc<str> {
        format!("notify/{}", self.name).into()
    }

    /// The consumer group of its progress.
    pub fn group(&self) -> String {
        format!("__highwater.notify.{}", self.name)
    }

    fn notice(&self, partition: i32, record: &StoredRecord) -> Option<Notice> {
        let transition = Transition::parse(record.value.as_deref()?).ok()?;
        let notice = Notice::of(transition, partition, record.offset, &self.origin)?;
        self.matchers.want(&notice.labels).then_some(notice)
    }
}

struct Follower {
    receiver: Arc<Receiver>,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    partition: i32,
    status: Arc<Mutex<TaskStatus>>,
    stop: CancellationToken,
    /// The newest notice of every alert that fires, or was resolved a short while ago: for those that are told again.
    known: BTreeMap<String, Notice>,
    told_ms: i64,
}

impl Follower {
    /// Runs until it is stopped. Never fenced: telling twice is what receivers have to bear.
    async fn run(mut self) -> bool {
        let mut pauses = pauses();
        while let Err(error) = self.follow().await {
            tracing::warn!(receiver = self.receiver.name, %error, "the alerts cannot be read; trying again");
            let pause = pauses.next().unwrap_or(PAUSES.1);
            if self.stop.run_until_cancelled(self.clock.sleep(pause)).await.is_none() {
                break;
            }
        }
        self.status.lock().state = TaskState::Stopped;
        false
    }

    async fn follow(&mut self) -> Result<(), LogError> {
        let group = self.receiver.group();
        let committed = self.log.committed(&group).await?;
        let committed = committed.iter().find(|c| &*c.topic == TOPIC && c.partition == self.partition);
        let mut next = match committed {
            Some(committed) => committed.offset,
            None => self.first_time().await?,
        };
        self.rebuild(next).await?;
        self.status.lock().state = TaskState::Running;
        while !self.stop.is_cancelled() {
            self.tell_again().await;
            let offsets = self.log.offsets(TOPIC, self.partition).await?;
            self.note(next, offsets.high_watermark);
            let reading = self.log.read(TOPIC, self.partition, next, FETCH_SIZE_BYTES, POLL);
            let fetched = match self.stop.run_until_cancelled(reading).await {
                None => return Ok(()),
                Some(Ok(fetched)) => fetched,
                Some(Err(LogError::OffsetOutOfRange { log_start, .. })) if log_start > next => {
                    tracing::error!(
                        receiver = self.receiver.name,
                        from = next,
                        to = log_start,
                        "retention has taken alerts that the receiver was not told of"
                    );
                    next = log_start;
                    continue;
                }
                Some(Err(error)) => return Err(error),
            };
            if fetched.next_offset <= next {
                // Not every log waits.
                self.stop.run_until_cancelled(self.clock.sleep(POLL / 5)).await;
                continue;
            }
            let mut batch: Vec<Notice> = Vec::new();
            for record in &fetched.records {
                let Some(notice) = self.receiver.notice(self.partition, record) else { continue };
                let is_other = batch
                    .first()
                    .is_some_and(|first| first.alertname != notice.alertname || first.is_firing != notice.is_firing);
                if is_other || batch.len() >= MAX_AT_ONCE {
                    if !self.tell(&batch).await {
                        return Ok(());
                    }
                    self.commit(&group, record.offset).await?;
                    batch.clear();
                }
                batch.push(notice);
            }
            if !self.tell(&batch).await {
                return Ok(());
            }
            next = fetched.next_offset;
            self.commit(&group, next).await?;
        }
        Ok(())
    }

    /// A new receiver begins with what fires now.
    async fn first_time(&mut self) -> Result<i64, LogError> {
        let end = self.log.offsets(TOPIC, self.partition).await?.high_watermark;
        self.rebuild(end).await?;
        let firing: Vec<Notice> = self.known.values().filter(|notice| notice.is_firing).cloned().collect();
        for notice in firing {
            if !self.tell(std::slice::from_ref(&notice)).await {
                return Ok(end);
            }
        }
        self.commit(&self.receiver.group(), end).await?;
        Ok(end)
    }

    /// What is known of alerts before this offset.
    async fn rebuild(&mut self, until: i64) -> Result<(), LogError> {
        self.known.clear();
        let mut next = self.log.offsets(TOPIC, self.partition).await?.log_start;
        while next < until {
            let fetched = self.log.read(TOPIC, self.partition, next, FETCH_SIZE_BYTES, Duration::ZERO).await?;
            if fetched.next_offset <= next {
                return Ok(());
            }
            for record in fetched.records.iter().filter(|record| record.offset < until) {
                if let Some(notice) = self.receiver.notice(self.partition, record) {
                    self.keep(notice);
                }
            }
            next = fetched.next_offset;
        }
        Ok(())
    }

    fn keep(&mut self, notice: Notice) {
        if !notice.is_firing && self.receiver.channel.resend_ms().is_none() {
            self.known.remove(&notice.fingerprint);
        } else {
            self.known.insert(notice.fingerprint.clone(), notice);
        }
    }

    /// Tells, until it is taken. False where it is to stop.
    async fn tell(&mut self, notices: &[Notice]) -> bool {
        for notice in notices {
            self.keep(notice.clone());
        }
        let receiver = Arc::clone(&self.receiver);
        let wanted: Vec<Notice> = match receiver.send_resolved {
            true => notices.to_vec(),
            false => notices.iter().filter(|notice| notice.is_firing).cloned().collect(),
        };
        if wanted.is_empty() {
            return true;
        }
        let mut pauses = pauses();
        loop {
            let telling = receiver.channel.tell(&wanted, self.clock.now_ms());
            let outcome = match self.stop.run_until_cancelled(telling).await {
                None => return false,
                Some(outcome) => outcome,
            };
            let result = match &outcome {
                Ok(()) => "told",
                Err(error) if error.is_retryable() => "failed",
                Err(_) => "refused",
            };
            metrics::counter!("highwater_notifications_total", "receiver" => receiver.name.clone(), "result" => result)
                .increment(wanted.len() as u64);
            match outcome {
                Ok(()) => return true,
                Err(NotifyError::Unavailable { reason, retry_after_ms }) => {
                    let pause = pauses.next().unwrap_or(PAUSES.1);
                    let pause =
                        retry_after_ms.map_or(pause, |ms| Duration::from_millis(ms).clamp(pause, 10 * PAUSES.1));
                    tracing::warn!(receiver = receiver.name, kind = receiver.kind, reason, again_in = ?pause, "a receiver could not be told");
                    if self.stop.run_until_cancelled(self.clock.sleep(pause)).await.is_none() {
                        return false;
                    }
                }
                Err(error) => {
                    tracing::error!(receiver = receiver.name, kind = receiver.kind, %error, alerts = wanted.len(), "a receiver does not take an alert; it goes on with the next");
                    return true;
                }
            }
        }
    }

    /// Tells again of what fires, and of what was resolved a short while ago. One try: the next comes soon.
    async fn tell_again(&mut self) {
        let receiver = Arc::clone(&self.receiver);
        let Some(resend_ms) = receiver.channel.resend_ms() else { return };
        let now_ms = self.clock.now_ms();
        if now_ms.saturating_sub(self.told_ms) < resend_ms {
            return;
        }
        self.told_ms = now_ms;
        self.known.retain(|_, notice| {
            notice.ends_at_us.is_none_or(|at| now_ms.saturating_sub(at.div_euclid(1_000)) <= RESOLVED_MS)
        });
        let all: Vec<Notice> = self.known.values().cloned().collect();
        if all.is_empty() {
            return;
        }
        if let Err(error) = receiver.channel.tell(&all, now_ms).await {
            tracing::warn!(receiver = receiver.name, %error, "a receiver could not be told again");
        }
    }

    async fn commit(&self, group: &str, offset: i64) -> Result<(), LogError> {
        let committed =
            CommittedOffset { topic: TOPIC.into(), partition: self.partition, offset, metadata: String::new() };
        self.log.commit_offsets(group, &[committed], None).await?;
        self.status.lock().committed_offset = offset;
        Ok(())
    }

    fn note(&self, next: i64, end: i64) {
        let mut status = self.status.lock();
        (status.offset, status.lag) = (next, end.saturating_sub(next));
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("highwater_notify_lag", "receiver" => self.receiver.name.clone()).set(status.lag as f64);
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(PAUSES.0)
        .with_max_delay(PAUSES.1)
        .with_factor(2.0)
        .without_max_times()
        .build()
}
