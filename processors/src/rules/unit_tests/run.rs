//! Running a file of unit tests.

use std::sync::Arc;

use highwater_promql::parser::{SequenceValue, format_duration_ms, parse_metric, parse_series};
use highwater_promql::{Cancel, Labels, Options, ParserOptions, Query, Sample, Steps, Value};

use super::super::file::RuleFile;
use super::super::promql::{Environment, GroupPlan, GroupState, Head};
use super::compare::{self, ShownAlert, ShownSample};
use super::file::{ExprTest, Test, TestFile};
use super::sql::{self, Played};
use crate::rollups::RollupConfig;
use highwater_pipeline::data::alerts::State;

/// A test of a file, run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name; `unnamed#N`, the place in the file from 0, where it has none.
    pub name: String,
    /// What failed, each in promtool's words; empty where all is as expected.
    pub failures: Vec<String>,
}

/// Runs every test of a file over these rules; `only` chooses by name. Rules in SQL read the rollups of the file, and these. With `diff` it is shown where
/// alerts differ, and not both whole.
///
/// # Errors
/// Where no test can be run: what is wrong with the rules, for people.
pub fn run(
    tests: &TestFile,
    rules: &[RuleFile],
    rollups: &[RollupConfig],
    only: impl Fn(&str) -> bool,
    diff: bool,
) -> Result<Vec<Case>, String> {
    let groups = ordered(tests, rules).map_err(|error| format!("    {error}"))?;
    let mut known = tests.rollups.clone();
    known.extend(rollups.iter().filter(|rollup| !tests.rollups.iter().any(|own| own.name == rollup.name)).cloned());
    let sql = sql::only_sql(rules).map(|rules| Sql { rules, rollups: known });
    let chosen = tests.tests.iter().enumerate().filter(|(_, test)| only(&test.name));
    let cases = chosen.map(|(index, test)| {
        let failures = match Running::new(tests, test, &groups, sql.as_ref()) {
            Ok(running) => Running { diff, ..running }.run(),
            Err(error) => vec![format!("{}    {error}", named(test))],
        };
        let name = if test.name.is_empty() { format!("unnamed#{index}") } else { test.name.clone() };
        Case { name, failures }
    });
    Ok(cases.collect())
}

/// The groups in the order of `group_eval_order`; those it does not name come first, in the order of the files.
fn ordered(tests: &TestFile, rules: &[RuleFile]) -> Result<Vec<Arc<GroupPlan>>, String> {
    let mut groups = GroupPlan::of_files(rules).map_err(|e| e.to_string())?;
    let place = |group: &Arc<GroupPlan>| tests.group_eval_order.iter().position(|name| *name == group.name);
    groups.sort_by_key(|group| place(group).map_or(0, |at| at + 1));
    Ok(groups)
}

/// The last time at which anything is expected.
fn last_ms(test: &Test) -> i64 {
    let alerts = test.alert_rule_test.iter().map(|test| test.eval_time);
    alerts.chain(test.promql_expr_test.iter().map(|test| test.eval_time)).max().unwrap_or(0)
}

fn named(test: &Test) -> String {
    if test.name.is_empty() { String::new() } else { format!("    name: {},\n", test.name) }
}

/// A series that is to come.
struct Script {
    labels: Labels,
    values: Vec<SequenceValue>,
}

/// The rules in SQL, and the rollups there are.
struct Sql {
    rules: Vec<RuleFile>,
    rollups: Vec<RollupConfig>,
}

struct Running<'a> {
    file: &'a TestFile,
    test: &'a Test,
    groups: &'a [Arc<GroupPlan>],
    states: Vec<GroupState>,
    environment: Environment,
    head: Head,
    series: Vec<Script>,
    start_ms: i64,
    interval_ms: i64,
    /// Index of the first value that is not in the head yet.
    loaded: usize,
    /// What the rules in SQL have said.
    played: Option<Played>,
    diff: bool,
}

