//! What the API shows of rooms it does not know: rules and alerts, targets, the server itself. Whoever wires the rooms fills these in.

use std::collections::BTreeMap;
use std::error::Error;

use async_trait::async_trait;
use highwater_promql::Labels;

/// Why a view has nothing to show now.
pub type ViewError = Box<dyn Error + Send + Sync>;

/// The rules that run, and their alerts.
#[async_trait]
pub trait RulesView: Send + Sync + 'static {
    /// The rule groups of a tenant as they stand now, sorted by file and name.
    ///
    /// # Errors
    /// Why they cannot be had now.
    async fn groups(&self, tenant: &str) -> Result<Vec<RuleGroup>, ViewError>;
}

/// A rule group.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleGroup {
    /// Name.
    pub name: String,
    /// Where it is written down.
    pub file: String,
    /// Between evaluations, seconds.
    pub interval_s: f64,
    /// Alerts or series that a rule may make; 0 is no limit.
    pub limit: u64,
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// How long the last evaluation took, seconds.
    pub evaluation_time_s: f64,
    /// When that was, Unix milliseconds.
    pub last_evaluation_ms: Option<i64>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Name: of the alert, or of the metric recorded.
    pub name: String,
    /// The expression.
    pub query: String,
    /// Labels added to what it makes.
    pub labels: Labels,
    /// Whether its last evaluation went well.
    pub health: RuleHealth,
    /// Why it did not.
    pub last_error: Option<String>,
    /// How long the last evaluation took, seconds.
    pub evaluation_time_s: f64,
    /// When that was, Unix milliseconds.
    pub last_evaluation_ms: Option<i64>,
    /// What it makes.
    pub kind: RuleKind,
}

/// What a rule makes.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// A series.
    Recording,
    /// Alerts.
    Alerting {
        /// `for`, seconds.
        duration_s: f64,
        /// `keep_firing_for`, seconds.
        keep_firing_for_s: f64,
        /// Annotations, as templates.
        annotations: Labels,
        /// The alerts that are pending or firing.
        alerts: Vec<Alert>,
    },
}

/// Whether a rule's last evaluation went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleHealth {
    /// It was never evaluated.
    Unknown,
    /// It did.
    Ok,
    /// It did not.
    Err,
}

/// An alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Labels, `alertname` among them.
    pub labels: Labels,
    /// Annotations, filled in.
    pub annotations: Labels,
    /// Where it stands.
    pub state: AlertState,
    /// Since when its expression is true, Unix milliseconds.
    pub active_at_ms: i64,
    /// Since when it fires only because of `keep_firing_for`, Unix milliseconds.
    pub keep_firing_since_ms: Option<i64>,
    /// The value of the expression.
    pub value: f64,
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    /// True, but not for long enough.
    Pending,
    /// Firing.
    Firing,
}

/// What is scraped.
#[async_trait]
pub trait TargetsView: Send + Sync + 'static {
    /// The targets of a tenant, and those that relabelling dropped.
    ///
    /// # Errors
    /// Why they cannot be had now.
    async fn targets(&self, tenant: &str) -> Result<Targets, ViewError>;

    /// What the targets of a tenant say of their metric families; those of one target stand together.
    ///
    /// # Errors
    /// Why it cannot be had now.
    async fn metadata(&self, tenant: &str) -> Result<Vec<TargetMetadata>, ViewError>;
}

/// What a target says of a metric family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMetadata {
    /// Labels of the target.
    pub target: Labels,
    /// The family.
    pub metric: String,
    /// `counter`, `gauge` and so on; `unknown` where it does not say.
    pub kind: String,
    /// What it is for.
    pub help: String,
    /// What it is measured in.
    pub unit: String,
}

/// The targets of a server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Targets {
    /// Those scraped, sorted by pool.
    pub active: Vec<Target>,
    /// Those dropped: pool, and labels as they were discovered.
    pub dropped: Vec<(String, Labels)>,
    /// How many are dropped by pool, also where not all are listed.
    pub dropped_counts: BTreeMap<String, usize>,
}

/// A target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Labels as they were discovered.
    pub discovered_labels: Labels,
    /// Labels after relabelling.
    pub labels: Labels,
    /// The job it belongs to.
    pub scrape_pool: String,
    /// What is asked.
    pub scrape_url: String,
    /// Why the last scrape failed.
    pub last_error: Option<String>,
    /// When it was, Unix milliseconds; none so far.
    pub last_scrape_ms: Option<i64>,
    /// How long it took, seconds.
    pub last_scrape_duration_s: f64,
    /// Seconds between scrapes.
    pub scrape_interval_s: f64,
    /// Seconds a scrape may take.
    pub scrape_timeout_s: f64,
}

/// What the server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Version of Highwater.
    pub version: String,
    /// The machine's name.
    pub hostname: String,
    /// The configuration in force, YAML.
    pub config_yaml: String,
    /// The flags in force, by name.
    pub flags: BTreeMap<String, String>,
    /// When the process began, Unix milliseconds.
    pub started_ms: i64,
    /// How long samples are kept in the log.
    pub retention: String,
}
