//! The alerts of one PromQL rule, from one evaluation to the next: Prometheus's state machine.
//!
//! ```text
//!            sample, `for` not over          `for` over             sample gone, `keep_firing_for` over
//!  inactive ──────────────────────► pending ───────────► firing ─────────────────────────────────────► resolved
//!     ▲  │ sample, no `for`            │ sample gone        ▲                                              │
//!     │  └─────────────────────────────┼────────────────────┘                                              │
//!     └────────────────────────────────┘                                                                   │
//!     ▲  sample again: a new alert; else forgotten 15 minutes after                                         │
//!     └────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::collections::BTreeMap;

use highwater_pipeline::data::alerts::State;
use highwater_promql::Labels;
use serde::{Deserialize, Serialize};

/// How long a resolved alert is remembered.
const RESOLVED_RETENTION_MS: i64 = 15 * 60 * 1_000;

/// An alert that is pending, firing, or was firing a short while ago.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its labels, `alertname` among them.
    pub labels: BTreeMap<String, String>,
    /// Its texts, as of the last evaluation that had a sample of it.
    pub annotations: BTreeMap<String, String>,
    /// The value's bits: JSON has no NaN.
    value_bits: u64,
    /// What it is.
    pub state: State,
    /// When its sample was first there, Unix milliseconds.
    pub active_at_ms: i64,
    /// When it began to fire.
    pub fired_at_ms: Option<i64>,
    /// When it was resolved.
    pub resolved_at_ms: Option<i64>,
    /// Since when it fires although its sample is gone.
    pub keep_firing_since_ms: Option<i64>,
}

impl Alert {
    /// One that is pending since `now_ms`.
    pub(crate) fn new(
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        value: f64,
        now_ms: i64,
    ) -> Self {
        Self {
            labels,
            annotations,
            value_bits: value.to_bits(),
            state: State::Pending,
            active_at_ms: now_ms,
            fired_at_ms: None,
            resolved_at_ms: None,
            keep_firing_since_ms: None,
        }
    }

    /// The value that decided.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.value_bits)
    }

    /// True while it is pending or firing.
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Pending | State::Firing)
    }
}

/// What a sample asks for.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) labels: Labels,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) value: f64,
    /// Labels of the sample itself, for the evidence.
    pub(crate) sample: Labels,
}

/// An alert that has become something else.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) alert: Alert,
    pub(crate) state: State,
    /// Labels of the sample that decided; none where it is the absence of one.
    pub(crate) sample: Option<Labels>,
}

/// The alerts of a rule and tenant, by labels.
pub(crate) type Alerts = BTreeMap<Labels, Alert>;

/// How long is waited, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holds {
    pub(crate) for_ms: i64,
    pub(crate) keep_firing_for_ms: i64,
}

/// Takes the alerts to the evaluation at `now_ms`.
///
/// # Errors
/// Where two samples have the same labels, or there are more active alerts than `limit` (0: no limit): then nothing is up any more, as in
/// Prometheus, and what was firing is resolved; the changes come with the error.
pub(crate) fn advance(
    alerts: &mut Alerts,
    holds: Holds,
    now_ms: i64,
    candidates: Vec<Candidate>,
    limit: usize,
) -> (Vec<Change>, Option<String>) {
    let mut wanted: BTreeMap<Labels, Candidate> = BTreeMap::new();
    for candidate in candidates {
        if wanted.insert(candidate.labels.clone(), candidate).is_some() {
            let error = "vector contains metrics with the same labelset after applying alert labels";
            return (Vec::new(), Some(error.to_owned()));
        }
    }
    let mut changes = Vec::new();
    for (labels, candidate) in &wanted {
        if let Some(alert) = alerts.get_mut(labels).filter(|alert| alert.is_active()) {
            alert.value_bits = candidate.value.to_bits();
            alert.annotations.clone_from(&candidate.annotations);
            continue;
        }
        let plain = labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let alert = Alert::new(plain, candidate.annotations.clone(), candidate.value, now_ms);
        alerts.insert(labels.clone(), alert);
    }
    let mut active = 0;
    alerts.retain(|labels, alert| {
        let candidate = wanted.get(labels);
        if candidate.is_none() {
            let mut keeps_firing = false;
            if alert.state == State::Firing && holds.keep_firing_for_ms > 0 {
                let since_ms = *alert.keep_firing_since_ms.get_or_insert(now_ms);
                keeps_firing = now_ms - since_ms < holds.keep_firing_for_ms;
            }
            if alert.state == State::Pending {
                alert.state = State::Inactive;
                alert.resolved_at_ms = Some(now_ms);
                changes.push(Change { alert: alert.clone(), state: State::Inactive, sample: None });
                return false;
            }
            if alert.resolved_at_ms.is_some_and(|at| now_ms - at > RESOLVED_RETENTION_MS) {
                return false;
            }
            if alert.is_active() && !keeps_firing {
                alert.state = State::Resolved;
                alert.resolved_at_ms = Some(now_ms);
                changes.push(Change { alert: alert.clone(), state: State::Resolved, sample: None });
            }
            active += usize::from(keeps_firing);
            return true;
        }
        alert.keep_firing_since_ms = None;
        active += 1;
        let is_new = alert.active_at_ms == now_ms && alert.state == State::Pending;
        let sample = candidate.map(|candidate| candidate.sample.clone());
        if alert.state == State::Pending && now_ms - alert.active_at_ms >= holds.for_ms {
            alert.state = State::Firing;
            alert.fired_at_ms = Some(now_ms);
            changes.push(Change { alert: alert.clone(), state: State::Firing, sample });
        } else if is_new {
            changes.push(Change { alert: alert.clone(), state: State::Pending, sample });
        }
        true
    });
    if limit > 0 && active > limit {
        // What nobody knows of yet needs no word; what is known is no more.
        let known = |alert: &Alert| alert.active_at_ms < now_ms;
        let gone = std::mem::take(alerts).into_values().filter(|alert| alert.is_active() && known(alert));
        let changes = gone.map(|mut alert| {
            let state = if alert.fired_at_ms.is_some_and(|at| at < now_ms) { State::Resolved } else { State::Inactive };
            (alert.state, alert.resolved_at_ms) = (state, Some(now_ms));
            Change { alert, state, sample: None }
        });
        return (changes.collect(), Some(format!("exceeded limit of {limit} with {active} alerts")));
    }
    (changes, None)
}

