//! What a writer tells about its partitions.

use crate::append::Appended;
use crate::log::PartitionLog;

/// Handles of a partition's metrics, looked up once.
pub(super) struct PartitionMetrics {
    appends: metrics::Counter,
    records: metrics::Counter,
    suppressed: metrics::Counter,
    duplicates: metrics::Counter,
    forgotten_keys: metrics::Counter,
    forgotten_producers: metrics::Counter,
    bytes: metrics::Counter,
    syncs: metrics::Histogram,
    size_bytes: metrics::Gauge,
    log_start: metrics::Gauge,
    log_end: metrics::Gauge,
}

impl PartitionMetrics {
    pub(super) fn new(log: &PartitionLog) -> Self {
        let labels = log.id().labels();
        Self {
            appends: metrics::counter!("highwater_broker_appends_total", &labels),
            records: metrics::counter!("highwater_broker_appended_records_total", &labels),
            suppressed: metrics::counter!("highwater_broker_suppressed_effects_total", &labels),
            duplicates: metrics::counter!("highwater_broker_duplicate_appends_total", &labels),
            forgotten_keys: metrics::counter!("highwater_broker_idempotency_keys_forgotten_total", &labels),
            forgotten_producers: metrics::counter!("highwater_broker_producers_forgotten_total", &labels),
            bytes: metrics::counter!("highwater_broker_appended_bytes_total", &labels),
            syncs: metrics::histogram!("highwater_broker_sync_seconds"),
            size_bytes: metrics::gauge!("highwater_broker_log_size_bytes", &labels),
            log_start: metrics::gauge!("highwater_broker_log_start_offset", &labels),
            log_end: metrics::gauge!("highwater_broker_log_end_offset", &labels),
        }
    }

    pub(super) fn note(&self, appended: &Appended, size_bytes: u64) {
        self.bytes.increment(size_bytes);
        self.suppressed.increment(appended.suppressed as u64);
        if appended.duplicate {
            self.duplicates.increment(1);
        } else if appended.last_offset >= appended.base_offset {
            self.appends.increment(1);
            self.records.increment((appended.last_offset - appended.base_offset + 1) as u64);
        }
    }

    pub(super) fn note_sync(&self, seconds: f64, log_end: i64) {
        self.syncs.record(seconds);
        self.log_end.set(log_end as f64);
    }

    pub(super) fn note_size(&self, log: &PartitionLog) {
        let offsets = log.view().offsets();
        self.size_bytes.set(log.view().segments().iter().map(|s| s.size_bytes).sum::<u64>() as f64);
        self.log_start.set(offsets.log_start as f64);
        self.log_end.set(offsets.high_watermark as f64);
        self.forgotten_keys.absolute(log.forgotten_keys());
        self.forgotten_producers.absolute(log.forgotten_producers());
    }
}
