//! Alerts: their state from one evaluation to the next, and the record of a transition.

use std::collections::BTreeMap;

use highwater_pipeline::data::alerts::{State, Transition};
use highwater_pipeline::data::{labels, time};
use highwater_pipeline::log::Record;
use highwater_pipeline::runtime::ProcessorError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::evidence::Statements;
use super::plan::{Candidate, RulePlan};

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Active {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// The value's bits: JSON has no NaN.
    value_bits: u64,
    firing: bool,
    /// Evaluation time at which it began to fire.
    #[serde(default)]
    fired_us: Option<i64>,
    /// Evaluation time at which the row was first there.
    since_us: i64,
    /// Evaluation time at which it was first gone again, while it keeps firing.
    gone_us: Option<i64>,
    /// The row that last asked for it.
    #[serde(default)]
    row: Map<String, Value>,
}

/// Who a rule is, as its alerts show it. Kept with them, so that they can be resolved when the rule is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) rollup: String,
    /// The rule as every record shows it.
    pub(super) shown: serde_json::Value,
}

/// The alerts of a rule, by tenant and canonical labels.
pub(super) type Alerts = BTreeMap<(String, String), Active>;

/// An alert whose state has changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    tenant: String,
    canonical: String,
    state: State,
    alert: Active,
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
        let (tenant, canonical) = (tenant.to_owned(), canonical.to_owned());
        changes.push(Change { tenant, canonical, state, alert: alert.clone() });
    };
    for candidate in candidates {
        let key = (tenant.to_owned(), candidate.canonical.clone());
        let known = alerts.contains_key(&key);
        let alert = alerts.entry(key).or_insert_with(|| Active {
            labels: candidate.labels.clone(),
            annotations: BTreeMap::new(),
            value_bits: 0,
            firing: false,
            fired_us: None,
            since_us: now_us,
            gone_us: None,
            row: Map::new(),
        });
        alert.annotations.clone_from(&candidate.annotations);
        alert.value_bits = candidate.value.to_bits();
        alert.row.clone_from(&candidate.row);
        alert.gone_us = None;
        if !alert.firing && now_us.saturating_sub(alert.since_us) >= rule.for_us {
            (alert.firing, alert.fired_us) = (true, Some(now_us));
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
        record(canonical, alert.ended(), alert);
        false
    });
    changes
}

/// Resolves every alert of a rule that is no more: nobody else would.
pub(super) fn abandon(alerts: Alerts) -> Vec<Change> {
    let all = alerts.into_iter();
    all.map(|((tenant, canonical), alert)| Change { tenant, canonical, state: alert.ended(), alert }).collect()
}

impl Active {
    /// What it becomes when it goes.
    fn ended(&self) -> State {
        if self.firing { State::Resolved } else { State::Inactive }
    }
}

/// Where the evaluation that caused a transition came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) window_start_us: i64,
    pub(super) window_end_us: i64,
    /// Up to here every window of the rollup is closed.
    pub(super) watermark_us: i64,
}

impl Change {
    /// What the alert has become.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// What has decided. Without statements the rule is no more.
    fn evidence(&self, rule: &Identity, statements: Option<&Statements>, cause: Cause<'_>) -> Value {
        let mut evidence = json!({
            "topic": cause.topic,
            "partition": cause.partition,
            "offset": cause.offset,
            "rollup": rule.rollup,
            "window_start": time::format(cause.window_start_us),
            "window_end": time::format(cause.window_end_us),
            "evaluated_at": time::format(cause.window_end_us),
            "watermark": time::format(cause.watermark_us),
        });
        let Some(statements) = statements else {
            evidence["reason"] = "the rule was changed or removed".into();
            return evidence;
        };
        // An alert ends by a row that is not there.
        let ended = matches!(self.state, State::Resolved | State::Inactive);
        let row = Value::Object(self.alert.row.clone());
        evidence["row"] = if ended { Value::Null } else { row.clone() };
        if ended {
            evidence["last_row"] = row;
        }
        let window_us = (cause.window_start_us, cause.window_end_us);
        evidence["sql"] = statements.row_sql(window_us, &self.alert.row).into();
        if let Some(sql) = statements.input_sql(window_us, &self.alert.row) {
            evidence["input_sql"] = sql.into();
        }
        evidence
    }

    /// The record of topic `alerts`.
    pub(super) fn to_record(
        &self,
        rule: &Identity,
        statements: Option<&Statements>,
        cause: Cause<'_>,
    ) -> Result<Record, ProcessorError> {
        let ended = matches!(self.state, State::Resolved | State::Inactive);
        let transition = Transition {
            timestamp_us: cause.window_end_us,
            fingerprint: labels::fingerprint(&self.tenant, &rule.group, &rule.name, &self.canonical),
            alertname: rule.name.clone(),
            group_name: rule.group.clone(),
            state: self.state,
            labels: self.alert.labels.clone(),
            annotations: self.alert.annotations.clone(),
            value: Some(f64::from_bits(self.alert.value_bits)),
            starts_at_us: Some(self.alert.since_us),
            fired_at_us: self.alert.fired_us,
            ends_at_us: ended.then_some(cause.window_end_us),
            rule: rule.shown.clone(),
            source: self.evidence(rule, statements, cause),
            tenant: self.tenant.clone(),
        };
        let written = transition.to_record();
        written.map_err(|e| ProcessorError::caused(format!("an alert of rule {} cannot be written", rule.name), e))
    }
}
