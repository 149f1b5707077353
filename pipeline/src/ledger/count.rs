//! Counting a partition. Pure: records in, counts out.

use std::collections::BTreeMap;

use super::report::{Counted, LedgerEntry};
use super::{DIRECT, Originated};
use crate::data::{Decoded, Decoder, RowKind, content_type, dead_letter, logs, metric_metadata, metrics, spans};
use crate::log::{StoredRecord, TopicPartition};

/// What a partition holds below a cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartitionCount {
    /// One past the last offset counted.
    pub(super) cut: i64,
    /// Offsets that were gone before they were counted.
    pub(super) lost: u64,
    /// By source, run and signal.
    counts: BTreeMap<(String, String, String), Counted>,
}

impl PartitionCount {
    pub(super) fn new(cut: i64, lost: u64, counts: Vec<Counted>) -> Self {
        let key = |counted: &Counted| (counted.source.clone(), counted.run.clone(), counted.signal.clone());
        Self { cut, lost, counts: counts.into_iter().map(|counted| (key(&counted), counted)).collect() }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = &Counted> {
        self.counts.values()
    }

    pub(super) fn entry(&self, place: &TopicPartition) -> LedgerEntry {
        LedgerEntry::Counted {
            topic: place.topic.to_string(),
            partition: place.partition,
            cut: self.cut,
            lost: self.lost,
            counts: self.counts.values().cloned().collect(),
        }
    }

    /// Offsets up to here are gone uncounted.
    pub(super) fn pass_over(&mut self, log_start: i64) {
        self.lost += log_start.abs_diff(self.cut);
        self.cut = log_start;
    }

    fn add(&mut self, source: &str, run: &str, signal: &str, entries: u64, refused: u64) {
        let key = (source.to_owned(), run.to_owned(), signal.to_owned());
        let counted = self.counts.entry(key).or_insert_with(|| Counted {
            source: source.to_owned(),
            run: run.to_owned(),
            signal: signal.to_owned(),
            entries: 0,
            refused: 0,
        });
        counted.entries += entries;
        counted.refused += refused;
    }
}

/// Counts the records of a topic.
#[derive(Debug)]
pub(super) struct Counter {
    signal: Option<&'static str>,
    decoder: Decoder,
}

impl Counter {
    /// For one of the counted topics.
    pub(super) fn of(topic: &str) -> Self {
        match topic {
            logs::TOPIC => Self { signal: Some(logs::TOPIC), decoder: Decoder::new(RowKind::Logs) },
            metrics::TOPIC => Self { signal: Some(metrics::TOPIC), decoder: Decoder::new(RowKind::Metrics) },
            spans::TOPIC => Self { signal: Some(spans::TOPIC), decoder: Decoder::new(RowKind::Spans) },
            metric_metadata::TOPIC => {
                let decoder = Decoder::new(RowKind::Arrow(metric_metadata::schema()));
                Self { signal: Some(metric_metadata::TOPIC), decoder }
            }
            _ => Self { signal: None, decoder: Decoder::new(RowKind::DeadLetter) },
        }
    }

    /// Counts the next record of a partition.
    pub(super) fn take(&self, count: &mut PartitionCount, partition: i32, record: &StoredRecord) {
        if record.offset < count.cut {
            return;
        }
        count.cut = record.offset + 1;
        if let Some(Originated { source, run, signal, entries }) = Originated::of(record) {
            count.add(source, run, signal, entries, 0);
            return;
        }
        match self.signal {
            Some(_) if content_type::of(record) == Some(content_type::CONTROL) => {}
            Some(signal) => {
                let (rows, refused) = match self.decoder.decode(partition, record) {
                    Decoded::Rows { batch, refused } => (batch.num_rows() as u64, refused.len() as u64),
                    Decoded::Control(_) => (0, 0),
                    Decoded::Undecodable(_) => (0, 1),
                };
                count.add(DIRECT, "", signal, rows, refused);
            }
            // A dead letter of the task of its topic.
            None => {
                let signal = record.header(dead_letter::SOURCE_TOPIC).and_then(|text| std::str::from_utf8(text).ok());
                count.add(DIRECT, "", signal.unwrap_or_default(), 1, 0);
            }
        }
    }
}

/// The topics that are counted.
pub(super) const TOPICS: [&str; 5] =
    [logs::TOPIC, metrics::TOPIC, spans::TOPIC, metric_metadata::TOPIC, dead_letter::TOPIC];
