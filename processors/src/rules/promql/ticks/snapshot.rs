//! The state of PromQL rules in snapshots.

use std::collections::{BTreeMap, HashSet};

use highwater_pipeline::runtime::ProcessorError;
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::watermark::MergedWatermark;
use serde::{Deserialize, Serialize};

use super::super::group::{RuleState, Saved};
use super::super::plan::PromRule;
use super::super::saved;
use super::{HEADS_SECTION, LOOK_BACK_SECTION, RULE_SECTION, SECTION, SECTION_VERSION, Tenant, Ticks};

#[derive(Serialize, Deserialize)]
struct Manifest {
    merged: MergedWatermark,
    reached_ms: Option<i64>,
    /// Missing in snapshots of earlier versions, like the next.
    #[serde(default = "never")]
    pruned_ms: i64,
    #[serde(default)]
    gone_ms: Option<i64>,
    /// By tenant: [`Tenant::dropped_ms`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    dropped_ms: BTreeMap<String, i64>,
}

fn never() -> i64 {
    i64::MIN
}

/// What a snapshot knows of a rule.
#[derive(Serialize, Deserialize)]
pub(in crate::rules) struct SavedRule {
    pub(in crate::rules::promql) id: String,
    pub(in crate::rules::promql) group: String,
    pub(in crate::rules::promql) name: String,
    pub(in crate::rules::promql) shown: serde_json::Value,
    pub(in crate::rules::promql) tenants: BTreeMap<String, Saved>,
}

impl Ticks {
    pub(crate) fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        let failed = |e: serde_json::Error| ProcessorError::caused("the state of rules cannot be written", e);
        let manifest = Manifest {
            merged: self.merged.clone(),
            reached_ms: self.reached_ms,
            pruned_ms: self.pruned_ms,
            gone_ms: self.gone_ms,
            dropped_ms: self.tenants.iter().filter_map(|(name, one)| Some((name.clone(), one.dropped_ms?))).collect(),
        };
        let look_back = serde_json::to_vec(&self.look_back).map_err(failed)?;
        writer.put(LOOK_BACK_SECTION, SECTION_VERSION, look_back);
        writer.put(SECTION, SECTION_VERSION, serde_json::to_vec(&manifest).map_err(failed)?);
        let heads = self.tenants.iter().map(|(name, tenant)| (name.as_str(), &tenant.head));
        writer.put(HEADS_SECTION, SECTION_VERSION, saved::encode(heads)?);
        for (group, plan) in self.plans.iter().enumerate() {
            for (index, rule) in plan.rules.iter().enumerate() {
                let tenants = self
                    .tenants
                    .iter()
                    .filter_map(|(name, tenant)| Some((name.clone(), tenant.groups.get(group)?.save(index)?)));
                let saved = SavedRule {
                    id: rule.id.clone(),
                    group: rule.group.clone(),
                    name: rule.name.clone(),
                    shown: rule.shown.clone(),
                    tenants: tenants.collect(),
                };
                let section = format!("{RULE_SECTION}{group}/{index}");
                writer.put(section, rule.definition, serde_json::to_vec(&saved).map_err(failed)?);
            }
        }
        for (index, orphan) in self.orphans.iter().enumerate() {
            // Of no definition there is, so that it is an orphan again.
            let section = format!("{RULE_SECTION}orphan/{index}");
            writer.put(section, 0, serde_json::to_vec(orphan).map_err(failed)?);
        }
        Ok(())
    }

    pub(crate) fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        let mut dropped_ms = BTreeMap::new();
        if let Some(body) = state.get(SECTION, SECTION_VERSION) {
            let unreadable = |e| ProcessorError::caused("section promql of the snapshot is unreadable", e);
            let manifest: Manifest = serde_json::from_slice(body).map_err(unreadable)?;
            if manifest.merged.sources().len() == self.merged.sources().len() {
                self.merged = manifest.merged;
            }
            (self.reached_ms, self.pruned_ms) = (manifest.reached_ms, manifest.pruned_ms);
            self.gone_ms = manifest.gone_ms;
            dropped_ms = manifest.dropped_ms;
        }
        if let Some(body) = state.get(HEADS_SECTION, SECTION_VERSION) {
            for (name, head) in saved::decode(body)? {
                let dropped_ms = dropped_ms.get(&name).copied();
                let tenant = Tenant { dropped_ms, ..Tenant::new(head, &self.plans, &self.watched) };
                self.tenants.insert(name, tenant);
            }
        }
        let mut known: HashSet<(usize, usize)> = HashSet::new();
        for section in state.sections().iter().filter(|s| s.name.starts_with(RULE_SECTION)) {
            let saved: SavedRule = serde_json::from_slice(&section.body).map_err(|e| {
                ProcessorError::caused(format!("section {} of the snapshot is unreadable", section.name), e)
            })?;
            let place = self.places.get(&saved.id).copied();
            let found = place.filter(|(group, rule)| self.plans[*group].rules[*rule].definition == section.definition);
            let Some((group, index)) = found else {
                self.orphans.push(saved);
                continue;
            };
            known.insert((group, index));
            for (name, rule) in saved.tenants {
                if let Some(state) =
                    self.tenants.get_mut(&name).and_then(|tenant| tenant.groups[group].rules.get_mut(index))
                {
                    *state = RuleState::of(rule);
                }
            }
        }
        let saved = state.get(LOOK_BACK_SECTION, SECTION_VERSION).map(|body| {
            serde_json::from_slice(body)
                .map_err(|e| ProcessorError::caused("section promql/look_back of the snapshot is unreadable", e))
        });
        let is_known = |rule: &PromRule| self.places.get(&rule.id).is_some_and(|place| known.contains(place));
        self.look_back.restore(saved.transpose()?, &self.plans, self.reached_ms, is_known);
        self.tell();
        Ok(())
    }
}
