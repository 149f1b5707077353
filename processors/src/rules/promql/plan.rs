//! Rules in PromQL, ready to be evaluated. No state.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hasher as _;
use std::sync::Arc;

use highwater_promql::parser::ValueType;
use highwater_promql::{Labels, Matcher, Options, ParserOptions, Query, Steps};
use highwater_templates::Template;
use serde_json::json;
use twox_hash::XxHash64;

use super::super::duration::format_duration;
use super::super::file::{Rule, RuleFile, RuleGroup};
use super::selector_index::SelectorIndex;
use super::timing::Timing;
use crate::error::ProcessorsError;

/// Milliseconds between evaluations of a group that says nothing.
const DEFAULT_INTERVAL_MS: i64 = 1_000;

/// What rules are evaluated with, besides samples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// Labels that templates see as `$externalLabels`.
    pub external_labels: BTreeMap<String, String>,
    /// The address that templates see as `$externalURL`.
    pub external_url: String,
}

/// A group of PromQL rules.
#[derive(Debug)]
pub struct GroupPlan {
    /// The file it is from, without its folder.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Milliseconds between evaluations.
    pub interval_ms: i64,
    /// Milliseconds before the tick as of which its expressions are evaluated.
    pub query_offset_ms: i64,
    /// Most alerts or series of a rule; 0 for as many as there are.
    pub limit: usize,
    /// Its PromQL rules, in order.
    pub rules: Vec<PromRule>,
}

/// A rule in PromQL.
#[derive(Debug)]
pub struct PromRule {
    /// Unique within the task, and the same for as long as the rule stays where it is.
    pub(crate) id: String,
    /// Hash of all that it says: its state is kept for as long as this stays the same.
    pub(crate) definition: u64,
    /// The name of the alert or of the recorded metric.
    pub name: String,
    /// The group's name.
    pub group: String,
    /// The expression.
    pub query: Query,
    /// When its value can change.
    pub(crate) timing: Timing,
    /// What it looks at, its templates included, and how far back.
    pub(crate) looks_back: Vec<LookBack>,
    /// What comes of its samples.
    pub kind: Kind,
    /// Labels to add: the group's and its own.
    pub labels: Vec<(String, Template)>,
    /// The same, as they are written.
    pub written_labels: BTreeMap<String, String>,
    /// The rule as every record of it shows it.
    pub shown: serde_json::Value,
}

/// A selector, and how far back it looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LookBack {
    pub(crate) matchers: Vec<Matcher>,
    /// Milliseconds before a tick.
    pub(crate) reach_ms: i64,
}

/// What comes of a rule's samples.
#[derive(Debug)]
pub enum Kind {
    /// Samples of a new metric.
    Recording,
    /// Alerts.
    Alerting {
        /// How long a sample must be there before its alert fires.
        for_ms: i64,
        /// How long it goes on firing once it is gone.
        keep_firing_for_ms: i64,
        /// Texts for people.
        annotations: Vec<(String, Template)>,
        /// The same, as they are written.
        written_annotations: BTreeMap<String, String>,
    },
}

impl GroupPlan {
    /// Plans the PromQL rules of a group; `None` where there are none.
    ///
    /// # Errors
    /// Where a rule is not one this version can run.
    pub fn new(file: &str, group: &RuleGroup) -> Result<Option<Self>, ProcessorsError> {
        let mut rules = Vec::new();
        let mut occurrences: BTreeMap<&str, usize> = BTreeMap::new();
        for rule in &group.rules {
            if !rule.is_promql() {
                continue;
            }
            let occurrence = occurrences.entry(rule.name()).or_default();
            rules.push(PromRule::new(file, group, rule, *occurrence)?);
            *occurrence += 1;
        }
        if rules.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            file: file.to_owned(),
            name: group.name.clone(),
            interval_ms: if group.interval_ms > 0 { group.interval_ms } else { DEFAULT_INTERVAL_MS },
            query_offset_ms: group.query_offset_ms,
            limit: group.limit,
            rules,
        }))
    }

    /// Plans all groups of these files that have PromQL rules, in order.
    ///
    /// # Errors
    /// Where a rule is not one this version can run.
    pub fn of_files(files: &[RuleFile]) -> Result<Vec<Arc<Self>>, ProcessorsError> {
        let mut plans = Vec::new();
        for file in files {
            let name = std::path::Path::new(&file.file)
                .file_name()
                .map_or_else(|| file.file.clone(), |name| name.to_string_lossy().into_owned());
            for group in &file.groups {
                plans.extend(Self::new(&name, group).map_err(|e| e.in_file(&file.file))?.map(Arc::new));
            }
        }
        Ok(plans)
    }

    /// How far back its rules look, in milliseconds before the tick.
    pub(crate) fn reach_ms(&self) -> i64 {
        self.rules.iter().map(PromRule::reach_ms).max().unwrap_or(0).max(Options::default().lookback_ms)
    }
}

