//! From one generation to the next.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{Effect, GroupMachine, GroupState, Now, Stored, subscription};
use crate::groups::GroupError;

/// Kafka's name for what consumers use groups for.
pub(super) const CONSUMER: &str = "consumer";

/// How long at least to wait for members that are not there.
const MIN_WAIT_MS: i64 = 1_000;

/// Until when members may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinTimer {
    /// Of a group that was empty: a moment for more members to come, and again as long as more do.
    Initial { at_ms: i64, delay_ms: i64, remaining_ms: i64, more_came: bool },
    /// Of a group that had members: the longest any of them says it needs.
    Rebalance { at_ms: i64 },
}

impl JoinTimer {
    pub(super) fn at_ms(self) -> i64 {
        match self {
            Self::Initial { at_ms, .. } | Self::Rebalance { at_ms } => at_ms,
        }
    }

    pub(super) fn notice_new_member(&mut self) {
        if let Self::Initial { more_came, .. } = self {
            *more_came = true;
        }
    }
}

impl GroupMachine {
    /// A member has joined or changed: begins a rebalance, or completes the one that is on.
    pub(super) fn rebalance_or_complete(&mut self, now: Now) {
        match self.state {
            GroupState::Empty | GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now),
            GroupState::PreparingRebalance => self.complete_if_all_joined(now),
            GroupState::Dead => {}
        }
    }

    /// Asks all members to join anew.
    pub(super) fn prepare_rebalance(&mut self, now: Now) {
        if self.state == GroupState::CompletingRebalance {
            self.drop_assignments(now, GroupError::RebalanceInProgress);
        }
        self.pending_sync.clear();
        self.sync_deadline_ms = None;
        let was_empty = self.state == GroupState::Empty;
        self.enter(GroupState::PreparingRebalance, now);
        if was_empty {
            let delay_ms = i64::from(self.settings.initial_rebalance_delay_ms);
            self.join_timer = Some(JoinTimer::Initial {
                at_ms: now.elapsed_ms + delay_ms,
                delay_ms,
                remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
                more_came: false,
            });
        } else if self.have_all_joined() {
            self.complete_join(now);
        } else {
            self.join_timer = Some(JoinTimer::Rebalance { at_ms: now.elapsed_ms + self.rebalance_timeout_ms() });
        }
    }

    pub(super) fn have_all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.iter().all(|member| member.join.is_some())
    }

    /// Completes the rebalance where nobody is missing, unless it is a group's first: that waits for who may still come.
    pub(super) fn complete_if_all_joined(&mut self, now: Now) {
        let initial = matches!(self.join_timer, Some(JoinTimer::Initial { .. }));
        if self.state == GroupState::PreparingRebalance && !initial && self.have_all_joined() {
            self.complete_join(now);
        }
    }

    /// The time to join is up.
    pub(super) fn join_time_is_up(&mut self, now: Now) {
        match self.join_timer.take() {
            Some(JoinTimer::Initial { delay_ms, remaining_ms, more_came: true, .. }) if remaining_ms > 0 => {
                let next_ms = i64::from(self.settings.initial_rebalance_delay_ms).min(remaining_ms);
                self.join_timer = Some(JoinTimer::Initial {
                    at_ms: now.elapsed_ms + next_ms,
                    delay_ms: next_ms,
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                    more_came: false,
                });
            }
            _ => self.complete_join(now),
        }
    }

    /// Makes the next generation of those who have joined.
    pub(super) fn complete_join(&mut self, now: Now) {
        self.join_timer = None;
        // A static member may be restarting: it has its session timeout to come back.
        let missing = |m: &super::Member| m.join.is_none() && m.instance_id.is_none();
        let missing: Vec<Arc<str>> = self.members.iter().filter(|m| missing(m)).map(|m| Arc::clone(&m.id)).collect();
        for id in &missing {
            tracing::info!(group = %self.name, member = %id, "a member did not join the rebalance in time");
            self.members.remove(id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members, none of which is there: their sessions end, or they come back. Never at once, whatever they asked for.
            let wait_ms = self.rebalance_timeout_ms().max(MIN_WAIT_MS);
            self.join_timer = Some(JoinTimer::Rebalance { at_ms: now.elapsed_ms + wait_ms });
            return;
        }
        // Kafka never wraps either: it takes a rebalance every millisecond for 24 days.
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.members.elect_protocol();
        self.subscribed = self.find_subscribed();
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.enter(GroupState::Empty, now);
            let state = self.store(now, |_| Bytes::new());
            self.effects.push(Effect::Store { state, why: Stored::Emptied });
            return;
        }
        self.enter(GroupState::CompletingRebalance, now);
        for id in self.members.ids() {
            self.pending_sync.insert(Arc::clone(&id));
            let ticket = self.members.get_mut(&id).and_then(|member| {
                member.expect_sign_of_life(now.elapsed_ms);
                member.is_new = false;
                member.join.take()
            });
            if let Some(ticket) = ticket {
                let joined = self.joined(&id);
                self.answer_join(ticket, Ok(joined));
            }
        }
        self.sync_deadline_ms = Some(now.elapsed_ms + self.rebalance_timeout_ms());
    }

    /// Lets a leader that has joined stay; else one that has joined leads. False where nobody has.
    fn elect_leader(&mut self) -> bool {
        let joined = |m: &super::Member| m.join.is_some();
        if self.members.leader().and_then(|id| self.members.get(id)).is_some_and(joined) {
            return true;
        }
        let Some(next) = self.members.iter().find(|m| joined(m)).map(|m| Arc::clone(&m.id)) else { return false };
        self.members.lead(&next);
        true
    }

    /// Takes the assignments of a generation back before anybody got them; who waits for one is told why.
    pub(super) fn drop_assignments(&mut self, now: Now, error: GroupError) {
        for id in self.members.ids() {
            let ticket = self.members.get_mut(&id).and_then(|member| {
                member.assignment = Bytes::new();
                let waiting = member.sync.take();
                if waiting.is_some() {
                    member.expect_sign_of_life(now.elapsed_ms);
                }
                waiting
            });
            if let Some(ticket) = ticket {
                self.answer_sync(ticket, Err(error));
            }
        }
    }

    /// What the members read, if they are consumers and say so.
    pub(super) fn find_subscribed(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut all = BTreeSet::new();
        for member in self.members.iter() {
            all.extend(subscription::topics(&member.metadata(protocol))?);
        }
        Some(all)
    }
}
