//! Where rows of a request go: to the partition of their key.

use std::collections::HashSet;

use ahash::RandomState;
use bytes::Bytes;

use crate::data::Refusal;
use crate::data::logs::{LogParts, Logs};
use crate::data::metrics::{MetricRow, Metrics};
use crate::data::otlp::{LogSink, MetricSink, RefusalSink, SpanSink};
use crate::data::signal::{Columnar, Signal};
use crate::data::spans::{SpanParts, Spans};
use crate::sources::IngestError;
use crate::sources::batcher::Dealer;
use crate::sources::metadata::{Described, Kind, MAX_DESCRIBED};

/// What a request holds beside its rows.
#[derive(Debug, Default)]
pub(in crate::sources) struct Taken {
    /// Entries that are refused.
    pub(super) refused: u64,
    /// What metrics are.
    pub(super) described: Vec<Described>,
}

/// Deals rows as they are read.
pub(super) struct Dealt<'d, 't, S: Columnar> {
    dealer: &'d mut Dealer<'t, S>,
    taken: Taken,
    /// Names among `described`, hashed.
    known: HashSet<u64, RandomState>,
    too_many: bool,
}

impl<'d, 't, S: Columnar> Dealt<'d, 't, S> {
    pub(super) fn new(dealer: &'d mut Dealer<'t, S>) -> Self {
        Self { dealer, taken: Taken::default(), known: HashSet::default(), too_many: false }
    }

    pub(super) fn finish(self) -> Result<Taken, IngestError> {
        if self.too_many { Err(Described::too_many()) } else { Ok(self.taken) }
    }
}

impl<S: Columnar> RefusalSink for Dealt<'_, '_, S> {
    fn refused(&mut self, index: i32, refusal: Refusal, _bytes: impl FnOnce() -> Bytes) {
        self.dealer.refuse(index, &refusal, 1);
        self.taken.refused += 1;
    }
}

impl LogSink for Dealt<'_, '_, Logs> {
    fn log(&mut self, _index: i32, parts: &LogParts<'_>) {
        let [service, host, ..] = parts.texts;
        let partition = self.dealer.partition(|key| {
            key.extend_from_slice(service.unwrap_or_default().as_bytes());
            key.push(0);
            key.extend_from_slice(host.unwrap_or_default().as_bytes());
        });
        self.dealer.add(partition, |columns| columns.append_parts(parts));
    }
}

impl SpanSink for Dealt<'_, '_, Spans> {
    fn span(&mut self, _index: i32, parts: &SpanParts<'_>) {
        let [trace_id, ..] = parts.texts;
        let partition = self.dealer.partition(|key| key.extend_from_slice(trace_id.unwrap_or_default().as_bytes()));
        self.dealer.add(partition, |columns| columns.append(parts));
    }
}

impl MetricSink for Dealt<'_, '_, Metrics> {
    fn sample(&mut self, _index: i32, row: &MetricRow<'_>) {
        let partition = self.dealer.partition(|key| Metrics::partition_key(row, key));
        self.dealer.add(partition, |columns| columns.append(row));
    }

    fn described(&mut self, name: &str, kind: Option<&'static str>, help: &str, unit: &str) {
        if self.taken.described.len() == MAX_DESCRIBED {
            self.too_many = true;
        } else if self.known.insert(self.known.hasher().hash_one(name)) {
            let [name, help, unit] = [name, help, unit].map(|text| Bytes::copy_from_slice(text.as_bytes()));
            self.taken.described.push(Described { name, kind: Kind::of_rows_named(kind), help, unit });
        }
    }

    fn exemplars(&mut self, count: usize) {
        self.dealer.leave_out("exemplar", count as u64);
    }
}
