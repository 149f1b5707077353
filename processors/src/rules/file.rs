//! Rule files: Prometheus's, unchanged. In place of `expr:` an alerting rule may have `sql:`.
//!
//! ```yaml
//! groups:
//!   - name: web
//!     interval: 30s            # 1 s where it says nothing
//!     limit: 100               # most alerts or series of a rule
//!     query_offset: 10s        # evaluate as of so long ago
//!     labels: {team: web}      # of every rule; a rule's own win
//!     rules:
//!       - record: job:errors:rate5m
//!         expr: sum by (job) (rate(errors_total[5m]))
//!       - alert: Errors
//!         expr: job:errors:rate5m > 1
//!         for: 5m
//!         keep_firing_for: 10m
//!         labels: {severity: page}
//!         annotations: {summary: '{{ $labels.job }}: {{ $value | humanize }}/s'}
//! ```
//! Everything is checked here but what needs other definitions: SQL is planned against the rollups there are.

use std::collections::{BTreeMap, BTreeSet};

use highwater_promql::{Error as PromqlError, ParserOptions, Query};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::duration::parse_duration_ms;
use super::place::Place;
use super::selectors::{self, Selector};
use crate::error::ProcessorsError;

/// One rule file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    /// Where it came from, for messages.
    pub file: String,
    /// Its groups, in order.
    pub groups: Vec<RuleGroup>,
}

/// A group of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleGroup {
    /// Its name; part of every alert's fingerprint.
    pub name: String,
    /// Milliseconds of event time between evaluations; 0 where it says nothing: every second for PromQL, every closing for SQL.
    pub interval_ms: i64,
    /// Milliseconds before the evaluation as of which PromQL is evaluated.
    pub query_offset_ms: i64,
    /// Most alerts, or series, of one rule; 0 for as many as there are.
    pub limit: usize,
    /// Labels of every rule; a rule's own win.
    pub labels: BTreeMap<String, String>,
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// An alerting or a recording rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// The alert's name; empty for a recording rule.
    pub alert: String,
    /// The name of the recorded metric; empty for an alerting rule.
    pub record: String,
    /// The PromQL expression; empty where the rule is SQL.
    pub expr: String,
    /// The query over one rollup or topic; empty where the rule is PromQL.
    pub sql: String,
    /// How long the windows of a query over a topic are, in milliseconds; 0 where the query says it, or reads a rollup.
    pub window_ms: i64,
    /// How long the condition must hold before the alert fires, in milliseconds of event time.
    pub for_ms: i64,
    /// How long it goes on firing once the condition is gone, in milliseconds of event time.
    pub keep_firing_for_ms: i64,
    /// Labels to add; they win over the query's.
    pub labels: BTreeMap<String, String>,
    /// Texts for people.
    pub annotations: BTreeMap<String, String>,
}

impl Rule {
    /// The name of the alert or of the recorded metric.
    pub fn name(&self) -> &str {
        if self.record.is_empty() { &self.alert } else { &self.record }
    }

    /// True where it is SQL over a topic.
    pub fn is_over_topic(&self) -> bool {
        !self.is_promql() && super::over_topic::reads_topic(&self.sql)
    }

    /// True where it is PromQL.
    pub fn is_promql(&self) -> bool {
        !self.expr.is_empty()
    }
}

/// A mistake in a rule file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong, and what would work.
    pub reason: String,
}

impl Problem {
    /// The error that says so.
    pub fn in_file(self, file: &str) -> ProcessorsError {
        let file = if self.place.line == 0 { file.to_owned() } else { format!("{file}:{}", self.place) };
        ProcessorsError::RuleFile { file, reason: self.reason }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, deserialize_with = "nothing_is_default")]
    groups: Vec<WrittenGroup>,
    /// Names and descriptions that some tools add; Prometheus passes them over.
    #[serde(default, rename = "namespace")]
    _namespace: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    name: Spanned<Text>,
    #[serde(default)]
    interval: Option<Spanned<Text>>,
    #[serde(default)]
    query_offset: Option<Spanned<Text>>,
    #[serde(default)]
    limit: Option<i64>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    labels: BTreeMap<String, Option<Spanned<Text>>>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    rules: Vec<Spanned<WrittenRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    #[serde(default)]
    record: Option<Spanned<Text>>,
    #[serde(default)]
    alert: Option<Spanned<Text>>,
    #[serde(default)]
    expr: Option<Spanned<Text>>,
    #[serde(default)]
    sql: Option<Spanned<Text>>,
    #[serde(default)]
    window: Option<Spanned<Text>>,
    #[serde(default, rename = "for")]
    hold: Option<Spanned<Text>>,
    #[serde(default)]
    keep_firing_for: Option<Spanned<Text>>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    labels: BTreeMap<String, Option<Spanned<Text>>>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    annotations: BTreeMap<String, Option<Spanned<Text>>>,
}

