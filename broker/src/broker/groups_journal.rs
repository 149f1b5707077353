//! The coordinator's journal as consumer groups use it.

use std::sync::Arc;

use super::committer::{self, Done, IsExpired};
use super::inner::Inner;
use crate::clock::Clock;
use crate::coordinator::{CoordinatorView, Entry, Expired};
use crate::error::BrokerError;

/// Writes to the journal and reads what is durable. Does not keep the broker open: what is written after it closed is refused.
#[derive(Clone)]
pub(crate) struct GroupsJournal {
    inner: Arc<Inner>,
}

impl super::Broker {
    /// The journal of consumer groups.
    pub(crate) fn groups_journal(&self) -> GroupsJournal {
        GroupsJournal { inner: Arc::clone(&self.inner) }
    }
}

impl GroupsJournal {
    /// Hands an entry to the journal. What is handed over first is written first; `done` is called once it is durable, or has failed.
    pub(crate) fn record(&self, entry: Entry, done: Done<()>) -> Result<(), BrokerError> {
        self.inner.send_commit(committer::Command::Record { entry, done })
    }

    /// Forgets the offsets of a group for which `expired` holds and, with `and_group`, the group itself where none is left.
    pub(crate) fn expire_offsets(
        &self,
        group: Arc<str>,
        and_group: bool,
        expired: IsExpired,
        done: Done<Expired>,
    ) -> Result<(), BrokerError> {
        self.inner.send_commit(committer::Command::Expire { group, and_group, expired, done })
    }

    /// What is durable.
    pub(crate) fn view(&self) -> &CoordinatorView {
        &self.inner.coordinator
    }

    /// The broker's clock.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }
}
