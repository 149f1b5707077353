//! The life of an agent that ships logs: read and spool until told to stop or at the end, while a delivery empties the
//! spool.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use super::follower::{Follower, Progress};
use super::options::{Input, LogsOptions};
use super::patterns::Patterns;
use super::stdin::StdinSource;
use crate::agents::report::Counters;
use crate::agents::shipping::{Delivery, Drain, Spool, off_thread};
use crate::agents::{AgentError, Report};

/// How long to wait for room in the spool.
const FULL_WAIT: Duration = Duration::from_millis(20);
/// How long to wait after a read or write failed.
const FAILURE_WAIT: Duration = Duration::from_secs(1);

/// What the outside gives an agent.
pub(crate) struct Environment {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) jitter_seed: u64,
    pub(crate) stdin: Box<dyn Read + Send>,
}

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "the jitter's seed: this is where an agent meets real randomness")]
    fn real() -> Self {
        Self { clock: Arc::new(SystemClock), jitter_seed: rand::random(), stdin: Box::new(std::io::stdin()) }
    }
}

/// Ships logs until the input ends or `shutdown` is cancelled.
///
/// - Following files it ends only by `shutdown`: complete lines are spooled and delivered as far as
///   [`shutdown_timeout`](crate::agents::shipping::ShippingOptions::shutdown_timeout) allows; the rest goes out in the
///   next run.
/// - Reading standard input, or files without following, it ends once the server has answered for every row.
///
/// # Errors
/// [`AgentError::Undelivered`] where the input ended and the server did not take everything; the rows stay in the
/// spool. Any other error means that the agent could not read or spool.
pub async fn run(options: LogsOptions, shutdown: CancellationToken) -> Result<Report, AgentError> {
    run_in(options, Environment::real(), shutdown).await
}

enum Source {
    Files(Box<Follower>),
    Stdin(Box<StdinSource>),
}

impl Source {
    fn step(&mut self, now_ms: i64) -> Result<Progress, AgentError> {
        match self {
            Self::Files(follower) => follower.step(now_ms),
            Self::Stdin(stdin) => stdin.step(now_ms),
        }
    }

    fn finish(&mut self, now_ms: i64) -> Result<(), AgentError> {
        match self {
            Self::Files(follower) => follower.finish(now_ms),
            Self::Stdin(stdin) => stdin.finish(now_ms),
        }
    }
}

pub(crate) async fn run_in(
    options: LogsOptions,
    environment: Environment,
    shutdown: CancellationToken,
) -> Result<Report, AgentError> {
    options.check()?;
    let options = options.with_files_kept();
    let Environment { clock, jitter_seed, stdin } = environment;
    let options = Arc::new(options);
    let counters = Arc::new(Counters::default());
    let (for_source, its_counters) = (Arc::clone(&options), Arc::clone(&counters));
    let (spool, source) = off_thread(move || {
        let spool = Arc::new(Spool::open(&for_source.shipping, Arc::clone(&its_counters))?);
        let source = open(for_source, stdin, Arc::clone(&spool), its_counters)?;
        Ok((spool, source))
    })
    .await?;
    let delivery = Delivery::start(&options.shipping, "/logs", Arc::clone(&spool), counters, jitter_seed)?;
    let (mut source, ended) = read_all(source, &options, &spool, &delivery, &*clock, &shutdown).await?;
    if ended {
        let limit = Drain::WhileItMoves(options.shipping.drain_timeout);
        return delivery.drain_all(limit, &spool, &shutdown).await;
    }
    let now_ms = clock.now_ms();
    off_thread(move || source.finish(now_ms)).await?;
    delivery.drain_some(Drain::Within(options.shipping.shutdown_timeout), &spool).await
}

fn open(
    options: Arc<LogsOptions>,
    stdin: Box<dyn Read + Send>,
    spool: Arc<Spool>,
    counters: Arc<Counters>,
) -> Result<Source, AgentError> {
    Ok(match &options.input {
        Input::Stdin => Source::Stdin(Box::new(StdinSource::start(&options, stdin, spool, counters)?)),
        Input::Files { patterns, exclude, start, follow } => {
            let (start, follow) = (*start, *follow);
            let patterns = Patterns::new(patterns, exclude, &options.shipping.state_dir)?;
            Source::Files(Box::new(Follower::new(options, patterns, start, follow, spool, counters)?))
        }
    })
}

/// Steps until the source has ended, or waits for a server that takes nothing (true), or until shutdown is asked for
/// (false).
async fn read_all(
    mut source: Source,
    options: &LogsOptions,
    spool: &Spool,
    delivery: &Delivery,
    clock: &dyn Clock,
    shutdown: &CancellationToken,
) -> Result<(Source, bool), AgentError> {
    let follows = matches!(options.input, Input::Files { follow: true, .. });
    let reads_once = matches!(options.input, Input::Files { follow: false, .. });
    let patience_ms = i64::try_from(options.shipping.drain_timeout.as_millis()).unwrap_or(i64::MAX);
    let mut full = None;
    while !shutdown.is_cancelled() && !delivery.is_over() {
        let now_ms = clock.now_ms();
        let (stepped, progress) = off_thread(move || {
            let progress = source.step(now_ms);
            Ok((source, progress))
        })
        .await?;
        source = stepped;
        let wait = match progress {
            Ok(Progress::Busy) => continue,
            Ok(Progress::Ended) => return Ok((source, true)),
            Ok(Progress::Idle) => options.poll_every,
            Ok(Progress::Full) => {
                // Whether anything has left the spool since it was found full.
                let shipped = spool.report().rows_shipped;
                match full {
                    Some((since_ms, before)) if before == shipped => {
                        if reads_once && now_ms.saturating_sub(since_ms) >= patience_ms {
                            return Ok((source, true));
                        }
                    }
                    _ => full = Some((now_ms, shipped)),
                }
                FULL_WAIT
            }
            Err(error @ AgentError::Io { .. }) if follows => {
                tracing::error!("{error}; trying again");
                FAILURE_WAIT
            }
            Err(error) => return Err(error),
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
    }
    Ok((source, false))
}
