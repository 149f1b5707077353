//! One evaluation of a group: its rules in order, each seeing what those before it have recorded at this tick.

use std::collections::{BTreeMap, BTreeSet};

use highwater_pipeline::data::time;
use highwater_promql::{Cancel, Labels, METRIC_NAME, Options, Query, STALE_NAN, Sample, Steps, Value, is_stale};
use highwater_templates::prometheus::{Context, Query as Queries, Sample as TemplateSample, expand};
use serde::{Deserialize, Serialize};

use super::super::duration::format_duration;
use super::super::health::timed;
use super::alerts::{self, Alert, Alerts, Candidate, Change, Holds};
use super::head::{Head, View};
use super::plan::{Environment, GroupPlan, Kind, PromRule};
use super::silent::Selects;
use super::watch::{Value as RuleValue, Watch};

/// The state of a group for one tenant: that of its rules, in their order.
#[derive(Debug, Clone, Default)]
pub struct GroupState {
    pub(crate) rules: Vec<RuleState>,
    /// Time of the last evaluation, Unix milliseconds; `None` where there has been none since it was restored.
    last_evaluation_ms: Option<i64>,
    /// A rule was not silent since somebody looked.
    has_news: bool,
    /// Since when the head has all that its rules look at, as far as it goes back at all: what was older was too much for it. Unix milliseconds.
    pub(super) since_ms: i64,
}

/// The state of a rule for one tenant.
#[derive(Debug, Clone, Default)]
pub struct RuleState {
    pub(crate) alerts: Alerts,
    /// Series that the last evaluation wrote: one that is not there the next time has ended.
    pub(crate) written: BTreeSet<Labels>,
    /// What it finds at all.
    pub(crate) selects: Selects,
    /// Why the last evaluation failed.
    pub last_error: Option<String>,
    /// It is not evaluated: what it looks back to has not come yet.
    pub(super) waits: bool,
    /// How long the last evaluation took, seconds. No part of what is saved.
    pub(super) took_s: f64,
    /// Time of the last evaluation before it was restored, Unix milliseconds.
    restored_evaluation_ms: Option<i64>,
}

/// The state of a rule as a snapshot holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) alerts: Vec<Alert>,
    pub(crate) written: Vec<BTreeMap<String, String>>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_evaluation_ms: Option<i64>,
    #[serde(default)]
    pub(crate) selects: Selects,
}

impl RuleState {
    fn save(&self, last_evaluation_ms: Option<i64>) -> Saved {
        let plain = |labels: &Labels| labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Saved {
            alerts: self.alerts.values().cloned().collect(),
            written: self.written.iter().map(plain).collect(),
            last_error: self.last_error.clone(),
            last_evaluation_ms,
            selects: self.selects.clone(),
        }
    }

    pub(crate) fn of(saved: Saved) -> Self {
        let alerts = saved.alerts.into_iter().map(|alert| (Labels::from_pairs(alert.labels.iter()), alert));
        Self {
            alerts: alerts.collect(),
            written: saved.written.iter().map(|labels| Labels::from_pairs(labels.iter())).collect(),
            last_error: saved.last_error,
            waits: false,
            took_s: 0.0,
            restored_evaluation_ms: saved.last_evaluation_ms,
            selects: saved.selects,
        }
    }

    /// Nothing is up or remembered of it, and nothing that it wrote has to end.
    fn is_silent(&self) -> bool {
        self.alerts.is_empty() && self.written.is_empty() && self.last_error.is_none()
    }

    /// Every alert that is pending or firing, in the order of their labels.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().filter(|alert| alert.is_active())
    }
}

/// A transition, and the rule it is of.
pub(crate) struct Transitioned {
    pub(crate) rule: usize,
    pub(crate) change: Change,
}

/// What an evaluation has caused.
#[derive(Default)]
pub(crate) struct Caused {
    pub(crate) transitions: Vec<Transitioned>,
    /// Samples to write, in order: recorded metrics, `ALERTS`, `ALERTS_FOR_STATE`, staleness markers.
    pub(crate) samples: Vec<(Labels, i64, f64)>,
    /// Rules that failed, and why.
    pub(crate) errors: Vec<(usize, String)>,
}

