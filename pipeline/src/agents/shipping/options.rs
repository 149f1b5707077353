//! How rows travel: sizes, limits, retries.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agents::AgentError;

/// Where to ship and how. [`ShippingOptions::new`] has the defaults.
#[derive(Clone)]
pub struct ShippingOptions {
    /// The server, `http://HOST:PORT` or `https://HOST:PORT`, with or without a path before `/logs` and `/metrics`; or `kafka://HOST:PORT,...`.
    pub server: String,
    /// Properties of librdkafka, for `kafka://` servers.
    pub kafka: BTreeMap<String, String>,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<String>,
    /// Authorities that vouch for an `https://` server, PEM, besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Sent as `X-Scope-OrgID`, for servers that trust it.
    pub tenant: Option<String>,
    /// Where positions and undelivered batches are kept. One agent at a time.
    pub state_dir: PathBuf,
    /// A batch closes at this many rows. Default 100.
    pub batch_rows: usize,
    /// A batch closes at this many bytes of JSON. Default 4 MiB.
    pub batch_size_bytes: usize,
    /// A batch closes this long after its first row. Default 5 s.
    pub batch_wait: Duration,
    /// The spool's cap. Default 1 GiB.
    pub spool_size_bytes: u64,
    /// What to do at the cap while the server is away. Files that are read once, without following, always wait.
    pub when_full: WhenFull,
    /// Requests at a time, over all files; one file has one. Default 4.
    pub in_flight: usize,
    /// How long a request may take. Default 30 s.
    pub request_timeout: Duration,
    /// After the end of the input: give up when nothing was delivered for this long. Default 60 s.
    pub drain_timeout: Duration,
    /// After a request to stop: how long delivery may go on. What is left stays in the spool. Default 10 s.
    pub shutdown_timeout: Duration,
    /// Pace of attempts.
    pub retry: RetryOptions,
}

/// What a full spool does while the server is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest batches make room, counted and logged.
    #[default]
    DropOldest,
    /// Reading stops until there is room. Files wait on their disk (rotation may still take them), a pipe's writer
    /// blocks.
    Wait,
}

/// Exponential backoff with jitter, and a circuit breaker over all requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryOptions {
    /// First delay; each is doubled, with up to as much again of jitter. Default 200 ms.
    pub min_delay: Duration,
    /// The delay stops growing here. Default 10 s.
    pub max_delay: Duration,
    /// The breaker opens when half of this many requests in a row failed. Default 6.
    pub breaker_requests: usize,
    /// An open breaker lets a trial request through after this long. Default 5 s.
    pub breaker_wait: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(10),
            breaker_requests: 6,
            breaker_wait: Duration::from_secs(5),
        }
    }
}

impl ShippingOptions {
    /// The defaults, for this server and state directory.
    pub fn new(server: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            server: server.into(),
            kafka: BTreeMap::new(),
            api_key: None,
            ca_file: None,
            tenant: None,
            state_dir: state_dir.into(),
            batch_rows: 100,
            batch_size_bytes: 4 << 20,
            batch_wait: Duration::from_secs(5),
            spool_size_bytes: 1 << 30,
            when_full: WhenFull::default(),
            in_flight: 4,
            request_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(10),
            retry: RetryOptions::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), AgentError> {
        let wrong = |option, reason: &str| Err(AgentError::Option { option, reason: reason.to_owned() });
        if self.batch_rows == 0 || self.batch_size_bytes == 0 {
            return wrong("--batch-rows", "a batch needs room for at least one row");
        }
        if self.in_flight == 0 {
            return wrong("--in-flight", "at least one request must be allowed");
        }
        if self.spool_size_bytes == 0 {
            return wrong("--spool-size", "rows are sent from the spool, so it needs some room");
        }
        if self.retry.breaker_requests == 0 || self.retry.min_delay.is_zero() {
            return wrong("retry", "the breaker needs at least one request and the delay must not be zero");
        }
        Ok(())
    }
}

/// The usual state directory of an agent: `./highwater-agent/<kind>/<service>`, beside `./highwater-data`. `kind` is
/// `logs` or `metrics`. A character that does not belong in a file name becomes `%XX`.
pub fn default_state_dir(kind: &str, service: &str) -> PathBuf {
    let mut name = String::with_capacity(service.len());
    for byte in service.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    Path::new("highwater-agent").join(kind).join(name)
}

impl fmt::Debug for ShippingOptions {
    /// Everything but the API key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShippingOptions")
            .field("server", &self.server)
            .field("api_key", &self.api_key.as_ref().map(|_| "..."))
            .field("tenant", &self.tenant)
            .field("state_dir", &self.state_dir)
            .field("batch_rows", &self.batch_rows)
            .field("batch_size_bytes", &self.batch_size_bytes)
            .field("batch_wait", &self.batch_wait)
            .field("spool_size_bytes", &self.spool_size_bytes)
            .field("when_full", &self.when_full)
            .field("in_flight", &self.in_flight)
            .field("request_timeout", &self.request_timeout)
            .field("drain_timeout", &self.drain_timeout)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("retry", &self.retry)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_stays_inside_its_parent() {
        assert_eq!(default_state_dir("logs", "web-1"), Path::new("highwater-agent/logs/web-1"));
        assert_eq!(default_state_dir("logs", "../etc"), Path::new("highwater-agent/logs/%2E.%2Fetc"));
        assert_eq!(default_state_dir("metrics", "a b"), Path::new("highwater-agent/metrics/a%20b"));
    }

    #[test]
    fn the_api_key_is_not_printed() {
        let options = ShippingOptions { api_key: Some("hunter2".into()), ..ShippingOptions::new("http://h", "s") };
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn options_that_cannot_work_are_named() {
        let options = ShippingOptions { in_flight: 0, ..ShippingOptions::new("http://h", "s") };
        assert!(matches!(options.check(), Err(AgentError::Option { option: "--in-flight", .. })));
    }
}
