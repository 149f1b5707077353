//! The life of an agent that ships metrics: look, spool, wait.

use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use super::collector::Collector;
use super::options::MetricsOptions;
use crate::agents::report::Counters;
use crate::agents::shipping::{Delivery, Draft, Drain, Spool, off_thread};
use crate::agents::{AgentError, Report};

const LANE: &str = "metrics";

/// Ships this host's metrics until `shutdown` is cancelled; with `once`, after one collection, ends when the server has
/// it.
///
/// # Errors
/// [`AgentError::Undelivered`] with `once`, where the server did not take everything; the samples stay in the spool.
/// Any other error means that the agent could not start. A full disk is no reason to stop: that collection is dropped,
/// counted and logged.
pub async fn run(options: MetricsOptions, shutdown: CancellationToken) -> Result<Report, AgentError> {
    #[expect(clippy::disallowed_methods, reason = "the jitter's seed: this is where an agent meets real randomness")]
    let jitter_seed = rand::random();
    run_in(options, Arc::new(SystemClock), jitter_seed, shutdown).await
}

pub(crate) async fn run_in(
    options: MetricsOptions,
    clock: Arc<dyn Clock>,
    jitter_seed: u64,
    shutdown: CancellationToken,
) -> Result<Report, AgentError> {
    options.check()?;
    let counters = Arc::new(Counters::default());
    let (shipping, its_counters) = (options.shipping.clone(), Arc::clone(&counters));
    let spool = Arc::new(off_thread(move || Spool::open(&shipping, its_counters)).await?);
    let delivery =
        Delivery::start(&options.shipping, "/metrics", Arc::clone(&spool), Arc::clone(&counters), jitter_seed)?;
    let mut collector = Collector::new(&options.collect);
    loop {
        let (now_us, to_spool, its_counters) = (clock.now_ms() * 1000, Arc::clone(&spool), Arc::clone(&counters));
        let (looked, pushed) = off_thread(move || {
            let collection = collector.collect(now_us);
            its_counters.lines_read(collection.samples);
            let draft = Draft { lane: LANE, rows: collection.samples, body: &collection.body, position: None };
            let pushed = to_spool.push(draft);
            if pushed.is_err() {
                its_counters.rows_made(collection.samples);
                its_counters.rows_dropped(collection.samples);
            }
            Ok((collector, pushed))
        })
        .await?;
        collector = looked;
        if options.once {
            pushed?;
            return delivery.drain_all(Drain::WhileItMoves(options.shipping.drain_timeout), &spool, &shutdown).await;
        }
        if let Err(error) = pushed {
            tracing::error!("a collection was dropped: {error}");
        }
        if delivery.is_over() {
            break;
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(until_next(options.interval, clock.now_ms())) => {}
        }
    }
    delivery.drain_some(Drain::Within(options.shipping.shutdown_timeout), &spool).await
}

/// Collections happen at multiples of the interval, so that those of many hosts line up and none drifts.
fn until_next(interval: Duration, now_ms: i64) -> Duration {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    Duration::from_millis((interval_ms - now_ms.rem_euclid(interval_ms)).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collections_line_up() {
        let ten = Duration::from_secs(10);
        assert_eq!(until_next(ten, 1_000_000_003_500), Duration::from_millis(6_500));
        assert_eq!(until_next(ten, 1_000_000_000_000), ten);
        assert_eq!(until_next(ten, -1), Duration::from_millis(1));
    }
}
