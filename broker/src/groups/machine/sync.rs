//! Assignments: the leader brings them, the others fetch theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Effect, GroupMachine, GroupState, Now, Stored, Ticket};
use crate::groups::GroupError;

/// A member asks for its assignment; the leader brings everyone's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncRequest {
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) generation: i32,
    /// What the member takes the group's protocol type to be; clients before version 5 do not say.
    pub(crate) protocol_type: Option<Arc<str>>,
    /// What the member takes the chosen protocol to be; clients before version 5 do not say.
    pub(crate) protocol: Option<Arc<str>>,
    /// Of the leader only, by member id.
    pub(crate) assignments: Vec<(Arc<str>, Bytes)>,
}

impl GroupMachine {
    /// A sync. `ticket` is answered now or when the leader's assignment is durable.
    pub(crate) fn sync(&mut self, now: Now, request: SyncRequest, ticket: Ticket) {
        if let Err(error) = self.check_sync(&request) {
            return self.answer_sync(ticket, Err(error));
        }
        let id = request.member_id;
        match self.state {
            GroupState::CompletingRebalance => {
                self.has_synced(&id);
                let earlier = self.members.get_mut(&id).and_then(|member| member.sync.replace(ticket));
                if let Some(earlier) = earlier {
                    self.answer_sync(earlier, Err(GroupError::RebalanceInProgress));
                }
                // A leader that asks again while its assignment is being written gets that one: a second could be the one that lasts.
                if self.members.is_leader(&id) && self.assigning != Some(self.generation) {
                    self.store_assignment(now, request.assignments);
                }
            }
            GroupState::Stable => {
                self.has_synced(&id);
                let synced = self.synced(&id);
                self.answer_sync(ticket, Ok(synced));
            }
            GroupState::PreparingRebalance => self.answer_sync(ticket, Err(GroupError::RebalanceInProgress)),
            GroupState::Empty | GroupState::Dead => self.answer_sync(ticket, Err(GroupError::UnknownMemberId)),
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |said: &Option<Arc<str>>, is: &Option<Arc<str>>| said.is_some() && is.is_some() && said != is;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, id: &str) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_deadline_ms = None;
        }
    }

    fn store_assignment(&mut self, now: Now, assignments: Vec<(Arc<str>, Bytes)>) {
        let assignments: BTreeMap<Arc<str>, Bytes> = assignments.into_iter().collect();
        self.assigning = Some(self.generation);
        let state = self.store(now, |member| assignments.get(&member.id).cloned().unwrap_or_default());
        let why = Stored::Assignment { generation: self.generation, assignments };
        self.effects.push(Effect::Store { state, why });
    }

    /// A record is durable, or could not be written.
    pub(crate) fn stored(&mut self, now: Now, why: Stored, outcome: Result<(), GroupError>) {
        match why {
            Stored::Assignment { generation, assignments } => {
                self.assigning.take_if(|assigning| *assigning == generation);
                // Where somebody has joined meanwhile, the assignment is out of date.
                if self.state == GroupState::CompletingRebalance && self.generation == generation {
                    match outcome {
                        Ok(()) => self.hand_out(now, &assignments),
                        Err(error) => {
                            self.drop_assignments(now, error);
                            self.prepare_rebalance(now);
                        }
                    }
                }
            }
            Stored::Replacement(replacement) => self.replacement_stored(now, *replacement, outcome.is_ok()),
            Stored::Emptied => {
                if let Err(error) = outcome {
                    // After a restart the members of the generation before are back, and their sessions end.
                    tracing::warn!(group = %self.name, %error, "that a group is empty could not be written");
                }
            }
        }
    }

    fn hand_out(&mut self, now: Now, assignments: &BTreeMap<Arc<str>, Bytes>) {
        self.enter(GroupState::Stable, now);
        metrics::counter!("highwater_broker_group_rebalances_total").increment(1);
        tracing::info!(
            group = %self.name, generation = self.generation, members = self.members.len(),
            protocol = self.protocol.as_deref().unwrap_or_default(), "group is stable"
        );
        for id in self.members.ids() {
            let ticket = self.members.get_mut(&id).and_then(|member| {
                member.assignment = assignments.get(&id).cloned().unwrap_or_default();
                let waiting = member.sync.take();
                if waiting.is_some() {
                    member.expect_sign_of_life(now.elapsed_ms);
                }
                waiting
            });
            if let Some(ticket) = ticket {
                let synced = self.synced(&id);
                self.answer_sync(ticket, Ok(synced));
            }
        }
    }
}
