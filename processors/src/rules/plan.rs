//! A rule, planned against the rollup it reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_pipeline::data::labels;
use highwater_templates::Template;
use highwater_templates::prometheus::{Context, NoQueries, expand};
use serde_json::{Map, Value, json};
use twox_hash::XxHash64;

use super::alert::Identity;
use super::blind::Watch;
use super::duration::format_duration;
use super::evidence::Statements;
use super::file::{Rule, RuleGroup};
use super::over_topic;
use super::query::{self, Instance, Query};
use crate::error::ProcessorsError;
use crate::planning;
use crate::rollups::{RollupPlan, Source};

/// The label that names the alert.
const ALERTNAME: &str = "alertname";

/// A rule that can be evaluated. Holds no state between evaluations.
#[derive(Debug)]
pub struct RulePlan {
    pub(super) rollup: Arc<RollupPlan>,
    pub(super) interval_us: i64,
    pub(super) for_us: i64,
    pub(super) keep_firing_for_us: i64,
    pub(super) definition: u64,
    pub(super) identity: Identity,
    /// True where the rollup is the rule's own.
    is_over_topic: bool,
    query: Query,
    pub(super) statements: Statements,
    labels: Vec<(String, Template)>,
    annotations: Vec<(String, Template)>,
    /// What it has to see; none where seeing nothing is well.
    pub(super) watch: Option<Watch>,
    /// The answer over no rows, which needs no second evaluation.
    pub(super) on_nothing: Vec<Candidate>,
}

/// An alert that the query asks for: a row of the answer with all its labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) canonical: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) value: f64,
    /// The row of the answer.
    pub(super) row: Map<String, Value>,
}

impl RulePlan {
    /// Plans a rule of a group against the rollups there are, or says why it cannot be one.
    pub fn new(group: &RuleGroup, rule: &Rule, rollups: &[Arc<RollupPlan>]) -> Result<Self, ProcessorsError> {
        let refuse =
            |reason: String| ProcessorsError::Rule { group: group.name.clone(), rule: rule.alert.clone(), reason };
        let apart = over_topic::take_apart(group, rule).map_err(refuse)?;
        let is_over_topic = apart.is_some();
        let (rollup, sql) = match apart {
            Some(apart) => {
                let rollup = RollupPlan::new(&apart.rollup).map_err(|error| {
                    let text = match &error {
                        ProcessorsError::Rollup { reason, .. } => reason.clone(),
                        other => other.to_string(),
                    };
                    refuse(format!("sql: {text}"))
                })?;
                (Arc::new(rollup), apart.sql)
            }
            None => (read_rollup(&rule.sql, rollups).map_err(refuse)?, rule.sql.clone()),
        };
        if rollup.slide_us().is_none() {
            let reason = format!(
                "sql: {} has session windows, which end group by group, and rules are evaluated window by window; the nearest that works is a rollup with tumble or hop",
                rollup.name()
            );
            return Err(refuse(reason));
        }
        let query = Query::new(&sql, rollup.name(), &rollup.output_schema())
            .map_err(|e| refuse(format!("sql: {}", planning::explain(&e))))?;
        let templates = |texts: &BTreeMap<String, String>| {
            let parse = |(name, text): (&String, &String)| {
                let template = highwater_templates::prometheus::parse(name, text);
                template.map(|template| (name.clone(), template)).map_err(|e| refuse(e.to_string()))
            };
            texts.iter().map(parse).collect::<Result<Vec<_>, _>>()
        };
        let mut written_labels = group.labels.clone();
        written_labels.extend(rule.labels.clone());
        let added = templates(&written_labels)?;
        let annotations = templates(&rule.annotations)?;
        if let Some(name) = written_labels.iter().find(|(_, text)| text.contains("$value") || text.contains(".Value")) {
            return Err(refuse(format!(
                "label `{}`: {{{{ $value }}}} would make another alert of every value; put it into an annotation",
                name.0
            )));
        }
        for (name, text) in written_labels.iter().chain(&rule.annotations) {
            let known = |label: &str| {
                label == ALERTNAME || query.label_columns().any(|c| c == label) || written_labels.contains_key(label)
            };
            if let Some(missing) = labels_named(text).find(|label| !known(label)) {
                let labels = query.label_columns().collect::<Vec<_>>().join(", ");
                return Err(refuse(format!(
                    "`{name}`: {{{{ $labels.{missing} }}}} is no label of this alert; the query's are: {labels}"
                )));
            }
        }
        let mut shown = json!({
            "group": group.name, "name": rule.alert, "sql": rule.sql.trim(), "rollup": rollup.name(),
            "for": format_duration(rule.for_ms), "keep_firing_for": format_duration(rule.keep_firing_for_ms),
            "labels": written_labels, "annotations": rule.annotations,
        });
        if rule.window_ms > 0 {
            shown["window"] = format_duration(rule.window_ms).into();
        }
        let text = format!("rule 1\0{}\0{}\0{shown}", rollup.definition(), group.interval_ms);
        let definition = XxHash64::oneshot(0, text.as_bytes());
        shown["hash"] = format!("{definition:016x}").into();
        let mut plan = Self {
            statements: Statements::new(&sql, &rollup, &query),
            identity: Identity {
                group: group.name.clone(),
                name: rule.alert.clone(),
                rollup: rollup.name().to_owned(),
                shown,
            },
            rollup,
            interval_us: group.interval_ms.saturating_mul(1_000),
            for_us: rule.for_ms.saturating_mul(1_000),
            keep_firing_for_us: rule.keep_firing_for_ms.saturating_mul(1_000),
            definition,
            is_over_topic,
            query,
            labels: added,
            annotations,
            watch: None,
            on_nothing: Vec::new(),
        };
        plan.on_nothing =
            plan.evaluate(Vec::new()).map_err(|e| refuse(format!("over no rows the query fails: {e}")))?;
        if plan.on_nothing.is_empty() {
            plan.watch = Watch::new(&plan.rollup, &sql);
        }
        Ok(plan)
    }

