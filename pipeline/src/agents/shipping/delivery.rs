//! Delivery: takes batches from the spool and posts them until the server has answered for each.
//!
//! Up to `in_flight` requests run at a time, one per lane. A failed one is tried again after an exponentially growing,
//! jittered delay (or what `Retry-After` asks for). All requests go through one circuit breaker: where the server fails
//! often, it is left alone for a while and then asked with single trial requests.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use parking_lot::Mutex;
use recloser::{AsyncRecloser, Error as BreakerError, Recloser};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::batch_file;
use super::door::{Answer, Door, Later};
use super::options::{RetryOptions, ShippingOptions};
use super::refused::RefusedRow;
use super::spool::{Claimed, Spool};
use crate::agents::report::Counters;
use crate::agents::{AgentError, Report};

/// A running delivery. Dropping it stops it; nothing is lost by that.
pub(crate) struct Delivery {
    task: JoinHandle<Result<(), AgentError>>,
    drain: watch::Sender<Option<Drain>>,
    last_failure: Arc<Mutex<Option<String>>>,
}

/// How long a delivery may go on once nothing more will be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Until nothing was delivered for this long.
    WhileItMoves(Duration),
    /// This long altogether.
    Within(Duration),
}

/// Everything one request needs.
struct Courier {
    door: Door,
    spool: Arc<Spool>,
    breaker: AsyncRecloser,
    retry: RetryOptions,
    jitter_seed: u64,
    counters: Arc<Counters>,
    last_failure: Arc<Mutex<Option<String>>>,
}

/// A batch in memory.
struct Loaded {
    key: String,
    /// Compressed, as it is sent.
    body: Bytes,
}

impl Delivery {
    /// Starts delivering what is in the spool, and what comes, to `path` of the server.
    pub(crate) fn start(
        options: &ShippingOptions,
        path: &str,
        spool: Arc<Spool>,
        counters: Arc<Counters>,
        jitter_seed: u64,
    ) -> Result<Self, AgentError> {
        let breaker = Recloser::custom()
            .closed_len(options.retry.breaker_requests)
            .half_open_len(1)
            .open_wait(options.retry.breaker_wait)
            .build();
        let last_failure = Arc::new(Mutex::new(None));
        let courier = Arc::new(Courier {
            door: Door::new(options, path)?,
            spool,
            breaker: breaker.into(),
            retry: options.retry,
            jitter_seed,
            counters,
            last_failure: Arc::clone(&last_failure),
        });
        let (drain, draining) = watch::channel(None);
        let task = tokio::spawn(deliver_all(courier, options.in_flight, draining));
        Ok(Self { task, drain, last_failure })
    }

    /// Whether it has stopped although nobody asked it to: the state directory cannot be written any more.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// After the end of the input: delivers what is left. An error where the spool is not empty afterwards.
    pub(crate) async fn drain_all(
        self,
        limit: Drain,
        spool: &Spool,
        shutdown: &CancellationToken,
    ) -> Result<Report, AgentError> {
        let last_failure = Arc::clone(&self.last_failure);
        let stopped = tokio::select! {
            drained = self.drain(limit) => { drained?; "no answer in time" }
            () = shutdown.cancelled() => "stopped before the server had answered",
        };
        let report = spool.report();
        if report.rows_spooled == 0 {
            return Ok(report);
        }
        let reason = last_failure.lock().clone().unwrap_or_else(|| stopped.to_owned());
        Err(AgentError::Undelivered {
            rows: report.rows_spooled,
            batches: spool.len() as u64,
            directory: spool.directory().to_path_buf(),
            reason,
        })
    }

    /// After a request to stop: delivers what is left within the limit. What then remains goes out in the next run.
    pub(crate) async fn drain_some(self, limit: Drain, spool: &Spool) -> Result<Report, AgentError> {
        self.drain(limit).await?;
        let report = spool.report();
        if report.rows_spooled > 0 {
            tracing::warn!(
                rows = report.rows_spooled, spool = %spool.directory().display(),
                "stopping with undelivered rows; they go out when the agent runs again"
            );
        }
        Ok(report)
    }

