//! What rules leave behind that were changed, removed, or moved to another task: it is taken down, or handed over.

use highwater_pipeline::runtime::{At, Effects, ProcessorError};
use highwater_promql::{Labels, STALE_NAN};

use super::super::alerts::{Alert, Change, abandon};
use super::super::group::RuleState;
use super::super::moved::Moved;
use super::super::plan::PromRule;
use super::super::silent::ALERTNAME;
use super::{SavedRule, Ticks};

impl Ticks {
    /// Resolves what removed and changed rules have left firing: nobody else will. Where the group is another task's now, that one does.
    pub(super) fn abandon_orphans(&mut self, at: At, now_ms: i64, effects: &mut Effects) -> Result<(), ProcessorError> {
        for orphan in std::mem::take(&mut self.orphans) {
            match self.shards.partition(&orphan.group).filter(|place| *place != self.partition) {
                Some(place) => {
                    for moved in Moved::rule(orphan, now_ms) {
                        self.send(&moved, place, effects)?;
                    }
                }
                None => self.abandon(at, orphan, now_ms, "the rule was changed or removed", effects)?,
            }
        }
        Ok(())
    }

    fn send(&self, moved: &Moved, place: i32, effects: &mut Effects) -> Result<(), ProcessorError> {
        let rows = moved.to_rows(&format!("{}/{}", self.topic, self.partition))?;
        effects.push(&self.topic, place, rows.to_record()?);
        Ok(())
    }

    /// Takes down what a rule has left, but for what a rule of the same name has up again.
    fn abandon(
        &mut self,
        at: At,
        orphan: SavedRule,
        now_ms: i64,
        reason: &str,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        let SavedRule { group, name, shown, tenants, .. } = orphan;
        for (tenant, saved) in tenants {
            let mut state = RuleState::of(saved);
            let mut source = self.source(at, now_ms);
            source["reason"] = reason.into();
            if let Some(change) = state.selects.resolve(now_ms)
                && !self.heirs(&tenant, &group, &name).any(|(_, heir)| heir.selects.alert().is_some())
            {
                self.transition(&tenant, &group, ALERTNAME, &shown, &change, now_ms, source.clone(), effects)?;
            }
            let is_written =
                |labels: &Labels| self.heirs(&tenant, &group, &name).any(|(_, heir)| heir.written.contains(labels));
            state.written.retain(|labels| !is_written(labels));
            for labels in &state.written {
                self.recorded.push(&tenant, labels, now_ms, STALE_NAN);
                if let Some(known) = self.tenants.get_mut(&tenant) {
                    known.push(labels, now_ms, STALE_NAN);
                }
            }
            for change in abandon(state.alerts, now_ms) {
                let is_up = |heir: &RuleState| heir.active().any(|alert| alert.labels == change.alert.labels);
                if !self.heirs(&tenant, &group, &name).any(|(_, heir)| is_up(heir)) {
                    self.transition(&tenant, &group, &name, &shown, &change, now_ms, source.clone(), effects)?;
                }
            }
        }
        Ok(())
    }

    /// The rules of this name here, and how they stand.
    fn heirs<'a>(
        &'a self,
        tenant: &str,
        group: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a PromRule, &'a RuleState)> {
        let groups = self.tenants.get(tenant).map_or(&[][..], |tenant| &tenant.groups);
        let groups = self.plans.iter().zip(groups).filter(move |(plan, _)| plan.name == group);
        let rules = groups.flat_map(|(plan, state)| plan.rules.iter().zip(&state.rules));
        rules.filter(move |(rule, _)| rule.name == name)
    }

    /// What another task has left of a group; it is handed on where the group is a third one's by now.
    pub(in crate::rules) fn moved(
        &mut self,
        at: At,
        moved: Moved,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        if let Some(place) = self.elsewhere(moved.group()) {
            return self.send(&moved, place, effects);
        }
        let Moved::Rule { rule, now_ms, is_last } = moved else { return Ok(()) };
        let now_ms = self.reached_ms.map_or(now_ms, |reached_ms| reached_ms.max(now_ms));
        let (group, name) = (rule.group.clone(), rule.name.clone());
        let reason = "the rule's group is evaluated in another task now";
        self.abandon(at, *rule, now_ms, reason, effects)?;
        if is_last {
            // The other one may have had the last word about what is up here.
            let tenants: Vec<String> = self.tenants.keys().cloned().collect();
            for tenant in &tenants {
                for (rule, heir) in self.heirs(tenant, &group, &name) {
                    let mut source = self.source(at, now_ms);
                    source["reason"] = reason.into();
                    let said = |alert: &Alert| Change { alert: alert.clone(), state: alert.state, sample: None };
                    for alert in heir.active() {
                        let source = source.clone();
                        self.transition(tenant, &group, &name, &rule.shown, &said(alert), now_ms, source, effects)?;
                    }
                    if let Some(alert) = heir.selects.alert() {
                        self.transition(tenant, &group, ALERTNAME, &rule.shown, &said(alert), now_ms, source, effects)?;
                    }
                }
            }
        }
        self.recorded.flush(effects)
    }

    /// The partition of a group that is not here.
    pub(crate) fn elsewhere(&self, group: &str) -> Option<i32> {
        self.shards.partition(group).filter(|place| *place != self.partition)
    }
}
