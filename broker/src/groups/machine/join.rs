//! Joining: members without an id, members that come back, static members that replace themselves.

use std::sync::Arc;

use uuid::Uuid;

use super::member::{Member, Protocol};
use super::{Effect, GroupMachine, GroupState, Now, Replacement, Stored, Ticket, roster};
use crate::groups::GroupError;

/// A member wants in, or has something new to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRequest {
    /// Empty where the member has none yet.
    pub(crate) member_id: Arc<str>,
    /// Of a static member: the name under which it comes back after a restart.
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: Arc<str>,
    /// In order of preference.
    pub(crate) protocols: Vec<Protocol>,
    /// Why it joins, for people who read logs.
    pub(crate) reason: Option<Arc<str>>,
    /// True where the client has to come back with the id it is given, before it counts: it will not be counted twice if it asks twice.
    pub(crate) needs_member_id_first: bool,
    /// True where the client understands that it leads without having to assign.
    pub(crate) can_skip_assignment: bool,
}

impl GroupMachine {
    /// A join. `fresh` goes into the member's id if it needs one; `ticket` is answered now or when the members are complete.
    pub(crate) fn join(&mut self, now: Now, request: JoinRequest, fresh: Uuid, ticket: Ticket) {
        let id = Arc::clone(&request.member_id);
        if !self.has_room_for(&request) {
            self.members.remove(&id);
            self.pending.remove(&id);
            self.refuse_join(ticket, GroupError::GroupMaxSizeReached, "");
            // It may have been the one that the others waited for.
            return self.complete_if_all_joined(now);
        }
        if self.state == GroupState::Dead {
            return self.refuse_join(ticket, GroupError::CoordinatorNotAvailable, &id);
        }
        if !self.understands(&request) {
            return self.refuse_join(ticket, GroupError::InconsistentGroupProtocol, &id);
        }
        if id.is_empty() {
            self.join_as_new(now, request, fresh, ticket);
        } else if self.pending.contains_key(&id) && request.instance_id.is_none() {
            self.add_member(now, id, request, ticket);
        } else {
            self.join_again(now, request, ticket);
        }
    }

    /// Existing members are let in; new ones while there is room. While members join, it counts who has joined: so after the limit was
    /// lowered, the last to join are left out.
    fn has_room_for(&self, request: &JoinRequest) -> bool {
        let id = request.member_id.as_ref();
        let brought = self.members.get(id).map_or(0, |member| roster::size_of(&member.protocols));
        let size_bytes = self.members.size_bytes() - brought + roster::size_of(&request.protocols);
        if size_bytes > self.settings.max_group_metadata_size_bytes {
            return false;
        }
        let limit = self.settings.max_members;
        let unjoined = self.pending.len() < limit || self.pending.contains_key(id) || self.members.contains(id);
        unjoined
            && match self.state {
                GroupState::Empty | GroupState::Dead => true,
                GroupState::PreparingRebalance => {
                    let joined = |m: &Member| m.join.is_some();
                    self.members.get(id).is_some_and(joined)
                        || self.members.iter().filter(|m| joined(m)).count() < limit
                }
                GroupState::CompletingRebalance | GroupState::Stable => {
                    self.members.contains(id) || self.members.len() < limit
                }
            }
    }

