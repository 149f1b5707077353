//! The ledger at work: reads reports, counts what they do not cover yet, writes reports of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::Clock;
use tokio_util::sync::CancellationToken;

use super::count::{Counter, TOPICS};
use super::report::LedgerEntry;
use super::state::{LedgerRow, LedgerState};
use super::{Doors, TOPIC};
use crate::log::{Append, CommittedOffset, Guard, Log, LogError, Record, TASKS_GROUP, TopicConfig, TopicPartition};

/// How often reports are written.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Every so many reports all of the ledger is written anew, so that retention may take what lies before.
const FULL_EVERY: u64 = 360;
/// About how much is read at a time while counting.
const FETCH_SIZE_BYTES: usize = 4 << 20;
/// Longest wait for records that are known to be there: a cluster takes a moment, a disk does not.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long reports are kept, in milliseconds.
const RETENTION_MS: i64 = 30 * 24 * 3600 * 1000;
/// Segments of the topic are small, so that retention has something to take.
const SEGMENT_SIZE_BYTES: u64 = 8 << 20;
/// Consumer group of where the newest full writing of the ledger begins. Its prefix holds retention back.
const GROUP: &str = "__highwater.ledger";

/// The ledger of a log. One per process; any number of processes may keep it.
pub struct Ledger {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    /// The doors of this process, if it has any.
    doors: Option<Arc<Doors>>,
    inner: tokio::sync::Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    state: LedgerState,
    /// How far the topic of reports has been read.
    read_to: Option<i64>,
    /// Reports of this run so far.
    sequence: u64,
    /// Of partitions, the cuts last written.
    written_cuts: BTreeMap<TopicPartition, i64>,
}

