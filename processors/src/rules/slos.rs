//! Service level objectives, from a few lines to rules: recorded ratios over several windows, multi-window multi-burn-rate alerts, and what is left of the
//! error budget.
//!
//! ```yaml
//! slos:
//!   - name: checkout-availability
//!     objective: 99.9                # percent
//!     window: 30d
//!     errors: sum(rate(http_requests_total{job="checkout", code=~"5.."}[$window]))
//!     total: sum(rate(http_requests_total{job="checkout"}[$window]))
//!   - name: checkout-latency         # 95 % under 500 ms
//!     objective: 95
//!     good: sum(rate(http_request_duration_seconds_bucket{job="checkout", le="0.5"}[$window]))
//!     total: sum(rate(http_request_duration_seconds_count{job="checkout"}[$window]))
//! ```
//!
//! Ratios over an hour and less are asked of the samples. Longer ones are made of the recorded rates of five minutes, weighted by traffic, so that a month
//! of an objective is 43,200 samples of two series, and not a month of everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::duration::{format_duration, parse_duration_ms};
use super::file::{Rule, RuleFile, RuleGroup};
use crate::error::ProcessorsError;

/// What stands for the window in an expression.
const PLACEHOLDER: &str = "$window";
/// Milliseconds between evaluations.
const INTERVAL_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// Windows asked of the samples, and those made of recorded rates.
const SHORT: [&str; 3] = ["5m", "30m", "1h"];
const LONG: [&str; 2] = ["6h", "3d"];
/// Burn rates that are alerted on: the long window, the short one, how many times the budget may burn, and how urgent it is.
const BURNS: [(&str, &str, &str, &str); 3] =
    [("1h", "5m", "14.4", "critical"), ("6h", "30m", "6", "critical"), ("3d", "6h", "1", "warning")];

/// An objective, as the configuration file has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SloConfig {
    /// Its name; label `slo` of everything that comes of it.
    pub name: String,
    /// How much is to be good, in percent: more than 0 and less than 100.
    pub objective: f64,
    /// The time that the budget is for, e.g. `30d`. In milliseconds here.
    #[serde(default = "default_window", deserialize_with = "duration", rename = "window")]
    pub window_ms: i64,
    /// PromQL: bad events per second over `$window`. Either this or `good`.
    #[serde(default)]
    pub errors: Option<String>,
    /// PromQL: good events per second over `$window`.
    #[serde(default)]
    pub good: Option<String>,
    /// PromQL: all events per second over `$window`.
    pub total: String,
    /// Labels of its alerts.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Texts of its alerts, besides `summary`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

fn default_window() -> i64 {
    30 * DAY_MS
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration_ms(&text).map_err(serde::de::Error::custom)
}

/// The rules of these objectives, as a rule file; `None` where there are none.
///
/// # Errors
/// Where one is no objective.
pub fn rule_file(slos: &[SloConfig]) -> Result<Option<RuleFile>, ProcessorsError> {
    let mut groups: Vec<RuleGroup> = Vec::new();
    for slo in slos {
        let group = slo.group().map_err(|reason| ProcessorsError::RuleFile {
            file: "slos".to_owned(),
            reason: format!("slo {}: {reason}", slo.name),
        })?;
        if groups.iter().any(|other| other.name == group.name) {
            let reason = format!("slo {}: there are two of this name", slo.name);
            return Err(ProcessorsError::RuleFile { file: "slos".to_owned(), reason });
        }
        groups.push(group);
    }
    Ok((!groups.is_empty()).then(|| RuleFile { file: "slos".to_owned(), groups }))
}

impl SloConfig {
    fn group(&self) -> Result<RuleGroup, String> {
        if self.name.is_empty() {
            return Err("it needs a name".to_owned());
        }
        if !(self.objective > 0.0 && self.objective < 100.0) {
            return Err(format!(
                "objective {} is not between 0 and 100; it is a percentage, such as 99.9",
                self.objective
            ));
        }
        if self.window_ms < 3 * DAY_MS {
            return Err("window: at least 3d, the longest that is alerted on; 30d is usual".to_owned());
        }
        for expr in self.errors.iter().chain(&self.good).chain([&self.total]) {
            if !expr.contains(PLACEHOLDER) {
                return Err(format!(
                    "{expr}: it has to say {PLACEHOLDER} where its range stands, e.g. rate(errors_total[{PLACEHOLDER}])"
                ));
            }
            let asked = expr.replace(PLACEHOLDER, "5m");
            highwater_promql::Query::parse(&asked, &highwater_promql::ParserOptions::default())
                .map_err(|e| format!("{expr}: {e}"))?;
        }
        Ok(RuleGroup {
            name: format!("slo:{}", self.name),
            interval_ms: INTERVAL_MS,
            rules: self.rules()?,
            ..RuleGroup::default()
        })
    }

