//! Limits of the SQL engine, as the configuration file states them under `sql:`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// What queries may use. Every key is optional.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqlConfig {
    /// A query is cut after this long, planning and the sending of its rows included. Default `60s`.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Memory that one query may hold in joins, sorts and aggregates before it spills, and fails where it cannot. Default 512 MiB.
    pub memory_limit_bytes: usize,
    /// Disk that all running queries together may spill to. Default 4 GiB.
    pub spill_limit_bytes: u64,
    /// Queries that run at once; the next one is refused and told to come back. Default 8.
    pub max_concurrent_queries: usize,
    /// Memory for decoded rows that are in the log but not yet in a table, over all tables. A longer tail is decoded again by
    /// each query. Default 256 MiB.
    pub tail_cache_bytes: usize,
    /// Threads that queries run on, apart from those that serve everything else; 0 is one per core. Default 0.
    pub threads: usize,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            memory_limit_bytes: 512 << 20,
            spill_limit_bytes: 4 << 30,
            max_concurrent_queries: 8,
            tail_cache_bytes: 256 << 20,
            threads: 0,
        }
    }
}

impl SqlConfig {
    /// The number of threads meant: `threads`, or one per core.
    pub(crate) fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
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
    fn an_empty_section_is_the_default() {
        assert_eq!(serde_json::from_str::<SqlConfig>("{}").unwrap(), SqlConfig::default());
    }

    #[test]
    fn durations_are_written_with_units() {
        let config: SqlConfig = serde_json::from_str(r#"{"timeout": "1m 30s"}"#).unwrap();
        assert_eq!(config.timeout, Duration::from_secs(90));
        let error = serde_json::from_str::<SqlConfig>(r#"{"timeout": "soon"}"#).unwrap_err();
        assert!(error.to_string().contains("\"soon\" is not a duration"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = serde_json::from_str::<SqlConfig>(r#"{"timeouts": "1s"}"#).unwrap_err();
        assert!(error.to_string().contains("timeouts"), "{error}");
    }
}