impl GroupState {
    /// Of a group that has not been evaluated yet.
    pub fn new(plan: &GroupPlan) -> Self {
        Self {
            rules: plan.rules.iter().map(|_| RuleState::default()).collect(),
            last_evaluation_ms: None,
            has_news: true,
            since_ms: i64::MIN,
        }
    }

    /// Its rules' states, in order.
    pub fn rules(&self) -> &[RuleState] {
        &self.rules
    }

    /// When all of it was last evaluated since it was made or restored, Unix milliseconds.
    pub(crate) fn evaluated_ms(&self) -> Option<i64> {
        self.last_evaluation_ms
    }

    /// When a rule was last evaluated, Unix milliseconds.
    pub(crate) fn last_evaluation_ms(&self, rule: usize) -> Option<i64> {
        self.last_evaluation_ms.or_else(|| self.rules.get(rule)?.restored_evaluation_ms)
    }

    /// Whether there may be other alerts or errors than when this was last asked.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// What is shown of it is no longer so.
    pub(super) fn note_news(&mut self) {
        self.has_news = true;
    }

    /// A rule as a snapshot holds it.
    pub(crate) fn save(&self, rule: usize) -> Option<Saved> {
        Some(self.rules.get(rule)?.save(self.last_evaluation_ms(rule)))
    }

    /// Evaluates all rules at a tick. What they write is in the answer, and nowhere else: other groups see it from the next tick on.
    pub(crate) fn evaluate(&mut self, plan: &GroupPlan, now_ms: i64, head: &Head, environment: &Environment) -> Caused {
        self.run(plan, now_ms, head, environment, None)
    }

    /// The same, by evaluating only what may be another value than before. `group` is its place among the groups that are watched.
    pub(super) fn evaluate_due(
        &mut self,
        plan: &GroupPlan,
        now_ms: i64,
        head: &Head,
        environment: &Environment,
        watch: &mut Watch,
        group: usize,
    ) -> Caused {
        if watch.is_idle(group, now_ms - plan.query_offset_ms) {
            self.last_evaluation_ms = Some(now_ms);
            return Caused::default();
        }
        self.run(plan, now_ms, head, environment, Some((watch, group)))
    }

    fn run(
        &mut self,
        plan: &GroupPlan,
        now_ms: i64,
        head: &Head,
        environment: &Environment,
        mut watch: Option<(&mut Watch, usize)>,
    ) -> Caused {
        let mut caused = Caused::default();
        let mut fresh = Head::new();
        let mut idle_until_ms = i64::MAX;
        let as_of_ms = now_ms - plan.query_offset_ms;
        let since_ms = self.since_ms;
        self.last_evaluation_ms = Some(now_ms);
        for (index, (rule, state)) in plan.rules.iter().zip(&mut self.rules).enumerate() {
            if state.waits {
                idle_until_ms = i64::MIN;
                continue;
            }
            let mut took_s = 0.0;
            let evaluated;
            let (value, due_ms) = match &mut watch {
                _ if now_ms.saturating_sub(rule.reach_ms()) < since_ms => {
                    evaluated = Err(too_much(rule, since_ms));
                    (&evaluated, i64::MIN)
                }
                None => {
                    evaluated = timed(|| value_of(rule, &View { head, fresh: &fresh }, as_of_ms), &mut took_s);
                    (&evaluated, i64::MIN)
                }
                Some((watch, group)) => {
                    let (watch, place): (&mut Watch, _) = (watch, (*group, index));
                    let fresh = &fresh;
                    timed(move || watch.value(place, rule, head, fresh, as_of_ms), &mut took_s)
                }
            };
            state.took_s = took_s;
            if state.is_silent() && value.as_ref().is_ok_and(Vec::is_empty) {
                idle_until_ms = idle_until_ms.min(due_ms);
                continue;
            }
            idle_until_ms = i64::MIN;
            self.has_news = true;
            let view = View { head, fresh: &fresh };
            let run = Run { view: &view, now_ms, limit: plan.limit, environment };
            let (samples, changes, error) =
                match value.as_ref().map(|samples| timed(|| run.rule(rule, state, samples), &mut took_s)) {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(error)) => (None, Vec::new(), Some(error)),
                    Err(error) => (None, Vec::new(), Some(error.clone())),
                };
            state.took_s = took_s;
            caused.transitions.extend(changes.into_iter().map(|change| Transitioned { rule: index, change }));
            state.last_error.clone_from(&error);
            if let Some(error) = error {
                caused.errors.push((index, error));
            }
            let Some(samples) = samples else { continue };
            let written: BTreeSet<Labels> = samples.iter().map(|(labels, _)| labels.clone()).collect();
            let ended = state.written.difference(&written).map(|labels| (labels.clone(), STALE_NAN));
            for (labels, value) in samples.into_iter().chain(ended.collect::<Vec<_>>()) {
                fresh.push(&labels, as_of_ms, value, None);
                caused.samples.push((labels, as_of_ms, value));
            }
            state.written = written;
        }
        if let Some((watch, group)) = watch {
            watch.idle_until(group, idle_until_ms);
        }
        caused
    }
}