    /// Whether the member does what the others do, and in a way that all know.
    fn understands(&self, request: &JoinRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type) && self.members.all_know_one_of(&request.protocols)
    }

    fn join_as_new(&mut self, now: Now, request: JoinRequest, fresh: Uuid, ticket: Ticket) {
        let stem = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let id: Arc<str> = format!("{stem}-{fresh}").into();
        match &request.instance_id {
            Some(instance_id) => match self.members.member_of_instance(instance_id).cloned() {
                Some(old_id) => self.replace_static(now, request, &old_id, id, ticket),
                None => self.add_member(now, id, request, ticket),
            },
            None if request.needs_member_id_first => {
                self.pending.insert(Arc::clone(&id), now.elapsed_ms + i64::from(request.session_timeout_ms));
                self.refuse_join(ticket, GroupError::MemberIdRequired, &id);
            }
            None => self.add_member(now, id, request, ticket),
        }
    }

    fn add_member(&mut self, now: Now, id: Arc<str>, request: JoinRequest, ticket: Ticket) {
        tracing::info!(
            group = %self.name, member = %id, client = %request.client_id, host = %request.client_host,
            reason = request.reason.as_deref().unwrap_or_default(), "a member joins"
        );
        self.pending.remove(&id);
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::clone(&request.protocol_type));
        }
        if let Some(timer) = &mut self.join_timer {
            timer.notice_new_member();
        }
        self.members.add(Member {
            id,
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols,
            assignment: bytes::Bytes::new(),
            join: Some(ticket),
            sync: None,
            is_new: true,
            // It does not know its id yet, so it cannot show that it lives; if nobody waits for the answer any more it must still go.
            deadline_ms: Some(now.elapsed_ms + i64::from(self.settings.new_member_join_timeout_ms)),
        });
        self.rebalance_or_complete(now);
    }

    /// A member that is in the group, or says so.
    fn join_again(&mut self, now: Now, request: JoinRequest, ticket: Ticket) {
        let id = Arc::clone(&request.member_id);
        if let Err(error) = self.check_member(&id, request.instance_id.as_deref()) {
            return self.refuse_join(ticket, error, &id);
        }
        let changed = self.members.get(&id).is_some_and(|member| member.protocols != request.protocols);
        match self.state {
            GroupState::PreparingRebalance => self.update_member(now, request, ticket),
            GroupState::CompletingRebalance if changed => self.update_member(now, request, ticket),
            // A leader that joins wants a rebalance: something has changed that its metadata does not show.
            GroupState::Stable if changed || self.members.is_leader(&id) => self.update_member(now, request, ticket),
            // Its answer got lost, or it is a follower that wants to know where things stand.
            GroupState::CompletingRebalance | GroupState::Stable => {
                let joined = self.joined(&id);
                self.answer_join(ticket, Ok(joined));
            }
            GroupState::Empty | GroupState::Dead => self.refuse_join(ticket, GroupError::UnknownMemberId, &id),
        }
    }

    fn update_member(&mut self, now: Now, request: JoinRequest, ticket: Ticket) {
        self.apply_request(
            &request.member_id,
            request.protocols,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
        );
        self.wait_for_join(&request.member_id, ticket);
        self.rebalance_or_complete(now);
    }

    fn apply_request(
        &mut self,
        id: &str,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        self.members.set_protocols(id, protocols);
        if let Some(member) = self.members.get_mut(id) {
            member.rebalance_timeout_ms = rebalance_timeout_ms;
            member.session_timeout_ms = session_timeout_ms;
        }
    }

    fn wait_for_join(&mut self, id: &str, ticket: Ticket) {
        let earlier = self.members.get_mut(id).and_then(|member| member.join.replace(ticket));
        if let Some(earlier) = earlier {
            // It asked again before it was answered, so nobody waits for the first answer any more.
            self.refuse_join(earlier, GroupError::RebalanceInProgress, id);
        }
    }

    /// A static member is back and has forgotten its id: it takes the place of the one it was.
    fn replace_static(&mut self, now: Now, request: JoinRequest, old_id: &Arc<str>, new_id: Arc<str>, ticket: Ticket) {
        let old_leader = self.members.leader().cloned();
        let Some(old) = self.members.rename(old_id, &new_id) else { return };
        tracing::info!(group = %self.name, old = %old_id, new = %new_id, "a static member is back");
        // Whoever still waits under the old id is another process with the same instance id, or gone.
        if let Some(waiting) = old.join {
            self.refuse_join(waiting, GroupError::FencedInstanceId, old_id);
        }
        if let Some(waiting) = old.sync {
            self.answer_sync(waiting, Err(GroupError::FencedInstanceId));
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(Arc::clone(&new_id));
        }
        let old = Member { join: None, sync: None, ..old };
        if let Some(member) = self.members.get_mut(&new_id) {
            member.join = Some(ticket);
            member.sync = None;
            member.is_new = false;
            member.client_id = request.client_id;
            member.client_host = request.client_host;
        }
        self.apply_request(&new_id, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms);
        if let Some(member) = self.members.get_mut(&new_id) {
            member.expect_sign_of_life(now.elapsed_ms);
        }
        match self.state {
            GroupState::Stable if self.members.elect_protocol() == self.protocol => {
                // Nothing changes for the others: the group only has to know its new id.
                let state = self.store(now, |member| member.assignment.clone());
                let why = Stored::Replacement(Box::new(Replacement {
                    generation: self.generation,
                    new_id,
                    old,
                    old_leader,
                    ticket,
                    can_skip_assignment: request.can_skip_assignment,
                }));
                self.effects.push(Effect::Store { state, why });
            }
            // The leader may be assigning to the old id just now.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now),
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => self.complete_if_all_joined(now),
        }
    }

    /// The record of a static member that came back is durable, or could not be written.
    pub(super) fn replacement_stored(&mut self, now: Now, replacement: Replacement, durable: bool) {
        let Replacement { generation, new_id, old, old_leader, ticket, can_skip_assignment } = replacement;
        let waits = self.members.get(&new_id).is_some_and(|member| member.join == Some(ticket));
        if !waits || self.state != GroupState::Stable || self.generation != generation {
            // A rebalance has begun meanwhile, and answers it; or the member is gone, and was answered.
            return;
        }
        if let Some(member) = self.members.get_mut(&new_id) {
            member.join = None;
            member.expect_sign_of_life(now.elapsed_ms);
        }
        if !durable {
            self.members.set_protocols(&new_id, old.protocols.clone());
            self.members.rename(&new_id, &old.id);
            if let Some(member) = self.members.get_mut(&old.id) {
                let protocols = std::mem::take(&mut member.protocols);
                *member = Member { protocols, ..old };
                member.expect_sign_of_life(now.elapsed_ms);
            }
            return self.refuse_join(ticket, GroupError::CoordinatorNotAvailable, "");
        }
        let mut joined = self.joined(&new_id);
        if can_skip_assignment {
            joined.skip_assignment = self.members.is_leader(&new_id);
        } else {
            // An older client would take itself for the leader and assign anew, in a generation that is settled. Told that its old self
            // leads, it takes what it is given.
            joined.leader = old_leader.unwrap_or_default();
            joined.members = Vec::new();
        }
        self.answer_join(ticket, Ok(joined));
    }
}
