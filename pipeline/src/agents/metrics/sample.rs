//! Samples as the NDJSON entries of `POST /metrics`.

use std::collections::BTreeMap;
use std::io::Write;

/// Writes samples that share a time and the labels of the host.
#[derive(Debug)]
pub(crate) struct Samples {
    body: Vec<u8>,
    count: u64,
    /// `,"timestamp":...,"labels":{...` without the closing braces.
    common: Vec<u8>,
}

/// What kind of series a sample belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes up only, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Samples {
    /// Samples of `now_us` (Unix microseconds) with `labels`, which must not be empty.
    pub(crate) fn new(now_us: i64, labels: &BTreeMap<String, String>) -> Self {
        let mut common = format!(",\"timestamp\":{now_us},\"labels\":").into_bytes();
        // Writing a map of strings to memory does not fail.
        drop(serde_json::to_writer(&mut common, labels));
        common.pop();
        Self { body: Vec::new(), count: 0, common }
    }

    /// Adds a sample; one that is no number is left out, for there was nothing to measure.
    pub(crate) fn add(&mut self, name: &str, kind: Kind, value: f64, labels: &[(&str, &str)]) {
        if !value.is_finite() {
            return;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        drop(write!(self.body, "{{\"name\":\"{name}\",\"type\":\"{kind}\",\"value\":{value}"));
        self.body.extend_from_slice(&self.common);
        for (name, value) in labels {
            self.body.push(b',');
            drop(serde_json::to_writer(&mut self.body, name));
            self.body.push(b':');
            drop(serde_json::to_writer(&mut self.body, value));
        }
        self.body.extend_from_slice(b"}}\n");
        self.count += 1;
    }

    pub(crate) fn gauge(&mut self, name: &str, value: f64, labels: &[(&str, &str)]) {
        self.add(name, Kind::Gauge, value, labels);
    }

    pub(crate) fn counter(&mut self, name: &str, value: u64, labels: &[(&str, &str)]) {
        self.add(name, Kind::Counter, value as f64, labels);
    }

    /// The NDJSON and how many lines it has.
    pub(crate) fn into_parts(self) -> (Vec<u8>, u64) {
        (self.body, self.count)
    }
}