impl<'a> Running<'a> {
    fn new(
        file: &'a TestFile,
        test: &'a Test,
        groups: &'a [Arc<GroupPlan>],
        sql: Option<&Sql>,
    ) -> Result<Self, String> {
        let series = test.input_series.iter().map(|one| one.parse().map(|(labels, values)| Script { labels, values }));
        let start_ms = match &test.start_timestamp {
            None => 0,
            Some(text) => start(text)?,
        };
        let interval_ms = if test.interval > 0 { test.interval } else { file.evaluation_interval };
        let last_ms = start_ms.saturating_add(last_ms(test));
        let play = |sql: &Sql| Played::play(sql.rules.clone(), &sql.rollups, test, start_ms, interval_ms, last_ms);
        let played = sql.map(play).transpose()?;
        Ok(Self {
            file,
            test,
            groups,
            states: groups.iter().map(|group| GroupState::new(group)).collect(),
            environment: Environment {
                external_labels: test.external_labels.clone(),
                external_url: test.external_url.clone(),
            },
            head: Head::new(),
            series: series.collect::<Result<_, _>>()?,
            start_ms,
            interval_ms,
            loaded: 0,
            played,
            diff: false,
        })
    }

    fn run(&mut self) -> Vec<String> {
        let last_ms = last_ms(self.test);
        let mut failures = Vec::new();
        for test in &self.test.alert_rule_test {
            if test.alertname.is_empty() {
                let at = format_duration_ms(test.eval_time);
                let of = if self.test.name.is_empty() {
                    String::new()
                } else {
                    format!(" (in TestGroup {})", self.test.name)
                };
                return vec![format!(
                    "an item under alert_rule_test misses required attribute alertname at eval_time {at}{of}"
                )];
            }
        }
        let mut now_ms = 0;
        while now_ms <= last_ms {
            self.load_until(now_ms);
            let errors = self.evaluate(now_ms);
            if !errors.is_empty() {
                failures.extend(errors);
                return failures;
            }
            self.check_alerts(now_ms, &mut failures);
            now_ms += self.file.evaluation_interval;
        }
        for test in &self.test.promql_expr_test {
            if let Err(failure) = self.check_expr(test) {
                failures.push(failure);
            }
        }
        failures
    }

    fn load_until(&mut self, now_ms: i64) {
        let most = self.series.iter().map(|series| series.values.len()).max().unwrap_or(0);
        while self.loaded < most {
            let offset_ms = i64::try_from(self.loaded).unwrap_or(i64::MAX).saturating_mul(self.interval_ms);
            if offset_ms > now_ms {
                return;
            }
            for series in &self.series {
                let at_ms = self.start_ms + offset_ms;
                match series.values.get(self.loaded) {
                    Some(SequenceValue::Float(value)) => self.head.push(&series.labels, at_ms, *value, None),
                    Some(SequenceValue::Histogram(histogram, _)) => {
                        self.head.push_histogram(&series.labels, at_ms, Arc::clone(histogram));
                    }
                    Some(SequenceValue::Omitted) | None => {}
                }
            }
            self.loaded += 1;
        }
    }

    fn evaluate(&mut self, now_ms: i64) -> Vec<String> {
        let mut errors = Vec::new();
        let environment = self.environment.clone();
        for (group, state) in self.groups.iter().zip(&mut self.states) {
            let caused = state.evaluate(group, self.start_ms + now_ms, &self.head, &environment);
            // One group after the other: here, each sees what those before it have recorded.
            for (labels, at_ms, value) in &caused.samples {
                self.head.push(labels, *at_ms, *value, None);
            }
            errors.extend(caused.errors.iter().map(|(rule, error)| {
                let rule = &group.rules[*rule].name;
                format!("    rule: {rule}, time: {}, err: {error}", format_duration_ms(now_ms))
            }));
        }
        errors
    }

