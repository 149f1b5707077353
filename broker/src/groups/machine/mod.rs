//! A consumer group as a pure state machine: events and the time go in, answers and things to be made durable come out. No clock, no
//! randomness, no waiting; the same events at the same times always do the same. The behaviour is that of Kafka's classic group protocol.
//!
//! ```text
//!          a member joins                 all have joined, or time is up
//!  Empty ─────────────────▶ Preparing ───────────────────────────────────▶ Completing
//!    ▲                      Rebalance ◀───────────────────────────────┐    Rebalance
//!    │ nobody joined            ▲      somebody joins, leaves, dies   │        │ the leader's assignment
//!    └──────────────────────────┤                                     └────────┤ is durable
//!                               └──────────────────────────────────────── Stable ◀┘
//!  Dead: being deleted
//! ```
//!
//! Invariants:
//! - A generation is given to members only once, with one leader and one protocol; each next one is higher by one.
//! - An assignment is handed out only after it is durable, so no restart takes back what a member was told.
//! - A member is heard of in its session timeout, or waits for us, or is thrown out.
//! - Every [`Ticket`] that was handed in is answered exactly once, unless the machine is dropped.
//!
//! Where to look: `join.rs` joining, `rebalance.rs` from one generation to the next, `sync.rs` assignments, `session.rs` signs of life,
//! leaving and timeouts, `checks.rs` who may commit, delete and expire what, `roster.rs` the members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::error::GroupError;
use super::settings::GroupSettings;
use crate::coordinator::{StoredGroup, StoredMember};

mod checks;
mod join;
mod member;
mod rebalance;
mod roster;
mod session;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;

pub(crate) use checks::OffsetDeletion;
pub(crate) use join::JoinRequest;
pub(crate) use member::Protocol;
pub(crate) use session::Leaver;
pub(crate) use sync::SyncRequest;

use member::Member;
use rebalance::JoinTimer;
use roster::Roster;

/// What a member takes beside what it brings, about.
const MEMBER_SIZE_BYTES: usize = 256;

/// A moment. Timeouts count by the time that passes; what is kept across restarts counts by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Milliseconds that have passed since some fixed moment; never goes back.
    pub(crate) elapsed_ms: i64,
    /// Unix milliseconds; may go anywhere.
    pub(crate) wall_ms: i64,
}

/// Names a caller that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Where a group is between two generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// No members; it is kept for its offsets.
    Empty,
    /// Its members are asked to join anew.
    PreparingRebalance,
    /// They have joined and wait for what the leader assigns.
    CompletingRebalance,
    /// Everyone knows what is theirs.
    Stable,
    /// It is being deleted, or was never there.
    Dead,
}

impl GroupState {
    /// Kafka's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// The answer to a join that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) member_id: Arc<str>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) leader: Arc<str>,
    /// True where the member leads and yet has nothing to assign: its predecessor's assignment goes on.
    pub(crate) skip_assignment: bool,
    /// All members, for the leader; empty for others.
    pub(crate) members: Vec<JoinedMember>,
}

/// What a leader is told of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) metadata: Bytes,
}

/// The answer to a join that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRefused {
    pub(crate) error: GroupError,
    /// The id it concerns: a new one with [`GroupError::MemberIdRequired`], empty where the member has to start anew.
    pub(crate) member_id: Arc<str>,
}

/// The answer to a sync that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) assignment: Bytes,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Answer a join.
    Joined { ticket: Ticket, answer: Result<Joined, JoinRefused> },
    /// Answer a sync.
    Synced { ticket: Ticket, answer: Result<Synced, GroupError> },
    /// Make this durable, and tell the outcome by [`GroupMachine::stored`]. Records of one group are to be written in this order.
    Store { state: Box<StoredGroup>, why: Stored },
}

/// What waits for a record to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The leader's assignment of a generation.
    Assignment { generation: i32, assignments: BTreeMap<Arc<str>, Bytes> },
    /// A static member that came back under a new id, without a rebalance.
    Replacement(Box<Replacement>),
    /// Nothing: the group is empty.
    Emptied,
}

/// What is needed to answer a static member that came back, or to undo that it did.
#[derive(Debug, Clone)]
pub(crate) struct Replacement {
    generation: i32,
    new_id: Arc<str>,
    old: Member,
    old_leader: Option<Arc<str>>,
    ticket: Ticket,
    can_skip_assignment: bool,
}

impl PartialEq for Replacement {
    fn eq(&self, other: &Self) -> bool {
        (self.generation, &self.new_id, self.ticket) == (other.generation, &other.new_id, other.ticket)
    }
}