    /// The rollup it reads.
    pub fn rollup(&self) -> &Arc<RollupPlan> {
        &self.rollup
    }

    /// How long its alerts may hold: before they fire, and once their rows are gone. Microseconds.
    pub(crate) fn holds_us(&self) -> i64 {
        self.for_us.saturating_add(self.keep_firing_for_us)
    }

    /// True where it reads a topic: then the rollup it reads is its own.
    pub fn is_over_topic(&self) -> bool {
        self.is_over_topic
    }

    /// Its group's name.
    pub fn group(&self) -> &str {
        &self.identity.group
    }

    /// Its name, the alert's.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// The alerts that these rows, of one tenant and window, ask for, sorted by their labels. The error is for people.
    pub(super) fn evaluate(&self, rows: Vec<arrow::record_batch::RecordBatch>) -> Result<Vec<Candidate>, String> {
        let instances = self.query.run(rows).map_err(|e| planning::explain(&e))?;
        let mut candidates: Vec<Candidate> = instances.into_iter().map(|instance| self.candidate(instance)).collect();
        candidates.sort_by(|a, b| a.canonical.cmp(&b.canonical));
        if let Some(pair) = candidates.windows(2).find(|pair| pair[0].canonical == pair[1].canonical) {
            return Err(format!(
                "two rows have the same labels {}; select or group by what tells them apart",
                pair[0].canonical
            ));
        }
        Ok(candidates)
    }

    fn candidate(&self, instance: Instance) -> Candidate {
        let Instance { labels: from_query, value, row } = instance;
        let none = BTreeMap::new();
        let context = Context { queries: &NoQueries, now_ms: 0, external_labels: &none, external_url: "" };
        let data = context.data(&from_query, value);
        let mut all = from_query;
        for (name, template) in &self.labels {
            all.insert(name.clone(), expand(template, &data, &context));
        }
        all.retain(|_, value| !value.is_empty());
        all.insert(ALERTNAME.to_owned(), self.identity.name.clone());
        let data = context.data(&all, value);
        let annotations = self.annotations.iter();
        let annotations =
            annotations.map(|(name, template)| (name.clone(), expand(template, &data, &context))).collect();
        let mut canonical = String::new();
        labels::write_canonical(all.iter().map(|(k, v)| (k.as_str(), v.as_str())), &mut canonical);
        Candidate { labels: all, canonical, annotations, value, row }
    }
}

/// Finds the one rollup that a query reads.
fn read_rollup(sql: &str, rollups: &[Arc<RollupPlan>]) -> Result<Arc<RollupPlan>, String> {
    let mut known: Vec<_> = Source::ALL.iter().map(|s| (s.topic(), s.schema())).collect();
    known.extend(rollups.iter().map(|r| (r.name(), r.output_schema())));
    let names: Vec<&str> = rollups.iter().map(|r| r.name()).collect();
    let list =
        if names.is_empty() { "there is none yet".to_owned() } else { format!("there are: {}", names.join(", ")) };
    let read = query::tables(sql, known).map_err(|e| format!("sql: {} (rollups: {list})", planning::explain(&e)))?;
    match read.as_slice() {
        [one] => rollups.iter().find(|r| r.name() == one).map(Arc::clone).ok_or_else(|| {
            format!("sql: FROM {one}: a rule reads one rollup, or logs, metrics or spans with a window ({list})")
        }),
        [] => Err(format!("sql: it reads no table; a rule reads one rollup ({list})")),
        many => Err(format!("sql: it reads {}; a rule reads one rollup", many.join(" and "))),
    }
}

/// The labels that a template names as `$labels.name`.
fn labels_named(text: &str) -> impl Iterator<Item = &str> {
    text.split("$labels.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        &rest[..end]
    })
}
