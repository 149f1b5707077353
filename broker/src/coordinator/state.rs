//! What is durable, and the view of it that readers share.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;

use super::entry::{Committed, CommittedOffset, Entry};
use super::group::StoredGroup;
use crate::log::OngoingTransactions;
use crate::topic::GroupOffset;
use crate::transactions::machine::{Producer, TransactionTable};

/// Offsets of a group by topic and partition.
pub(super) type Offsets = BTreeMap<(Arc<str>, i32), Durable>;

/// What all synced entries add up to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(super) offsets: BTreeMap<Arc<str>, Offsets>,
    pub(super) epochs: BTreeMap<Arc<str>, i32>,
    groups: BTreeMap<Arc<str>, StoredGroup>,
    pub(super) transactions: TransactionTable,
}

/// A committed offset and the topic it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) topic_id: Uuid,
    pub(super) committed: Committed,
}

/// The readers' side, shared.
#[derive(Debug, Default)]
pub(crate) struct CoordinatorView {
    pub(super) state: RwLock<State>,
}

impl CoordinatorView {
    /// A group's offsets as callers in this process know them, sorted by topic and partition.
    pub(crate) fn committed(&self, group: &str) -> Vec<GroupOffset> {
        let as_group_offset = |CommittedOffset { topic, partition, committed, .. }| GroupOffset {
            topic,
            partition,
            offset: committed.offset,
            metadata: committed.metadata,
        };
        self.offsets(group).into_iter().map(as_group_offset).collect()
    }

    /// A group's offsets with all that is kept of them, sorted by topic and partition.
    pub(crate) fn offsets(&self, group: &str) -> Vec<CommittedOffset> {
        let state = self.state.read();
        let Some(offsets) = state.offsets.get(group) else { return Vec::new() };
        offsets.iter().map(|(key, durable)| durable.with_key(key)).collect()
    }

    /// One offset of a group.
    pub(crate) fn offset(&self, group: &str, topic: &Arc<str>, partition: i32) -> Option<Committed> {
        let state = self.state.read();
        let durable = state.offsets.get(group)?.get(&(Arc::clone(topic), partition))?;
        Some(durable.committed.clone())
    }

    /// True where a group has committed an offset that still counts.
    pub(crate) fn has_offsets(&self, group: &str) -> bool {
        self.state.read().offsets.contains_key(group)
    }

    /// Names of the groups that committed an offset, sorted.
    pub(crate) fn groups(&self) -> Vec<String> {
        self.state.read().offsets.keys().map(|name| name.to_string()).collect()
    }

    /// Groups that have, or had, members.
    pub(crate) fn stored_groups(&self) -> Vec<(Arc<str>, StoredGroup)> {
        let state = self.state.read();
        state.groups.iter().map(|(name, group)| (Arc::clone(name), group.clone())).collect()
    }

    /// The lowest offset that any group whose name starts with `prefix` committed for this partition.
    pub(crate) fn lowest(&self, prefix: &str, topic: &Arc<str>, partition: i32) -> Option<i64> {
        let state = self.state.read();
        let key = (Arc::clone(topic), partition);
        let groups = state.offsets.iter().filter(|(name, _)| name.starts_with(prefix));
        groups.filter_map(|(_, offsets)| offsets.get(&key)).map(|durable| durable.committed.offset).min()
    }

    /// What is durable of transactions.
    pub(crate) fn with_transactions<T>(&self, look: impl FnOnce(&TransactionTable) -> T) -> T {
        look(&self.state.read().transactions)
    }

    /// The epoch in charge of a task; 0 where it was never begun.
    pub(crate) fn epoch(&self, task: &str) -> i32 {
        self.state.read().epochs.get(task).copied().unwrap_or(0)
    }
}

impl OngoingTransactions for CoordinatorView {
    fn current_epoch(&self, producer_id: i64) -> Option<i16> {
        self.with_transactions(|table| table.current_epoch(producer_id))
    }