    /// Compares the alerts that fire with what is expected at times from this evaluation up to the next.
    fn check_alerts(&self, now_ms: i64, failures: &mut Vec<String>) {
        let next_ms = now_ms + self.file.evaluation_interval;
        for test in &self.test.alert_rule_test {
            if !(now_ms..next_ms).contains(&test.eval_time) {
                continue;
            }
            let mut expected: Vec<ShownAlert> = test
                .exp_alerts
                .iter()
                .map(|alert| ShownAlert {
                    labels: Labels::from_pairs(alert.exp_labels.iter()).with("alertname", &test.alertname),
                    annotations: alert.exp_annotations.clone(),
                })
                .collect();
            let rules =
                self.groups.iter().zip(&self.states).flat_map(|(group, state)| group.rules.iter().zip(state.rules()));
            let firing = rules
                .filter(|(rule, _)| rule.is_alerting() && rule.name == test.alertname)
                .flat_map(|(_, state)| state.active())
                .filter(|alert| alert.state == State::Firing);
            let mut got: Vec<ShownAlert> = firing
                .map(|alert| ShownAlert {
                    labels: Labels::from_pairs(alert.labels.iter()),
                    annotations: alert.annotations.clone(),
                })
                .collect();
            if let Some(played) = &self.played {
                got.extend(played.firing_at(&test.alertname, self.start_ms + test.eval_time));
            }
            // An annotation without text is none, as labels are compared.
            for alert in expected.iter_mut().chain(&mut got) {
                alert.annotations.retain(|_, text| !text.is_empty());
            }
            expected.sort();
            got.sort();
            if expected != got && self.diff {
                failures.push(format!(
                    "{}    alertname: {}, time: {}, \n        diff: {}",
                    named(self.test),
                    test.alertname,
                    format_duration_ms(test.eval_time),
                    compare::diff(&expected, &got, "            "),
                ));
            } else if expected != got {
                failures.push(format!(
                    "{}    alertname: {}, time: {}, \n        exp:{}, \n        got:{}",
                    named(self.test),
                    test.alertname,
                    format_duration_ms(test.eval_time),
                    compare::alerts(&expected, "            "),
                    compare::alerts(&got, "            "),
                ));
            }
        }
    }

    fn check_expr(&self, test: &ExprTest) -> Result<(), String> {
        let at = format_duration_ms(test.eval_time);
        let failed = |error: String| format!("    expr: {:?}, time: {at}, err: {error}", test.expr);
        let query = Query::parse(&test.expr, &ParserOptions::all()).map_err(|e| failed(e.to_string()))?;
        let options = Options { default_subquery_step_ms: self.file.evaluation_interval, ..Options::default() };
        let steps = Steps::instant(self.start_ms + test.eval_time);
        let answer = query.evaluate(&self.head, &steps, &options, &Cancel::new()).map_err(|e| failed(e.to_string()))?;
        let mut got: Vec<ShownSample> = match answer.value {
            Value::Scalar { value, .. } => vec![ShownSample { labels: Labels::empty(), value, histogram: None }],
            Value::Vector(samples) => {
                let shown = samples.into_iter().map(|sample| {
                    let (value, histogram) = match sample.sample {
                        Sample::Float(value) => (value, None),
                        Sample::Histogram(histogram) => (0.0, Some((*histogram).clone())),
                    };
                    ShownSample { labels: sample.labels, value, histogram }
                });
                shown.collect()
            }
            Value::String { .. } | Value::Matrix(_) => {
                return Err(failed("rule result is not a vector or scalar".to_owned()));
            }
        };
        let mut expected = Vec::with_capacity(test.exp_samples.len());
        for sample in &test.exp_samples {
            let text = sample.labels.trim();
            let labels = if text.is_empty() { Ok(Labels::empty()) } else { parse_metric(text) };
            let labels = labels.map_err(|e| failed(format!("labels {text:?}: {e}")))?;
            let histogram = match sample.histogram.trim() {
                "" => None,
                text => {
                    match parse_series(&format!("{{}} {text}")).map_err(|e| failed(e.to_string()))?.values.as_slice() {
                        [SequenceValue::Histogram(histogram, _)] => Some((**histogram).clone()),
                        _ => return Err(failed(format!("histogram {text:?}: expected one histogram"))),
                    }
                }
            };
            expected.push(ShownSample { labels, value: sample.value, histogram });
        }
        expected.sort_by(|a, b| a.labels.cmp(&b.labels));
        got.sort_by(|a, b| a.labels.cmp(&b.labels));
        if compare::same_samples(&expected, &got, self.file.fuzzy_compare) {
            return Ok(());
        }
        Err(format!(
            "    expr: {:?}, time: {at},\n        exp: {}\n        got: {}",
            test.expr,
            compare::samples(&expected),
            compare::samples(&got)
        ))
    }
}

/// `start_timestamp`: RFC 3339, or Unix seconds.
fn start(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        return Ok((seconds * 1_000.0) as i64);
    }
    highwater_pipeline::data::time::parse(text)
        .map(|us| us.div_euclid(1_000))
        .ok_or_else(|| format!("start_timestamp {text:?} is neither RFC 3339 nor Unix seconds"))
}
