//! How much of it: limits of each tenant, so that one does no harm to others.
//!
//! | limit | where | past it |
//! |---|---|---|
//! | requests a second | the guard of HTTP doors that take something in | 429, `Retry-After` |
//! | bytes, rows a second | [`crate::sources::Ingest`], once the body is read, whatever the door | the same, in the door's own protocol |
//! | active series | the same, row by row | samples of new series are refused, others stored |
//!
//! Limits hold per process: two gateways let twice as much in.

mod bucket;
mod config;
mod series;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highwater_broker::Clock;
use parking_lot::RwLock;

use bucket::Bucket;
pub use config::{LimitsConfig, TenantLimits};
use series::ActiveSeries;

use super::seldom::Seldom;
use crate::data::Tenant;

const ACTIVE_SERIES: &str = "highwater_active_series";

/// Why a tenant has to wait.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Limited {
    /// It sends too fast.
    #[error("tenant `{tenant}` sends more than {limit_per_s} {what} a second: try again in {} s", self.retry_after_s())]
    Rate {
        /// Who.
        tenant: String,
        /// `requests`, `rows` or `bytes`.
        what: &'static str,
        /// The limit.
        limit_per_s: f64,
        /// When something is let in again.
        wait_ms: u64,
    },
    /// There are too many tenants.
    #[error("there are {limit} tenants already (limits.max_tenants); tenant `{tenant}` cannot be one more")]
    Tenants {
        /// Who.
        tenant: String,
        /// The limit.
        limit: usize,
    },
}

impl Limited {
    /// A short name of the limit: a metric label of few values.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rate { what: "requests", .. } => "rate_requests",
            Self::Rate { what: "rows", .. } => "rate_rows",
            Self::Rate { .. } => "rate_bytes",
            Self::Tenants { .. } => "too_many_tenants",
        }
    }

    /// After how many whole seconds a retry makes sense.
    pub fn retry_after_s(&self) -> u64 {
        match self {
            Self::Rate { wait_ms, .. } => wait_ms.div_ceil(1000).max(1),
            Self::Tenants { .. } => 60,
        }
    }
}

/// The limits of all tenants, and how far each has come. Clones share them.
#[derive(Clone)]
pub struct Quotas(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    seldom: Seldom,
    state: RwLock<State>,
}

struct State {
    config: LimitsConfig,
    tenants: HashMap<Tenant, Arc<Account>>,
}

/// One tenant.
#[derive(Debug)]
struct Account {
    tenant: String,
    requests: Option<(f64, Bucket)>,
    rows: Option<(f64, Bucket)>,
    bytes: Option<(f64, Bucket)>,
    series: Option<ActiveSeries>,
    /// When the number of active series was last put into the metric.
    series_said_ms: AtomicI64,
}

/// Which series of a tenant may have samples. Held for one request.
#[derive(Debug, Clone)]
pub struct SeriesGate {
    quotas: Quotas,
    account: Arc<Account>,
    now_ms: i64,
}

impl Quotas {
    /// Nobody has sent anything yet.
    pub fn new(config: LimitsConfig, clock: Arc<dyn Clock>) -> Self {
        metrics::describe_counter!(
            "highwater_limited_requests_total",
            "Requests refused by a tenant's limit, by limit"
        );
        metrics::describe_gauge!(
            ACTIVE_SERIES,
            "Series with samples in the last 20 to 40 minutes, by tenant, where there is a limit"
        );
        let state = RwLock::new(State { config, tenants: HashMap::new() });
        Self(Arc::new(Inner { clock, seldom: Seldom::default(), state }))
    }

    /// Other limits from now on. Everybody begins anew, with a full burst; series have to be seen again to be active.
    pub fn replace(&self, config: LimitsConfig) {
        let mut state = self.0.state.write();
        if state.config != config {
            *state = State { config, tenants: HashMap::new() };
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`Limited`], where it is one too many.
    pub fn request(&self, tenant: &Tenant) -> Result<(), Limited> {
        let account = self.account(tenant)?;
        self.take(tenant, "requests", account.requests.as_ref(), 1)
    }

    /// Counts the bytes of a body.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn bytes(&self, tenant: &Tenant, size_bytes: usize) -> Result<(), Limited> {
        let account = self.account(tenant)?;
        self.take(tenant, "bytes", account.bytes.as_ref(), size_bytes as u64)
    }

