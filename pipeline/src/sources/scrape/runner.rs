//! One target, over and over: wait for its turn, ask, write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_broker::Clock;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::exposition::Format;
use super::fetch::{Answer, Fetcher, TOO_LARGE};
use super::page::{Family, Memory, Row, Scrape, Scraped};
use super::status::TargetHealth;
use super::target::Target;
use super::writer;
use crate::sources::encoding::Encoding;
use crate::sources::{Ingest, IngestError, IngestReport};

/// A scrape that begins this little after its time has its time, so that intervals are exact.
const TOLERANCE_MS: i64 = 2;
/// A target that is gone goes stale after this part of an interval more than one: if it comes back before, nothing happened.
const GRACE_PERCENT: u32 = 10;

/// A target and how it is.
#[derive(Debug)]
pub(super) struct Running {
    /// What it is now. A reload may change its job, and what it does is then done by new rules.
    pub(super) target: RwLock<(Arc<Target>, Arc<Fetcher>)>,
    pub(super) last: Mutex<Last>,
    /// It is gone.
    pub(super) removed: CancellationToken,
}

/// What the last scrape was.
#[derive(Debug, Clone, Default)]
pub(super) struct Last {
    pub(super) at_ms: Option<i64>,
    pub(super) seconds: f64,
    pub(super) error: String,
    pub(super) health: TargetHealth,
    pub(super) families: Vec<Family>,
    /// Samples that our own limits refused.
    pub(super) refused: u64,
}

/// What all targets share.
pub(super) struct Shared {
    pub(super) ingest: Arc<Ingest>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shutdown: CancellationToken,
}

/// Scrapes a target until it is removed, or the process stops.
pub(super) async fn run(shared: Arc<Shared>, running: Arc<Running>) {
    let clock = &shared.clock;
    let mut memory = Memory::default();
    let mut next_ms = running.target.read().0.next_ms(clock.now_ms());
    loop {
        let wait_ms = u64::try_from(next_ms - clock.now_ms()).unwrap_or(0);
        tokio::select! {
            biased;
            // A stop of the process is none of its targets: whoever goes on with them knows nothing of it.
            () = shared.shutdown.cancelled() => return,
            () = running.removed.cancelled() => {
                end(&shared, &running, memory, next_ms).await;
                return;
            }
            () = clock.sleep(Duration::from_millis(wait_ms)) => {}
        }
        let now_ms = clock.now_ms();
        if now_ms < next_ms {
            continue;
        }
        let at_ms = if now_ms - next_ms <= TOLERANCE_MS { next_ms } else { now_ms };
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return,
            after = scrape(&shared, &running, memory, at_ms) => memory = after,
        }
        // A scrape that took longer than its interval misses its next turn.
        next_ms = running.target.read().0.next_ms(clock.now_ms().max(at_ms));
    }
}

async fn scrape(shared: &Shared, running: &Running, mut memory: Memory, at_ms: i64) -> Memory {
    let (target, fetcher) = running.target.read().clone();
    let began_ms = shared.clock.elapsed_ms();
    let page = ask(shared, &target, &fetcher).await;
    let seconds = (shared.clock.elapsed_ms() - began_ms) as f64 / 1000.0;
    let of = Arc::clone(&target);
    // Pages may be large, and reading one holds its thread up.
    let taken = tokio::task::spawn_blocking(move || {
        let size_bytes = match &page {
            Ok((body, _)) => Some(body.len()),
            Err(error) => (!error.starts_with(TOO_LARGE)).then_some(0),
        };
        let scrape = Scrape { at_ms, seconds, size_bytes };
        let page = page.as_ref().map(|(body, format)| (&body[..], *format)).map_err(Clone::clone);
        let scraped = memory.take(&of, page, scrape);
        (memory, scraped)
    });
    let Ok((memory, scraped)) = taken.await else {
        tracing::error!(url = %target.url, "reading a page panicked; the target begins anew");
        return Memory::default();
    };
    note(running, &target, &scraped, at_ms, seconds);
    let Scraped { rows, families, .. } = scraped;
    store(shared, running, &target, rows, &families).await;
    memory
}

