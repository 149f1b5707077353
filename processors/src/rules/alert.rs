//! Alerts: their state from one evaluation to the next, and the record of a transition.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_pipeline::data::{labels, time};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::plan::{Candidate, RulePlan};

/// The topic of transitions, keyed by fingerprint.
pub const ALERTS_TOPIC: &str = "alerts";

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The row is there, but not for long enough.
    Pending,
    /// It fires.
    Firing,
    /// It fired, and the row is gone.
    Resolved,
}

impl AlertState {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Active {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// The value's bits: JSON has no NaN.
    value_bits: u64,
    firing: bool,
    /// Evaluation time at which the row was first there.
    since_us: i64,
    /// Evaluation time at which it was last there.
    seen_us: i64,
}

/// The alerts of a rule, by tenant and canonical labels.
pub(super) type Alerts = BTreeMap<(String, String), Active>;

/// A transition: who, and to what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Transition {
    pub(super) tenant: String,
    pub(super) canonical: String,
    pub(super) state: AlertState,
    pub(super) alert: Active,
}

/// Takes a tenant's alerts of a rule from one evaluation to the next. `now_us` is the evaluation time, the window's end.
pub(super) fn advance(
    rule: &RulePlan,
    alerts: &mut Alerts,
    tenant: &str,
    now_us: i64,
    candidates: &[Candidate],
) -> Vec<Transition> {
    let mut transitions = Vec::new();
    let mut record = |canonical: &str, state, alert: &Active| {
        let (tenant, canonical) = (tenant.to_owned(), canonical.to_owned());
        transitions.push(Transition { tenant, canonical, state, alert: alert.clone() });
    };
    for candidate in candidates {
        let key = (tenant.to_owned(), candidate.canonical.clone());
        let known = alerts.contains_key(&key);
        let alert = alerts.entry(key).or_insert_with(|| Active {
            labels: candidate.labels.clone(),
            annotations: BTreeMap::new(),
            value_bits: 0,
            firing: false,
            since_us: now_us,
            seen_us: now_us,
        });
        alert.annotations.clone_from(&candidate.annotations);
        alert.value_bits = candidate.value.to_bits();
        alert.seen_us = now_us;
        if !alert.firing && now_us.saturating_sub(alert.since_us) >= rule.for_us {
            alert.firing = true;
            record(&candidate.canonical, AlertState::Firing, alert);
        } else if !known {
            record(&candidate.canonical, AlertState::Pending, alert);
        }
    }
    alerts.retain(|(of, canonical), alert| {
        if of != tenant || alert.seen_us == now_us {
            return true;
        }
        if alert.firing && now_us.saturating_sub(alert.seen_us) < rule.keep_firing_for_us {
            return true;
        }
        if alert.firing {
            record(canonical, AlertState::Resolved, alert);
        }
        false
    });
    transitions
}

/// Where the evaluation that caused a transition came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) window_start_us: i64,
    pub(super) window_end_us: i64,
}

impl Transition {
    /// The record's key: the fingerprint, 16 hex digits.
    pub(super) fn key(&self, rule: &RulePlan) -> String {
        labels::fingerprint(&self.tenant, &rule.group, &rule.name, &self.canonical)
    }

    /// The record's value; see `docs/formats/tasks.md`.
    pub(super) fn to_json(&self, rule: &RulePlan, cause: Cause<'_>) -> Bytes {
        let Active { labels, annotations, value_bits, since_us, .. } = &self.alert;
        let value = f64::from_bits(*value_bits);
        let ends_at = (self.state == AlertState::Resolved).then(|| time::format(cause.window_end_us));
        let json = json!({
            "timestamp": time::format(cause.window_end_us),
            "fingerprint": self.key(rule),
            "alertname": &*rule.name,
            "group_name": &*rule.group,
            "state": self.state.name(),
            "labels": labels,
            "annotations": annotations,
            // JSON has no NaN and no infinities; a value that is none of JSON's is null.
            "value": value.is_finite().then_some(value),
            "starts_at": time::format(*since_us),
            "ends_at": ends_at,
            "rule": rule.description,
            "source": {
                "topic": cause.topic,
                "partition": cause.partition,
                "offset": cause.offset,
                "rollup": rule.rollup.name(),
                "window_start": time::format(cause.window_start_us),
                "window_end": time::format(cause.window_end_us),
            },
            "tenant": self.tenant,
        });
        Bytes::from(json.to_string())
    }
}
