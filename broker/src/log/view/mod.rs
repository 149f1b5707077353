//! The readers' side of a partition: shared, read-only, and never ahead of what is synced.
//!
//! The writer publishes first the segments, then their readable bytes, then what was aborted, then the high watermark, then the last
//! stable offset; a reader takes them in the other order, so that all below the offsets it saw is there to be read, and what it must
//! leave out is known.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::cursor::{BadRange, BatchCursor, Bounds, FoundBatch, Step};
use super::index::{SparseIndex, Start};
use super::producers::{Aborted, AbortedIndex, Producers};
use super::recovery::Access;
use super::replay::Replay;
use super::segment::{Body, Segment};
use super::{LogSettings, PartitionId, SegmentSummary, TaskState, rebuild_index};
use crate::append::EFFECT_HEADER;
use crate::batch::{BatchError, decode_records};
use crate::error::BrokerError;
use crate::fs::Fs;
use crate::raw::PartitionEnds;
use crate::topic::{Fetched, Gap, PartitionOffsets};

mod fetch;
mod time;

/// Indexes of closed segments kept in memory per partition; each is at most half a MiB at the default segment size.
const CACHED_INDEXES: usize = 4;
/// A read asks for this much beyond its budget: the index leads to within 4 KiB before the wanted batch.
const READ_SLACK_BYTES: usize = 8 << 10;
const MAX_REPORTED_RANGES: usize = 1000;

/// A damaged range and the segment it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// The segment's file.
    pub segment: PathBuf,
    /// Where in it, and which offsets it took.
    pub range: BadRange,
    /// What was found wrong.
    pub reason: String,
}

/// Base offset and generation of a segment.
type IndexKey = (i64, u32);

/// See the module's text.
pub struct PartitionView {
    id: PartitionId,
    fs: Arc<dyn Fs>,
    max_decompressed_size_bytes: usize,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    log_start: AtomicI64,
    high_watermark: AtomicI64,
    last_stable_offset: AtomicI64,
    aborted: RwLock<Arc<AbortedIndex>>,
    indexes: Mutex<VecDeque<(IndexKey, Arc<SparseIndex>)>>,
    damaged: Mutex<Vec<DamagedRange>>,
    stopped: OnceLock<String>,
}

impl PartitionView {
    pub(super) fn new(
        id: PartitionId,
        fs: Arc<dyn Fs>,
        max_decompressed_size_bytes: usize,
        segments: Vec<Arc<Segment>>,
        offsets: PartitionOffsets,
        producers: &Producers,
    ) -> Self {
        let PartitionOffsets { log_start, high_watermark } = offsets;
        let last_stable_offset = producers.first_unstable().map_or(high_watermark, |first| first.max(log_start));
        Self {
            id,
            fs,
            max_decompressed_size_bytes,
            segments: RwLock::new(Arc::new(segments)),
            log_start: AtomicI64::new(log_start),
            high_watermark: AtomicI64::new(high_watermark),
            last_stable_offset: AtomicI64::new(last_stable_offset),
            aborted: RwLock::new(Arc::new(producers.aborted().clone())),
            indexes: Mutex::default(),
            damaged: Mutex::default(),
            stopped: OnceLock::new(),
        }
    }

    /// Why the partition takes no writes any more, if so. Reads go on.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    /// Log start and high watermark.
    pub fn offsets(&self) -> PartitionOffsets {
        // The start never passes the watermark; taken first, it cannot seem to.
        let log_start = self.log_start.load(Ordering::Acquire);
        PartitionOffsets { log_start, high_watermark: self.high_watermark.load(Ordering::Acquire) }
    }

    /// Log start, last stable offset and high watermark.
    pub fn ends(&self) -> PartitionEnds {
        // In the order in which none can seem to have passed the next.
        let log_start = self.log_start.load(Ordering::Acquire);
        let last_stable_offset = self.last_stable_offset.load(Ordering::Acquire);
        PartitionEnds { log_start, last_stable_offset, high_watermark: self.high_watermark.load(Ordering::Acquire) }
    }

