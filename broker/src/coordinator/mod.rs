//! Committed offsets and membership of consumer groups, and epochs of tasks: small, durable, and shared by all topics. Like the partition log this is
//! a synchronous core; one thread of the broker drives it, and commits that arrive together share one sync.
//!
//! Invariants:
//! - Callers are answered after the sync; readers ([`CoordinatorView`]) see only what is synced.
//! - An epoch is higher than any given out before for its task, and than any found in a partition.
//! - A commit made under a task's epoch is refused once a newer epoch was begun.
//! - What a transaction commits or aborts is decided by one entry, with the offsets that it commits.
//! - An offset belongs to a topic's id: made for a topic that was deleted, it does not count for a new one of the same name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;

use crate::error::BrokerError;
use crate::fs::Fs;
use crate::topic::GroupOffset;
use crate::transactions::machine::{Step, TransactionMachine};
use crate::transactions::{TransactionError, TransactionSettings};

mod entry;
mod group;
mod journal;
mod state;
#[cfg(test)]
mod tests;
mod transaction_entry;
mod wire;

pub(crate) use entry::{Committed, CommittedOffset, Entry};
pub(crate) use group::{StoredGroup, StoredMember};
pub(crate) use state::CoordinatorView;

use journal::Journal;
use state::State;

/// The journal is written anew once it is this large and holds mostly what later entries replaced.
const COMPACT_ABOVE_BYTES: u64 = 4 << 20;
/// Limit of a group's or task's name, in bytes.
const MAX_NAME_SIZE_BYTES: usize = 1024;
/// Limit of the text kept with an offset, in bytes.
const MAX_METADATA_SIZE_BYTES: usize = 64 << 10;

/// A group's offset with the identity of its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetOfTopic {
    pub(crate) topic_id: Uuid,
    pub(crate) offset: GroupOffset,
}

/// What [`Coordinator::expire`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    /// How many offsets count no more.
    pub(crate) offsets: usize,
    /// True where the group went with them.
    pub(crate) deleted: bool,
}

/// The writer's side.
pub(crate) struct Coordinator {
    journal: Journal,
    view: Arc<CoordinatorView>,
    /// Epochs including those not yet synced.
    epochs: BTreeMap<Arc<str>, i32>,
    /// Transactions including what is not yet synced.
    transactions: TransactionMachine,
    /// Written, not yet synced, not yet visible.
    staged: Vec<Entry>,
    stopped: Option<String>,
}

