//! Prometheus scraping: `scrape_configs` as in prometheus.yml, done by the gateway itself.
//!
//! - [`config`] reads jobs; `discovery` and `target` make targets of them; `runner` scrapes one over and over; `exposition` reads what it says, `page`
//!   makes rows of that, `writer` puts them into the log.
//! - Scrapes of a target are at the same times after every start: its offset in the interval is a hash of its labels and URL.
//! - What disappears from a page, and all of a target that fails or is removed, goes stale: a row says so.
//! - Where there are several gateways, each scrapes those targets whose hash is its own ([`Share`]).
//!
//! A scrape is one request to the log: its samples, staleness markers and report (`up`, `scrape_*`) are there together. What the log does not take is lost,
//! as it is where Prometheus cannot write; the next scrape comes.

mod client;
pub mod config;
mod discovery;
mod dns;
mod dns_discovery;
mod exposition;
mod fetch;
mod http_discovery;
mod labels;
mod page;
mod relabel;
mod runner;
mod series;
mod server_name;
mod servers;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod tokens;
mod transport;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::Clock;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use config::{JobConfig, ScrapeConfig};
use discovery::Files;
use fetch::Fetcher;
use labels::Labels;
use runner::{Running, Shared};
use servers::Servers;
pub use status::{ActiveTarget, DroppedTarget, TargetHealth, TargetMetadata, Targets};
use target::Target;

use super::Ingest;

/// How often files and the share of this process are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which targets are this process's, by a number that is the same for a target in every process.
pub trait Share: Send + Sync {
    /// True where the target is scraped here.
    fn has(&self, target: u64) -> bool;
}

/// All of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Everything;

impl Share for Everything {
    fn has(&self, _: u64) -> bool {
        true
    }
}

/// How much a gateway of this name wants this target: where several do, the highest has it.
pub fn weight(target: u64, gateway: &str) -> u64 {
    twox_hash::XxHash64::oneshot(target, gateway.as_bytes())
}

/// Reads a page of any exposition as a scrape does, and says whether it was one. For fuzzing: whatever the bytes are, this does not panic.
#[doc(hidden)]
pub fn probe(page: &[u8]) -> bool {
    exposition::probe(page)
}