/// Why a rule is not evaluated whose samples do not go back as far as it looks.
fn too_much(rule: &PromRule, since_ms: i64) -> String {
    format!(
        "the rule looks back {}, and samples up to {} are dropped, because the rules of this tenant look at too many; use a shorter range, or record what \
         it needs with another rule",
        format_duration(rule.reach_ms()),
        time::format(since_ms.saturating_mul(1_000)),
    )
}

/// What a rule's expression evaluates to, in the order of labels whatever order the engine found them in.
pub(super) fn value_of(rule: &PromRule, view: &View<'_>, as_of_ms: i64) -> RuleValue {
    let mut samples = instant(&rule.query, view, as_of_ms)?;
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(samples)
}

/// An instant query. A scalar is one sample without labels.
pub(crate) fn instant(query: &Query, view: &View<'_>, at_ms: i64) -> Result<Vec<(Labels, f64)>, String> {
    let answer =
        query.evaluate(view, &Steps::instant(at_ms), &Options::default(), &Cancel::new()).map_err(|e| e.to_string())?;
    match answer.value {
        Value::Scalar { value, .. } => Ok(vec![(Labels::empty(), value)]),
        Value::Vector(samples) => {
            let value = |sample: &Sample| match sample {
                Sample::Float(value) => *value,
                Sample::Histogram(histogram) => histogram.count,
            };
            Ok(samples.into_iter().map(|s| (s.labels, value(&s.sample))).collect())
        }
        Value::String { .. } | Value::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
    }
}

/// Labels as templates have them.
fn plain(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

struct Run<'a> {
    view: &'a View<'a>,
    now_ms: i64,
    limit: usize,
    environment: &'a Environment,
}

/// Samples written, where the rule came so far; transitions; an error.
type Outcome = (Option<Vec<(Labels, f64)>>, Vec<Change>, Option<String>);

impl Run<'_> {
    fn rule(&self, rule: &PromRule, state: &mut RuleState, samples: &[(Labels, f64)]) -> Result<Outcome, String> {
        match &rule.kind {
            Kind::Recording => self.record(rule, samples).map(|samples| (Some(samples), Vec::new(), None)),
            Kind::Alerting { for_ms, keep_firing_for_ms, annotations, .. } => {
                let holds = Holds { for_ms: *for_ms, keep_firing_for_ms: *keep_firing_for_ms };
                let candidates = samples.iter().map(|(labels, value)| {
                    let context = self.context();
                    let data = context.data(&plain(labels), *value);
                    let mut all = labels.filter(|name| name != METRIC_NAME);
                    for (name, template) in &rule.labels {
                        all = all.with(name, &expand(template, &data, &context));
                    }
                    all = all.with("alertname", &rule.name);
                    let annotations =
                        annotations.iter().map(|(name, template)| (name.clone(), expand(template, &data, &context)));
                    Candidate { labels: all, annotations: annotations.collect(), value: *value, sample: labels.clone() }
                });
                let candidates = candidates.collect();
                let (changes, error) = alerts::advance(&mut state.alerts, holds, self.now_ms, candidates, self.limit);
                if error.is_some() {
                    return Ok((None, changes, error));
                }
                let mut written = Vec::new();
                for (labels, alert) in state.alerts.iter().filter(|(_, alert)| alert.is_active()) {
                    let all = labels.with(METRIC_NAME, "ALERTS").with("alertstate", alert.state.as_str());
                    written.push((all, 1.0));
                    #[expect(clippy::cast_precision_loss, reason = "seconds of this era fit")]
                    let since = alert.active_at_ms.div_euclid(1_000) as f64;
                    written.push((labels.with(METRIC_NAME, "ALERTS_FOR_STATE"), since));
                }
                Ok((Some(written), changes, None))
            }
        }
    }

    fn record(&self, rule: &PromRule, samples: &[(Labels, f64)]) -> Result<Vec<(Labels, f64)>, String> {
        let mut recorded = Vec::with_capacity(samples.len());
        let mut seen = BTreeSet::new();
        for (labels, value) in samples {
            let mut labels = labels.with(METRIC_NAME, &rule.name);
            for (name, value) in &rule.written_labels {
                labels = labels.with(name, value);
            }
            if !seen.insert(labels.clone()) {
                return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
            }
            recorded.push((labels, *value));
        }
        if self.limit > 0 && recorded.len() > self.limit {
            return Err(format!("exceeded limit of {} with {} series", self.limit, recorded.len()));
        }
        Ok(recorded)
    }

    fn context(&self) -> Context<'_> {
        Context {
            queries: self,
            now_ms: self.now_ms,
            external_labels: &self.environment.external_labels,
            external_url: &self.environment.external_url,
        }
    }
}

