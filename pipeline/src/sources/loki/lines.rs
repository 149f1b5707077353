//! Lines to rows, one stream after the other.

use std::borrow::Cow;

use super::labels::LineLabels;
use crate::data::Refusal;
use crate::data::logs::Logs;
use crate::data::time;
use crate::sources::batcher::Dealer;

/// Names and values, as a stream or a line has them.
pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Takes the lines of a request. Indexes count lines from 0, over all streams.
pub(super) struct Lines<'d, 't> {
    pub(super) dealer: &'d mut Dealer<'t, Logs>,
    index: i32,
}

impl<'d, 't> Lines<'d, 't> {
    pub(super) fn new(dealer: &'d mut Dealer<'t, Logs>) -> Self {
        Self { dealer, index: 0 }
    }

    /// What a stream's labels come to; an error refuses all of its lines.
    pub(super) fn stream<'a>(&self, labels: &'a Pairs<'a>) -> Result<LineLabels<'a>, Refusal> {
        if labels.is_empty() {
            return Err(Refusal::Labels { reason: "at least one label is required per stream" });
        }
        let mut stream = LineLabels::default();
        for (name, value) in labels {
            stream.give(name, value, &self.dealer.limits())?;
        }
        Ok(stream)
    }

    /// Adds a line.
    pub(super) fn line(&mut self, stream: &LineLabels<'_>, unix_ns: Option<i128>, line: &str, metadata: &Pairs<'_>) {
        let limits = self.dealer.limits();
        let timestamp_us = unix_ns.and_then(|ns| i64::try_from(ns.div_euclid(1_000)).ok());
        let Some(timestamp_us) = timestamp_us.filter(|&us| time::in_range(us)) else {
            let value = unix_ns.map_or_else(String::new, |ns| ns.to_string());
            return self.refuse(&Refusal::BadValue {
                field: "timestamp",
                value,
                wanted: "Unix nanoseconds, years 1 to 9999",
            });
        };
        if line.len() > limits.max_value_size_bytes {
            let (field, size_bytes) = ("line".to_owned(), line.len());
            return self.refuse(&Refusal::TooLong { field, size_bytes, limit_bytes: limits.max_value_size_bytes });
        }
        if metadata.is_empty() {
            return self.add(stream, timestamp_us, line);
        }
        let mut labels = stream.clone();
        for (name, value) in metadata {
            if let Err(refusal) = labels.give(name, value, &limits) {
                return self.refuse(&refusal);
            }
        }
        self.add(&labels, timestamp_us, line);
    }

    fn add(&mut self, labels: &LineLabels<'_>, timestamp_us: i64, line: &str) {
        let partition = self.dealer.partition(|key| {
            let [service, host] = labels.origin();
            key.extend_from_slice(service.as_bytes());
            key.push(0);
            key.extend_from_slice(host.as_bytes());
        });
        self.dealer.add(partition, |columns| columns.append_parts(&labels.parts(timestamp_us, line)));
        self.index = self.index.saturating_add(1);
    }

    /// Refuses the next line.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.dealer.refuse(self.index, refusal, 1);
        self.index = self.index.saturating_add(1);
    }
}
