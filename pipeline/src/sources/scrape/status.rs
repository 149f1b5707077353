//! What is known of targets, for those who ask: `GET /api/v1/targets` and the like.

use std::collections::BTreeMap;

use super::exposition::Kind;

/// How a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetHealth {
    /// It has not been scraped yet.
    #[default]
    Unknown,
    /// The last scrape was good.
    Up,
    /// The last scrape failed.
    Down,
}

impl TargetHealth {
    /// As Prometheus's API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A target that is scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveTarget {
    /// What was known of it before relabelling.
    pub discovered_labels: BTreeMap<String, String>,
    /// Labels of its samples.
    pub labels: BTreeMap<String, String>,
    /// The job.
    pub scrape_pool: String,
    /// Where it is asked.
    pub scrape_url: String,
    /// Why the last scrape failed; empty where it did not.
    pub last_error: String,
    /// When the last scrape began, Unix milliseconds.
    pub last_scrape_ms: Option<i64>,
    /// How long it took, in seconds.
    pub last_scrape_duration_s: f64,
    /// How it is.
    pub health: TargetHealth,
    /// How often it is scraped, in milliseconds.
    pub scrape_interval_ms: u64,
    /// How long a scrape may take, in milliseconds.
    pub scrape_timeout_ms: u64,
    /// Whose samples they are.
    pub tenant: String,
}

/// A target that relabelling drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTarget {
    /// What was known of it.
    pub discovered_labels: BTreeMap<String, String>,
    /// The job.
    pub scrape_pool: String,
    /// Whose samples it would have had.
    pub tenant: String,
}

/// What a target says of a metric family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMetadata {
    /// Labels of the target.
    pub target: BTreeMap<String, String>,
    /// The family.
    pub metric: String,
    /// As Prometheus's API spells it: `counter`, `gauge`, ..., `unknown`.
    pub kind: &'static str,
    /// What it is for.
    pub help: String,
    /// What it is measured in.
    pub unit: String,
    /// Whose it is.
    pub tenant: String,
}

/// What there is to say of targets. Of this process: several gateways have a share each.
pub trait Targets: Send + Sync {
    /// Those that are scraped, by job and then by URL.
    fn active(&self) -> Vec<ActiveTarget>;
    /// Those that are not, as many as the jobs keep.
    fn dropped(&self) -> Vec<DroppedTarget>;
    /// How many targets each job of a tenant drops, kept or not; jobs that drop none are left out.
    fn dropped_counts(&self, tenant: &str) -> BTreeMap<String, usize>;
    /// What the targets say of their families.
    fn metadata(&self) -> Vec<TargetMetadata>;
    /// The names of all jobs.
    fn scrape_pools(&self) -> Vec<String>;
}

/// A kind as Prometheus's API spells it.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::GaugeHistogram => "gaugehistogram",
        Kind::Summary => "summary",
        Kind::Info => "info",
        Kind::StateSet => "stateset",
        Kind::Unknown => "unknown",
    }
}
