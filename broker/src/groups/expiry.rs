//! What goes with time: offsets nobody reads by any more, and groups that have neither members nor offsets.
//!
//! Offsets of a group that had members go seven days after the last one left, those of clients that assign themselves seven days after
//! each commit, and those of a topic that a stable group of consumers has stopped reading, likewise. What Highwater commits itself never does.

use std::sync::{Arc, Weak};

use super::driver::{Groups, State};
use super::machine::{GroupMachine, Now};
use crate::coordinator::{Committed, Expired};

impl Groups {
    /// Hands to the journal what has expired.
    pub(super) fn expire(&self, state: &mut State, now: Now) {
        let mut rules = Vec::new();
        for machine in state.machines() {
            if let Some(rule) = machine.expiry_rule(now.wall_ms) {
                rules.push((Arc::clone(machine.name()), machine.may_be_forgotten(), rule));
            }
        }
        for name in self.journal.view().groups() {
            if state.machine(&name).is_none() {
                let machine = GroupMachine::new(name.into(), Arc::clone(&self.settings), now);
                rules.extend(machine.expiry_rule(now.wall_ms).map(|rule| (Arc::clone(machine.name()), true, rule)));
            }
        }
        for (name, and_group, rule) in rules {
            if self.check_own(&name).is_err() {
                continue;
            }
            let expired =
                Box::new(move |topic: &str, _: i32, committed: &Committed| rule.has_expired(topic, committed));
            let (me, group): (Weak<Self>, _) = (self.weak(), Arc::clone(&name));
            let done = Box::new(move |expired: Result<Expired, crate::BrokerError>| match expired {
                Ok(expired) => {
                    if let Some(groups) = me.upgrade() {
                        groups.expired(&group, expired);
                    }
                }
                Err(error) => {
                    tracing::warn!(%group, %error, "expired offsets could not be deleted; trying again later")
                }
            });
            if let Err(error) = self.journal.expire_offsets(name, and_group, expired, done) {
                tracing::debug!(%error, "nothing expires: the journal takes no writes");
                return;
            }
        }
    }

    fn expired(&self, group: &Arc<str>, expired: Expired) {
        if expired.offsets > 0 {
            metrics::counter!("highwater_broker_group_offsets_expired_total").increment(expired.offsets as u64);
            tracing::info!(%group, offsets = expired.offsets, "offsets of a consumer group have expired");
        }
        if expired.deleted {
            let mut state = self.lock();
            // Somebody may have joined since; then it stays, and writes itself anew.
            if state.machine(group).is_some_and(GroupMachine::may_be_forgotten) {
                state.forget(group);
            }
        }
    }
}