/// Resolves what is up of a rule that is no more.
pub(crate) fn abandon(alerts: Alerts, now_ms: i64) -> Vec<Change> {
    let active = alerts.into_values().filter(Alert::is_active);
    let gone = active.map(|mut alert| {
        let state = if alert.state == State::Firing { State::Resolved } else { State::Inactive };
        (alert.state, alert.resolved_at_ms) = (state, Some(now_ms));
        Change { alert, state, sample: None }
    });
    gone.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR: Holds = Holds { for_ms: 60_000, keep_firing_for_ms: 0 };
    const KEEP: Holds = Holds { for_ms: 0, keep_firing_for_ms: 60_000 };

    fn candidate(name: &str, value: f64) -> Candidate {
        let labels = Labels::from_pairs([("alertname", "A"), ("instance", name)]);
        Candidate { sample: labels.clone(), labels, annotations: BTreeMap::new(), value }
    }

    /// One letter per evaluation, 30 s apart: `1` sample there, `.` not; the answer is what has changed each time.
    fn play(holds: Holds, samples: &str) -> String {
        let mut alerts = Alerts::new();
        let mut out = String::new();
        for (at, there) in (0..).zip(samples.chars()) {
            let candidates = if there == '1' { vec![candidate("a", 1.0)] } else { Vec::new() };
            let (changes, error) = advance(&mut alerts, holds, at * 30_000, candidates, 0);
            assert_eq!(error, None);
            out.push(match changes.as_slice() {
                [] => '.',
                [one] => match one.state {
                    State::Pending => 'p',
                    State::Firing => 'F',
                    State::Resolved => 'r',
                    State::Inactive => 'i',
                    State::Corrected | State::Retracted => '!',
                },
                _ => '?',
            });
        }
        out
    }

    #[test]
    fn it_goes_through_the_states_as_prometheus_does() {
        assert_eq!(play(FOR, "111111.."), "p.F...r.");
        assert_eq!(play(FOR, "11.111."), "p.ip.Fr");
        assert_eq!(play(KEEP, "1..1...."), "F.....r.");
        assert_eq!(play(KEEP, "1.....1"), "F..r..F");
        assert_eq!(play(Holds { for_ms: 0, keep_firing_for_ms: 0 }, "1.1."), "FrFr");
    }

    #[test]
    fn a_resolved_alert_is_remembered_for_a_quarter_of_an_hour() {
        let mut alerts = Alerts::new();
        let none = Holds { for_ms: 0, keep_firing_for_ms: 0 };
        advance(&mut alerts, none, 0, vec![candidate("a", 1.0)], 0);
        advance(&mut alerts, none, 1_000, Vec::new(), 0);
        advance(&mut alerts, none, 1_000 + RESOLVED_RETENTION_MS, Vec::new(), 0);
        assert_eq!(alerts.len(), 1);
        advance(&mut alerts, none, 1_001 + RESOLVED_RETENTION_MS, Vec::new(), 0);
        assert_eq!(alerts.len(), 0);
    }

    #[test]
    fn too_many_are_none_and_the_same_twice_is_an_error() {
        let mut alerts = Alerts::new();
        let none = Holds { for_ms: 0, keep_firing_for_ms: 0 };
        advance(&mut alerts, none, 0, vec![candidate("a", 1.0)], 1);
        let (changes, error) = advance(&mut alerts, none, 1, vec![candidate("a", 1.0), candidate("b", 1.0)], 1);
        assert_eq!(error.as_deref(), Some("exceeded limit of 1 with 2 alerts"));
        assert_eq!(changes.iter().map(|c| c.state).collect::<Vec<_>>(), [State::Resolved]);
        assert!(alerts.is_empty());
        let (changes, error) = advance(&mut alerts, none, 2, vec![candidate("a", 1.0), candidate("a", 2.0)], 0);
        assert!(changes.is_empty() && error.is_some_and(|e| e.contains("same labelset")));
    }
}
