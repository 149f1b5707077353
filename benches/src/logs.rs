//! Synthetic logs of about 300 bytes of JSON: timestamp, level, service, host, message and three labels.
//!
//! The same seed makes the same bytes. A row costs tens of nanoseconds, so that a load generator on one core can keep a
//! server on another busy.

use std::io::Write;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// As in most services: mostly INFO, few errors.
const LEVELS: [&str; 16] = [
    "info", "info", "info", "info", "info", "info", "info", "info", "info", "info", "debug", "debug", "debug", "warn",
    "warn", "error",
];
const REGIONS: [&str; 4] = ["eu-west-1", "eu-central-1", "us-east-1", "ap-southeast-2"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const PATHS: [&str; 8] = [
    "/api/v2/orders",
    "/api/v2/orders/items",
    "/api/v2/customers",
    "/api/v2/payments/authorise",
    "/api/v2/search",
    "/healthz",
    "/api/v2/carts",
    "/static/app.js",
];

/// Makes logs.
#[derive(Debug, Clone)]
pub struct LogGenerator {
    random: SmallRng,
    services: u32,
    hosts: u32,
    /// Event time of the next row, Unix milliseconds.
    next_ms: i64,
    /// Rows that share a millisecond.
    rows_per_ms: u64,
    row: u64,
    /// Second that `prefix` shows.
    prefix_s: i64,
    /// `2026-03-01T00:00:00`: calendar arithmetic once a second, not once a row.
    prefix: String,
}

impl LogGenerator {
    /// Logs of `services` services on `hosts` hosts each, from `start_ms` (Unix milliseconds) on, `rows_per_ms` of them in
    /// each millisecond of event time.
    pub fn new(seed: u64, services: u32, hosts: u32, start_ms: i64, rows_per_ms: u64) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            services: services.max(1),
            hosts: hosts.max(1),
            next_ms: start_ms,
            rows_per_ms: rows_per_ms.max(1),
            row: 0,
            prefix_s: i64::MIN,
            prefix: String::new(),
        }
    }

    /// Appends `rows` lines of NDJSON to `out`.
    ///
    /// # Errors
    /// None: writing to memory does not fail, but the signature of [`Write`] says it might.
    pub fn ndjson(&mut self, rows: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
        for _ in 0..rows {
            self.line(out)?;
        }
        Ok(())
    }

    fn line(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (second, millisecond) = (self.next_ms.div_euclid(1000), self.next_ms.rem_euclid(1000));
        if second != self.prefix_s {
            let time = chrono::DateTime::from_timestamp(second, 0).unwrap_or_default();
            self.prefix = time.format("%Y-%m-%dT%H:%M:%S").to_string();
            self.prefix_s = second;
        }
        self.row += 1;
        if self.row.is_multiple_of(self.rows_per_ms) {
            self.next_ms += 1;
        }
        let random = &mut self.random;
        let (service, host) = (random.random_range(0..self.services), random.random_range(0..self.hosts));
        let pick = |from: &[&'static str], random: &mut SmallRng| from.choose(random).copied().unwrap_or_default();
        let (level, region) = (pick(&LEVELS, random), pick(&REGIONS, random));
        let (method, path) = (pick(&METHODS, random), pick(&PATHS, random));
        let (id, client): (u64, u32) = (random.random(), random.random());
        let status = if level == "error" { 500 + id % 4 } else { 200 + id % 5 };
        let [a, b, c, d] = client.to_be_bytes();
        writeln!(
            out,
            r#"{{"timestamp":"{}.{millisecond:03}Z","level":"{level}","service":"service-{service:03}","host":"host-{service:03}-{host:03}","message":"{method} {path}/{} answered {status} in {} ms, {} bytes, client {a}.{b}.{c}.{d}, session {id:016x}","labels":{{"region":"{region}","version":"2.{}.{}","shard":"{}"}}}}"#,
            self.prefix,
            id % 1_000_000,
            id % 977,
            id % 65_521,
            id % 7,
            id % 23,
            id % 64,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_lines_of_about_300_bytes() {
        let make = |seed| {
            let mut out = Vec::new();
            LogGenerator::new(seed, 50, 10, 1_772_323_200_000, 100).ndjson(1000, &mut out).unwrap();
            out
        };
        let bytes = make(7);
        assert_eq!(bytes, make(7));
        assert_ne!(bytes, make(8));
        let mean = bytes.len() / 1000;
        assert!((290..=310).contains(&mean), "{mean} bytes a line");
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(value["labels"].as_object().unwrap().len(), 3);
        }
    }

    #[test]
    fn event_time_advances_by_a_millisecond_every_so_many_rows() {
        let mut out = Vec::new();
        LogGenerator::new(1, 5, 5, 1_772_323_199_999, 2).ndjson(3, &mut out).unwrap();
        let times: Vec<String> = String::from_utf8(out).unwrap().lines().map(|line| line[14..38].to_owned()).collect();
        assert_eq!(times, ["2026-02-28T23:59:59.999Z", "2026-02-28T23:59:59.999Z", "2026-03-01T00:00:00.000Z"]);
    }
}