impl Queries for Run<'_> {
    fn query(&self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        let query = Query::parse(expr, &highwater_promql::ParserOptions::default()).map_err(|e| e.to_string())?;
        if let highwater_promql::parser::ValueType::String = query.value_type() {
            let answer = query.evaluate(self.view, &Steps::instant(self.now_ms), &Options::default(), &Cancel::new());
            return match answer.map_err(|e| e.to_string())?.value {
                Value::String { value, .. } => {
                    Ok(vec![TemplateSample { labels: [("__value__".to_owned(), value)].into(), value: 0.0 }])
                }
                _ => Ok(Vec::new()),
            };
        }
        let samples = instant(&query, self.view, self.now_ms)?;
        Ok(samples.into_iter().map(|(labels, value)| TemplateSample { labels: plain(&labels), value }).collect())
    }
}

/// From when on a rule looks at samples as of this time, and the metrics that it names.
pub(crate) fn looked_at(rule: &PromRule, as_of_ms: i64) -> (i64, Vec<String>) {
    let selections = rule.query.selections(&Steps::instant(as_of_ms), &Options::default()).unwrap_or_default();
    let mut names: Vec<String> =
        selections.iter().filter_map(|selection| selection.metric_name()).map(|name| name.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    (selections.iter().map(|selection| selection.start_ms).min().unwrap_or(as_of_ms), names)
}

/// The series behind a sample, at most `most`: of all that the rule's selectors find, those that do not contradict its labels.
pub(crate) fn evidence(
    rule: &PromRule,
    view: &View<'_>,
    as_of_ms: i64,
    sample: Option<&Labels>,
    most: usize,
) -> Vec<(Labels, i64, f64)> {
    use highwater_promql::SeriesSource as _;
    let options = Options::default();
    let mut found: Vec<(Labels, i64, f64)> = Vec::new();
    let Ok(selections) = rule.query.selections(&Steps::instant(as_of_ms), &options) else { return found };
    for selection in selections {
        let mut series = view.select(&selection).unwrap_or_default();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        for series in series {
            let agrees = |sample: &Labels| {
                sample.iter().all(|(name, value)| series.labels.get(name).is_none_or(|theirs| theirs == value))
            };
            let float = series.timestamps_ms.last().copied().zip(series.values.last().copied());
            // Of a native histogram its count is shown.
            let native = series.histograms.last().map(|(at, histogram)| (*at, histogram.count));
            let Some((at, value)) = float.into_iter().chain(native).max_by_key(|(at, _)| *at) else { continue };
            if sample.is_none_or(agrees) && !is_stale(value) && !found.iter().any(|(known, ..)| *known == series.labels)
            {
                found.push((series.labels, at, value));
            }
            if found.len() == most {
                return found;
            }
        }
    }
    found
}