    /// Counts rows.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn rows(&self, tenant: &Tenant, rows: u64) -> Result<(), Limited> {
        let account = self.account(tenant)?;
        self.take(tenant, "rows", account.rows.as_ref(), rows)
    }

    /// What tells which series may have samples; `None` where all may.
    ///
    /// # Errors
    /// [`Limited::Tenants`].
    pub fn series(&self, tenant: &Tenant) -> Result<Option<SeriesGate>, Limited> {
        let account = self.account(tenant)?;
        let (quotas, now_ms) = (self.clone(), self.0.clock.now_ms());
        Ok(account.series.is_some().then(|| SeriesGate { quotas, account, now_ms }))
    }

    fn take(
        &self,
        tenant: &Tenant,
        what: &'static str,
        bucket: Option<&(f64, Bucket)>,
        tokens: u64,
    ) -> Result<(), Limited> {
        let Some((limit_per_s, bucket)) = bucket else { return Ok(()) };
        let tenant = tenant.to_string();
        let limit_per_s = *limit_per_s;
        let taken = bucket.take(tokens, self.0.clock.now_ms());
        taken.map_err(|wait_ms| self.said(Limited::Rate { tenant, what, limit_per_s, wait_ms }))
    }

    fn account(&self, tenant: &Tenant) -> Result<Arc<Account>, Limited> {
        if let Some(account) = self.0.state.read().tenants.get(tenant) {
            return Ok(Arc::clone(account));
        }
        let mut state = self.0.state.write();
        let limit = state.config.max_tenants;
        if state.tenants.len() >= limit && !state.tenants.contains_key(tenant) {
            drop(state);
            return Err(self.said(Limited::Tenants { tenant: tenant.to_string(), limit }));
        }
        let limits = state.config.of(tenant);
        let now_ms = self.0.clock.now_ms();
        let account =
            state.tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(Account::new(tenant, &limits, now_ms)));
        Ok(Arc::clone(account))
    }

    fn said(&self, limited: Limited) -> Limited {
        let reason = limited.code();
        metrics::counter!("highwater_limited_requests_total", "reason" => reason).increment(1);
        let who = match &limited {
            Limited::Rate { tenant, .. } => tenant.as_str(),
            Limited::Tenants { .. } => "",
        };
        if let Some(times) = self.0.seldom.times(&format!("{reason} {who}"), self.0.clock.now_ms()) {
            tracing::warn!(reason, times, "refused: {limited}");
        }
        limited
    }
}

impl std::fmt::Debug for Quotas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quotas").field("config", &self.0.state.read().config).finish_non_exhaustive()
    }
}

impl Account {
    fn new(tenant: &Tenant, limits: &TenantLimits, now_ms: i64) -> Self {
        /// Seconds' worth that may come at once where nothing is said.
        const BURST_S: f64 = 2.0;
        let bucket =
            |rate: Option<f64>| rate.map(|rate| (rate, Bucket::new(rate, limits.burst_s.unwrap_or(BURST_S), now_ms)));
        Self {
            tenant: tenant.to_string(),
            requests: bucket(limits.requests_per_s),
            rows: bucket(limits.rows_per_s),
            bytes: bucket(limits.bytes_per_s),
            series: limits.max_active_series.filter(|&limit| limit > 0).map(ActiveSeries::new),
            series_said_ms: AtomicI64::new(i64::MIN),
        }
    }
}

impl SeriesGate {
    /// True where the series is active, or becomes so within the limit.
    pub fn admit(&self, series_id: i64) -> bool {
        self.account.series.as_ref().is_none_or(|series| series.admit(series_id, self.now_ms))
    }

    /// Says what became of the samples that were asked about: how many series there are now, and that so many samples were refused.
    pub fn asked(&self, refused: u64) {
        /// Counting takes every lock for a moment.
        const PAUSE_MS: i64 = 1_000;
        let Some(series) = &self.account.series else { return };
        let (now_ms, said_ms) = (self.now_ms, &self.account.series_said_ms);
        let last_ms = said_ms.load(Ordering::Relaxed);
        if !(0..PAUSE_MS).contains(&now_ms.saturating_sub(last_ms)) {
            said_ms.store(now_ms, Ordering::Relaxed);
            metrics::gauge!(ACTIVE_SERIES, "tenant" => self.account.tenant.clone()).set(series.count(now_ms) as f64);
        }
        if refused > 0 {
            let (tenant, limit) = (&self.account.tenant, series.limit());
            if let Some(times) = self.quotas.0.seldom.times(&format!("series {tenant}"), now_ms) {
                tracing::warn!(
                    tenant,
                    limit,
                    refused,
                    times,
                    "a tenant has as many active series as it may (max_active_series of its limits): samples of new ones are refused"
                );
            }
        }
    }

