//! The index of aborted transactions of a partition: what readers of committed records must leave out.

use std::ops::Range;

use crate::raw::AbortedTransaction;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    /// Offset of its first record.
    pub(crate) first_offset: i64,
    /// Offset of its marker.
    pub(crate) last_offset: i64,
    /// No transaction that ended later begins below this offset. It ends a search early.
    pub(crate) stable_after: i64,
}

/// All of them, by the offset of their markers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AbortedIndex {
    entries: Vec<Aborted>,
}

impl AbortedIndex {
    /// Adds one whose marker lies behind all others.
    pub(crate) fn push(&mut self, aborted: Aborted) {
        self.entries.push(aborted);
    }

    /// All of them, by the offset of their markers.
    pub(crate) fn entries(&self) -> &[Aborted] {
        &self.entries
    }

    /// Those with records or markers at `from` or above and records below `to`, by first offset, where the batches in between have these
    /// holes. One whose marker is in a hole has been compacted away with all it had: a reader told of it would wait for the marker
    /// and pass over what its producer wrote later.
    pub(crate) fn among(&self, from: i64, to: i64, holes: &[Range<i64>]) -> Vec<AbortedTransaction> {
        let is_gone = |marker: i64| {
            let hole = holes[..holes.partition_point(|hole| hole.start <= marker)].last();
            hole.is_some_and(|hole| hole.contains(&marker))
        };
        let mut found: Vec<AbortedTransaction> = self
            .reaching(from, to)
            .filter(|a| a.first_offset < to && !is_gone(a.last_offset))
            .map(|a| AbortedTransaction { producer_id: a.producer_id, first_offset: a.first_offset })
            .collect();
        found.sort_unstable_by_key(|a| a.first_offset);
        found
    }

    /// True where a transactional batch of this producer at this offset was aborted.
    pub(crate) fn covers(&self, producer_id: i64, offset: i64) -> bool {
        self.reaching(offset, offset + 1).any(|a| a.producer_id == producer_id && a.first_offset <= offset)
    }

    /// Forgets those whose markers are below the log start.
    pub(crate) fn forget_below(&mut self, log_start: i64) {
        let gone = self.entries.partition_point(|a| a.last_offset < log_start);
        self.entries.drain(..gone);
    }

    /// Forgets those with these markers, which ascend.
    pub(crate) fn forget(&mut self, markers: &[i64]) {
        self.entries.retain(|a| markers.binary_search(&a.last_offset).is_err());
    }

    /// Those that end at `from` or above, up to the one after which all begin at `to` or above.
    fn reaching(&self, from: i64, to: i64) -> impl Iterator<Item = &Aborted> {
        let rest = &self.entries[self.entries.partition_point(|a| a.last_offset < from)..];
        let end = rest.iter().position(|a| a.stable_after >= to).map_or(rest.len(), |last| last + 1);
        rest[..end].iter()
    }
}
