//! Compaction: of the records of a key only the newest stays. Offsets never change, and who reads from the start ends with the newest
//! value of every key.
//!
//! ```text
//! writer thread                         maintenance thread
//! plan: is it time, and how far   ──▶   read what is new, note the newest offset of each key      (keys.rs)
//!                                       group by group: filter into a new segment, synced         (filter.rs, rewrite.rs)
//! put it in the place of the group ◀──  each time one is whole
//! note how far it came            ◀──   at the end                                                (progress.rs)
//! ```
//!
//! What holds:
//! - Only closed segments below the last stable offset, and below what a group of [`crate::HOLDING_GROUP_PREFIX`] has yet to read, are touched,
//!   and only those whose records are old enough.
//! - Where the keys do not fit in memory, a pass ends early and the next one goes on behind it.
//! - A new segment is written and synced under a temporary name. One rename makes it count; its name says which offsets it covers, so
//!   recovery knows what it replaced and sweeps that. No name is used twice. Readers that have an old file open are not
//!   disturbed; those that come too late for it look again.
//! - Between batches there is never a gap: offsets of which nothing stays are covered by a batch of no records
//!   (`batch/compacted.rs`). A hole is a batch, so damage stays damage.
//! - What a partition remembers (effects, idempotency keys, producers, aborted transactions) is in snapshots at or above the end of what
//!   is replaced before it is replaced, so no record is needed to rebuild it.
//! - A segment with damage is left as it is, and no tombstone behind it goes: it may be all that hides an older value.

use std::path::PathBuf;
use std::sync::Arc;

use super::cursor::{BadRange, BatchCursor, Bounds, Step};
use super::producers::AbortedIndex;
use super::segment::Segment;
use super::{CompactionSettings, PartitionId, SCAN_CHUNK_SIZE_BYTES, SegmentSummary};
use crate::batch::RawRecords;
use crate::error::BrokerError;
use crate::fs::Fs;

mod filter;
mod keys;
#[cfg(test)]
mod model_tests;
mod plan;
mod progress;
mod rewrite;

pub use filter::Tally;
pub(super) use plan::Situation;
pub(super) use progress::Progress;
pub(super) use rewrite::{Replacement, discard};

use filter::{Filter, Rules};
use keys::Keys;
use plan::{Plan, groups};
use rewrite::{Rewritten, rewrite};

/// One pass over a partition: all that is needed to do it away from the writer.
pub struct Compaction {
    pub(super) id: PartitionId,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    /// From the start of the log to the end of the plan, each with the offset that ends it.
    pub(super) segments: Vec<(Arc<Segment>, i64)>,
    /// Which of them are known to be damaged.
    pub(super) damaged: Vec<bool>,
    pub(super) summaries: Vec<SegmentSummary>,
    pub(super) plan: Plan,
    pub(super) aborted: Arc<AbortedIndex>,
    pub(super) settings: CompactionSettings,
    pub(super) segment_size_bytes: u64,
    pub(super) max_unpacked_size_bytes: usize,
    pub(super) now_ms: i64,
}

/// What a pass comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// How far it came.
    pub until: i64,
    /// How far the plan went: where this is further, another pass is due.
    pub planned_until: i64,
    /// When the next of the tombstones and markers that stayed may go, Unix milliseconds.
    pub(super) next_horizon_ms: i64,
    /// What was done.
    pub tally: Tally,
}

/// A new segment, for the writer to put in its place.
pub struct NewSegment(pub(super) Replacement);

/// A segment turned out to be damaged.
pub struct Damage {
    pub(super) segment: Arc<Segment>,
    pub(super) range: BadRange,
    pub(super) reason: &'static str,
}

/// Why a pass ended before its end.
pub enum Interrupted {
    /// A segment turned out to be damaged; once the writer knows, the next pass goes around it.
    Damaged(Damage),
    /// Something failed, or it was told to stop.
    Failed(BrokerError),
}

impl From<BrokerError> for Interrupted {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error)
    }
}

