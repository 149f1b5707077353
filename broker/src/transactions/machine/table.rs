//! What the journal says of transactions, with the indexes that readers need. Made by applying entries in order, and by nothing else,
//! so that a restart has what there was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::transaction::{PendingOffsets, Phase, Producer, Transaction};
use crate::coordinator::CommittedOffset;

/// One change, as the journal has it. Each is whole in itself: a later one about the same thing replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TransactionEntry {
    /// Producer ids below this may have been given out.
    ProducerIds { below: i64 },
    /// All about a transactional id.
    Transaction { id: Arc<str>, transaction: Arc<Transaction> },
    /// A transactional id is forgotten.
    Dead { id: Arc<str> },
}

/// Offsets that became those of a group.
pub(crate) type CommittedOffsets = BTreeMap<Arc<str>, PendingOffsets>;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct TransactionTable {
    /// One above the highest producer id that may have been given out.
    producer_ids_below: i64,
    by_id: BTreeMap<Arc<str>, Arc<Transaction>>,
    by_producer: HashMap<i64, Arc<str>>,
    /// Decided, markers still to be written.
    decided: BTreeSet<Arc<str>>,
    ongoing: BTreeSet<Arc<str>>,
    /// Transactions that hold offsets of a group.
    pending: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl TransactionTable {
    /// Takes a change in. Answers with the offsets that count from now on: those of a transaction that it commits.
    pub(crate) fn apply(&mut self, entry: TransactionEntry) -> CommittedOffsets {
        match entry {
            TransactionEntry::ProducerIds { below } => {
                self.producer_ids_below = self.producer_ids_below.max(below);
                CommittedOffsets::new()
            }
            TransactionEntry::Dead { id } => {
                self.remove(&id);
                CommittedOffsets::new()
            }
            TransactionEntry::Transaction { id, mut transaction } => {
                let committed = if transaction.phase == Phase::PrepareCommit && !transaction.offsets.is_empty() {
                    // Taken out, so that a journal written anew does not bring them back over later commits.
                    std::mem::take(&mut Arc::make_mut(&mut transaction).offsets)
                } else {
                    CommittedOffsets::new()
                };
                self.insert(id, transaction);
                committed
            }
        }
    }

    fn insert(&mut self, id: Arc<str>, transaction: Arc<Transaction>) {
        self.remove(&id);
        self.producer_ids_below = self.producer_ids_below.max(transaction.producer.id.saturating_add(1));
        self.by_producer.insert(transaction.producer.id, Arc::clone(&id));
        match transaction.phase {
            Phase::PrepareCommit | Phase::PrepareAbort => self.decided.insert(Arc::clone(&id)),
            Phase::Ongoing => self.ongoing.insert(Arc::clone(&id)),
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => false,
        };
        for (group, offsets) in &transaction.offsets {
            if !offsets.is_empty() {
                self.pending.entry(Arc::clone(group)).or_default().insert(Arc::clone(&id));
            }
        }
        self.by_id.insert(id, transaction);
    }

    fn remove(&mut self, id: &str) {
        let Some(old) = self.by_id.remove(id) else { return };
        self.by_producer.remove(&old.producer.id);
        self.decided.remove(id);
        self.ongoing.remove(id);
        for group in old.offsets.keys() {
            if let Some(ids) = self.pending.get_mut(group) {
                ids.remove(id);
                if ids.is_empty() {
                    self.pending.remove(group);
                }
            }
        }
    }

    /// The fewest entries that make this table.
    pub(crate) fn entries(&self) -> impl Iterator<Item = TransactionEntry> {
        let below = self.producer_ids_below;
        let ids = (below > 0).then_some(TransactionEntry::ProducerIds { below });
        let whole = |(id, transaction): (&Arc<str>, &Arc<Transaction>)| TransactionEntry::Transaction {
            id: Arc::clone(id),
            transaction: Arc::clone(transaction),
        };
        ids.into_iter().chain(self.by_id.iter().map(whole))
    }

    /// Lets go of the pending offsets for which `keep` does not hold. The groups stay part of their transactions.
    pub(crate) fn retain_offsets(&mut self, keep: impl Fn(&str, &CommittedOffset) -> bool) {
        let ids: BTreeSet<Arc<str>> = self.pending.values().flatten().cloned().collect();
        for id in ids {
            let Some(mut transaction) = self.by_id.get(&id).cloned() else { continue };
            for (group, offsets) in &mut Arc::make_mut(&mut transaction).offsets {
                offsets.retain(|_, offset| keep(group, offset));
            }
            self.insert(id, transaction);
        }
    }

    /// Lets go of pending offsets of a group that was deleted.
    pub(crate) fn forget_group(&mut self, group: &str) {
        if self.pending.contains_key(group) {
            self.retain_offsets(|of, _| of != group);
        }
    }

    /// Lets go of some pending offsets of a group.
    pub(crate) fn forget_offsets(&mut self, group: &str, partitions: &[(Arc<str>, i32)]) {
        if self.pending.contains_key(group) {
            let forgotten = |o: &CommittedOffset| partitions.iter().any(|(t, p)| *t == o.topic && *p == o.partition);
            self.retain_offsets(|of, offset| of != group || !forgotten(offset));
        }
    }

    pub(crate) fn producer_ids_below(&self) -> i64 {
        self.producer_ids_below
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Transaction>> {
        self.by_id.get(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Transaction>)> {
        self.by_id.iter()
    }

    /// Transactions that take more.
    pub(crate) fn ongoing(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Transaction>)> {
        self.ongoing.iter().filter_map(|id| self.by_id.get_key_value(id))
    }

    /// Transactions whose markers are still to be written.
    pub(crate) fn decided(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Transaction>)> {
        self.decided.iter().filter_map(|id| self.by_id.get_key_value(id))
    }

    /// True where a batch of this producer may be written to this partition now.
    pub(crate) fn is_open(&self, producer: Producer, topic: &str, partition: i32) -> bool {
        let transaction = self.by_producer.get(&producer.id).and_then(|id| self.by_id.get(id));
        transaction.is_some_and(|t| t.is_open_for(producer) && t.has_partition(topic, partition))
    }

    /// The epoch under which a producer id is held.
    pub(crate) fn current_epoch(&self, producer_id: i64) -> Option<i16> {
        let transaction = self.by_producer.get(&producer_id).and_then(|id| self.by_id.get(id));
        transaction.filter(|t| t.producer.id == producer_id).map(|t| t.producer.epoch)
    }

    /// True where a transaction of this producer id, open or decided, will end in this partition.
    pub(crate) fn will_end(&self, producer_id: i64, topic: &str, partition: i32) -> bool {
        let transaction = self.by_producer.get(&producer_id).and_then(|id| self.by_id.get(id));
        transaction
            .is_some_and(|t| (t.phase == Phase::Ongoing || t.phase.is_decided()) && t.has_partition(topic, partition))
    }

    /// Partitions of which an ongoing transaction holds an offset of the group.
    pub(crate) fn pending(&self, group: &str) -> BTreeSet<(Arc<str>, i32)> {
        let ids = self.pending.get(group).into_iter().flatten();
        let offsets = ids.filter_map(|id| self.by_id.get(id)?.offsets.get(group));
        offsets.flat_map(|offsets| offsets.keys().cloned()).collect()
    }
}
