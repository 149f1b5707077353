//! Limits of PromQL queries, as the configuration file states them under `promql:`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// What PromQL queries may use. Every key is optional.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromqlConfig {
    /// A query is cut after this long, the wait for its turn included. A request's `timeout` can only shorten it. Default `2m`.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Queries that run at once; the next ones wait. Default 20.
    pub max_concurrency: usize,
    /// Samples that a query may hold in memory, 16 bytes each. Default 50,000,000.
    pub max_samples: usize,
    /// Series that the selectors of a query may match. Default 500,000.
    pub max_series: usize,
    /// How far back an instant selector looks for the newest sample. Default `5m`.
    #[serde(deserialize_with = "duration")]
    pub lookback_delta: Duration,
    /// The step of a subquery that names none. Default `1m`.
    #[serde(deserialize_with = "duration")]
    pub default_subquery_step: Duration,
    /// Understand the experimental functions and aggregations of Prometheus. Default false.
    pub experimental_functions: bool,
}

impl Default for PromqlConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            max_concurrency: 20,
            max_samples: 50_000_000,
            max_series: 500_000,
            lookback_delta: Duration::from_secs(300),
            default_subquery_step: Duration::from_secs(60),
            experimental_functions: false,
        }
    }
}

/// A duration as people write it: `60s`, `1m 30s`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|e| serde::de::Error::custom(format!("{text:?} is not a duration such as `60s` or `5m`: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default_and_an_unknown_key_an_error() {
        assert_eq!(serde_json::from_str::<PromqlConfig>("{}").unwrap(), PromqlConfig::default());
        let config: PromqlConfig = serde_json::from_str(r#"{"timeout": "1m 30s", "max_samples": 5}"#).unwrap();
        assert_eq!((config.timeout, config.max_samples), (Duration::from_secs(90), 5));
        let error = serde_json::from_str::<PromqlConfig>(r#"{"lookback": "1s"}"#).unwrap_err();
        assert!(error.to_string().contains("lookback"), "{error}");
    }
}