/// A YAML scalar, as it is written: `expr: 1` is valid in Prometheus.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// `labels:` with nothing behind it is no label.
fn nothing_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl RuleFile {
    /// Reads a file's text. SQL is looked at only when the rules are planned, against the rollups there are.
    ///
    /// # Errors
    /// The first of [`Self::read`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ProcessorsError> {
        Self::read(file, text).map_err(|problems| {
            let first = problems.into_iter().next();
            first.unwrap_or(Problem { place: Place::default(), reason: "unreadable".to_owned() }).in_file(file)
        })
    }

    /// [`Self::parse`], with everything that is wrong, in the order of the file.
    ///
    /// # Errors
    /// At least one.
    pub fn read(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        Self::read_with_selectors(file, text).map(|(file, _)| file)
    }

    /// [`Self::read`], with the series that its PromQL selects, and where.
    ///
    /// # Errors
    /// At least one.
    pub fn read_with_selectors(file: &str, text: &str) -> Result<(Self, Vec<Selector>), Vec<Problem>> {
        // A file of comments only has no groups.
        if text.lines().all(|line| matches!(line.trim(), "" | "---" | "...") || line.trim_start().starts_with('#')) {
            return Ok((Self { file: file.to_owned(), groups: Vec::new() }, Vec::new()));
        }
        let document: Document = serde_saphyr::from_str(text).map_err(|error| {
            let plain = error.without_snippet();
            let place = plain.location().map(Place::of).unwrap_or_default();
            vec![Problem { place, reason: plain.to_string() }]
        })?;
        let mut reader = Reader { text, problems: Vec::new(), selectors: Vec::new() };
        let mut names = BTreeSet::new();
        let mut groups = Vec::with_capacity(document.groups.len());
        for group in document.groups {
            let place = Place::of(group.name.referenced);
            if group.name.value.0.is_empty() {
                reader.refuse(place, "a group has no name".to_owned());
            } else if !names.insert(group.name.value.0.clone()) {
                reader.refuse(place, format!("there are two groups {} in this file", group.name.value.0));
            }
            groups.push(reader.group(group));
        }
        if reader.problems.is_empty() {
            return Ok((Self { file: file.to_owned(), groups }, reader.selectors));
        }
        reader.problems.sort_by_key(|problem| problem.place);
        Err(reader.problems)
    }

    /// Rules that are written twice: same name, same labels, in the order of the file. They are no error; promtool warns of them.
    pub fn duplicates(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut duplicates = Vec::new();
        for rule in self.groups.iter().flat_map(|group| &group.rules) {
            if !seen.insert((rule.name(), &rule.labels)) && !duplicates.contains(&rule.name().to_owned()) {
                duplicates.push(rule.name().to_owned());
            }
        }
        duplicates
    }
}

struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
    selectors: Vec<Selector>,
}

type Written = Option<Spanned<Text>>;

