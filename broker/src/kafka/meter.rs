//! Counters per API.

use std::collections::HashMap;
use std::time::Duration;

use super::apis::APIS;

/// Counters of every API that is served.
pub(in crate::kafka) struct Meters {
    by_key: HashMap<i16, Meter>,
}

struct Meter {
    requests: metrics::Counter,
    failed: metrics::Counter,
    received_bytes: metrics::Counter,
    sent_bytes: metrics::Counter,
    seconds: metrics::Histogram,
}

impl Meters {
    /// Looks the handles up: the recorder must be installed.
    pub(in crate::kafka) fn new() -> Self {
        let meter = |name: String| {
            let labels = [("api", name)];
            Meter {
                requests: metrics::counter!("highwater_kafka_requests_total", &labels),
                failed: metrics::counter!("highwater_kafka_requests_failed_total", &labels),
                received_bytes: metrics::counter!("highwater_kafka_received_bytes_total", &labels),
                sent_bytes: metrics::counter!("highwater_kafka_sent_bytes_total", &labels),
                seconds: metrics::histogram!("highwater_kafka_request_seconds", &labels),
            }
        };
        Self { by_key: APIS.iter().map(|api| (api.key as i16, meter(format!("{:?}", api.key)))).collect() }
    }

    /// A request was read.
    pub(in crate::kafka) fn received(&self, key: i16, size_bytes: usize) {
        if let Some(meter) = self.by_key.get(&key) {
            meter.requests.increment(1);
            meter.received_bytes.increment(size_bytes as u64);
        }
    }

    /// A request was handled, in this time, with an answer of this size. `None`: it is not answered, and the connection closes.
    pub(in crate::kafka) fn handled(&self, key: i16, took: Duration, answer_size_bytes: Option<usize>) {
        let Some(meter) = self.by_key.get(&key) else { return };
        meter.seconds.record(took.as_secs_f64());
        match answer_size_bytes {
            Some(size_bytes) => meter.sent_bytes.increment(size_bytes as u64),
            None => meter.failed.increment(1),
        }
    }
}
