//! Who may commit, delete and expire what.

use super::rebalance::CONSUMER;
use super::{GroupMachine, GroupState, Now};
use crate::coordinator::Committed;
use crate::groups::GroupError;

/// Whose offsets of a group may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetDeletion {
    /// This topic's may.
    Allowed,
    /// The group reads the topic.
    Subscribed,
}

/// Which offsets of a group have expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpiryRule {
    /// What to count from instead of the commit: when the group became empty.
    since_ms: Option<i64>,
    /// Topics that are read just now: their offsets never expire.
    kept: std::collections::BTreeSet<String>,
    retention_ms: i64,
    now_ms: i64,
}

impl ExpiryRule {
    /// True where an offset has expired. Offsets that are kept for ever never do.
    pub(crate) fn has_expired(&self, topic: &str, committed: &Committed) -> bool {
        let Some(committed_at_ms) = committed.committed_at_ms else { return false };
        if self.kept.contains(topic) {
            return false;
        }
        match committed.expires_at_ms {
            Some(at_ms) => self.now_ms >= at_ms,
            None => self.now_ms - self.since_ms.unwrap_or(committed_at_ms) >= self.retention_ms,
        }
    }
}

impl GroupMachine {
    /// Whether a commit counts. Without member and generation it is that of a client that assigns itself, which it may while the group has no
    /// members. Transactional commits are let in while the group rebalances, and without a member at any time: old clients do not name one.
    pub(crate) fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        transactional: bool,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(GroupError::IllegalGeneration);
            }
        } else if !transactional {
            return Err(GroupError::UnknownMemberId);
        }
        if !transactional && self.state == GroupState::CompletingRebalance {
            // Its generation is right, so it is told to go on with the rebalance.
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whoever commits lives.
    pub(crate) fn has_committed(&mut self, now: Now, member_id: &str) {
        if matches!(self.state, GroupState::Stable | GroupState::PreparingRebalance) {
            self.has_shown_life(now, member_id);
        }
    }

    /// Whether the group may be deleted.
    pub(crate) fn check_delete(&self) -> Result<(), GroupError> {
        match self.state {
            GroupState::Empty => Ok(()),
            GroupState::Dead => Err(GroupError::GroupIdNotFound),
            _ => Err(GroupError::NonEmptyGroup),
        }
    }

    /// From now on the group is on its way out: nothing is let in. [`Self::revive`] takes that back. Whoever was given an id has to start anew.
    pub(crate) fn kill(&mut self, now: Now) {
        self.pending.clear();
        self.enter(GroupState::Dead, now);
    }

    /// The group could not be deleted.
    pub(crate) fn revive(&mut self, now: Now) {
        if self.state == GroupState::Dead {
            self.enter(GroupState::Empty, now);
        }
    }

    /// Whether offsets of the group may be deleted at all.
    pub(crate) fn check_offset_delete(&self) -> Result<(), GroupError> {
        match self.state {
            GroupState::Empty => Ok(()),
            GroupState::Dead => Err(GroupError::GroupIdNotFound),
            _ if self.is_of_consumers() => Ok(()),
            _ => Err(GroupError::NonEmptyGroup),
        }
    }

    /// Whether offsets of this topic may be deleted.
    pub(crate) fn offset_deletion(&self, topic: &str) -> OffsetDeletion {
        let reads = self.subscribed.as_ref().map_or(self.is_of_consumers(), |topics| topics.contains(topic));
        if reads { OffsetDeletion::Subscribed } else { OffsetDeletion::Allowed }
    }

    fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Which offsets have expired; `None` while none may.
    pub(crate) fn expiry_rule(&self, now_ms: i64) -> Option<ExpiryRule> {
        let rule = |since_ms, kept| {
            Some(ExpiryRule { since_ms, kept, retention_ms: self.settings.offsets_retention_ms, now_ms })
        };
        match (&self.protocol_type, self.state) {
            // Clients that assign themselves: they keep what they commit to.
            (None, _) => rule(None, Default::default()),
            (Some(_), GroupState::Empty) => rule(Some(self.since_ms), Default::default()),
            (Some(_), GroupState::Stable) if self.is_of_consumers() => rule(None, self.subscribed.clone()?),
            _ => None,
        }
    }

    /// True where nothing would be lost with the group but its offsets.
    pub(crate) fn may_be_forgotten(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty()
    }
}
