//! Rollups and rules as they stand in the log: the `definitions` of a record of `__highwater.config`.
//!
//! A form of its own, apart from what people write: a record must be read by every later version, whatever becomes of the file's syntax. Fields
//! that a reader does not know are passed over; one that changes what a task does comes with a higher `format`, which an older reader refuses.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use highwater_pipeline::definitions::{Definitions, Version};
use highwater_pipeline::runtime::{ProcessorError, RecordedVersions, VersionedFactory, Versions};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ProcessorsConfig;
use crate::error::ProcessorsError;
use crate::rollups::{LatePolicy, RollupConfig, default_backfill, default_horizon};
use crate::rules::{Rule, RuleFile, RuleGroup};
use crate::topology::{Topology, topology};

/// The newest format that is read. 2: rules in PromQL. 3: rules in SQL over topics. 4: groups spread over tasks.
const FORMAT: u32 = 4;
const FORMAT_OVER_TOPICS: u32 = 3;
const FORMAT_PROMQL: u32 = 2;
/// What is written where there is nothing that an older version would take for something else.
const FORMAT_SQL_ONLY: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    partitions: i32,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    rule_partitions: i32,
    #[serde(default)]
    rollups: Vec<StoredRollup>,
    #[serde(default)]
    rule_files: Vec<StoredRuleFile>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    external_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    external_url: String,
}

#[derive(Serialize, Deserialize)]
struct StoredRollup {
    name: String,
    sql: String,
    lateness_ms: i64,
    #[serde(default = "default_horizon", skip_serializing_if = "is_default_horizon")]
    correction_horizon_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default_late")]
    late: LatePolicy,
    #[serde(default = "default_backfill", skip_serializing_if = "is_default_backfill")]
    backfill: bool,
    #[serde(default, skip_serializing_if = "is_first")]
    generation: u32,
}

#[derive(Serialize, Deserialize)]
struct StoredRuleFile {
    file: String,
    #[serde(default)]
    groups: Vec<StoredGroup>,
}

#[derive(Serialize, Deserialize)]
struct StoredGroup {
    name: String,
    #[serde(default)]
    interval_ms: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    query_offset_ms: i64,
    #[serde(default, skip_serializing_if = "is_no_limit")]
    limit: usize,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    rules: Vec<StoredRule>,
}