impl Compaction {
    /// Does the pass. Each new segment is handed to `put`, which puts it in its place before it returns; with an error the pass ends. `stop`
    /// is asked now and then whether to give up.
    pub fn run(
        &self,
        stop: &dyn Fn() -> bool,
        mut put: impl FnMut(NewSegment) -> Result<(), BrokerError>,
    ) -> Result<Compacted, Interrupted> {
        let (keys, until) = self.note_keys(stop)?;
        let mut filter = Filter::new(Rules {
            keys: &keys,
            mapped_until: until,
            aborted: &self.aborted,
            now_ms: self.now_ms,
            delete_retention_ms: self.settings.delete_retention_ms,
            max_unpacked_size_bytes: self.max_unpacked_size_bytes,
        });
        let wanted = self.segments.iter().take_while(|(segment, _)| segment.base_offset < until).count();
        for group in groups(&self.summaries[..wanted], &self.damaged, self.segment_size_bytes) {
            if self.damaged[group.start] {
                self.pass_damaged(&self.segments[group.start], &mut filter)?;
                continue;
            }
            match rewrite(self.fs.as_ref(), &self.dir, &self.segments[group], &mut filter, stop)? {
                Rewritten::Unchanged => {}
                Rewritten::Changed(replacement) => put(NewSegment(replacement))?,
                Rewritten::Damaged(segment, range, reason) => {
                    return Err(Interrupted::Damaged(Damage { segment, range, reason }));
                }
            }
        }
        let Filter { next_horizon_ms, tally, .. } = filter;
        Ok(Compacted { until, planned_until: self.plan.until, next_horizon_ms, tally })
    }

    /// Which partition it is.
    pub fn id(&self) -> &PartitionId {
        &self.id
    }

    /// The newest offset of each key in what is new, and how far that was looked at.
    fn note_keys(&self, stop: &dyn Fn() -> bool) -> Result<(Keys, i64), BrokerError> {
        let mut keys = Keys::default();
        let Plan { dirty_from, until } = self.plan;
        for (segment, end_offset) in self.segments.iter().filter(|(_, end)| *end > dirty_from) {
            let io = |e: std::io::Error| BrokerError::io("read", &segment.paths.log, &e);
            let file = segment.open(self.fs.as_ref())?;
            let mut cursor = BatchCursor::new(file.as_ref(), whole(segment, *end_offset), SCAN_CHUNK_SIZE_BYTES);
            while cursor.expected_offset() < *end_offset {
                if stop() {
                    return Err(BrokerError::Closed);
                }
                let batch = match cursor.step().map_err(io)? {
                    Step::Batch(batch) => batch,
                    Step::Bad(_) => continue,
                    Step::End { .. } => break,
                };
                let header = &batch.header;
                let is_aborted =
                    || header.is_transactional() && self.aborted.covers(header.producer_id, header.base_offset);
                if header.next_offset() <= dirty_from || header.is_control() || is_aborted() {
                    continue;
                }
                if keys.len() >= self.settings.max_keys {
                    return Ok((keys, header.base_offset));
                }
                // What does not unpack stays as it is, and replaces nothing.
                if let Ok(records) = RawRecords::parse(header, &batch.bytes, self.max_unpacked_size_bytes) {
                    for record in records.iter(header) {
                        if let Some(key) = record.key {
                            keys.note(key, record.offset);
                        }
                    }
                }
            }
        }
        Ok((keys, until))
    }

    /// Looks at a segment that stays as it is.
    fn pass_damaged(
        &self,
        (segment, end_offset): &(Arc<Segment>, i64),
        filter: &mut Filter<'_>,
    ) -> Result<(), BrokerError> {
        filter.uncertain = true;
        let file = segment.open(self.fs.as_ref())?;
        let mut cursor = BatchCursor::new(file.as_ref(), whole(segment, *end_offset), SCAN_CHUNK_SIZE_BYTES);
        while cursor.expected_offset() < *end_offset {
            match cursor.step().map_err(|e| BrokerError::io("read", &segment.paths.log, &e))? {
                Step::Batch(batch) => filter.pass(&batch),
                Step::Bad(_) => {}
                Step::End { .. } => break,
            }
        }
        Ok(())
    }
}

fn whole(segment: &Segment, end_offset: i64) -> Bounds {
    Bounds { position: 0, end: segment.readable_bytes(), expected_offset: segment.base_offset, max_offset: end_offset }
}