impl Eq for Replacement {}

/// A consumer group.
#[derive(Debug)]
pub(crate) struct GroupMachine {
    name: Arc<str>,
    settings: Arc<GroupSettings>,
    state: GroupState,
    /// Since when it is in this state, by the wall clock.
    since_ms: i64,
    generation: i32,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    members: Roster,
    /// Ids given out that nobody has joined with yet, and until when.
    pending: BTreeMap<Arc<str>, i64>,
    /// While members join: until when.
    join_timer: Option<JoinTimer>,
    /// Members of this generation that have not asked for their assignment, and until when they may.
    pending_sync: BTreeSet<Arc<str>>,
    sync_deadline_ms: Option<i64>,
    /// The generation whose assignment is being written.
    assigning: Option<i32>,
    /// What the members of this generation read; `None` where that is not known.
    subscribed: Option<BTreeSet<String>>,
    effects: Vec<Effect>,
}

impl GroupMachine {
    /// A group that nobody has joined yet.
    pub(crate) fn new(name: Arc<str>, settings: Arc<GroupSettings>, now: Now) -> Self {
        Self {
            name,
            settings,
            state: GroupState::Empty,
            since_ms: now.wall_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            members: Roster::default(),
            pending: BTreeMap::new(),
            join_timer: None,
            pending_sync: BTreeSet::new(),
            sync_deadline_ms: None,
            assigning: None,
            subscribed: None,
            effects: Vec::new(),
        }
    }

    /// A group as it was made durable last. Its members have a session timeout from now on to be heard of.
    pub(crate) fn restore(name: Arc<str>, settings: Arc<GroupSettings>, stored: StoredGroup, now: Now) -> Self {
        let mut group = Self::new(name, settings, now);
        group.state = if stored.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        group.since_ms = stored.since_ms;
        group.generation = stored.generation;
        group.protocol_type = stored.protocol_type;
        group.protocol = stored.protocol;
        for member in stored.members {
            group.members.add(Member::restore(member, now.elapsed_ms));
        }
        if let Some(leader) = stored.leader {
            group.members.lead(&leader);
        }
        group.subscribed = group.find_subscribed();
        group
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    pub(crate) fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    /// The members as they would be stored, for descriptions.
    pub(crate) fn members(&self) -> Vec<StoredMember> {
        self.members.iter().map(|member| member.store(member.assignment.clone())).collect()
    }

    /// Bytes of memory that clients have it hold, about.
    pub(crate) fn size_bytes(&self) -> usize {
        self.members.size_bytes() + MEMBER_SIZE_BYTES * (self.members.len() + self.pending.len())
    }

    /// What is to be done since this was asked last, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn enter(&mut self, state: GroupState, now: Now) {
        tracing::debug!(group = %self.name, from = self.state.as_str(), to = state.as_str(), generation = self.generation, "group");
        self.state = state;
        self.since_ms = now.wall_ms;
    }

    /// Whether a member is who it says.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.members.member_of_instance(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(id) if id.as_ref() != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        self.members.iter().map(|m| i64::from(m.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    fn answer_join(&mut self, ticket: Ticket, answer: Result<Joined, JoinRefused>) {
        self.effects.push(Effect::Joined { ticket, answer });
    }

    fn refuse_join(&mut self, ticket: Ticket, error: GroupError, member_id: &str) {
        self.answer_join(ticket, Err(JoinRefused { error, member_id: member_id.into() }));
    }

    fn answer_sync(&mut self, ticket: Ticket, answer: Result<Synced, GroupError>) {
        self.effects.push(Effect::Synced { ticket, answer });
    }

    /// The generation as a member is told of it.
    fn joined(&self, member_id: &Arc<str>) -> Joined {
        let leads = self.members.is_leader(member_id);
        Joined {
            member_id: Arc::clone(member_id),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.members.leader().cloned().unwrap_or_default(),
            skip_assignment: false,
            members: if leads { self.joined_members() } else { Vec::new() },
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |m: &Member| JoinedMember {
            id: Arc::clone(&m.id),
            instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol),
        };
        self.members.iter().map(member).collect()
    }

    fn synced(&self, member_id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(member_id).map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }

    /// The group with these assignments, as it is made durable.
    fn store(&self, now: Now, assignment: impl Fn(&Member) -> Bytes) -> Box<StoredGroup> {
        Box::new(StoredGroup {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.members.leader().cloned(),
            since_ms: now.wall_ms,
            members: self.members.iter().map(|member| member.store(assignment(member))).collect(),
        })
    }
}