    fn rules(&self) -> Result<Vec<Rule>, String> {
        let label = format!("slo={:?}", self.name);
        let record = |name: &str, expr: String| Rule {
            record: name.to_owned(),
            expr,
            labels: [("slo".to_owned(), self.name.clone())].into(),
            ..Rule::default()
        };
        let total = |window: &str| format!("sum({})", self.total.replace(PLACEHOLDER, window));
        // Where nothing went wrong yet there may be no series that says so.
        let errors = |window: &str| match (&self.errors, &self.good) {
            (Some(errors), None) => {
                Ok(format!("(sum({}) or 0 * {})", errors.replace(PLACEHOLDER, window), total(window)))
            }
            (None, Some(good)) => Ok(format!(
                "({} - (sum({}) or 0 * {}))",
                total(window),
                good.replace(PLACEHOLDER, window),
                total(window)
            )),
            _ => Err("it needs one of `errors:` and `good:`".to_owned()),
        };
        let mut rules = vec![record("slo:errors:rate5m", errors("5m")?), record("slo:events:rate5m", total("5m"))];
        for window in SHORT {
            // Without traffic nothing is wrong, and 0 / 0 is no number.
            rules.push(record(
                &format!("slo:error_ratio:{window}"),
                format!("({} / ({} > 0)) or 0 * {}", errors(window)?, total(window), total(window)),
            ));
        }
        let period = format_duration(self.window_ms);
        let recorded = |window: &str| {
            let sum = |name: &str| format!("sum(sum_over_time({name}{{{label}}}[{window}]))");
            let (errors, events) = (sum("slo:errors:rate5m"), sum("slo:events:rate5m"));
            format!("({errors} / ({events} > 0)) or 0 * {events}")
        };
        for window in LONG {
            rules.push(record(&format!("slo:error_ratio:{window}"), recorded(window)));
        }
        rules.push(record("slo:error_ratio:window", recorded(&period)));
        // As they are written, not as binary fractions make them.
        let decimal =
            |ratio: f64| format!("{ratio:.9}").parse::<f64>().map_err(|_| "objective is no number".to_owned());
        let objective = decimal(self.objective / 100.0)?;
        let budget = decimal(1.0 - objective)?;
        rules.push(record("slo:objective:ratio", format!("vector({objective})")));
        rules.push(record(
            "slo:error_budget_remaining:ratio",
            format!("1 - slo:error_ratio:window{{{label}}} / {budget}"),
        ));
        rules.push(record("slo:burn_rate:1h", format!("slo:error_ratio:1h{{{label}}} / {budget}")));
        for (long, short, times, severity) in BURNS {
            let burns = |window: &str| format!("slo:error_ratio:{window}{{{label}}} > {times} * {budget}");
            let mut labels = BTreeMap::from([
                ("severity".to_owned(), severity.to_owned()),
                ("slo".to_owned(), self.name.clone()),
                ("long_window".to_owned(), long.to_owned()),
                ("short_window".to_owned(), short.to_owned()),
            ]);
            labels.extend(self.labels.clone());
            let summary = format!(
                "{}: {{{{ $value | humanizePercentage }}}} went wrong over {long}; of the budget of {period}, {times} times as much burns as may",
                self.name
            );
            let mut annotations = BTreeMap::from([("summary".to_owned(), summary)]);
            annotations.extend(self.annotations.clone());
            rules.push(Rule {
                alert: "ErrorBudgetBurn".to_owned(),
                expr: format!("{} and ignoring(long_window, short_window) {}", burns(long), burns(short)),
                labels,
                annotations,
                ..Rule::default()
            });
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::rules::promql::GroupPlan;

    fn slo() -> SloConfig {
        SloConfig {
            name: "checkout".to_owned(),
            objective: 99.9,
            window_ms: default_window(),
            errors: Some("rate(http_requests_total{code=~\"5..\"}[$window])".to_owned()),
            good: None,
            total: "rate(http_requests_total[$window])".to_owned(),
            labels: [("team".to_owned(), "web".to_owned())].into(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn an_objective_is_rules_that_can_be_run() {
        let file = rule_file(&[slo()]).unwrap().unwrap();
        let plans = GroupPlan::of_files(std::slice::from_ref(&file)).unwrap();
        let names: Vec<&str> = plans[0].rules.iter().map(|rule| rule.name.as_str()).collect();
        let expected = "slo:errors:rate5m slo:events:rate5m slo:error_ratio:5m slo:error_ratio:30m slo:error_ratio:1h slo:error_ratio:6h \
                        slo:error_ratio:3d slo:error_ratio:window slo:objective:ratio slo:error_budget_remaining:ratio slo:burn_rate:1h \
                        ErrorBudgetBurn ErrorBudgetBurn ErrorBudgetBurn";
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
        let burn = &file.groups[0].rules[11];
        assert_eq!(
            burn.expr,
            "slo:error_ratio:1h{slo=\"checkout\"} > 14.4 * 0.001 and ignoring(long_window, short_window) slo:error_ratio:5m{slo=\"checkout\"} > 14.4 * 0.001"
        );
        assert_eq!((burn.labels["team"].as_str(), burn.labels["severity"].as_str()), ("web", "critical"));
    }

    #[test]
    fn what_is_no_objective_is_refused() {
        let refused = |slo: SloConfig| rule_file(&[slo]).unwrap_err().to_string();
        assert!(refused(SloConfig { objective: 0.0, ..slo() }).contains("between 0 and 100"));
        assert!(refused(SloConfig { good: Some("rate(x[$window])".to_owned()), ..slo() }).contains("one of `errors:`"));
        assert!(refused(SloConfig { total: "rate(x[5m])".to_owned(), ..slo() }).contains("$window"));
        assert!(refused(SloConfig { total: "rate(x[$window]".to_owned(), ..slo() }).contains("slo checkout: rate("));
        assert!(refused(SloConfig { window_ms: DAY_MS, ..slo() }).contains("3d"));
        assert!(rule_file(&[slo(), slo()]).unwrap_err().to_string().contains("two of this name"));
        assert!(rule_file(&[]).unwrap().is_none());
    }
}
