//! Groups as administrators see them: listed, described, deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::driver::{Groups, Written, refusal};
use super::error::GroupError;
use super::machine::{GroupMachine, GroupState};
use crate::coordinator::Entry;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub name: Arc<str>,
    /// What its members use it for (`consumer`, `connect`); empty where it never had members.
    pub protocol_type: Arc<str>,
    /// Where it is.
    pub state: GroupState,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is; [`GroupState::Dead`] where there is no such group.
    pub state: GroupState,
    /// Which generation it is in.
    pub generation: i32,
    /// What its members use it for; empty where it never had members.
    pub protocol_type: Arc<str>,
    /// The protocol that its members agreed on; empty unless it is stable.
    pub protocol: Arc<str>,
    /// Its members, by id.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id in the group.
    pub id: Arc<str>,
    /// Of a static member: the name under which it comes back.
    pub instance_id: Option<Arc<str>>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where it came from.
    pub client_host: Arc<str>,
    /// What it says to whoever assigns, in the protocol agreed on; empty unless the group is stable.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

impl Groups {
    /// All groups, sorted by name: those with members, those that had some, and those that only committed offsets.
    pub fn list(&self) -> Vec<GroupListing> {
        let state = self.lock();
        let committed = self.journal.view().groups().into_iter().map(|name| {
            let name: Arc<str> = name.into();
            let listing = GroupListing { name: Arc::clone(&name), protocol_type: "".into(), state: GroupState::Empty };
            (name, listing)
        });
        let mut groups: BTreeMap<Arc<str>, GroupListing> = committed.collect();
        for machine in state.machines() {
            let name = Arc::clone(machine.name());
            let protocol_type = machine.protocol_type().cloned().unwrap_or_default();
            groups.insert(Arc::clone(&name), GroupListing { name, protocol_type, state: machine.state() });
        }
        groups.into_values().filter(|group| group.state != GroupState::Dead).collect()
    }

    /// A group in full.
    pub fn describe(&self, group: &str) -> GroupDescription {
        let state = self.lock();
        let Some(machine) = state.machine(group) else {
            let known = self.journal.view().has_offsets(group);
            return GroupDescription {
                name: group.into(),
                state: if known { GroupState::Empty } else { GroupState::Dead },
                generation: 0,
                protocol_type: "".into(),
                protocol: "".into(),
                members: Vec::new(),
            };
        };
        let agreed = machine.protocol().filter(|_| machine.state() == GroupState::Stable);
        let members = machine.members().into_iter().map(|member| {
            let metadata = agreed.and_then(|agreed| member.protocols.into_iter().find(|(name, _)| name == agreed));
            MemberDescription {
                id: member.id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                metadata: metadata.map(|(_, metadata)| metadata).unwrap_or_default(),
                assignment: member.assignment,
            }
        });
        GroupDescription {
            name: Arc::clone(machine.name()),
            state: machine.state(),
            generation: machine.generation(),
            protocol_type: machine.protocol_type().cloned().unwrap_or_default(),
            protocol: agreed.cloned().unwrap_or_default(),
            members: members.collect(),
        }
    }

    /// Deletes a group that has no members, with its offsets; durably once this returns.
    pub async fn delete(&self, group: &str) -> Result<(), GroupError> {
        let written = self.hand_over_delete(group)?;
        written.await.unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    /// [`Self::delete`] of several, which share a sync. Answers in order.
    pub(crate) async fn delete_all(&self, groups: &[&str]) -> Vec<Result<(), GroupError>> {
        let handed: Vec<_> = groups.iter().map(|group| self.hand_over_delete(group)).collect();
        let mut outcomes = Vec::with_capacity(handed.len());
        for written in handed {
            outcomes.push(match written {
                Ok(written) => written.await.unwrap_or(Err(GroupError::CoordinatorNotAvailable)),
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    pub(super) fn hand_over_delete(&self, group: &str) -> Result<Written, GroupError> {
        self.check_own(group)?;
        let now = self.now();
        let mut state = self.lock();
        match state.machine(group) {
            Some(machine) => machine.check_delete()?,
            None if self.journal.view().has_offsets(group) => {
                // It gets a machine, so that it is known to be on its way out.
                state.insert(GroupMachine::new(group.into(), Arc::clone(&self.settings), now));
            }
            None => return Err(GroupError::GroupIdNotFound),
        }
        self.change(&mut state, group, now, |machine| machine.kill(now));
        let (sender, receiver) = oneshot::channel();
        let name: Arc<str> = group.into();
        let entry = Entry::DeleteGroup { group: Arc::clone(&name) };
        let me: Weak<Self> = self.weak();
        let done = Box::new(move |written: Result<(), crate::BrokerError>| {
            if let Some(groups) = me.upgrade() {
                groups.deleted(&name, written.is_ok());
            }
            sender.send(written.map_err(|error| refusal(&name, &error))).ok();
        });
        if let Err(error) = self.journal.record(entry, done) {
            self.change(&mut state, group, now, |machine| machine.revive(now));
            return Err(refusal(group, &error));
        }
        Ok(receiver)
    }

    /// That a group is deleted is durable, or could not be written.
    pub(super) fn deleted(&self, group: &str, durable: bool) {
        let now = self.now();
        let mut state = self.lock();
        if durable {
            state.forget(group);
        } else {
            self.change(&mut state, group, now, |machine| machine.revive(now));
        }
    }
}
