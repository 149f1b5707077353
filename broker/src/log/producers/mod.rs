//! What a partition remembers of Kafka's idempotent and transactional producers. Like the guard state it is a function of the log: it
//! is in the `.state` snapshot, and rebuilt from the headers of the batches behind it.
//!
//! Rules, which are Kafka's:
//! - a batch must begin at the sequence after the last one of its producer and epoch; a new epoch begins at 0; a producer that is not
//!   known (never seen, or forgotten) may begin anywhere;
//! - a batch that is one of the last five of its producer, by epoch and first and last sequence, is a repetition: it is answered with the
//!   offsets of the first time and not written;
//! - an epoch below the highest seen is fenced; markers bring epochs too;
//! - the first transactional batch of a producer opens a transaction, a marker ends it. While it is open the producer writes nothing
//!   that is not part of it, and readers of committed records see nothing from its first offset on;
//! - a producer that has been idle for a day, with no transaction open, is forgotten.
//!
//! The time of a producer is when it was last heard of. After a restart that is the time of the snapshot, or the restart itself, for those
//! who wrote since: what the records say of their time is the sender's word.

use std::collections::{BTreeMap, VecDeque};

use super::PartitionId;
use crate::batch::{BatchHeader, add_to_sequence};
use crate::raw::TransactionMarker;

mod aborted;
mod ongoing;
#[cfg(test)]
mod tests;

pub(crate) use aborted::{Aborted, AbortedIndex};
pub(crate) use ongoing::OngoingTransactions;

/// How long an idle producer is remembered, in milliseconds; Kafka's default.
pub(in crate::log) const PRODUCER_HORIZON_MS: i64 = 24 * 60 * 60 * 1000;
/// Batches remembered per producer: what an idempotent producer may have in flight.
pub(in crate::log) const WINDOW: usize = 5;
/// Producers remembered per partition. Beyond it the idlest go early.
const MAX_PRODUCERS: usize = 1 << 16;

/// A batch in a producer's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct Written {
    pub(in crate::log) last_sequence: i32,
    pub(in crate::log) last_offset: i64,
    /// Last offset less first; the same for sequences.
    pub(in crate::log) offset_delta: i32,
    /// Largest timestamp of the batch: under LogAppendTime that of its append.
    pub(in crate::log) timestamp_ms: i64,
}

impl Written {
    fn new(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp_ms: header.max_timestamp_ms,
        }
    }

    fn first_sequence(&self) -> i32 {
        add_to_sequence(self.last_sequence, -self.offset_delta)
    }

    pub(in crate::log) fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }
}

/// The marker that a producer's last transaction ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct Ended {
    pub(in crate::log) offset: i64,
    pub(in crate::log) commit: bool,
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log) struct Producer {
    pub(in crate::log) epoch: i16,
    /// Epoch of the coordinator of the last marker; -1 before the first.
    pub(in crate::log) coordinator_epoch: i32,
    /// When it was last heard of.
    pub(in crate::log) seen_ms: i64,
    /// First offset of its open transaction.
    pub(in crate::log) open_from: Option<i64>,
    /// How its last transaction ended, until it writes again.
    pub(in crate::log) ended: Option<Ended>,
    /// Its last batches under this epoch, oldest first.
    pub(in crate::log) window: VecDeque<Written>,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) enum Judged {
    Write,
    /// It is in the log already.
    Repeated(Written),
}

/// What to do with a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) enum MarkerJudged {
    Write,
    /// It is in the log already, at this offset.
    Repeated(i64),
}

/// Why a batch or marker is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) enum Refused {
    OutOfOrder { expected: i32 },
    Fenced { current: i16 },
    CoordinatorFenced { current: i32 },
    Transaction(&'static str),
}

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::log) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// Open transactions: first offset to producer.
    open: BTreeMap<i64, i64>,
    aborted: AbortedIndex,
    /// Those of `aborted` that readers were not told of yet.
    unpublished: Vec<Aborted>,
    /// Producers forgotten early for want of room, since the start.
    pub(in crate::log) forgotten: u64,
}

impl Producers {
    /// Judges a client's batch for this partition without changing anything.
    pub(in crate::log) fn judge(
        &self,
        header: &BatchHeader,
        ongoing: &dyn OngoingTransactions,
        id: &PartitionId,
    ) -> Result<Judged, Refused> {
        if !header.has_producer() {
            return Ok(Judged::Write);
        }
        if let Some(producer) = self.by_id.get(&header.producer_id) {
            if let Some(written) = producer.find(header) {
                return Ok(Judged::Repeated(written));
            }
            producer.check(header)?;
        }
        if !header.is_transactional() {
            return Ok(Judged::Write);
        }
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        if ongoing.is_open(producer_id, epoch, &id.topic, id.partition) {
            return Ok(Judged::Write);
        }
        Err(match ongoing.current_epoch(producer_id) {
            // Fenced by the coordinator, though not yet by a marker here.
            Some(current) if current > epoch => Refused::Fenced { current },
            _ => Refused::Transaction("it is transactional, but the partition is in no open transaction of it"),
        })
    }

