//! Rule files: Prometheus's shape, with `sql:` in place of `expr:`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::duration::parse_duration_ms;
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleGroup {
    /// Its name; part of every alert's fingerprint.
    pub name: String,
    /// Evaluate only at closings whose time is a multiple of this, in milliseconds; 0 for every closing.
    #[serde(default, deserialize_with = "duration", rename = "interval")]
    pub interval_ms: i64,
    /// The rules, in order.
    #[serde(default)]
    pub rules: Vec<AlertRule>,
}

/// An alerting rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertRule {
    /// The alert's name.
    #[serde(default)]
    pub alert: String,
    /// The query over one rollup.
    #[serde(default)]
    pub sql: String,
    /// How long a row must be returned before the alert fires, in milliseconds of event time.
    #[serde(default, deserialize_with = "duration", rename = "for")]
    pub for_ms: i64,
    /// How long it goes on firing once the row is gone, in milliseconds of event time.
    #[serde(default, deserialize_with = "duration", rename = "keep_firing_for")]
    pub keep_firing_for_ms: i64,
    /// Labels to add; they win over the query's.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Texts for people.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// PromQL, which this version refuses.
    #[serde(default)]
    pub(crate) expr: Option<Scalar>,
    /// A recording rule, which this version refuses.
    #[serde(default)]
    pub(crate) record: Option<String>,
}

/// A YAML scalar of any type; `expr: 1` is valid in Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Text(String),
    Number(i64),
    Flag(bool),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    groups: Vec<RuleGroup>,
}

impl RuleFile {
    /// Reads a file's text. SQL is looked at only when the rules are planned, against the rollups there are.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProcessorsError> {
        let refused = |reason: String| ProcessorsError::RuleFile { file: file.to_owned(), reason };
        let document: Document = serde_saphyr::from_str(text).map_err(|e| refused(e.to_string()))?;
        let mut names = std::collections::BTreeSet::new();
        for group in &document.groups {
            if group.name.is_empty() {
                return Err(refused("a group has no name".to_owned()));
            }
            if !names.insert(&group.name) {
                return Err(refused(format!("there are two groups {}", group.name)));
            }
            for rule in &group.rules {
                rule.check(&group.name).map_err(|error| error.in_file(file))?;
            }
        }
        Ok(Self { file: file.to_owned(), groups: document.groups })
    }
}

impl AlertRule {
    fn check(&self, group: &str) -> Result<(), ProcessorsError> {
        let refuse = |rule: &str, reason: &str| {
            Err(ProcessorsError::Rule { group: group.to_owned(), rule: rule.to_owned(), reason: reason.to_owned() })
        };
        if let Some(record) = &self.record {
            return refuse(record, "recording rules are not supported yet; a rollup over metrics does the same in SQL");
        }
        if self.alert.is_empty() {
            return refuse("(unnamed)", "an alerting rule needs `alert:`, its name");
        }
        if self.expr.is_some() {
            return refuse(
                &self.alert,
                "`expr:` (PromQL) is not supported yet; write `sql:` over a rollup, e.g. sql: SELECT service, errors FROM requests_1m WHERE errors > 10",
            );
        }
        if self.sql.trim().is_empty() {
            return refuse(&self.alert, "it has no `sql:`, the query over a rollup");
        }
        Ok(())
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    parse_duration_ms(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
