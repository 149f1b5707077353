//! What to measure and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agents::AgentError;
use crate::agents::shipping::ShippingOptions;

/// Options of [`super::run`]. [`MetricsOptions::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct MetricsOptions {
    /// Where to ship.
    pub shipping: ShippingOptions,
    /// What to measure.
    pub collect: CollectOptions,
    /// How often. Default 10 s.
    pub interval: Duration,
    /// Collect once, ship and end. Rates need two collections, so there are none then.
    pub once: bool,
}

/// What [`super::Collector`] measures and how it labels it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectOptions {
    /// Label `service`.
    pub service: String,
    /// Label `host`.
    pub host: String,
    /// CPU usage and time of each core too, label `cpu`.
    pub per_core: bool,
    /// Added to every sample's labels.
    pub labels: BTreeMap<String, String>,
}

impl MetricsOptions {
    /// The defaults, for this service and host.
    pub fn new(shipping: ShippingOptions, service: impl Into<String>, host: impl Into<String>) -> Self {
        Self {
            shipping,
            collect: CollectOptions { service: service.into(), host: host.into(), ..CollectOptions::default() },
            interval: Duration::from_secs(10),
            once: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), AgentError> {
        self.shipping.check()?;
        if self.interval < Duration::from_millis(100) {
            let reason = "measuring more often than every 100 ms measures the measuring".to_owned();
            return Err(AgentError::Option { option: "--interval", reason });
        }
        Ok(())
    }
}