impl PromRule {
    fn new(file: &str, group: &RuleGroup, rule: &Rule, occurrence: usize) -> Result<Self, ProcessorsError> {
        let refuse =
            |reason: String| ProcessorsError::Rule { group: group.name.clone(), rule: rule.name().to_owned(), reason };
        let query = Query::parse(&rule.expr, &ParserOptions::default()).map_err(|e| refuse(format!("expr: {e}")))?;
        if !matches!(query.value_type(), ValueType::Vector | ValueType::Scalar) {
            return Err(refuse("expr: rule result is not a vector or scalar".to_owned()));
        }
        let mut written_labels = group.labels.clone();
        written_labels.extend(rule.labels.clone());
        let templates = |texts: &BTreeMap<String, String>| {
            let parse = |(name, text): (&String, &String)| {
                let template = highwater_templates::prometheus::parse(&format!("__alert_{}", rule.alert), text);
                template.map(|template| (name.clone(), template)).map_err(|e| refuse(e.to_string()))
            };
            texts.iter().map(parse).collect::<Result<Vec<_>, _>>()
        };
        let labels = if rule.alert.is_empty() { Vec::new() } else { templates(&written_labels)? };
        let kind = if rule.alert.is_empty() {
            Kind::Recording
        } else {
            Kind::Alerting {
                for_ms: rule.for_ms,
                keep_firing_for_ms: rule.keep_firing_for_ms,
                annotations: templates(&rule.annotations)?,
                written_annotations: rule.annotations.clone(),
            }
        };
        let mut shown = json!({
            "group": group.name, "file": file, "name": rule.name(), "expr": rule.expr, "labels": written_labels,
        });
        if !rule.alert.is_empty() {
            shown["for"] = format_duration(rule.for_ms).into();
            shown["keep_firing_for"] = format_duration(rule.keep_firing_for_ms).into();
            shown["annotations"] = json!(rule.annotations);
        }
        let what = if rule.alert.is_empty() { "record" } else { "alert" };
        let definition = XxHash64::oneshot(0, format!("promql 1\0{what}\0{shown}").as_bytes());
        shown["hash"] = format!("{definition:016x}").into();
        let id = format!("{file}\0{}\0{what}\0{}\0{occurrence}", group.name, rule.name());
        let as_of_ms = group.query_offset_ms.saturating_neg();
        let (name, group) = (rule.name().to_owned(), group.name.clone());
        let timing = Timing::of(query.expr(), &Options::default());
        let looks_back = Vec::new();
        let rule = Self { id, definition, name, group, query, timing, looks_back, kind, labels, written_labels, shown };
        Ok(Self { looks_back: rule.looks_back(as_of_ms), ..rule })
    }

    /// `as_of_ms`: the time as of which its expression is evaluated at a tick at 0.
    fn looks_back(&self, as_of_ms: i64) -> Vec<LookBack> {
        let options = Options::default();
        let templates = self.template_queries();
        let mut all: Vec<LookBack> = Vec::new();
        for (query, at_ms) in templates.iter().map(|query| (query, 0)).chain([(&self.query, as_of_ms)]) {
            // Steps of a subquery lie up to one further back at some ticks than at others.
            let step_ms = Timing::of(query.expr(), &options).steps_ms;
            for selection in query.selections(&Steps::instant(at_ms), &options).unwrap_or_default() {
                let reach_ms = selection.start_ms.saturating_neg().saturating_add(step_ms);
                match all.iter_mut().find(|known| known.matchers == selection.matchers) {
                    Some(known) => known.reach_ms = known.reach_ms.max(reach_ms),
                    None => all.push(LookBack { matchers: selection.matchers, reach_ms }),
                }
            }
        }
        all
    }