impl Coordinator {
    /// Opens the coordinator in this directory, which must exist. `topic_id` tells which topics there are.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        settings: TransactionSettings,
        topic_id: impl Fn(&str) -> Option<Uuid>,
    ) -> Result<Self, BrokerError> {
        let (journal, entries) = Journal::open(fs, dir)?;
        let state = State::replay(entries, topic_id);
        let epochs = state.epochs.clone();
        let transactions = TransactionMachine::new(state.transactions.clone(), settings);
        let view = Arc::new(CoordinatorView { state: RwLock::new(state) });
        Ok(Self { journal, view, epochs, transactions, staged: Vec::new(), stopped: None })
    }

    /// Reads the state as it is now, changing nothing.
    pub(crate) fn open_read_only(
        fs: &dyn Fs,
        dir: &std::path::Path,
        topic_id: impl Fn(&str) -> Option<Uuid>,
    ) -> Result<CoordinatorView, BrokerError> {
        let state = State::replay(Journal::read(fs, dir)?, topic_id);
        Ok(CoordinatorView { state: RwLock::new(state) })
    }

    pub(crate) fn view(&self) -> &Arc<CoordinatorView> {
        &self.view
    }

    /// Raises a task's epoch to one that a partition has seen.
    pub(crate) fn raise_epoch(&mut self, task: &Arc<str>, epoch: i32) {
        for epochs in [&mut self.epochs, &mut self.view.state.write().epochs] {
            let known = epochs.entry(Arc::clone(task)).or_insert(epoch);
            *known = epoch.max(*known);
        }
    }

    /// Writes a commit; it counts once [`Self::sync`] has returned.
    pub(crate) fn commit(
        &mut self,
        group: &Arc<str>,
        offsets: Vec<OffsetOfTopic>,
        task: Option<(&str, i32)>,
    ) -> Result<(), BrokerError> {
        self.check_running()?;
        check_name("group", group)?;
        if let Some((task, epoch)) = task {
            let current = self.epochs.get(task).copied().unwrap_or(0);
            if epoch != current {
                return Err(BrokerError::Fenced { task: task.to_owned(), epoch, current });
            }
        }
        for OffsetOfTopic { offset, .. } in &offsets {
            let invalid = |reason: String| BrokerError::InvalidRequest {
                topic: offset.topic.to_string(),
                partition: offset.partition,
                reason,
            };
            if offset.metadata.len() > MAX_METADATA_SIZE_BYTES {
                return Err(invalid(format!(
                    "metadata of a committed offset is above {MAX_METADATA_SIZE_BYTES} bytes"
                )));
            }
            if offset.offset < 0 {
                return Err(invalid(format!("offset {} cannot be committed: it is negative", offset.offset)));
            }
        }
        let offsets = offsets
            .into_iter()
            .map(|OffsetOfTopic { topic_id, offset }| CommittedOffset {
                topic: offset.topic,
                topic_id,
                partition: offset.partition,
                committed: Committed {
                    offset: offset.offset,
                    leader_epoch: -1,
                    metadata: offset.metadata,
                    committed_at_ms: None,
                    expires_at_ms: None,
                },
            })
            .collect();
        self.write(Entry::Commit { group: Arc::clone(group), offsets })
    }

    /// Writes the next epoch of a task; it counts once [`Self::sync`] has returned.
    pub(crate) fn begin(&mut self, task: &Arc<str>) -> Result<i32, BrokerError> {
        self.check_running()?;
        check_name("task", task)?;
        let last = self.epochs.get(task).copied().unwrap_or(0);
        let epoch = last.checked_add(1).ok_or_else(|| BrokerError::InvalidConfig {
            what: format!("task {task} has used up its epochs; give it another name"),
        })?;
        self.write(Entry::Epoch { task: Arc::clone(task), epoch })?;
        self.epochs.insert(Arc::clone(task), epoch);
        Ok(epoch)
    }

    /// Writes an entry that its sender has checked; it counts once [`Self::sync`] has returned.
    pub(crate) fn record(&mut self, entry: Entry) -> Result<(), BrokerError> {
        self.check_running()?;
        self.write(entry)
    }

    /// Has the machine of transactions decide, and writes what it decided; it counts once [`Self::sync`] has returned.
    pub(crate) fn transact<T>(
        &mut self,
        decide: impl FnOnce(&mut TransactionMachine) -> Step<T>,
    ) -> Result<T, TransactionError> {
        self.check_running()?;
        let Step { entries, answer } = decide(&mut self.transactions);
        for entry in entries {
            self.write(Entry::Transaction(entry))?;
        }
        answer
    }

    /// Gives out no producer id up to one that a partition has seen.
    pub(crate) fn raise_producer_id(&mut self, seen: i64) {
        self.transactions.raise_producer_id(seen);
    }

    /// Writes that the offsets of a group for which `expired` holds count no more, and with `and_group` that the group is no more, where
    /// no offset is left. Decides on everything written before, so what of it concerns the group is synced first.
    pub(crate) fn expire(
        &mut self,
        group: &Arc<str>,
        and_group: bool,
        expired: impl Fn(&str, i32, &Committed) -> bool,
    ) -> Result<Expired, BrokerError> {
        if self.staged.iter().any(|entry| entry.concerns(group)) {
            self.sync()?;
        }
        let (partitions, left) = self.view.state.read().expired(group, expired);
        let offsets = partitions.len();
        let deleted = and_group && left == 0;
        if deleted {
            self.record(Entry::DeleteGroup { group: Arc::clone(group) })?;
        } else if offsets > 0 {
            self.record(Entry::ForgetOffsets { group: Arc::clone(group), partitions })?;
        }
        Ok(Expired { offsets, deleted })
    }

    fn write(&mut self, entry: Entry) -> Result<(), BrokerError> {
        match self.journal.append(&entry) {
            Ok(()) => {
                match &entry {
                    Entry::Transaction(entry) => self.transactions.apply(entry.clone()),
                    Entry::DeleteGroup { group } => self.transactions.table_mut().forget_group(group),
                    Entry::ForgetOffsets { group, partitions } => {
                        self.transactions.table_mut().forget_offsets(group, partitions);
                    }
                    Entry::Commit { .. } | Entry::Epoch { .. } | Entry::Group { .. } => {}
                }
                self.staged.push(entry);
                Ok(())
            }
            Err(error) if error.is_retryable() || matches!(error, BrokerError::InvalidConfig { .. }) => Err(error),
            Err(error) => Err(self.stop(&error)),
        }
    }

    /// Makes everything written durable and visible.
    pub(crate) fn sync(&mut self) -> Result<(), BrokerError> {
        self.check_running()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.journal.sync() {
            return Err(self.stop(&error));
        }
        let mut state = self.view.state.write();
        for entry in self.staged.drain(..) {
            state.apply(entry);
        }
        drop(state);
        self.compact_if_due()
    }

    /// Forgets the offsets of a topic that was deleted. Nothing is written: they name an id that will not come back.
    pub(crate) fn forget_topic(&mut self, topic_id: Uuid) {
        self.transactions.table_mut().retain_offsets(|_, pending| pending.topic_id != topic_id);
        let mut state = self.view.state.write();
        state.transactions.retain_offsets(|_, pending| pending.topic_id != topic_id);
        state.retain_offsets(|_, durable| durable.topic_id != topic_id);
    }

    fn compact_if_due(&mut self) -> Result<(), BrokerError> {
        if !self.journal.is_compaction_due(COMPACT_ABOVE_BYTES) {
            return Ok(());
        }
        let entries = self.view.state.read().entries();
        match self.journal.replace(&entries) {
            Ok(()) => Ok(()),
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "the journal of committed offsets cannot be compacted now");
                Ok(())
            }
            Err(error) => Err(self.stop(&error)),
        }
    }

    fn check_running(&self) -> Result<(), BrokerError> {
        self.stopped.as_ref().map_or(Ok(()), |reason| {
            Err(BrokerError::Stopped { what: "the journal of committed offsets".into(), reason: reason.clone() })
        })
    }

    fn stop(&mut self, error: &BrokerError) -> BrokerError {
        let reason = error.to_string();
        tracing::error!(reason, "committed offsets and task epochs take no writes any more");
        self.stopped = Some(reason.clone());
        BrokerError::Stopped { what: "the journal of committed offsets".into(), reason }
    }
}

fn check_name(what: &str, name: &str) -> Result<(), BrokerError> {
    if name.is_empty() || name.len() > MAX_NAME_SIZE_BYTES || name.contains('\0') {
        return Err(BrokerError::InvalidConfig {
            what: format!(
                "a {what} name has 1 to {MAX_NAME_SIZE_BYTES} bytes and no NUL, unlike {:?}",
                name.chars().take(80).collect::<String>()
            ),
        });
    }
    Ok(())
}
