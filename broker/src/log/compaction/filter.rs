//! What stays of a batch. Batches come in the order of the log, from its start.
//!
//! - A record stays if no newer one has its key. One without a key goes: nothing will ever replace it.
//! - A tombstone stays until the delete horizon of its batch, which is set when it is first met.
//! - Records of aborted transactions go.
//! - The marker of a transaction stays for as long as any record of it is met before it, and then until its delete horizon.

use std::collections::BTreeSet;

use super::keys::Keys;
use super::progress::NEVER_MS;
use crate::batch::{BatchHeader, RawRecords, decode_marker};
use crate::log::cursor::FoundBatch;
use crate::log::producers::AbortedIndex;

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays as it is.
    Keep,
    /// This takes its place.
    Replace(BatchHeader, Vec<u8>),
    /// Nothing of it stays.
    Drop,
}

/// What was done, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that stayed.
    pub kept: u64,
    /// Records that went because a newer one has their key.
    pub superseded: u64,
    /// Tombstones whose time had come.
    pub tombstones: u64,
    /// Records of aborted transactions.
    pub aborted: u64,
    /// Markers of which nothing was left.
    pub markers: u64,
    /// Records that went because they have no key.
    pub without_key: u64,
}

/// What a filter goes by.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// The newest offsets of keys, of records below `mapped_until`.
    pub(super) keys: &'a Keys,
    /// Of records from here on it is not known whether newer ones have their keys; they stay.
    pub(super) mapped_until: i64,
    pub(super) aborted: &'a AbortedIndex,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    pub(super) max_unpacked_size_bytes: usize,
}

/// See the module's text.
pub(super) struct Filter<'a> {
    rules: Rules<'a>,
    /// Producers of whose current transaction a record was met.
    with_records: BTreeSet<i64>,
    /// True once something was passed that could hold an older record of any key: from there on no tombstone may go.
    pub(super) uncertain: bool,
    /// When the next of the tombstones and markers that stay may go.
    pub(super) next_horizon_ms: i64,
    /// Offsets of the markers of aborted transactions that went.
    pub(super) aborted_markers: Vec<i64>,
    pub(super) tally: Tally,
}

impl<'a> Filter<'a> {
    pub(super) fn new(rules: Rules<'a>) -> Self {
        Self {
            rules,
            with_records: BTreeSet::new(),
            uncertain: false,
            next_horizon_ms: NEVER_MS,
            aborted_markers: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Judges the next batch.
    pub(super) fn judge(&mut self, batch: &FoundBatch) -> Verdict {
        if batch.header.hole().is_some() {
            Verdict::Drop
        } else if batch.header.is_control() {
            self.judge_marker(batch)
        } else {
            self.judge_records(batch)
        }
    }

    /// Looks at a batch that stays whatever is in it.
    pub(super) fn pass(&mut self, batch: &FoundBatch) {
        self.uncertain = true;
        let header = &batch.header;
        if header.is_control() {
            self.with_records.remove(&header.producer_id);
        } else if header.is_transactional() && header.hole().is_none() {
            self.with_records.insert(header.producer_id);
        }
    }

    fn judge_marker(&mut self, batch: &FoundBatch) -> Verdict {
        let header = &batch.header;
        let Some(marker) = decode_marker(header, &batch.bytes) else { return Verdict::Keep };
        if self.with_records.remove(&header.producer_id) {
            return Verdict::Keep;
        }
        match header.delete_horizon_ms() {
            Some(horizon_ms) if horizon_ms <= self.rules.now_ms => {
                if !marker.commit {
                    self.aborted_markers.push(header.base_offset);
                }
                self.tally.markers += 1;
                Verdict::Drop
            }
            Some(horizon_ms) => {
                self.note_horizon(horizon_ms);
                Verdict::Keep
            }
            None => match RawRecords::parse(header, &batch.bytes, self.rules.max_unpacked_size_bytes) {
                Ok(records) => self.replace(batch, &records, &[true]),
                Err(_) => Verdict::Keep,
            },
        }
    }

    fn judge_records(&mut self, batch: &FoundBatch) -> Verdict {
        let header = &batch.header;
        if header.is_transactional() {
            self.with_records.insert(header.producer_id);
            if self.rules.aborted.covers(header.producer_id, header.base_offset) {
                self.tally.aborted += u64::from(header.record_count.unsigned_abs());
                return Verdict::Drop;
            }
        }
        let Ok(records) = RawRecords::parse(header, &batch.bytes, self.rules.max_unpacked_size_bytes) else {
            // Nobody can read it, and reads say so; it is not for compaction to hide that.
            self.uncertain = true;
            return Verdict::Keep;
        };
        let horizon_passed = header.delete_horizon_ms().is_some_and(|ms| ms <= self.rules.now_ms) && !self.uncertain;
        let mut keeps_tombstones = false;
        let mut keep = Vec::with_capacity(header.record_count as usize);
        for record in records.iter(header) {
            let count = match record.key {
                _ if record.offset >= self.rules.mapped_until => {
                    keep.push(true);
                    continue;
                }
                None => &mut self.tally.without_key,
                Some(key) if self.rules.keys.newest(key).is_some_and(|newest| record.offset < newest) => {
                    &mut self.tally.superseded
                }
                Some(_) if record.is_tombstone && horizon_passed => &mut self.tally.tombstones,
                Some(_) => {
                    keeps_tombstones |= record.is_tombstone;
                    self.tally.kept += 1;
                    keep.push(true);
                    continue;
                }
            };
            *count += 1;
            keep.push(false);
        }
        let kept = keep.iter().filter(|keep| **keep).count();
        let needs_horizon = keeps_tombstones && header.delete_horizon_ms().is_none();
        if kept == 0 {
            return Verdict::Drop;
        }
        if kept < keep.len() || needs_horizon {
            return self.replace_records(batch, &records, &keep, keeps_tombstones);
        }
        if let Some(horizon_ms) = header.delete_horizon_ms().filter(|_| keeps_tombstones) {
            self.note_horizon(horizon_ms);
        }
        Verdict::Keep
    }

    fn replace_records(
        &mut self,
        batch: &FoundBatch,
        records: &RawRecords,
        keep: &[bool],
        keeps_tombstones: bool,
    ) -> Verdict {
        if keeps_tombstones {
            return self.replace(batch, records, keep);
        }
        match records.rebuild(&batch.header, keep, batch.header.delete_horizon_ms()) {
            Ok((header, bytes)) => Verdict::Replace(header, bytes),
            Err(_) => Verdict::Keep,
        }
    }

    /// Keeps some records for no longer than until the delete horizon.
    fn replace(&mut self, batch: &FoundBatch, records: &RawRecords, keep: &[bool]) -> Verdict {
        let horizon_ms = match batch.header.delete_horizon_ms() {
            Some(horizon_ms) => horizon_ms,
            None => self.rules.now_ms.saturating_add(self.rules.delete_retention_ms),
        };
        match records.rebuild(&batch.header, keep, Some(horizon_ms)) {
            Ok((header, bytes)) => {
                self.note_horizon(horizon_ms);
                Verdict::Replace(header, bytes)
            }
            Err(_) => Verdict::Keep,
        }
    }

    fn note_horizon(&mut self, horizon_ms: i64) {
        if self.uncertain && horizon_ms <= self.rules.now_ms {
            // It may not go although its time has come; that is no reason to look again soon.
            return;
        }
        self.next_horizon_ms = self.next_horizon_ms.min(horizon_ms);
    }
}