impl Reader<'_> {
    fn refuse(&mut self, place: Place, reason: String) {
        self.problems.push(Problem { place, reason });
    }

    fn group(&mut self, group: WrittenGroup) -> RuleGroup {
        let name = group.name.value.0;
        let who = format!("group {name}");
        // As in Prometheus, less than none is as many as there are.
        let limit = usize::try_from(group.limit.unwrap_or(0)).unwrap_or(0);
        let interval_ms = self.duration(&who, group.interval);
        let query_offset_ms = self.duration(&who, group.query_offset);
        let labels = self.labels(&who, "label", group.labels, true);
        let rules = group.rules.into_iter().map(|rule| self.rule(&name, rule)).collect();
        RuleGroup { name, interval_ms, query_offset_ms, limit, labels, rules }
    }

    fn rule(&mut self, group: &str, rule: Spanned<WrittenRule>) -> Rule {
        let place = Place::of(rule.referenced);
        let rule = rule.value;
        let text = |written: &Written| written.as_ref().map_or_else(String::new, |text| text.value.0.clone());
        let at = |written: &Written| written.as_ref().map_or(place, |text| Place::of(text.referenced));
        let (alert, record) = (text(&rule.alert), text(&rule.record));
        let named = if alert.is_empty() { &record } else { &alert };
        let who = format!("rule {} in group {group}", if named.is_empty() { "(unnamed)" } else { named });
        match (alert.is_empty(), record.is_empty()) {
            (true, true) => self.refuse(place, format!("{who}: it needs `alert:` or `record:`, its name")),
            (false, false) => {
                self.refuse(at(&rule.record), format!("{who}: only one of `record` and `alert` must be set"))
            }
            _ => {}
        }
        let (expr, sql) = (text(&rule.expr).trim().to_owned(), text(&rule.sql));
        match (expr.is_empty(), sql.trim().is_empty()) {
            (true, true) => self.refuse(place, format!("{who}: it has no `expr:` (PromQL) and no `sql:`")),
            (false, false) => self.refuse(at(&rule.sql), format!("{who}: only one of `expr` and `sql` must be set")),
            (true, false) if !record.is_empty() => self.refuse(
                at(&rule.sql),
                format!("{who}: a recording rule is PromQL (`expr:`); in SQL a rollup does the same"),
            ),
            (false, true) => self.expr(&who, named, at(&rule.expr), &text(&rule.expr)),
            _ => {}
        }
        if !record.is_empty() {
            self.recording(&who, &record, at(&rule.record), &rule);
        }
        if sql.trim().is_empty() && rule.window.is_some() {
            self.refuse(
                at(&rule.window),
                format!("{who}: `window` is for rules in SQL; PromQL has ranges, such as [5m]"),
            );
        }
        let window_ms = self.duration(&who, rule.window);
        let for_ms = self.duration(&who, rule.hold);
        let keep_firing_for_ms = self.duration(&who, rule.keep_firing_for);
        let labels = self.labels(&who, "label", rule.labels, !alert.is_empty());
        if labels.contains_key("alertname") && !sql.is_empty() {
            self.refuse(place, format!("{who}: label `alertname` is the alert's name; use another"));
        }
        let annotations = self.labels(&who, "annotation", rule.annotations, !alert.is_empty());
        Rule { alert, record, expr, sql, window_ms, for_ms, keep_firing_for_ms, labels, annotations }
    }

    fn recording(&mut self, who: &str, record: &str, place: Place, rule: &WrittenRule) {
        if record.contains(['{', '}']) {
            self.refuse(place, format!("{who}: braces in the name of a recording rule; should they be in `expr`?"));
        } else if record.is_empty() {
            self.refuse(place, format!("{who}: a recorded metric needs a name"));
        }
        let wrong = [
            (!rule.annotations.is_empty(), "annotations"),
            (is_set(&rule.hold), "for"),
            (is_set(&rule.keep_firing_for), "keep_firing_for"),
        ];
        for (_, field) in wrong.iter().filter(|(there, _)| *there) {
            self.refuse(place, format!("{who}: invalid field `{field}` in a recording rule"));
        }
    }

    fn expr(&mut self, who: &str, name: &str, place: Place, expr: &str) {
        let error = match Query::parse(expr, &ParserOptions::default()) {
            Ok(query) => {
                let within = |at: (usize, usize)| place.inside(self.text, at);
                self.selectors.extend(selectors::of(name, &query, within));
                return;
            }
            Err(error) => error,
        };
        let (place, reason) = match &error {
            PromqlError::Parse(error) => {
                (place.inside(self.text, (error.line, error.column)), format!("parse error: {}", error.message))
            }
            other => (place, other.to_string()),
        };
        self.refuse(place, format!("{who}: could not parse expression: {reason}"));
    }

    fn duration(&mut self, who: &str, written: Written) -> i64 {
        let Some(written) = written else { return 0 };
        match parse_duration_ms(&written.value.0) {
            Ok(ms) => ms,
            Err(reason) => {
                self.refuse(Place::of(written.referenced), format!("{who}: {reason}"));
                0
            }
        }
    }

    /// Labels or annotations: names that can be; texts that are templates, where they are those of alerts.
    fn labels(
        &mut self,
        who: &str,
        what: &str,
        written: BTreeMap<String, Written>,
        are_templates: bool,
    ) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (name, text) in written {
            let place = text.as_ref().map(|text| Place::of(text.referenced)).unwrap_or_default();
            let text = text.map_or_else(String::new, |text| text.value.0);
            // Any text is a name since Prometheus 3.
            if name.is_empty() || (what == "label" && name == "__name__") {
                self.refuse(place, format!("{who}: invalid {what} name `{name}`"));
            }
            if let Err(error) = highwater_templates::prometheus::parse(&name, &text)
                && are_templates
            {
                let place = place.inside(self.text, (error.line, 1));
                self.refuse(place, format!("{who}: {what} `{name}`: {}", error.reason));
            }
            labels.insert(name, text);
        }
        labels
    }
}

/// True where a duration is written that is more than nothing.
fn is_set(written: &Written) -> bool {
    written.as_ref().is_some_and(|written| parse_duration_ms(&written.value.0) != Ok(0))
}
