//! Alerts of SQL rules: their state from one evaluation to the next, and what an evaluation has changed.

use std::collections::BTreeMap;

use highwater_pipeline::data::alerts::{Correction, State, Transition};
use highwater_pipeline::data::labels;
use highwater_pipeline::log::Record;
use highwater_pipeline::runtime::ProcessorError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::plan::{Candidate, RulePlan};

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Active {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// The row that last asked for it.
    #[serde(default)]
    pub(super) row: Map<String, Value>,
    /// The value's bits: JSON has no NaN.
    value_bits: u64,
    pub(super) firing: bool,
    /// Evaluation time at which the row was first there.
    since_us: i64,
    /// Evaluation time at which it began to fire.
    #[serde(default)]
    pub(super) fired_us: Option<i64>,
    /// Evaluation time at which it was first gone again, while it keeps firing.
    gone_us: Option<i64>,
}

impl Active {
    /// The value that decided, to the bit.
    pub(super) fn value_bits(&self) -> u64 {
        self.value_bits
    }
}

/// Who a rule is, as its alerts show it. Kept with them, so that they can be resolved when the rule is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) rollup: String,
    /// The rule as every record shows it.
    pub(super) shown: Value,
}

/// The tenant and the canonical labels of an alert.
pub(super) type Key = (String, String);

/// The alerts of a rule, by tenant and canonical labels.
pub(super) type Alerts = BTreeMap<Key, Active>;

/// An alert whose state has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) state: State,
    pub(super) alert: Active,
    /// The evaluation time.
    pub(super) at_us: i64,
    /// Where late rows have caused it.
    pub(super) correction: Option<Correction>,
}

/// Takes a tenant's alerts of a rule from one evaluation to the next. `now_us` is the evaluation time, the window's end;
/// `candidates` are sorted by their labels, as [`RulePlan::evaluate`] gives them.
pub(super) fn advance(
    rule: &RulePlan,
    alerts: &mut Alerts,
    tenant: &str,
    now_us: i64,
    candidates: &[Candidate],
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut record = |canonical: &str, state, alert: &Active| {
        let key = (tenant.to_owned(), canonical.to_owned());
        changes.push(Change { key, state, alert: alert.clone(), at_us: now_us, correction: None });
    };
    for candidate in candidates {
        let key = (tenant.to_owned(), candidate.canonical.clone());
        let known = alerts.contains_key(&key);
        let alert = alerts.entry(key).or_insert_with(|| Active {
            labels: candidate.labels.clone(),
            annotations: BTreeMap::new(),
            row: Map::new(),
            value_bits: 0,
            firing: false,
            since_us: now_us,
            fired_us: None,
            gone_us: None,
        });
        alert.annotations.clone_from(&candidate.annotations);
        alert.row.clone_from(&candidate.row);
        alert.value_bits = candidate.value.to_bits();
        alert.gone_us = None;
        if !alert.firing && now_us.saturating_sub(alert.since_us) >= rule.for_us {
            alert.firing = true;
            alert.fired_us = Some(now_us);
            record(&candidate.canonical, State::Firing, alert);
        } else if !known {
            record(&candidate.canonical, State::Pending, alert);
        }
    }
    alerts.retain(|(of, canonical), alert| {
        let there = candidates.binary_search_by(|c| c.canonical.as_str().cmp(canonical)).is_ok();
        if of != tenant || there {
            return true;
        }
        let gone_us = *alert.gone_us.get_or_insert(now_us);
        if alert.firing && now_us.saturating_sub(gone_us) < rule.keep_firing_for_us {
            return true;
        }
        record(canonical, if alert.firing { State::Resolved } else { State::Inactive }, alert);
        false
    });
    changes
}

/// Ends every alert of a rule that is no more: what fires nobody else would resolve.
pub(super) fn abandon(alerts: Alerts, now_us: i64) -> Vec<Change> {
    let ended = |(key, alert): (Key, Active)| {
        let state = if alert.firing { State::Resolved } else { State::Inactive };
        Change { key, state, alert, at_us: now_us, correction: None }
    };
    alerts.into_iter().map(ended).collect()
}

impl Change {
    /// The record of topic `alerts`.
    pub(super) fn to_record(&self, rule: &Identity, source: Value) -> Result<Record, ProcessorError> {
        let (tenant, canonical) = &self.key;
        let is = self.correction.map_or(self.state, |correction| correction.now);
        let transition = Transition {
            timestamp_us: self.at_us,
            fingerprint: labels::fingerprint(tenant, &rule.group, &rule.name, canonical),
            alertname: rule.name.clone(),
            group_name: rule.group.clone(),
            state: self.state,
            labels: self.alert.labels.clone(),
            annotations: self.alert.annotations.clone(),
            value: Some(f64::from_bits(self.alert.value_bits)),
            starts_at_us: Some(self.alert.since_us),
            fired_at_us: self.alert.fired_us,
            ends_at_us: matches!(is, State::Resolved | State::Inactive).then_some(self.at_us),
            rule: rule.shown.clone(),
            source,
            tenant: tenant.clone(),
        };
        let written = transition.to_record();
        written.map_err(|e| ProcessorError::caused(format!("an alert of rule {} cannot be written", rule.name), e))
    }
}
