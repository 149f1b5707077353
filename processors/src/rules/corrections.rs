//! What late rows have changed: the alerts of a rule as they were told, beside the same as they are once the windows are evaluated again.
//!
//! | it was | it is | told |
//! |---|---|---|
//! | not firing | firing | `firing` |
//! | firing | firing, since another time or with another value | `corrected` |
//! | firing or not | resolved before now | `corrected` |
//! | firing, or resolved | never fired | `retracted` |
//! | pending, or not there | the other of the two | `inactive`, `pending` |
//!
//! Each of them says in `source.correction` what the alert was and what it is.

use std::collections::BTreeSet;

use highwater_pipeline::data::alerts::{Correction, State};

use super::alert::{Active, Alerts, Change, Key};

/// One telling of what has happened since a window.
pub(super) struct Telling<'a> {
    /// The transitions, in order.
    pub(super) told: &'a [Change],
    /// What is up at the end.
    pub(super) alerts: &'a Alerts,
}

/// What became of an alert: when it fired last, with which value, and when that was over.
#[derive(Debug, Default, PartialEq)]
struct Story {
    fired: Option<(i64, u64)>,
    ended_us: Option<i64>,
}

impl Telling<'_> {
    fn story(&self, key: &Key, before: &Alerts) -> Story {
        let firing = before.get(key).filter(|alert| alert.firing);
        let mut story = Story { fired: firing.map(|alert| (alert.fired_us.unwrap_or(0), 0)), ended_us: None };
        for change in self.told.iter().filter(|change| change.key == *key) {
            match change.state {
                State::Firing => {
                    story = Story { fired: Some((change.at_us, change.alert.value_bits())), ended_us: None };
                }
                State::Resolved => story.ended_us = Some(change.at_us),
                _ => {}
            }
        }
        story
    }

    fn state(&self, key: &Key, story: &Story) -> State {
        match self.alerts.get(key) {
            Some(alert) if alert.firing => State::Firing,
            Some(_) => State::Pending,
            None if story.fired.is_some() => State::Resolved,
            None => State::Inactive,
        }
    }

    fn alert(&self, key: &Key) -> Option<&Active> {
        let last = || self.told.iter().rev().find(|change| change.key == *key).map(|change| &change.alert);
        self.alerts.get(key).or_else(last)
    }
}

/// The changes to be told at `now_us`, sorted by tenant and labels. `before` is what was up ahead of the first window that has changed.
pub(super) fn corrections(before: &Alerts, was: &Telling<'_>, is: &Telling<'_>, now_us: i64) -> Vec<Change> {
    let told = was.told.iter().chain(is.told).map(|change| &change.key);
    let keys: BTreeSet<&Key> = told.chain(was.alerts.keys()).chain(is.alerts.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        let (old, new) = (was.story(key, before), is.story(key, before));
        let correction = Correction { was: was.state(key, &old), now: is.state(key, &new) };
        let state = match (correction.was, correction.now) {
            (State::Firing, State::Firing) | (State::Resolved, State::Resolved) if old == new => continue,
            (State::Firing, State::Firing) | (_, State::Resolved) => State::Corrected,
            (_, State::Firing) => State::Firing,
            (State::Firing | State::Resolved, _) => State::Retracted,
            (State::Pending, State::Inactive) => State::Inactive,
            (State::Inactive, State::Pending) => State::Pending,
            _ => continue,
        };
        let Some(alert) = is.alert(key).or_else(|| was.alert(key)).or_else(|| before.get(key)) else { continue };
        changes.push(Change {
            key: key.clone(),
            state,
            alert: alert.clone(),
            at_us: now_us,
            correction: Some(correction),
        });
    }
    changes
}