/// The page of a target, decompressed.
async fn ask(shared: &Shared, target: &Target, fetcher: &Fetcher) -> Result<(Bytes, Format), String> {
    if let Some(error) = &target.forced_error {
        return Err(error.clone());
    }
    let limit = shared.ingest.config().max_body_size_bytes;
    let limit = if target.job.body_size_limit == 0 { limit } else { limit.min(target.job.body_size_limit) };
    let Answer { body, encoding, content_type } = fetcher.fetch(target, limit).await?;
    let format = Format::of(content_type.as_deref(), target.job.fallback_protocol)?;
    let encoding = Encoding::named(encoding.as_deref().unwrap_or_default()).map_err(|error| error.to_string())?;
    if encoding == Encoding::Identity {
        return Ok((body, format));
    }
    let mut reservation = shared.ingest.reservation();
    let decoded = tokio::task::spawn_blocking(move || encoding.decode(body, limit, &mut reservation));
    match decoded.await.map_err(|error| error.to_string())? {
        Ok(body) => Ok((body, format)),
        Err(IngestError::TooLarge { .. }) => Err(format!("{TOO_LARGE}: more than {limit} bytes once decompressed")),
        Err(error) => Err(error.to_string()),
    }
}

/// Keeps what is to be said of the scrape.
fn note(running: &Running, target: &Target, scraped: &Scraped, at_ms: i64, seconds: f64) {
    let job = target.job.job_name.clone();
    let (health, error) = match &scraped.error {
        None => (TargetHealth::Up, String::new()),
        Some(error) => {
            metrics::counter!("highwater_scrape_failures_total", "job" => job.clone()).increment(1);
            tracing::debug!(job, url = %target.url, error, "a scrape failed");
            (TargetHealth::Down, error.clone())
        }
    };
    metrics::counter!("highwater_scrapes_total", "job" => job).increment(1);
    let mut last = running.last.lock();
    if last.health != health && health == TargetHealth::Down {
        tracing::warn!(job = target.job.job_name, url = %target.url, error, "a target is down");
    }
    let families = if scraped.error.is_none() { scraped.families.clone() } else { std::mem::take(&mut last.families) };
    *last = Last { at_ms: Some(at_ms), seconds, error, health, families, refused: last.refused };
}

/// Says that a target's series end, once it is sure that it does not come back at once.
async fn end(shared: &Shared, running: &Running, mut memory: Memory, next_ms: i64) {
    if memory.is_empty() {
        return;
    }
    let target = Arc::clone(&running.target.read().0);
    let grace = target.interval + target.interval * GRACE_PERCENT / 100;
    let until_ms = next_ms + i64::try_from(grace.as_millis()).unwrap_or(0);
    let wait_ms = u64::try_from(until_ms - shared.clock.now_ms()).unwrap_or(0);
    tokio::select! {
        () = shared.shutdown.cancelled() => return,
        () = shared.clock.sleep(Duration::from_millis(wait_ms)) => {}
    }
    // With the time of the scrape that was not made: samples of a target that came back meanwhile are newer.
    let rows = memory.end(next_ms);
    store(shared, running, &target, rows, &[]).await;
}

async fn store(shared: &Shared, running: &Running, target: &Target, rows: Vec<Row>, families: &[Family]) {
    let job = &target.job.job_name;
    match writer::write(&shared.ingest, &target.job.tenant, rows, families).await {
        Ok(report) => told(running, target, &report),
        Err(error) => {
            metrics::counter!("highwater_scrape_unstored_total", "job" => job.clone()).increment(1);
            tracing::warn!(job, url = %target.url, %error, "a scrape could not be stored");
        }
    }
}

/// Samples beyond our own limits are left out of a scrape that is good; who looks for them finds why.
fn told(running: &Running, target: &Target, report: &IngestReport) {
    let (job, refused) = (&target.job.job_name, report.rejected);
    let before = std::mem::replace(&mut running.last.lock().refused, refused);
    if refused == 0 {
        return;
    }
    metrics::counter!("highwater_scrape_refused_samples_total", "job" => job.clone()).increment(refused);
    if refused != before {
        let reason = report.errors.first().map_or("", |error| error.reason.as_str());
        tracing::warn!(job, url = %target.url, refused, reason, "samples of a scrape are refused");
    }
}