impl Ledger {
    /// The ledger of this log, to look at and, with [`Self::keep`], to keep. Reads nothing yet.
    pub fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>, doors: Option<Arc<Doors>>) -> Self {
        Self { log, clock, doors, inner: tokio::sync::Mutex::default() }
    }

    /// The ledger as of the end of the log. What is not counted yet is counted now.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn rows(&self) -> Result<Vec<LedgerRow>, LogError> {
        let mut inner = self.inner.lock().await;
        // Doors first: what they know to be durable by now, the log has when it is counted after.
        let report = self.doors.as_ref().map(|doors| doors.report());
        let committed = self.log.committed(TASKS_GROUP).await?;
        self.catch_up(&mut inner, |_| true).await?;
        let live = self.doors.as_ref().zip(report.as_ref()).map(|(doors, report)| (&**doors.run(), report.as_slice()));
        Ok(inner.state.rows(live, &committed, self.clock.now_ms()))
    }

    /// Writes reports until `shutdown`, and a last one then: stop the doors first. `owns` says which partitions this process counts.
    pub async fn keep(&self, owns: impl Fn(&TopicPartition) -> bool, shutdown: CancellationToken) {
        let mut reports = 0;
        loop {
            let ended = shutdown.run_until_cancelled(self.clock.sleep(REPORT_EVERY)).await.is_none();
            let full = reports % FULL_EVERY == 0;
            match self.report(&owns, full, ended).await {
                Ok(()) => reports += 1,
                // The next one says more; nothing is lost with this one.
                Err(error) => tracing::warn!(%error, "the ledger could not be written"),
            }
            if ended {
                return;
            }
        }
    }

    /// Counts what this process owns and writes what is new; everything, where `full`.
    ///
    /// # Errors
    /// Where the log cannot be read or written.
    pub async fn report(
        &self,
        owns: &impl Fn(&TopicPartition) -> bool,
        full: bool,
        ended: bool,
    ) -> Result<(), LogError> {
        let config = TopicConfig {
            retention_ms: Some(RETENTION_MS),
            segment_size_bytes: Some(SEGMENT_SIZE_BYTES),
            ..TopicConfig::with_partitions(1)
        };
        self.log.ensure_topic(TOPIC, config).await?;
        let mut inner = self.inner.lock().await;
        let inner = &mut *inner;
        let doors = self.doors.as_ref().map(|doors| doors.report());
        let committed = self.log.committed(TASKS_GROUP).await?;
        self.catch_up(inner, owns).await?;
        let mut entries = Vec::new();
        if let (Some(own), Some(doors)) = (&self.doors, &doors) {
            // Also with nothing new: a run that is silent is taken to be over.
            inner.sequence += 1;
            let (run, sequence, at_ms) = (own.run().to_string(), inner.sequence, self.clock.now_ms());
            entries.push(LedgerEntry::Run { run, sequence, at_ms, ended, doors: doors.clone() });
        }
        for (place, count) in &inner.state.partitions {
            let is_new = inner.written_cuts.get(place) != Some(&count.cut);
            if full || is_new && owns(place) {
                entries.push(count.entry(place));
            }
        }
        if full {
            entries.extend(inner.state.runs.iter().map(|(name, run)| run.entry(name)));
        }
        let records: Vec<Record> = entries.iter().map(LedgerEntry::to_record).collect();
        if !records.is_empty() {
            let append = Append { topic: TOPIC.into(), partition: 0, records, guard: Guard::None };
            let appended = self.log.append(append).await?;
            if full {
                let start = CommittedOffset {
                    topic: TOPIC.into(),
                    partition: 0,
                    offset: appended.base_offset,
                    metadata: String::new(),
                };
                self.log.commit_offsets(GROUP, &[start], None).await?;
            }
        }
        for (place, count) in &inner.state.partitions {
            inner.written_cuts.insert(place.clone(), count.cut);
        }
        let live = self.doors.as_ref().zip(doors.as_ref()).map(|(own, doors)| (&**own.run(), doors.as_slice()));
        publish(&inner.state.rows(live, &committed, self.clock.now_ms()));
        Ok(())
    }

    /// Reads new reports, then counts what they leave of the partitions that `chosen` names.
    async fn catch_up(&self, inner: &mut Inner, chosen: impl Fn(&TopicPartition) -> bool) -> Result<(), LogError> {
        self.read_reports(inner).await?;
        for topic in TOPICS {
            let Some(info) = self.log.topic(topic).await? else { continue };
            let counter = Counter::of(topic);
            for partition in 0..info.config.partitions {
                let place = TopicPartition { topic: Arc::clone(&info.name), partition };
                if chosen(&place) {
                    self.count(inner, &counter, place).await?;
                }
            }
        }
        Ok(())
    }

    async fn read_reports(&self, inner: &mut Inner) -> Result<(), LogError> {
        if self.log.topic(TOPIC).await?.is_none() {
            return Ok(());
        }
        let end = self.log.offsets(TOPIC, 0).await?;
        let mut offset = match inner.read_to {
            Some(offset) => offset,
            None => {
                let group = self.log.committed(GROUP).await?;
                let start = group.iter().find(|o| &*o.topic == TOPIC).map_or(end.log_start, |o| o.offset);
                start.clamp(end.log_start, end.high_watermark)
            }
        };
        while offset < end.high_watermark {
            let fetched = self.log.read(TOPIC, 0, offset, FETCH_SIZE_BYTES, MAX_WAIT).await?;
            for record in &fetched.records {
                match LedgerEntry::parse(record.value.as_deref().unwrap_or_default()) {
                    Ok(entry) => inner.state.merge(entry),
                    Err(error) => {
                        tracing::error!(offset = record.offset, error, "a report in the ledger is unreadable")
                    }
                }
            }
            if fetched.next_offset == offset {
                break;
            }
            offset = fetched.next_offset;
        }
        inner.read_to = Some(offset);
        Ok(())
    }

    async fn count(&self, inner: &mut Inner, counter: &Counter, place: TopicPartition) -> Result<(), LogError> {
        let (topic, partition) = (Arc::clone(&place.topic), place.partition);
        let offsets = self.log.offsets(&topic, partition).await?;
        let count = inner.state.partitions.entry(place).or_default();
        if count.cut < offsets.log_start {
            count.pass_over(offsets.log_start);
        }
        while count.cut < offsets.high_watermark {
            let fetched = match self.log.read(&topic, partition, count.cut, FETCH_SIZE_BYTES, MAX_WAIT).await {
                Err(LogError::OffsetOutOfRange { log_start, .. }) if log_start > count.cut => {
                    count.pass_over(log_start);
                    continue;
                }
                other => other?,
            };
            for record in &fetched.records {
                counter.take(count, partition, record);
                tokio::task::consume_budget().await;
            }
            if fetched.next_offset <= count.cut && fetched.records.is_empty() {
                break;
            }
            count.cut = count.cut.max(fetched.next_offset);
        }
        Ok(())
    }
}

/// The ledger as gauges: they may go back where a recount says so.
fn publish(rows: &[LedgerRow]) {
    for row in rows {
        let labels = [("source", row.source.clone()), ("signal", row.signal.clone())];
        metrics::gauge!("highwater_ledger_received_entries", &labels).set(row.received as f64);
        metrics::gauge!("highwater_ledger_stored_entries", &labels).set(row.stored as f64);
        metrics::gauge!("highwater_ledger_duplicate_entries", &labels).set(row.duplicate as f64);
        metrics::gauge!("highwater_ledger_rejected_entries", &labels).set(row.rejected_total() as f64);
        metrics::gauge!("highwater_ledger_dead_lettered_entries", &labels).set(row.dead_lettered as f64);
        metrics::gauge!("highwater_ledger_in_flight_entries", &labels).set(row.in_flight as f64);
        metrics::gauge!("highwater_ledger_lost_offsets", &labels).set(row.lost as f64);
        metrics::gauge!("highwater_ledger_balance_entries", &labels).set(row.balance() as f64);
    }
}