/// Scrapes targets until it is stopped.
#[derive(Clone)]
pub struct Scraper(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    share: Arc<dyn Share>,
    config: RwLock<ScrapeConfig>,
    changed: Arc<Notify>,
    pools: Mutex<BTreeMap<String, Pool>>,
    /// Those that are scraped, and those that are on their way out.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The targets of a job.
#[derive(Default)]
struct Pool {
    job: Option<Arc<JobConfig>>,
    fetcher: Option<Arc<Fetcher>>,
    files: Files,
    servers: Servers,
    running: HashMap<u64, Arc<Running>>,
    dropped: Vec<Labels>,
}

impl Scraper {
    /// Begins to scrape.
    pub fn start(
        config: ScrapeConfig,
        ingest: Arc<Ingest>,
        clock: Arc<dyn Clock>,
        share: Arc<dyn Share>,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        metrics::describe_counter!("highwater_scrapes_total", "Scrapes, by job");
        metrics::describe_counter!("highwater_scrape_failures_total", "Scrapes that failed, by job");
        metrics::describe_counter!("highwater_scrape_unstored_total", "Scrapes that the log did not take, by job");
        metrics::describe_counter!(
            "highwater_scrape_refused_samples_total",
            "Samples of scrapes beyond the limits of all doors, by job"
        );
        let scraper = Self(Arc::new(Inner {
            shared: Arc::new(Shared { ingest, clock, shutdown }),
            share,
            config: RwLock::new(config),
            changed: Arc::default(),
            pools: Mutex::default(),
            tasks: Mutex::default(),
        }));
        let looking = tokio::spawn(scraper.clone().look());
        (scraper, looking)
    }

    /// These jobs from now on. Targets that stay go on where they are.
    pub fn apply(&self, config: ScrapeConfig) {
        *self.0.config.write() = config;
        self.0.changed.notify_one();
    }

    /// Keeps targets in step with configuration, files and share until the process stops; then waits for scrapes under way.
    async fn look(self) {
        let Shared { clock, shutdown, .. } = &*self.0.shared;
        loop {
            let this = self.clone();
            // Looking at files blocks.
            if tokio::task::spawn_blocking(move || this.sync()).await.is_err() {
                tracing::error!("looking for targets panicked; trying again");
            }
            let started: Vec<_> = self.0.tasks.lock().extract_if(.., |task| task.is_finished()).collect();
            drop(started);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.0.changed.notified() => {}
                () = clock.sleep(LOOK_EVERY) => {}
            }
        }
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        for task in tasks {
            drop(task.await);
        }
    }

    fn sync(&self) {
        let config = self.0.config.read().clone();
        let now_ms = self.0.shared.clock.now_ms();
        let mut pools = self.0.pools.lock();
        pools.retain(|name, pool| {
            let stays = config.jobs.iter().any(|job| job.job_name == *name);
            if !stays {
                pool.running.values().for_each(|running| running.removed.cancel());
            }
            stays
        });
        for job in config.jobs {
            let pool = pools.entry(job.job_name.clone()).or_default();
            self.sync_pool(pool, job, now_ms);
        }
        let active: usize = pools.values().map(|pool| pool.running.len()).sum();
        metrics::gauge!("highwater_scrape_targets").set(active as f64);
    }

    fn sync_pool(&self, pool: &mut Pool, job: JobConfig, now_ms: i64) {
        let files_changed = pool.files.refresh(&job.file_sd_configs, now_ms);
        let servers_changed = pool.servers.refresh(&job.servers, &self.0.shared, &self.0.changed);
        let job_changed = pool.job.as_deref() != Some(&job);
        if job_changed {
            let fetcher = Fetcher::new(&job, &self.0.shared.clock);
            (pool.job, pool.fetcher) = (Some(Arc::new(job)), Some(Arc::new(fetcher)));
        }
        let (Some(job), Some(fetcher)) = (&pool.job, &pool.fetcher) else { return };
        let mut groups = pool.files.groups(job);
        groups.extend(pool.servers.groups());
        let built = target::build(job, &groups);
        if files_changed || servers_changed || job_changed {
            for error in &built.errors {
                tracing::warn!(error, "a target is left out");
            }
        }
        pool.dropped = built.dropped;
        let mut wanted: HashMap<u64, Target> = built.targets.into_iter().map(|target| (target.id(), target)).collect();
        wanted.retain(|id, _| self.0.share.has(*id));
        pool.running.retain(|id, running| {
            let stays = wanted.contains_key(id);
            if !stays {
                running.removed.cancel();
            }
            stays
        });
        for (id, target) in wanted {
            match pool.running.get(&id) {
                Some(running) => {
                    let mut current = running.target.write();
                    if *current.0 != target || !Arc::ptr_eq(&current.1, fetcher) {
                        *current = (Arc::new(target), Arc::clone(fetcher));
                    }
                }
                None => {
                    let running = Arc::new(Running {
                        target: RwLock::new((Arc::new(target), Arc::clone(fetcher))),
                        last: Mutex::default(),
                        removed: CancellationToken::new(),
                    });
                    let task = tokio::spawn(runner::run(Arc::clone(&self.0.shared), Arc::clone(&running)));
                    self.0.tasks.lock().push(task);
                    pool.running.insert(id, running);
                }
            }
        }
    }
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Targets for Scraper {
    fn active(&self) -> Vec<ActiveTarget> {
        let pools = self.0.pools.lock();
        let mut active = Vec::new();
        for (name, pool) in pools.iter() {
            let from = active.len();
            for running in pool.running.values() {
                let target = Arc::clone(&running.target.read().0);
                let last = running.last.lock().clone();
                active.push(ActiveTarget {
                    discovered_labels: map(&target.discovered),
                    labels: map(&target.labels),
                    scrape_pool: name.clone(),
                    scrape_url: target.url.to_string(),
                    last_error: last.error,
                    last_scrape_ms: last.at_ms,
                    last_scrape_duration_s: last.seconds,
                    health: last.health,
                    scrape_interval_ms: u64::try_from(target.interval.as_millis()).unwrap_or(u64::MAX),
                    scrape_timeout_ms: u64::try_from(target.timeout.as_millis()).unwrap_or(u64::MAX),
                    tenant: target.job.tenant.to_string(),
                });
            }
            active[from..].sort_by(|a, b| (&a.scrape_url, &a.labels).cmp(&(&b.scrape_url, &b.labels)));
        }
        active
    }

    fn dropped(&self) -> Vec<DroppedTarget> {
        let pools = self.0.pools.lock();
        let kept = pools.iter().flat_map(|(name, pool)| {
            let most = pool.job.as_ref().map_or(0, |job| job.keep_dropped_targets);
            let most = if most == 0 { usize::MAX } else { most };
            let tenant = pool.job.as_ref().map_or_else(String::new, |job| job.tenant.to_string());
            pool.dropped.iter().take(most).map(move |labels| DroppedTarget {
                discovered_labels: map(labels),
                scrape_pool: name.clone(),
                tenant: tenant.clone(),
            })
        });
        kept.collect()
    }

    fn dropped_counts(&self, tenant: &str) -> BTreeMap<String, usize> {
        let pools = self.0.pools.lock();
        let theirs =
            pools.iter().filter(|(_, pool)| pool.job.as_ref().is_some_and(|job| job.tenant.as_str() == tenant));
        let counts = theirs.map(|(name, pool)| (name.clone(), pool.dropped.len()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn metadata(&self) -> Vec<TargetMetadata> {
        let pools = self.0.pools.lock();
        let mut all = Vec::new();
        for running in pools.values().flat_map(|pool| pool.running.values()) {
            let target = Arc::clone(&running.target.read().0);
            let labels = map(&target.labels);
            for family in &running.last.lock().families {
                all.push(TargetMetadata {
                    target: labels.clone(),
                    metric: family.name.clone(),
                    kind: status::kind_name(family.kind),
                    help: family.help.clone(),
                    unit: family.unit.clone(),
                    tenant: target.job.tenant.to_string(),
                });
            }
        }
        all
    }

    fn scrape_pools(&self) -> Vec<String> {
        self.0.pools.lock().keys().cloned().collect()
    }
}
