//! A file of unit tests, as promtool reads it.

use std::collections::BTreeMap;

use highwater_promql::Labels;
use highwater_promql::parser::{SequenceValue, parse_series};
use serde::{Deserialize, Deserializer};

use super::super::duration::parse_duration_ms;
use crate::rollups::RollupConfig;

/// A file, read. What is in it is public to the runner only.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// The rule files it tests, as glob patterns relative to its folder.
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub rule_files: Vec<String>,
    #[serde(default = "a_minute", deserialize_with = "duration")]
    pub(super) evaluation_interval: i64,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) group_eval_order: Vec<String>,
    #[serde(default)]
    pub(super) fuzzy_compare: bool,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) tests: Vec<Test>,
    /// Rollups that rules in SQL read, as the config file has them. promtool knows no such thing.
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) rollups: Vec<RollupConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, deserialize_with = "duration")]
    pub(super) interval: i64,
    #[serde(default)]
    pub(super) start_timestamp: Option<String>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) input_series: Vec<InputSeries>,
    /// Lines for rules in SQL. promtool knows no such thing.
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) input_logs: Vec<InputLog>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) alert_rule_test: Vec<AlertTest>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) promql_expr_test: Vec<ExprTest>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) external_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) external_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputSeries {
    pub(super) series: String,
    pub(super) values: String,
}

/// A line, and how many of it come at each step.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputLog {
    /// Its fields, as `POST /logs` takes them, but for the time.
    pub(super) line: serde_json::Map<String, serde_json::Value>,
    /// As values of a series: `0x5 3 _ 1x10`.
    pub(super) values: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertTest {
    #[serde(default, deserialize_with = "duration")]
    pub(super) eval_time: i64,
    #[serde(default)]
    pub(super) alertname: String,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedAlert {
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) exp_labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) exp_annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExprTest {
    pub(super) expr: String,
    #[serde(default, deserialize_with = "duration")]
    pub(super) eval_time: i64,
    #[serde(default, deserialize_with = "nothing_is_default")]
    pub(super) exp_samples: Vec<ExpectedSample>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedSample {
    #[serde(default)]
    pub(super) labels: String,
    #[serde(default)]
    pub(super) value: f64,
    #[serde(default)]
    pub(super) histogram: String,
}

impl TestFile {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong, with the place behind `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let parsed: Self = serde_saphyr::from_str(text).map_err(|error| {
            let plain = error.without_snippet();
            match plain.location() {
                Some(at) if at.line() > 0 => format!("{file}:{}:{}: {plain}", at.line(), at.column()),
                _ => format!("{file}: {plain}"),
            }
        })?;
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = parsed.group_eval_order.iter().find(|group| !seen.insert(*group)) {
            return Err(format!("{file}: group name repeated in evaluation order: {twice}"));
        }
        if parsed.evaluation_interval <= 0 {
            return Err(format!("{file}: evaluation_interval must be longer than zero"));
        }
        Ok(parsed)
    }
}

impl InputSeries {
    pub(super) fn parse(&self) -> Result<(Labels, Vec<SequenceValue>), String> {
        let text = format!("{} {}", self.series, self.values);
        parse_series(&text)
            .map(|series| (series.labels, series.values))
            .map_err(|e| format!("series {:?}: {e}", self.series))
    }
}

fn a_minute() -> i64 {
    60_000
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    parse_duration_ms(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn nothing_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