#[derive(Serialize, Deserialize)]
struct StoredRule {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    alert: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    record: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    expr: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sql: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    window_ms: i64,
    #[serde(default)]
    for_ms: i64,
    #[serde(default)]
    keep_firing_for_ms: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_default_horizon(ms: &i64) -> bool {
    *ms == default_horizon()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_default_backfill(backfill: &bool) -> bool {
    *backfill == default_backfill()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_first(generation: &u32) -> bool {
    *generation == 0
}

fn one() -> i32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_one(partitions: &i32) -> bool {
    *partitions == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(ms: &i64) -> bool {
    *ms == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_no_limit(limit: &usize) -> bool {
    *limit == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_default_late(late: &LatePolicy) -> bool {
    *late == LatePolicy::default()
}

/// The definitions of a configuration.
pub fn to_definitions(config: &ProcessorsConfig) -> Result<Value, ProcessorsError> {
    let ProcessorsConfig {
        rollups,
        rule_files,
        external_labels,
        external_url,
        partitions,
        rule_partitions,
        has_history: _,
    } = config;
    let all = || rule_files.iter().flat_map(|file| &file.groups);
    let is_new = all().any(|group| {
        group.query_offset_ms != 0
            || group.limit != 0
            || !group.labels.is_empty()
            || group.rules.iter().any(|rule| rule.is_promql())
    });
    let over_topic = all().flat_map(|group| &group.rules).any(Rule::is_over_topic);
    let stored = Stored {
        format: match (*rule_partitions > 1, over_topic, is_new) {
            (true, ..) => FORMAT,
            (false, true, _) => FORMAT_OVER_TOPICS,
            (false, false, true) => FORMAT_PROMQL,
            (false, false, false) => FORMAT_SQL_ONLY,
        },
        external_labels: if is_new { external_labels.clone() } else { BTreeMap::new() },
        external_url: if is_new { external_url.clone() } else { String::new() },
        partitions: *partitions,
        rule_partitions: *rule_partitions,
        rollups: rollups.iter().map(StoredRollup::from).collect(),
        rule_files: rule_files.iter().map(StoredRuleFile::from).collect(),
    };
    serde_json::to_value(stored).map_err(|e| ProcessorsError::Definitions { reason: e.to_string() })
}

/// Gives rollups that were asked to begin anew the generation they have in the newest definitions: a configuration file knows nothing of it.
pub fn keep_generations(config: &mut ProcessorsConfig, newest: &ProcessorsConfig) {
    for rollup in &mut config.rollups {
        if let Some(known) = newest.rollups.iter().find(|known| known.name == rollup.name) {
            rollup.generation = rollup.generation.max(known.generation);
        }
    }
}

/// The configuration behind definitions.
pub fn from_definitions(definitions: &Value) -> Result<ProcessorsConfig, ProcessorsError> {
    let bad = |e: serde_json::Error| ProcessorsError::Definitions { reason: e.to_string() };
    let Format { format } = Format::deserialize(definitions).map_err(bad)?;
    if format > FORMAT {
        let reason =
            format!("they are of format {format}, written by a newer version of Highwater; upgrade this process");
        return Err(ProcessorsError::Definitions { reason });
    }
    let stored = Stored::deserialize(definitions).map_err(bad)?;
    Ok(ProcessorsConfig {
        rollups: stored.rollups.into_iter().map(RollupConfig::from).collect(),
        rule_files: stored.rule_files.into_iter().map(RuleFile::from).collect(),
        external_labels: stored.external_labels,
        external_url: stored.external_url,
        partitions: stored.partitions,
        has_history: true,
        rule_partitions: stored.rule_partitions,
    })
}

/// The versions in the log, planned as tasks need them.
pub fn versions(definitions: Arc<Definitions>) -> Arc<dyn Versions> {
    // One plan serves all tasks of a version. There are as many as there were edits since the oldest snapshot.
    let planned: Mutex<HashMap<u32, Arc<Topology>>> = Mutex::default();
    let make: VersionedFactory = Arc::new(move |version, input| {
        let mut planned = planned.lock();
        let topology = match planned.get(&version.number) {
            Some(topology) => Arc::clone(topology),
            None => {
                let topology = Arc::new(plan(version)?);
                planned.insert(version.number, Arc::clone(&topology));
                topology
            }
        };
        topology.processor(input)
    });
    Arc::new(RecordedVersions::new(definitions, make))
}

fn plan(version: &Version) -> Result<Topology, ProcessorError> {
    from_definitions(&version.definitions)
        .and_then(|config| topology(&config))
        .map_err(|e| ProcessorError::caused(format!("version {} of the definitions cannot be run", version.number), e))
}

impl From<&RollupConfig> for StoredRollup {
    fn from(rollup: &RollupConfig) -> Self {
        let RollupConfig { name, sql, lateness_ms, correction_horizon_ms, retention_ms, late, backfill, generation } =
            rollup.clone();
        Self { name, sql, lateness_ms, correction_horizon_ms, retention_ms, late, backfill, generation }
    }
}

impl From<StoredRollup> for RollupConfig {
    fn from(stored: StoredRollup) -> Self {
        let StoredRollup { name, sql, lateness_ms, correction_horizon_ms, retention_ms, late, backfill, generation } =
            stored;
        Self { name, sql, lateness_ms, correction_horizon_ms, retention_ms, late, backfill, generation }
    }
}

impl From<&RuleFile> for StoredRuleFile {
    fn from(RuleFile { file, groups }: &RuleFile) -> Self {
        // Where a worker keeps its files is its own business; the same files elsewhere are the same definitions.
        let name = Path::new(file).file_name().map_or_else(|| file.clone(), |name| name.to_string_lossy().into_owned());
        Self { file: name, groups: groups.iter().map(StoredGroup::from).collect() }
    }
}

impl From<StoredRuleFile> for RuleFile {
    fn from(StoredRuleFile { file, groups }: StoredRuleFile) -> Self {
        Self { file, groups: groups.into_iter().map(RuleGroup::from).collect() }
    }
}

impl From<&RuleGroup> for StoredGroup {
    fn from(RuleGroup { name, interval_ms, query_offset_ms, limit, labels, rules }: &RuleGroup) -> Self {
        Self {
            name: name.clone(),
            interval_ms: *interval_ms,
            query_offset_ms: *query_offset_ms,
            limit: *limit,
            labels: labels.clone(),
            rules: rules.iter().map(StoredRule::from).collect(),
        }
    }
}

impl From<StoredGroup> for RuleGroup {
    fn from(StoredGroup { name, interval_ms, query_offset_ms, limit, labels, rules }: StoredGroup) -> Self {
        let rules = rules.into_iter().map(Rule::from).collect();
        Self { name, interval_ms, query_offset_ms, limit, labels, rules }
    }
}

impl From<&Rule> for StoredRule {
    fn from(rule: &Rule) -> Self {
        let Rule { alert, record, expr, sql, window_ms, for_ms, keep_firing_for_ms, labels, annotations } = rule;
        Self {
            window_ms: *window_ms,
            alert: alert.clone(),
            record: record.clone(),
            expr: expr.clone(),
            sql: sql.clone(),
            for_ms: *for_ms,
            keep_firing_for_ms: *keep_firing_for_ms,
            labels: labels.clone(),
            annotations: annotations.clone(),
        }
    }
}

impl From<StoredRule> for Rule {
    fn from(rule: StoredRule) -> Self {
        let StoredRule { alert, record, expr, sql, window_ms, for_ms, keep_firing_for_ms, labels, annotations } = rule;
        Self { alert, record, expr, sql, window_ms, for_ms, keep_firing_for_ms, labels, annotations }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::json;

    use super::*;

    fn config() -> ProcessorsConfig {
        let rollup = RollupConfig {
            lateness_ms: 1_500,
            correction_horizon_ms: 60_000,
            retention_ms: Some(90 * 86_400_000),
            late: LatePolicy::Drop,
            ..RollupConfig::new(
                "requests",
                "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2",
            )
        };
        let rules = r#"
groups:
  - name: g
    interval: 1m
    rules:
      - alert: Busy
        sql: SELECT service, n FROM requests WHERE n > 10
        for: 2m30s
        keep_firing_for: 250ms
        labels: { severity: page, team: 'a"b' }
        annotations: { summary: "{{ $labels.service }} at {{ $value }}" }
  - name: empty
"#;
        let rule_files = vec![RuleFile::parse("busy.yaml", rules).unwrap()];
        ProcessorsConfig { rollups: vec![rollup], rule_files, partitions: 3, ..ProcessorsConfig::default() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = config();
        let definitions = to_definitions(&config).unwrap();
        assert_eq!(from_definitions(&definitions).unwrap(), config);
        let text = definitions.to_string();
        assert_eq!(from_definitions(&serde_json::from_str(&text).unwrap()).unwrap(), config, "and through text");
        assert_eq!((&definitions["format"], definitions.get("rule_partitions")), (&json!(1), None));
        let spread = ProcessorsConfig { rule_partitions: 4, ..config.clone() };
        let spread_definitions = to_definitions(&spread).unwrap();
        assert_eq!(
            (&spread_definitions["format"], from_definitions(&spread_definitions).unwrap()),
            (&json!(4), spread)
        );
        assert_eq!(definitions["rollups"][0]["lateness_ms"], 1_500);
        assert_eq!(definitions["rollups"][0]["correction_horizon_ms"], 60_000);
        assert_eq!(definitions["rollups"][0]["late"], "drop");
        assert_eq!(definitions["rollups"][0]["retention_ms"], 7_776_000_000_i64);
        assert_eq!(definitions["rule_files"][0]["groups"][0]["rules"][0]["for_ms"], 150_000);
    }

    #[test]
    fn the_same_files_elsewhere_are_the_same_definitions() {
        let here = config();
        let mut there = here.clone();
        there.rule_files[0].file = "/etc/highwater/rules/busy.yaml".to_owned();
        assert_eq!(to_definitions(&here).unwrap(), to_definitions(&there).unwrap());
    }

    #[test]
    fn fields_of_later_versions_are_passed_over_and_their_formats_refused() {
        let mut definitions = to_definitions(&config()).unwrap();
        definitions["rollups"][0]["colour"] = json!("green");
        definitions["owner"] = json!("us");
        assert_eq!(from_definitions(&definitions).unwrap(), config());
        definitions["format"] = json!(FORMAT + 1);
        let error = from_definitions(&definitions).unwrap_err().to_string();
        assert!(error.contains("upgrade"), "{error}");
        let error = from_definitions(&json!({"format": 1})).unwrap_err().to_string();
        assert!(error.contains("partitions"), "{error}");
    }

    #[test]
    fn the_first_record_ever_written_is_still_read() {
        let record = json!({
            "format": 1, "partitions": 4,
            "rollups": [{"name": "r", "sql": "SELECT 1", "lateness_ms": 5000}],
            "rule_files": [{"file": "a.yaml", "groups": [
                {"name": "g", "interval_ms": 0, "rules": [{"alert": "A", "sql": "SELECT n FROM r", "for_ms": 0, "keep_firing_for_ms": 0}]},
            ]}],
        });
        let read = from_definitions(&record).unwrap();
        assert_eq!((read.partitions, read.rollups[0].lateness_ms), (4, 5_000));
        assert_eq!(read.rollups[0].correction_horizon_ms, 86_400_000);
        assert_eq!(read.rollups[0].late, LatePolicy::Correct);
        assert_eq!(read.rule_files[0].groups[0].rules[0].alert, "A");
        assert_eq!(to_definitions(&read).unwrap(), record);
    }
}