    async fn drain(mut self, limit: Drain) -> Result<(), AgentError> {
        self.drain.send_replace(Some(limit));
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Ok(()),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn deliver_all(
    courier: Arc<Courier>,
    in_flight: usize,
    mut draining: watch::Receiver<Option<Drain>>,
) -> Result<(), AgentError> {
    let mut requests: JoinSet<Claimed> = JoinSet::new();
    let limit = loop {
        fill(&courier, &mut requests, in_flight);
        tokio::select! {
            Some(done) = requests.join_next() => settle(&courier, done, &mut requests).await?,
            () = courier.spool.pushed() => {}
            changed = draining.changed() => match (changed, *draining.borrow()) {
                (Ok(()), Some(limit)) => break limit,
                (Ok(()), None) => {}
                // The owner is gone without a word: stop, the spool keeps everything.
                (Err(_), _) => return Ok(()),
            },
        }
    };
    let rest = async {
        loop {
            fill(&courier, &mut requests, in_flight);
            let next = requests.join_next();
            let done = match limit {
                Drain::WhileItMoves(quiet) => tokio::time::timeout(quiet, next).await.ok().flatten(),
                Drain::Within(_) => next.await,
            };
            let Some(done) = done else { return Ok(()) };
            settle(&courier, done, &mut requests).await?;
        }
    };
    let drained = match limit {
        Drain::Within(total) => tokio::time::timeout(total, rest).await.unwrap_or(Ok(())),
        Drain::WhileItMoves(_) => rest.await,
    };
    // Requests that are still out hold the state directory's lock; nothing is lost by giving them up.
    requests.shutdown().await;
    drained
}

fn fill(courier: &Arc<Courier>, requests: &mut JoinSet<Claimed>, in_flight: usize) {
    while requests.len() < in_flight {
        let Some(claimed) = courier.spool.claim() else { return };
        let courier = Arc::clone(courier);
        requests.spawn(async move { courier.deliver(claimed).await });
    }
}

/// Settles a finished batch together with all others that have finished meanwhile: one checkpoint for all.
async fn settle(
    courier: &Arc<Courier>,
    first: Result<Claimed, tokio::task::JoinError>,
    requests: &mut JoinSet<Claimed>,
) -> Result<(), AgentError> {
    let mut done = Vec::new();
    let mut next = Some(first);
    while let Some(finished) = next {
        match finished {
            Ok(claimed) => done.push(claimed),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => {}
        }
        next = requests.try_join_next();
    }
    // A full disk may keep the checkpoint from being written. The rows are safe, so try again until it goes.
    let mut delays = courier.delays(0);
    loop {
        let spool = Arc::clone(&courier.spool);
        let batches = done.clone();
        match off_thread(move || spool.settle(&batches)).await {
            Err(error) if error.is_retryable() => {
                tracing::error!("cannot note what was delivered, trying again: {error}");
                tokio::time::sleep(delays.next().unwrap_or(courier.retry.max_delay)).await;
            }
            settled => return settled,
        }
    }
}

impl Courier {
    /// Returns once there is nothing more to do for the batch: the server has taken it or refused it for good.
    async fn deliver(&self, claimed: Claimed) -> Claimed {
        let mut delays = self.delays(claimed.number);
        let loaded = loop {
            match self.load(&claimed).await {
                Ok(loaded) => break loaded,
                Err(error) => {
                    tracing::error!("cannot read a spooled batch, trying again: {error}");
                    tokio::time::sleep(delays.next().unwrap_or(self.retry.max_delay)).await;
                }
            }
        };
        let Some(loaded) = loaded else { return claimed };
        let mut delays = self.delays(claimed.number);
        loop {
            match self.attempt(&claimed, &loaded).await {
                Ok(answer) => {
                    self.note(&claimed, loaded, answer).await;
                    return claimed;
                }
                Err(later) => {
                    let delay = delays.next().unwrap_or(self.retry.max_delay);
                    let delay = later.and_then(|later| later.wait).map_or(delay, |asked| asked.max(delay));
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// Reads the batch. `None` where it is damaged, or somebody has removed it: then it is counted and set aside.
    async fn load(&self, claimed: &Claimed) -> Result<Option<Loaded>, AgentError> {
        let path = claimed.path.clone();
        let read = move || match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(|bytes| Some(Bytes::from(bytes))).map_err(AgentError::io("read", &path)),
        };
        let what = match off_thread(read).await? {
            None => "is not there any more".to_owned(),
            Some(bytes) => match batch_file::decode(&bytes) {
                Ok((header, body)) => return Ok(Some(Loaded { key: header.key, body: bytes.slice_ref(body) })),
                Err(damage) => {
                    self.spool.refused().keep_damaged(&claimed.path)?;
                    format!("is damaged ({damage}) and was moved to refused/")
                }
            },
        };
        tracing::error!(path = %claimed.path.display(), rows = claimed.rows, "a spooled batch {what}");
        self.counters.batches_damaged(1);
        self.counters.rows_dropped(claimed.rows);
        Ok(None)
    }

    /// One attempt. The error is `None` where the breaker is open and nothing was sent.
    async fn attempt(&self, claimed: &Claimed, loaded: &Loaded) -> Result<Answer, Option<Later>> {
        let sent = self.breaker.call_with(|later: &Later| later.away, async {
            self.counters.requests(1);
            self.door.post(&loaded.key, &claimed.lane, loaded.body.clone()).await
        });
        match sent.await {
            Ok(answer) => {
                self.spool.set_healthy(true);
                *self.last_failure.lock() = None;
                Ok(answer)
            }
            Err(BreakerError::Rejected) => Err(None),
            Err(BreakerError::Inner(later)) => {
                self.counters.requests_failed(1);
                self.spool.set_healthy(!later.away);
                tracing::warn!(rows = claimed.rows, "not delivered, will be sent again: {later}");
                *self.last_failure.lock() = Some(later.reason.clone());
                Err(Some(later))
            }
        }
    }

    /// Counts what became of the batch and keeps what was refused.
    async fn note(&self, claimed: &Claimed, loaded: Loaded, answer: Answer) {
        let (refused_rows, refused) = match answer {
            Answer::Taken { refused_rows, refused } => (refused_rows.min(claimed.rows), refused),
            Answer::Refused { reason } => {
                let rows = usize::try_from(claimed.rows).unwrap_or(usize::MAX);
                let refused = (0..rows).map(|index| RefusedRow { index, reason: reason.clone() });
                (claimed.rows, refused.collect())
            }
        };
        self.counters.rows_shipped(claimed.rows - refused_rows);
        self.counters.rows_refused(refused_rows);
        let Some(first) = refused.first() else { return };
        tracing::error!(
            lane = %claimed.lane, rows = refused_rows,
            "the server refused rows, they are kept in refused/: {}", first.reason
        );
        let (spool, path) = (Arc::clone(&self.spool), claimed.path.clone());
        let kept = off_thread(move || {
            let body = zstd::decode_all(&loaded.body[..]).map_err(AgentError::io("decompress", &path))?;
            spool.refused().keep(&loaded.key, &body, &refused)
        });
        if let Err(error) = kept.await {
            tracing::error!("refused rows could not be kept: {error}");
        }
    }

    /// The delays between attempts, without end.
    fn delays(&self, salt: u64) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::new()
            .with_jitter()
            .with_jitter_seed(self.jitter_seed ^ salt)
            .with_min_delay(self.retry.min_delay)
            .with_max_delay(self.retry.max_delay)
            .without_max_times()
            .build()
    }
}

/// Runs file work where it may block.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AgentError> + Send + 'static,
) -> Result<T, AgentError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => {
            Err(AgentError::io("run a task for", std::path::Path::new("the agent"))(std::io::Error::other(error)))
        }
    }
}