    /// How far back it looks, in milliseconds before a tick.
    pub(crate) fn reach_ms(&self) -> i64 {
        self.looks_back.iter().map(|look| look.reach_ms).max().unwrap_or(0)
    }

    /// Unique among the rules of a configuration, and the same for as long as the rule stays where it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// True where it is about what is not there.
    pub(crate) fn asks_for_absence(&self) -> bool {
        self.shown["expr"].as_str().is_some_and(|expr| expr.contains("absent"))
    }

    /// True for an alerting rule.
    pub fn is_alerting(&self) -> bool {
        matches!(self.kind, Kind::Alerting { .. })
    }
}

/// A hash of all that these rules say.
pub(crate) fn hash_of(groups: &[Arc<GroupPlan>]) -> u64 {
    let mut hasher = XxHash64::with_seed(0);
    for rule in groups.iter().flat_map(|group| &group.rules) {
        hasher.write(rule.id.as_bytes());
        hasher.write(&rule.definition.to_le_bytes());
    }
    hasher.finish()
}

/// Which series of topic `metrics` any of some rules look at.
#[derive(Debug, Clone)]
pub(crate) struct Selectors {
    index: SelectorIndex,
    /// Of these rules: [`hash_of`].
    pub(crate) rules: u64,
}

impl Selectors {
    /// Those of these groups.
    pub(crate) fn of(groups: &[Arc<GroupPlan>]) -> Result<Self, ProcessorsError> {
        let mut selectors: HashSet<Vec<Matcher>> = HashSet::new();
        for rule in groups.iter().flat_map(|group| &group.rules) {
            for matchers in matchers_of(rule)? {
                if selectors.contains(&matchers) {
                    continue;
                }
                if let Some(wrong) = matchers.iter().find_map(|m| m.compile().err()) {
                    return Err(refused(rule, &wrong));
                }
                selectors.insert(matchers);
            }
        }
        let index = index_of(&selectors)?;
        Ok(Self { index, rules: hash_of(groups) })
    }

    /// The metrics they name; `None` where one names none.
    pub(crate) fn names(&self) -> Option<BTreeSet<String>> {
        self.index.names()
    }

    /// True where no rule looks at anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// True where a rule may look at some series of this metric.
    pub(crate) fn may_want(&self, name: &str) -> bool {
        self.index.may_find(name)
    }

    /// True where a rule looks at this series.
    pub(crate) fn wants(&self, labels: &Labels) -> bool {
        self.index.finding(labels).next().is_some()
    }
}

/// The index of what rules ask for.
pub(super) fn index_of<'a>(
    selectors: impl IntoIterator<Item = &'a Vec<Matcher>>,
) -> Result<SelectorIndex, ProcessorsError> {
    SelectorIndex::new(selectors.into_iter().map(Vec::as_slice)).map_err(|e| ProcessorsError::Rule {
        group: String::new(),
        rule: String::new(),
        reason: format!("selectors: {e}"),
    })
}

fn refused(rule: &PromRule, error: &highwater_promql::Error) -> ProcessorsError {
    ProcessorsError::Rule { group: rule.group.clone(), rule: rule.name.clone(), reason: format!("expr: {error}") }
}

/// What the selectors of a rule, and those in its templates, ask for.
pub(super) fn matchers_of(rule: &PromRule) -> Result<Vec<Vec<Matcher>>, ProcessorsError> {
    let mut found = Vec::new();
    for query in rule.template_queries().iter().chain([&rule.query]) {
        let selections = query.selections(&Steps::instant(0), &Options::default()).map_err(|e| refused(rule, &e))?;
        found.extend(selections.into_iter().map(|selection| selection.matchers));
    }
    Ok(found)
}

impl PromRule {
    /// The queries that its templates ask, as far as they are written out.
    fn template_queries(&self) -> Vec<Query> {
        let Kind::Alerting { written_annotations, .. } = &self.kind else { return Vec::new() };
        let texts = written_annotations.values().chain(self.written_labels.values());
        let mut queries = Vec::new();
        for text in texts.filter(|text| text.contains("query")) {
            // A string in a template that is a query is taken for one: too many samples do no harm.
            for quote in ['"', '`'] {
                for part in text.split(quote).skip(1).step_by(2) {
                    queries.extend(Query::parse(&part.replace("\\\"", "\""), &ParserOptions::default()).ok());
                }
            }
        }
        queries
    }
}
