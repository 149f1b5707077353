//! The end of alerts on the compacted topic: a day after an alert is over, a record without a value takes its key away. The history stays in the table.
//!
//! The day is one of append time, the one line of time that all rules have in common: an alert of last year's logs, loaded now, can be seen for a day
//! as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use highwater_pipeline::data::alerts::{State, Transition};
use highwater_pipeline::log::Record;
use highwater_pipeline::runtime::{Effect, Effects};
use serde::{Deserialize, Serialize};

/// How long an alert that is over can still be seen.
const VISIBLE_US: i64 = 24 * 60 * 60 * 1_000_000;

/// The alerts that are over, by fingerprint, and since when.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tombstones {
    over: BTreeMap<String, i64>,
    /// The groups of those of PromQL rules, where groups may move from task to task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<String, String>,
    /// No alert is due before this.
    #[serde(skip)]
    next_us: i64,
    #[serde(skip)]
    keeps_groups: bool,
}

impl Tombstones {
    /// Knows the groups from now on.
    pub(super) fn keep_groups(&mut self) {
        self.keeps_groups = true;
    }

    /// Looks at what has been said of alerts.
    pub(super) fn see(&mut self, said: &[Effect], topic: &str, now_us: i64) {
        for effect in said.iter().filter(|effect| *effect.topic == *topic) {
            let Some(transition) = effect.record.value.as_deref().and_then(|v| Transition::parse(v).ok()) else {
                continue;
            };
            if matches!(transition.is_now(), State::Pending | State::Firing) {
                self.over.remove(&transition.fingerprint);
                self.groups.remove(&transition.fingerprint);
            } else {
                if self.keeps_groups && transition.rule.get("expr").is_some() {
                    self.groups.insert(transition.fingerprint.clone(), transition.group_name);
                }
                self.over.insert(transition.fingerprint, now_us);
                self.next_us = self.next_us.min(now_us.saturating_add(VISIBLE_US));
            }
        }
    }

    /// Takes away those whose day is over.
    pub(super) fn bury(&mut self, topic: &Arc<str>, now_us: i64, effects: &mut Effects) {
        if now_us < self.next_us {
            return;
        }
        let due = self.over.extract_if(.., |_, since_us| now_us.saturating_sub(*since_us) >= VISIBLE_US);
        for (fingerprint, _) in due {
            self.groups.remove(&fingerprint);
            let record = Record { key: Some(Bytes::from(fingerprint)), ..Record::default() };
            effects.push(topic, 0, record);
        }
        self.next_us = self.over.values().min().map_or(i64::MAX, |since_us| since_us.saturating_add(VISIBLE_US));
    }

    /// Gives away those of groups that are not here, each group's.
    pub(super) fn leave(&mut self, is_elsewhere: impl Fn(&str) -> bool) -> BTreeMap<String, BTreeMap<String, i64>> {
        let mut left: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for (fingerprint, group) in self.groups.extract_if(.., |_, group| is_elsewhere(group)) {
            if let Some(since_us) = self.over.remove(&fingerprint) {
                left.entry(group).or_default().insert(fingerprint, since_us);
            }
        }
        left
    }

    /// Takes those of a group that has come.
    pub(super) fn take(&mut self, group: &str, over: impl IntoIterator<Item = (String, i64)>) {
        for (fingerprint, since_us) in over {
            self.groups.insert(fingerprint.clone(), group.to_owned());
            let known_us = self.over.entry(fingerprint).or_insert(since_us);
            *known_us = since_us.max(*known_us);
            self.next_us = self.next_us.min(known_us.saturating_add(VISIBLE_US));
        }
    }
}
