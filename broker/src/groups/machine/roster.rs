//! Who is in the group: members by id, static members by instance id, and which protocols all of them know.
//!
//! Invariants: `instances` maps to members that exist; `support` counts, per protocol, the members that know it; the leader is a member, and
//! there is one where there are members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::member::{Member, Protocol};

#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    members: BTreeMap<Arc<str>, Member>,
    instances: BTreeMap<Arc<str>, Arc<str>>,
    support: BTreeMap<Arc<str>, usize>,
    leader: Option<Arc<str>>,
    /// Bytes of all protocols.
    size_bytes: usize,
}

impl Roster {
    /// Bytes that the members' protocols take.
    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// A member, to change anything of it but its id, its instance and its protocols.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// All members, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(super) fn ids(&self) -> Vec<Arc<str>> {
        self.members.keys().cloned().collect()
    }

    pub(super) fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub(super) fn lead(&mut self, id: &Arc<str>) {
        if self.members.contains_key(id) {
            self.leader = Some(Arc::clone(id));
        }
    }

    /// The member that runs under an instance id.
    pub(super) fn member_of_instance(&self, instance_id: &str) -> Option<&Arc<str>> {
        self.instances.get(instance_id)
    }

    /// Adds a member whose id and instance id nobody has; the first one leads.
    pub(super) fn add(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.instances.insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        self.count(&member.protocols);
        self.leader.get_or_insert_with(|| Arc::clone(&member.id));
        self.members.insert(Arc::clone(&member.id), member);
    }

    /// Takes a member out; another leads where it led.
    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance_id) = &member.instance_id {
            self.instances.remove(instance_id);
        }
        self.discount(&member.protocols);
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a member another id, and all else of it stays: its place, its assignment, its lead. Answers with what it was.
    pub(super) fn rename(&mut self, id: &str, new_id: &Arc<str>) -> Option<Member> {
        let old = self.members.remove(id)?;
        let mut member = old.clone();
        member.id = Arc::clone(new_id);
        if let Some(instance_id) = &member.instance_id {
            self.instances.insert(Arc::clone(instance_id), Arc::clone(new_id));
        }
        if self.is_leader(id) {
            self.leader = Some(Arc::clone(new_id));
        }
        self.members.insert(Arc::clone(new_id), member);
        Some(old)
    }

    pub(super) fn set_protocols(&mut self, id: &str, protocols: Vec<Protocol>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let old = std::mem::replace(&mut member.protocols, protocols);
        let new = member.protocols.clone();
        self.discount(&old);
        self.count(&new);
    }

    /// True where all members know one of these.
    pub(super) fn all_know_one_of(&self, protocols: &[Protocol]) -> bool {
        protocols.iter().any(|p| self.support.get(&p.name).copied().unwrap_or(0) == self.len())
    }

    /// The protocol with the most votes: each member votes for the first of its own that all know. Of several with as many votes it is the one
    /// that the leader likes best. `None` in an empty group, or where the members have nothing in common.
    pub(super) fn elect_protocol(&self) -> Option<Arc<str>> {
        let all = self.len();
        let candidates: BTreeSet<&str> =
            self.support.iter().filter(|(_, count)| **count == all).map(|(name, _)| name.as_ref()).collect();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for vote in self.iter().filter_map(|member| member.vote(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        let rank = |name: &Arc<str>| {
            leader.and_then(|l| l.protocols.iter().position(|p| p.name == *name)).unwrap_or(usize::MAX)
        };
        let most = votes.iter().max_by_key(|(name, count)| (**count, std::cmp::Reverse(rank(name))));
        most.map(|(name, _)| Arc::clone(name))
    }

    fn count(&mut self, protocols: &[Protocol]) {
        self.size_bytes += size_of(protocols);
        // A member that names a protocol twice still knows it once.
        let names: BTreeSet<_> = protocols.iter().map(|p| &p.name).collect();
        for name in names {
            *self.support.entry(Arc::clone(name)).or_default() += 1;
        }
    }

    fn discount(&mut self, protocols: &[Protocol]) {
        self.size_bytes -= size_of(protocols);
        let names: BTreeSet<_> = protocols.iter().map(|p| &p.name).collect();
        for name in names {
            if let Some(count) = self.support.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.support.remove(name);
                }
            }
        }
    }
}

/// Bytes that protocols take.
pub(super) fn size_of(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}