    /// Damage found so far, by recovery and by reads; at most a thousand ranges are listed.
    pub fn damaged(&self) -> Vec<DamagedRange> {
        self.damaged.lock().clone()
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentSummary> {
        let segments = Arc::clone(&self.segments.read());
        let end = self.offsets().high_watermark;
        let next = segments.iter().skip(1).map(|s| s.base_offset).chain([end]);
        segments
            .iter()
            .zip(next)
            .map(|(segment, next_offset)| SegmentSummary {
                base_offset: segment.base_offset,
                next_offset,
                size_bytes: segment.readable_bytes(),
                max_timestamp_ms: segment.max_timestamp_ms(),
                closed: matches!(segment.body, Body::Closed(_)),
            })
            .collect()
    }

    /// Where each task stands, as recovery would find it now: from the newest usable snapshot of the guard state and the records behind it.
    /// Reads those records, and changes nothing.
    pub(crate) fn recovered_tasks(
        &self,
        dir: &Path,
        settings: &LogSettings,
        now_ms: i64,
    ) -> Result<Vec<(Arc<str>, TaskState)>, BrokerError> {
        let PartitionOffsets { high_watermark, .. } = self.offsets();
        let segments = Arc::clone(&self.segments.read());
        let written_bytes = segments.last().map_or(0, |segment| segment.readable_bytes());
        let replay = Replay {
            fs: self.fs.as_ref(),
            dir,
            segments: &segments,
            next_offset: high_watermark,
            written_bytes,
            max_decompressed_size_bytes: settings.max_decompressed_size_bytes,
            max_idempotency_keys: settings.max_idempotency_keys,
            now_ms,
            access: Access::Read,
            guards: true,
        };
        let (state, _) = replay.run()?;
        Ok(state.guard.tasks.into_iter().collect())
    }

    /// Reads committed records from `offset` on: at least one batch of them if there is one, and no further batch once `max_size_bytes`
    /// are reached. Markers and aborted records are passed over. At the last stable offset it answers with no records.
    pub fn read(&self, offset: i64, max_size_bytes: usize) -> Result<Fetched, BrokerError> {
        let PartitionEnds { log_start, last_stable_offset, high_watermark } = self.ends();
        if offset < log_start || offset > high_watermark {
            return Err(self.out_of_range(offset));
        }
        let aborted = Arc::clone(&self.aborted.read());
        self.on_segments(|segments| {
            let fetched =
                Fetched { next_offset: offset, high_watermark: last_stable_offset, log_start, ..Fetched::default() };
            self.read_segments(segments, &aborted, high_watermark, max_size_bytes, fetched)
        })
    }

    /// Does something with the segments as they are now, and once more with those that are there then where compaction replaced a
    /// file before it was opened.
    fn on_segments<T>(&self, run: impl Fn(&[Arc<Segment>]) -> Result<T, BrokerError>) -> Result<T, BrokerError> {
        loop {
            let segments = Arc::clone(&self.segments.read());
            match run(&segments) {
                Err(BrokerError::Io { kind: std::io::ErrorKind::NotFound, .. })
                    if !Arc::ptr_eq(&segments, &self.segments.read()) => {}
                result => return result,
            }
        }
    }

    fn read_segments(
        &self,
        segments: &[Arc<Segment>],
        aborted: &AbortedIndex,
        high_watermark: i64,
        max_size_bytes: usize,
        mut fetched: Fetched,
    ) -> Result<Fetched, BrokerError> {
        let (offset, last_stable_offset) = (fetched.next_offset, fetched.high_watermark);
        let first = segments.partition_point(|s| s.base_offset <= offset).saturating_sub(1);
        if segments.get(first).is_some_and(|segment| segment.base_offset > offset) {
            // Retention took it between the two looks.
            return Err(self.out_of_range(offset));
        }
        let mut reading =
            Reading { fetched: &mut fetched, aborted, size_bytes: 0, max_size_bytes: max_size_bytes.max(1) };
        for (i, segment) in segments.iter().enumerate().skip(first) {
            if reading.is_full() || reading.fetched.next_offset >= last_stable_offset {
                break;
            }
            let end_offset = segments.get(i + 1).map_or(high_watermark, |s| s.base_offset.min(high_watermark));
            match self.read_segment(segment, end_offset, &mut reading) {
                Ok(true) => {}
                Ok(false) => break,
                // Retention may have taken the segment away meanwhile; then the answer is that the offset is gone.
                Err(_) if offset < self.offsets().log_start => return Err(self.out_of_range(offset)),
                Err(error) => return Err(error),
            }
        }
        Ok(fetched)
    }

    /// Reads what is wanted of one segment. True where its end was reached.
    fn read_segment(&self, segment: &Segment, end_offset: i64, reading: &mut Reading<'_>) -> Result<bool, BrokerError> {
        let file = segment.open(self.fs.as_ref())?;
        let start = self.start(segment, |index| index.before_offset(reading.fetched.next_offset))?;
        let bounds = bounds(segment, start, end_offset);
        let wanted = reading.max_size_bytes - reading.size_bytes;
        let chunk_size = wanted.saturating_add(READ_SLACK_BYTES).min(bounds.end as usize);
        let mut cursor = BatchCursor::new(file.as_ref(), bounds, chunk_size);
        while cursor.expected_offset() < end_offset {
            let has_some = !reading.fetched.records.is_empty();
            if reading.is_full() || has_some && !cursor.next_is_in_memory() {
                return Ok(false);
            }
            match cursor.step().map_err(|e| BrokerError::io("read", &segment.paths.log, &e))? {
                Step::Batch(batch) if batch.header.next_offset() <= reading.fetched.next_offset => {}
                // Where the log start lies within a batch of an open transaction, so does the last stable offset.
                Step::Batch(batch) if batch.header.next_offset() > reading.fetched.high_watermark => return Ok(false),
                Step::Batch(batch) => {
                    let header = &batch.header;
                    reading.size_bytes += header.size_bytes;
                    if let Err(error) = reading.take(&batch, self.max_decompressed_size_bytes) {
                        let end_position = batch.position + header.size_bytes as u64;
                        let (from_offset, to_offset) = (header.base_offset, header.next_offset());
                        let range = BadRange { position: batch.position, end_position, from_offset, to_offset };
                        self.pass_gap(segment, range, &error.to_string(), reading.fetched);
                    }
                    reading.fetched.next_offset = header.next_offset();
                }
                Step::Bad(range) => self.pass_gap(segment, range, "no valid batch is there", reading.fetched),
                Step::End { position, .. } => {
                    let (end_position, from_offset) = (bounds.end, cursor.expected_offset());
                    let range = BadRange { position, end_position, from_offset, to_offset: end_offset };
                    self.pass_gap(segment, range, "the batches end early", reading.fetched);
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }

    fn start(&self, segment: &Segment, find: impl FnOnce(&SparseIndex) -> Start) -> Result<Start, BrokerError> {
        match &segment.body {
            Body::Active(active) => Ok(find(&active.index.read())),
            Body::Closed(summary) => {
                let key = (segment.base_offset, segment.paths.generation);
                let cached = {
                    let indexes = self.indexes.lock();
                    indexes.iter().find(|(known, _)| *known == key).map(|(_, index)| Arc::clone(index))
                };
                if let Some(index) = cached {
                    return Ok(find(&index));
                }
                let index = match SparseIndex::read(self.fs.as_ref(), &segment.paths.index)? {
                    Some(index) if index.summary() == *summary => index,
                    _ => {
                        tracing::warn!(
                            path = %segment.paths.index.display(),
                            "index is missing or damaged; rebuilding it in memory from the segment"
                        );
                        metrics::counter!("highwater_broker_indexes_rebuilt_total").increment(1);
                        rebuild_index(self.fs.as_ref(), segment, summary.next_offset)?
                    }
                };
                let index = Arc::new(index);
                let mut indexes = self.indexes.lock();
                indexes.push_back((key, Arc::clone(&index)));
                if indexes.len() > CACHED_INDEXES {
                    indexes.pop_front();
                }
                Ok(find(&index))
            }
        }
    }

    /// Tells the reader, the log and the metrics that a range is lost.
    fn pass_gap(&self, segment: &Segment, range: BadRange, reason: &str, fetched: &mut Fetched) {
        let from = range.from_offset.max(fetched.next_offset);
        if from < range.to_offset {
            fetched.gaps.push(Gap { from, to: range.to_offset, reason: reason.to_owned() });
            fetched.next_offset = range.to_offset;
        }
        self.report(segment, range, reason);
    }

    pub(super) fn report(&self, segment: &Segment, range: BadRange, reason: &str) {
        let damaged = DamagedRange { segment: segment.paths.log.clone(), range, reason: reason.to_owned() };
        let mut known = self.damaged.lock();
        if known.iter().any(|d| d.segment == damaged.segment && d.range == range) || known.len() >= MAX_REPORTED_RANGES
        {
            return;
        }
        tracing::error!(
            partition = %self.id,
            path = %damaged.segment.display(),
            from_position = range.position,
            to_position = range.end_position,
            from_offset = range.from_offset,
            to_offset = range.to_offset,
            reason,
            "records are damaged and passed over; later ones stay readable"
        );
        let lost = (range.to_offset - range.from_offset).max(0) as u64;
        let labels = self.id.labels();
        metrics::counter!("highwater_broker_damaged_ranges_total", &labels).increment(1);
        metrics::counter!("highwater_broker_damaged_offsets_total", &labels).increment(lost);
        known.push(damaged);
    }

    fn out_of_range(&self, offset: i64) -> BrokerError {
        let PartitionOffsets { log_start, high_watermark } = self.offsets();
        BrokerError::OffsetOutOfRange {
            topic: self.id.topic.to_string(),
            partition: self.id.partition,
            offset,
            log_start,
            high_watermark,
        }
    }

    pub(super) fn publish_segments(&self, segments: Vec<Arc<Segment>>) {
        *self.segments.write() = Arc::new(segments);
    }

    /// Shows all below the high watermark. Those aborted since the last time are known before anybody may read past them.
    pub(super) fn publish_ends(&self, high_watermark: i64, first_unstable: Option<i64>, aborted: &[Aborted]) {
        if !aborted.is_empty() {
            let mut known = self.aborted.write();
            let index = Arc::make_mut(&mut known);
            aborted.iter().for_each(|aborted| index.push(*aborted));
        }
        self.high_watermark.store(high_watermark, Ordering::Release);
        let log_start = self.log_start.load(Ordering::Acquire);
        let last_stable_offset = first_unstable.map_or(high_watermark, |first| first.max(log_start));
        self.last_stable_offset.store(last_stable_offset, Ordering::Release);
    }

    pub(super) fn publish_stopped(&self, reason: &str) {
        self.stopped.get_or_init(|| reason.to_owned());
    }

    /// Forgets aborted transactions of which compaction has left nothing, marker included; these are the offsets of the markers, ascending.
    pub(super) fn forget_aborted(&self, markers: &[i64]) {
        Arc::make_mut(&mut self.aborted.write()).forget(markers);
    }

    pub(super) fn publish_log_start(&self, offset: i64) {
        self.last_stable_offset.fetch_max(offset, Ordering::AcqRel);
        self.log_start.store(offset, Ordering::Release);
        Arc::make_mut(&mut self.aborted.write()).forget_below(offset);
    }
}

/// A read on its way.
struct Reading<'a> {
    fetched: &'a mut Fetched,
    aborted: &'a AbortedIndex,
    size_bytes: usize,
    max_size_bytes: usize,
}

impl Reading<'_> {
    fn is_full(&self) -> bool {
        self.size_bytes >= self.max_size_bytes
    }

    /// Adds the records of a batch that are there for readers to see.
    fn take(&mut self, batch: &FoundBatch, max_unpacked_size_bytes: usize) -> Result<(), BatchError> {
        let header = &batch.header;
        let is_aborted = || header.is_transactional() && self.aborted.covers(header.producer_id, header.base_offset);
        if header.is_control() || is_aborted() {
            return Ok(());
        }
        let (from, first) = (self.fetched.next_offset, self.fetched.records.len());
        decode_records(header, &batch.bytes, from, max_unpacked_size_bytes, &mut self.fetched.records)?;
        if header.is_verbatim() {
            // A client's word for it makes no record an effect: recovery takes it for none, and so do readers.
            for record in self.fetched.records.iter_mut().skip(first) {
                record.headers.retain(|header| header.name != EFFECT_HEADER);
            }
        }
        Ok(())
    }
}

fn bounds(segment: &Segment, start: Start, end_offset: i64) -> Bounds {
    Bounds {
        position: start.position,
        end: segment.readable_bytes(),
        expected_offset: start.offset,
        max_offset: end_offset,
    }
}