    fn is_open(&self, producer_id: i64, epoch: i16, topic: &str, partition: i32) -> bool {
        self.with_transactions(|table| table.is_open(Producer { id: producer_id, epoch }, topic, partition))
    }
}

impl State {
    pub(super) fn replay(entries: Vec<Entry>, topic_id: impl Fn(&str) -> Option<Uuid>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.apply(entry);
        }
        state.retain_offsets(|topic, durable| topic_id(topic) == Some(durable.topic_id));
        state.transactions.retain_offsets(|_, pending| topic_id(&pending.topic) == Some(pending.topic_id));
        state
    }

    pub(super) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Commit { group, offsets } => {
                let known = self.offsets.entry(group).or_default();
                for CommittedOffset { topic, topic_id, partition, committed } in offsets {
                    known.insert((topic, partition), Durable { topic_id, committed });
                }
            }
            Entry::Epoch { task, epoch } => {
                let known = self.epochs.entry(task).or_insert(epoch);
                *known = epoch.max(*known);
            }
            Entry::Group { group, state } => {
                self.groups.insert(group, *state);
            }
            Entry::ForgetOffsets { group, partitions } => {
                self.transactions.forget_offsets(&group, &partitions);
                if let Some(known) = self.offsets.get_mut(&group) {
                    for key in partitions {
                        known.remove(&key);
                    }
                    if known.is_empty() {
                        self.offsets.remove(&group);
                    }
                }
            }
            Entry::DeleteGroup { group } => {
                self.transactions.forget_group(&group);
                self.offsets.remove(&group);
                self.groups.remove(&group);
            }
            Entry::Transaction(entry) => {
                for (group, offsets) in self.transactions.apply(entry) {
                    self.apply(Entry::Commit { group, offsets: offsets.into_values().collect() });
                }
            }
        }
    }

    pub(super) fn retain_offsets(&mut self, keep: impl Fn(&str, &Durable) -> bool) {
        for offsets in self.offsets.values_mut() {
            offsets.retain(|(topic, _), durable| keep(topic, durable));
        }
        self.offsets.retain(|_, offsets| !offsets.is_empty());
    }

    /// The partitions of a group for which `expired` holds, and how many are left. One that a transaction is about to change stays, and so
    /// does what a transaction is about to bring.
    pub(super) fn expired(
        &self,
        group: &str,
        expired: impl Fn(&str, i32, &Committed) -> bool,
    ) -> (Vec<(Arc<str>, i32)>, usize) {
        let pending = self.transactions.pending(group);
        let Some(offsets) = self.offsets.get(group) else { return (Vec::new(), pending.len()) };
        let has_expired = |key: &(Arc<str>, i32), durable: &Durable| {
            !pending.contains(key) && expired(&key.0, key.1, &durable.committed)
        };
        let (gone, left): (Vec<_>, Vec<_>) = offsets.iter().partition(|(key, durable)| has_expired(key, durable));
        (gone.into_iter().map(|(key, _)| key.clone()).collect(), left.len() + pending.len())
    }

    /// The fewest entries that make this state.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let epochs = self.epochs.iter().map(|(task, epoch)| Entry::Epoch { task: Arc::clone(task), epoch: *epoch });
        let groups = self
            .groups
            .iter()
            .map(|(group, state)| Entry::Group { group: Arc::clone(group), state: Box::new(state.clone()) });
        let commits = self.offsets.iter().flat_map(|(group, offsets)| {
            offsets
                .iter()
                .map(|(key, durable)| Entry::Commit { group: Arc::clone(group), offsets: vec![durable.with_key(key)] })
        });
        let transactions = self.transactions.entries().map(Entry::Transaction);
        epochs.chain(groups).chain(commits).chain(transactions).collect()
    }
}

impl Durable {
    fn with_key(&self, (topic, partition): &(Arc<str>, i32)) -> CommittedOffset {
        CommittedOffset {
            topic: Arc::clone(topic),
            topic_id: self.topic_id,
            partition: *partition,
            committed: self.committed.clone(),
        }
    }
}
