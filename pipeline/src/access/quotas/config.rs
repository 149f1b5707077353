//! Limits of tenants as they stand in a config file.
//!
//! ```yaml
//! limits:
//!   default: { max_active_series: 1000000 }
//!   tenants:
//!     shop: { requests_per_s: 50, rows_per_s: 20000, bytes_per_s: 10000000 }
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::Tenant;

/// Limits of all tenants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Of tenants that are not named, and of what is not said of those that are.
    pub default: TenantLimits,
    /// By tenant.
    pub tenants: BTreeMap<String, TenantLimits>,
    /// Tenants that may send while this process runs. Past it, others are refused: names are what senders make up where there are no keys.
    pub max_tenants: usize,
}

/// Limits of one tenant at this process. What is absent is as the default says; where that says nothing, series have a limit, and the rest has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// Requests a second.
    pub requests_per_s: Option<f64>,
    /// Rows (log records, samples, spans) a second.
    pub rows_per_s: Option<f64>,
    /// Bytes of decompressed bodies a second.
    pub bytes_per_s: Option<f64>,
    /// So many seconds' worth may come at once. Default 2.
    pub burst_s: Option<f64>,
    /// Series of metrics seen in the last half hour. Samples of others are refused past it. Default [`Self::MAX_ACTIVE_SERIES`]; 0 is no limit.
    pub max_active_series: Option<usize>,
}

impl TenantLimits {
    /// Active series where nothing is said: far above what one machine's targets come to, and far below what takes its memory.
    pub const MAX_ACTIVE_SERIES: usize = 2_000_000;
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { default: TenantLimits::default(), tenants: BTreeMap::new(), max_tenants: 10_000 }
    }
}

impl LimitsConfig {
    /// Refuses limits that make no sense.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        if self.max_tenants == 0 {
            return Err(("limits.max_tenants".into(), "is 0, so nobody could send anything".into()));
        }
        self.default.validate("limits.default")?;
        for (name, limits) in &self.tenants {
            let place = format!("limits.tenants.{name}");
            Tenant::new(name).map_err(|error| (place.clone(), error.to_string()))?;
            limits.validate(&place)?;
        }
        Ok(())
    }

    /// What holds for a tenant.
    pub(super) fn of(&self, tenant: &Tenant) -> TenantLimits {
        let default = &self.default;
        let own = self.tenants.get(tenant.as_str()).unwrap_or(default);
        TenantLimits {
            requests_per_s: own.requests_per_s.or(default.requests_per_s),
            rows_per_s: own.rows_per_s.or(default.rows_per_s),
            bytes_per_s: own.bytes_per_s.or(default.bytes_per_s),
            burst_s: own.burst_s.or(default.burst_s),
            max_active_series: own
                .max_active_series
                .or(default.max_active_series)
                .or(Some(TenantLimits::MAX_ACTIVE_SERIES)),
        }
    }
}

impl TenantLimits {
    fn validate(&self, place: &str) -> Result<(), (String, String)> {
        for (name, value) in [
            ("requests_per_s", self.requests_per_s),
            ("rows_per_s", self.rows_per_s),
            ("bytes_per_s", self.bytes_per_s),
            ("burst_s", self.burst_s),
        ] {
            if value.is_some_and(|value| !value.is_finite() || value <= 0.0) {
                return Err((format!("{place}.{name}"), "must be a number above 0; leave it out for no limit".into()));
            }
        }
        Ok(())
    }
}