    /// Remembers a batch that was written, or is found in the log.
    pub(in crate::log) fn note_batch(&mut self, header: &BatchHeader, now_ms: i64) {
        if !header.has_producer() {
            return;
        }
        let producer = self.entry(header.producer_id, header.producer_epoch, now_ms);
        producer.ended = None;
        if producer.window.len() == WINDOW {
            producer.window.pop_front();
        }
        producer.window.push_back(Written::new(header));
        if header.is_transactional() && producer.open_from.is_none() {
            producer.open_from = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
        self.keep_to_limit();
    }

    /// Judges a marker without changing anything.
    pub(in crate::log) fn judge_marker(&self, marker: &TransactionMarker) -> Result<MarkerJudged, Refused> {
        let Some(producer) = self.by_id.get(&marker.producer_id) else { return Ok(MarkerJudged::Write) };
        if marker.producer_epoch < producer.epoch {
            return Err(Refused::Fenced { current: producer.epoch });
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(Refused::CoordinatorFenced { current: producer.coordinator_epoch });
        }
        let same = |ended: &Ended| ended.commit == marker.commit && marker.producer_epoch == producer.epoch;
        Ok(match producer.ended.filter(same) {
            Some(ended) => MarkerJudged::Repeated(ended.offset),
            None => MarkerJudged::Write,
        })
    }

    /// Remembers a marker that was written, or is found in the log, at this offset.
    pub(in crate::log) fn note_marker(&mut self, marker: &TransactionMarker, offset: i64, now_ms: i64) {
        let producer = self.entry(marker.producer_id, marker.producer_epoch, now_ms);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.ended = Some(Ended { offset, commit: marker.commit });
        if let Some(first_offset) = producer.open_from.take() {
            self.open.remove(&first_offset);
            if !marker.commit {
                let stable_after = self.first_unstable().unwrap_or(offset + 1);
                let producer_id = marker.producer_id;
                let aborted = Aborted { producer_id, first_offset, last_offset: offset, stable_after };
                self.aborted.push(aborted);
                self.unpublished.push(aborted);
            }
        }
        self.keep_to_limit();
    }

    /// First offset of the oldest open transaction.
    pub(in crate::log) fn first_unstable(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    /// Aborted transactions that readers must learn of before they read past them.
    pub(in crate::log) fn take_unpublished(&mut self) -> Vec<Aborted> {
        std::mem::take(&mut self.unpublished)
    }

    /// All aborted transactions whose markers the log still holds.
    pub(in crate::log) fn aborted(&self) -> &AbortedIndex {
        &self.aborted
    }

    /// All producers, by id.
    pub(in crate::log) fn iter(&self) -> impl ExactSizeIterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    /// Takes a producer out of a snapshot.
    pub(in crate::log) fn restore(&mut self, id: i64, producer: Producer) {
        if let Some(first_offset) = producer.open_from {
            self.open.insert(first_offset, id);
        }
        self.by_id.insert(id, producer);
    }

    /// Takes an aborted transaction out of a snapshot.
    pub(in crate::log) fn restore_aborted(&mut self, aborted: Aborted) {
        self.aborted.push(aborted);
    }

    /// Forgets producers that have been idle for a day.
    pub(in crate::log) fn expire(&mut self, now_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.open_from.is_some() || now_ms.saturating_sub(producer.seen_ms) < PRODUCER_HORIZON_MS
        });
    }

    /// Forgets what was aborted wholly below the log start.
    pub(in crate::log) fn forget_below(&mut self, log_start: i64) {
        self.aborted.forget_below(log_start);
    }

    /// Forgets aborted transactions of which compaction has left nothing, by the offsets of their markers, which ascend.
    pub(in crate::log) fn forget_aborted(&mut self, markers: &[i64]) {
        self.aborted.forget(markers);
    }

    /// The producer, at this epoch from now on.
    fn entry(&mut self, id: i64, epoch: i16, now_ms: i64) -> &mut Producer {
        let producer = self.by_id.entry(id).or_insert_with(|| Producer {
            epoch,
            coordinator_epoch: -1,
            seen_ms: now_ms,
            open_from: None,
            ended: None,
            window: VecDeque::new(),
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.window.clear();
        }
        producer.seen_ms = now_ms;
        producer
    }

    /// Past the limit a sixteenth goes at once, so that it is not looked for with every new producer.
    fn keep_to_limit(&mut self) {
        if self.by_id.len() <= MAX_PRODUCERS {
            return;
        }
        let idle = self.by_id.iter().filter(|(_, producer)| producer.open_from.is_none());
        let mut idle: Vec<(i64, i64)> = idle.map(|(id, producer)| (producer.seen_ms, *id)).collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(MAX_PRODUCERS / 16) {
            self.by_id.remove(&id);
            self.forgotten += 1;
        }
    }
}

impl Producer {
    /// The batch of the window that this one repeats.
    fn find(&self, header: &BatchHeader) -> Option<Written> {
        let same = |written: &&Written| {
            header.producer_epoch == self.epoch
                && written.first_sequence() == header.base_sequence
                && written.last_sequence == header.last_sequence()
        };
        self.window.iter().find(same).copied()
    }

    fn check(&self, header: &BatchHeader) -> Result<(), Refused> {
        if header.producer_epoch < self.epoch {
            return Err(Refused::Fenced { current: self.epoch });
        }
        let expected = match self.window.back() {
            Some(last) if header.producer_epoch == self.epoch => add_to_sequence(last.last_sequence, 1),
            // A new epoch, or one that a marker brought.
            _ => 0,
        };
        if header.base_sequence != expected {
            return Err(Refused::OutOfOrder { expected });
        }
        if self.open_from.is_some() && !header.is_transactional() {
            return Err(Refused::Transaction("it is not transactional, but its producer has a transaction open here"));
        }
        Ok(())
    }
}
