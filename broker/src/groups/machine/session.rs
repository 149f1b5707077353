//! Signs of life, leaving, and what happens when time is up.

use std::sync::Arc;

use super::{GroupMachine, GroupState, Now};
use crate::groups::GroupError;

/// A member that leaves, or is made to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaver {
    /// Empty where an administrator names a static member by its instance id.
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    /// Why, for people who read logs.
    pub(crate) reason: Option<Arc<str>>,
}

/// What has to happen next, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Due {
    Pending(Arc<str>),
    Session(Arc<str>),
    Join,
    Sync,
}

impl GroupMachine {
    /// A member says that it lives.
    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.has_shown_life(now, member_id);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
        }
    }

    pub(super) fn has_shown_life(&mut self, now: Now, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.expect_sign_of_life(now.elapsed_ms);
        }
    }

    /// Members leave. Answers per member; nobody is kept because of another one's error.
    pub(crate) fn leave(&mut self, now: Now, leavers: &[Leaver]) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let outcomes: Vec<_> = leavers.iter().map(|leaver| self.leave_one(leaver)).collect();
        if outcomes.iter().any(Result::is_ok) {
            match self.state {
                GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now),
                GroupState::PreparingRebalance => self.complete_if_all_joined(now),
                GroupState::Empty | GroupState::Dead => {}
            }
        }
        Ok(outcomes)
    }

    fn leave_one(&mut self, leaver: &Leaver) -> Result<(), GroupError> {
        let id = match &leaver.instance_id {
            Some(instance_id) if leaver.member_id.is_empty() => {
                Arc::clone(self.members.member_of_instance(instance_id).ok_or(GroupError::UnknownMemberId)?)
            }
            _ => Arc::clone(&leaver.member_id),
        };
        if self.pending.remove(&id).is_none() {
            self.check_member(&id, leaver.instance_id.as_deref())?;
            self.remove_member(&id);
        }
        let reason = leaver.reason.as_deref().unwrap_or("not said");
        tracing::info!(group = %self.name, member = %id, reason, "a member leaves");
        Ok(())
    }

    /// Takes a member out. Where it waits for us it is told to come anew, if it is there at all.
    fn remove_member(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(ticket) = member.join {
            self.refuse_join(ticket, GroupError::UnknownMemberId, "");
        }
        if let Some(ticket) = member.sync {
            self.answer_sync(ticket, Err(GroupError::UnknownMemberId));
        }
    }

    /// When [`Self::tick`] has something to do; `None` while nobody is waited for.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.next_due().map(|(at_ms, _)| at_ms)
    }

    fn next_due(&self) -> Option<(i64, Due)> {
        let pending = self.pending.iter().map(|(id, at)| (*at, Due::Pending(Arc::clone(id))));
        let sessions = self.members.iter().filter_map(|m| Some((m.deadline_ms?, Due::Session(Arc::clone(&m.id)))));
        let join = self.join_timer.map(|timer| (timer.at_ms(), Due::Join));
        let sync = self.sync_deadline_ms.map(|at| (at, Due::Sync));
        pending.chain(sessions).chain(join).chain(sync).min_by_key(|(at_ms, _)| *at_ms)
    }

    /// Does what is due, in the order in which it became so.
    pub(crate) fn tick(&mut self, now: Now) {
        while let Some((at_ms, due)) = self.next_due() {
            if at_ms > now.elapsed_ms {
                return;
            }
            match due {
                Due::Pending(id) => {
                    tracing::info!(group = %self.name, member = %id, "a member that was given an id did not come back with it");
                    self.pending.remove(&id);
                    self.complete_without(now);
                }
                Due::Session(id) => self.session_is_over(now, &id),
                Due::Join => self.join_time_is_up(now),
                Due::Sync => self.sync_time_is_up(now),
            }
        }
    }

    fn session_is_over(&mut self, now: Now, id: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        if member.is_excused() {
            // Waiting for our answer, after which it has its session timeout anew.
            member.deadline_ms = None;
            return;
        }
        tracing::info!(group = %self.name, member = %id, session_timeout_ms = member.session_timeout_ms, "a member was not heard of in time");
        metrics::counter!("highwater_broker_group_members_expired_total").increment(1);
        self.remove_member(id);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now),
            _ => self.complete_without(now),
        }
    }

    /// Somebody who was waited for is gone: perhaps nobody is waited for any more.
    fn complete_without(&mut self, now: Now) {
        if self.state == GroupState::PreparingRebalance && self.have_all_joined() {
            self.complete_join(now);
        }
    }

    fn sync_time_is_up(&mut self, now: Now) {
        self.sync_deadline_ms = None;
        let late = std::mem::take(&mut self.pending_sync);
        if late.is_empty() || !matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable) {
            return;
        }
        for id in late {
            tracing::info!(group = %self.name, member = %id, "a member did not ask for its assignment in time");
            self.remove_member(&id);
        }
        self.prepare_rebalance(now);
    }
}
