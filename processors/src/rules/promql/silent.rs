//! Rules that have gone blind: one that selects nothing, and did select something before, raises an alert of its own. A renamed metric, a target that is no
//! longer scraped, a label that was dropped: the rule itself would be silent for ever.
//!
//! Looked at once a minute of event time. Rules that ask for absence are left alone: that is their business.

use std::collections::BTreeMap;

use highwater_pipeline::data::alerts::State;
use highwater_promql::{Options, SeriesSource, Steps, is_stale};
use serde::{Deserialize, Serialize};

use super::alerts::{Alert, Change};
use super::plan::PromRule;

/// Name of the alert that is raised of rules that select nothing any more. Its labels are the rule's name and group.
pub const ALERTNAME: &str = "HighwaterRuleSelectsNothing";
const EVERY_MS: i64 = 60_000;

/// What a rule selects, for one tenant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Selects {
    /// True once it has selected something.
    ever: bool,
    /// The alert, while it selects nothing.
    alert: Option<Alert>,
}

impl Selects {
    /// True at the first tick of each minute.
    pub(crate) fn is_due(tick_ms: i64, interval_ms: i64) -> bool {
        tick_ms.div_euclid(EVERY_MS) != (tick_ms - interval_ms).div_euclid(EVERY_MS)
    }

    /// Looks at what there is for the rule as of this time; the change, where the alert goes up or down.
    pub(crate) fn look(
        &mut self,
        rule: &PromRule,
        head: &dyn SeriesSource,
        as_of_ms: i64,
        now_ms: i64,
    ) -> Option<Change> {
        if rule.asks_for_absence() {
            return None;
        }
        let something = finds_something(rule, head, as_of_ms)?;
        self.ever |= something;
        match (something, &self.alert) {
            (true, Some(_)) => self.resolve(now_ms),
            (false, None) if self.ever => {
                let mut alert =
                    Alert::new(labels(&rule.group, &rule.name), annotations(&rule.group, &rule.name), 0.0, now_ms);
                (alert.state, alert.fired_at_ms) = (State::Firing, Some(now_ms));
                self.alert = Some(alert.clone());
                Some(Change { alert, state: State::Firing, sample: None })
            }
            _ => None,
        }
    }

    /// The alert, where it is up.
    pub(crate) fn alert(&self) -> Option<&Alert> {
        self.alert.as_ref()
    }

    /// Takes the alert down, where it is up.
    pub(crate) fn resolve(&mut self, now_ms: i64) -> Option<Change> {
        let mut alert = self.alert.take()?;
        (alert.state, alert.resolved_at_ms) = (State::Resolved, Some(now_ms));
        Some(Change { alert, state: State::Resolved, sample: None })
    }
}

/// Whether any of its selectors finds a series that has not ended; `None` where it has none.
fn finds_something(rule: &PromRule, head: &dyn SeriesSource, as_of_ms: i64) -> Option<bool> {
    let selections = rule.query.selections(&Steps::instant(as_of_ms), &Options::default()).ok()?;
    if selections.is_empty() {
        return None;
    }
    let lives = |series: &highwater_promql::Series| {
        let ended = series.timestamps_ms.last().zip(series.values.last()).filter(|(_, value)| is_stale(**value));
        let native_ms = series.histograms.last().map(|(at_ms, _)| at_ms);
        !series.is_empty() && ended.is_none_or(|(at_ms, _)| native_ms > Some(at_ms))
    };
    Some(selections.iter().any(|selection| head.select(selection).is_ok_and(|found| found.iter().any(lives))))
}

pub(in crate::rules) fn labels(group: &str, rule: &str) -> BTreeMap<String, String> {
    let labels = [("alertname", ALERTNAME), ("group", group), ("rule", rule), ("severity", "warning")];
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

pub(in crate::rules) fn annotations(group: &str, rule: &str) -> BTreeMap<String, String> {
    let summary = format!("rule {rule} in group {group} selects nothing any more");
    let runbook = "Is what it selects still sent, under this name and with these labels? Until it is, or the rule is changed, the rule sees nothing.";
    [("summary".to_owned(), summary), ("runbook".to_owned(), runbook.to_owned())].into()
}
