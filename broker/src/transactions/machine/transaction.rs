//! One transactional id: who holds it, and where its transaction stands.
//!
//! ```text
//!          partitions, groups            EndTxn, timeout, fence              markers are in
//! Empty ────────────────────▶ Ongoing ─────────────────────────▶ Prepare* ─────────────────▶ Complete*
//!   ▲                            ▲                                                              │ │
//!   │                            └──────────────────────────────────────────────────────────────┘ │
//!   └──────────────────────────────────────── InitProducerId ─────────────────────────────────────┘
//! ```
//!
//! The last state, dead, is to be gone: an id that nobody used for long is forgotten.
//!
//! The functions here make the next state from this one and do not ask whether they may: that is the machine's affair.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::coordinator::CommittedOffset;

/// No epoch: Kafka's -1.
pub(crate) const NO_EPOCH: i16 = -1;
/// No producer id: Kafka's -1.
pub(crate) const NO_PRODUCER_ID: i64 = -1;
/// The highest epoch a client gets. The one above it is kept for fencing that client.
pub(crate) const LAST_CLIENT_EPOCH: i16 = i16::MAX - 1;

/// A producer as the log knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// Given out once, ever.
    pub id: i64,
    /// Raised whenever another run takes over.
    pub epoch: i16,
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl Phase {
    /// Decided, with markers still to be written.
    pub(crate) fn is_decided(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// Partitions by topic. By name: a topic made anew under the same name takes the place of the old one.
pub(crate) type Partitions = BTreeMap<Arc<str>, BTreeSet<i32>>;
/// Offsets of one group, by topic and partition, that count once the transaction commits.
pub(crate) type PendingOffsets = BTreeMap<(Arc<str>, i32), CommittedOffset>;

/// All that is remembered of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) producer: Producer,
    /// The epoch from which the holder came to this one by asking with its id and epoch, so that it may ask again
    /// where the answer got lost; otherwise [`NO_EPOCH`].
    pub(crate) last_epoch: i16,
    /// The producer id before this one, where its epochs were used up; otherwise this one, or [`NO_PRODUCER_ID`].
    pub(crate) previous_producer_id: i64,
    pub(crate) timeout_ms: i32,
    pub(crate) phase: Phase,
    /// When the transaction began, Unix milliseconds; -1 before the first.
    pub(crate) started_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) partitions: Partitions,
    /// By group. A group is here from when it was added on, with or without offsets.
    pub(crate) offsets: BTreeMap<Arc<str>, PendingOffsets>,
}

impl Transaction {
    /// The first state of a new transactional id.
    pub(super) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer: Producer { id: producer_id, epoch: 0 },
            last_epoch: NO_EPOCH,
            previous_producer_id: NO_PRODUCER_ID,
            timeout_ms,
            phase: Phase::Empty,
            started_ms: -1,
            updated_ms: now_ms,
            partitions: BTreeMap::new(),
            offsets: BTreeMap::new(),
        }
    }

    /// The holder has had the last epoch of its producer id.
    pub(super) fn is_exhausted(&self) -> bool {
        self.producer.epoch >= LAST_CLIENT_EPOCH
    }

    /// The transaction is that of `producer` and takes more.
    pub(crate) fn is_open_for(&self, producer: Producer) -> bool {
        self.phase == Phase::Ongoing && self.producer == producer
    }

    /// The partition takes part in it.
    pub(crate) fn has_partition(&self, topic: &str, partition: i32) -> bool {
        self.partitions.get(topic).is_some_and(|numbers| numbers.contains(&partition))
    }

    /// A new run, or the same one that starts over: no transaction, and this producer.
    pub(super) fn held_by(&self, producer: Producer, last_epoch: i16, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            previous_producer_id: self.producer.id,
            last_epoch,
            ..Self { producer, ..Self::new(producer.id, timeout_ms, now_ms) }
        }
    }

    /// The same holder, which asked again.
    pub(super) fn held_again(&self, timeout_ms: i32, now_ms: i64) -> Self {
        let held = self.held_by(self.producer, self.last_epoch, timeout_ms, now_ms);
        Self { previous_producer_id: self.previous_producer_id, ..held }
    }

    /// Begins the transaction if there is none. Whoever begins one has heard its epoch and need not ask for it again.
    fn ongoing(&self, now_ms: i64) -> Self {
        let started_ms = if self.phase == Phase::Ongoing { self.started_ms } else { now_ms };
        Self { phase: Phase::Ongoing, last_epoch: NO_EPOCH, started_ms, updated_ms: now_ms, ..self.clone() }
    }

    /// With these partitions as well.
    pub(super) fn with_partitions(&self, partitions: Partitions, now_ms: i64) -> Self {
        let mut next = self.ongoing(now_ms);
        for (topic, numbers) in partitions {
            next.partitions.entry(topic).or_default().extend(numbers);
        }
        next
    }

    /// With these offsets of a group as well; without any, the group is known to take part.
    pub(super) fn with_offsets(&self, group: &Arc<str>, offsets: PendingOffsets, now_ms: i64) -> Self {
        let mut next = self.ongoing(now_ms);
        next.offsets.entry(Arc::clone(group)).or_default().extend(offsets);
        next
    }

    /// Decided. An abort lets go of its offsets at once; those of a commit go to their groups with the same entry.
    pub(super) fn decided(&self, commit: bool, now_ms: i64) -> Self {
        let mut next = self.clone();
        next.phase = if commit { Phase::PrepareCommit } else { Phase::PrepareAbort };
        next.updated_ms = now_ms;
        if !commit {
            next.offsets.clear();
        }
        next
    }

    /// Aborted over the head of its holder, whose epoch ends with it. `by_holder` where the holder itself asked for a new epoch.
    pub(super) fn fenced(&self, by_holder: bool, now_ms: i64) -> Self {
        let mut next = self.decided(false, now_ms);
        // Never at its end: clients get no epoch above `LAST_CLIENT_EPOCH`, and only theirs are fenced.
        next.producer.epoch = self.producer.epoch.saturating_add(1);
        next.last_epoch = if by_holder { self.producer.epoch } else { NO_EPOCH };
        next
    }

    /// All markers are in.
    pub(super) fn completed(&self, now_ms: i64) -> Self {
        let mut next = self.clone();
        next.phase = if self.phase == Phase::PrepareCommit { Phase::CompleteCommit } else { Phase::CompleteAbort };
        next.updated_ms = now_ms;
        next.partitions.clear();
        next.offsets.clear();
        next
    }
}