    /// How many may be active.
    pub fn limit(&self) -> usize {
        self.account.series.as_ref().map_or(usize::MAX, ActiveSeries::limit)
    }
}

#[cfg(test)]
mod tests {
    use highwater_broker::ManualClock;

    use super::*;

    fn quotas(yaml: &str) -> (Quotas, Arc<ManualClock>) {
        let config: LimitsConfig = serde_saphyr::from_str(yaml).unwrap();
        config.validate().unwrap();
        let clock = Arc::new(ManualClock::new(1_000_000));
        (Quotas::new(config, Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    #[test]
    fn each_tenant_has_its_own() {
        let (quotas, clock) =
            quotas("{ default: { requests_per_s: 1, burst_s: 1 }, tenants: { big: { requests_per_s: 3 } } }");
        let (small, other, big) = (tenant("small"), tenant("other"), tenant("big"));
        quotas.request(&small).unwrap();
        let limited = quotas.request(&small).unwrap_err();
        assert_eq!((limited.code(), limited.retry_after_s()), ("rate_requests", 1));
        assert_eq!(limited.to_string(), "tenant `small` sends more than 1 requests a second: try again in 1 s");
        quotas.request(&other).unwrap();
        assert_eq!((0..9).filter(|_| quotas.request(&big).is_ok()).count(), 3);
        clock.advance_ms(1_000);
        quotas.request(&small).unwrap();
        // What is not limited is not counted.
        quotas.rows(&small, 1 << 40).unwrap();
    }

    #[test]
    fn rows_and_bytes_have_theirs() {
        let (quotas, clock) = quotas("{ default: { rows_per_s: 100, bytes_per_s: 1000 } }");
        let shop = tenant("shop");
        quotas.rows(&shop, 1_000).unwrap();
        assert_eq!(quotas.rows(&shop, 1).unwrap_err().retry_after_s(), 9);
        quotas.bytes(&shop, 3_000).unwrap();
        assert_eq!(quotas.bytes(&shop, 1).unwrap_err().code(), "rate_bytes");
        clock.advance_ms(9_000);
        quotas.rows(&shop, 1).unwrap();
        quotas.bytes(&shop, 1).unwrap();
    }

    #[test]
    fn tenants_are_not_made_up_without_end() {
        let (quotas, _) = quotas("{ max_tenants: 2 }");
        quotas.request(&tenant("a")).unwrap();
        quotas.request(&tenant("b")).unwrap();
        assert_eq!(quotas.request(&tenant("c")).unwrap_err().code(), "too_many_tenants");
        quotas.request(&tenant("a")).unwrap();
    }

    #[test]
    fn series_are_counted_where_they_are_limited() {
        let (quotas, _) = quotas("{ tenants: { shop: { max_active_series: 1 }, open: { max_active_series: 0 } } }");
        assert!(quotas.series(&tenant("open")).unwrap().is_none());
        assert_eq!(quotas.series(&tenant("other")).unwrap().unwrap().limit(), TenantLimits::MAX_ACTIVE_SERIES);
        let gate = quotas.series(&tenant("shop")).unwrap().unwrap();
        assert!(gate.admit(1) && gate.admit(1) && !gate.admit(2));
        assert_eq!(gate.limit(), 1);
    }

    #[test]
    fn a_mistake_is_named() {
        let wrong = |yaml: &str| serde_saphyr::from_str::<LimitsConfig>(yaml).unwrap().validate().unwrap_err().0;
        assert_eq!(wrong("{ default: { rows_per_s: 0 } }"), "limits.default.rows_per_s");
        assert_eq!(wrong("{ tenants: { shop: { burst_s: -1 } } }"), "limits.tenants.shop.burst_s");
        assert_eq!(wrong("{ tenants: { 'a/b': {} } }"), "limits.tenants.a/b");
        assert_eq!(wrong("{ max_tenants: 0 }"), "limits.max_tenants");
    }
}
