//! What is a rule, and what is refused with which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use super::{RuleFile, RulePlan};
use crate::rollups::{RollupConfig, RollupPlan};
use crate::{ProcessorsConfig, topology};

fn rollups() -> Vec<Arc<RollupPlan>> {
    let sql = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, host, count(*) AS n FROM logs GROUP BY 1, 2, 3";
    let plan = |name: &str| Arc::new(RollupPlan::new(&RollupConfig::new(name, sql)).unwrap());
    vec![plan("requests"), plan("others")]
}

/// Plans a rule with these lines in place of the usual `sql`.
fn plan(lines: &str) -> Result<RulePlan, String> {
    let indented: String = lines.lines().map(|line| format!("\n          {line}")).collect();
    let text = format!("groups:\n  - name: g\n    rules:\n        - alert: A{indented}\n");
    let file = RuleFile::parse("rules.yaml", &text).map_err(|e| e.to_string())?;
    RulePlan::new(&file.groups[0], &file.groups[0].rules[0], &rollups()).map_err(|e| e.to_string())
}

#[test]
fn a_rule_is_read_from_a_file_of_prometheus_shape() {
    let text = "groups:
  - name: web
    interval: 2m
    rules:
      - alert: High
        sql: SELECT service, n FROM requests WHERE n > 10
        for: 1m30s
        keep_firing_for: 5m
        labels: {severity: page}
        annotations: {summary: '{{ $labels.service }}'}
";
    let file = RuleFile::parse("rules.yaml", text).unwrap();
    let group = &file.groups[0];
    assert_eq!((group.name.as_str(), group.interval_ms), ("web", 120_000));
    let rule = &group.rules[0];
    assert_eq!((rule.alert.as_str(), rule.for_ms, rule.keep_firing_for_ms), ("High", 90_000, 300_000));
    assert_eq!(rule.labels["severity"], "page");
    let plan = RulePlan::new(group, rule, &rollups()).unwrap();
    assert_eq!((plan.group(), plan.name(), plan.rollup().name()), ("web", "High", "requests"));
}

#[test]
fn what_is_not_a_rule_file_is_refused_with_its_place() {
    let cases = [
        ("groups:\n  - name: g\n    rulez: []\n", "rulez"),
        ("groups:\n  - rules: []\n", "name"),
        ("groups:\n  - name: ''\n", "no name"),
        ("groups:\n  - name: g\n  - name: g\n", "two groups g"),
        ("groups:\n  - name: g\n    rules:\n      - alert: A\n        sql: x\n        for: 5 minutes\n", "1h30m"),
        (
            "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: up == 0\n",
            "`expr:` (PromQL) is not supported yet",
        ),
        (
            "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: 1\n",
            "`expr:` (PromQL) is not supported yet",
        ),
        ("groups:\n  - name: g\n    rules:\n      - record: a:b\n        expr: up\n", "recording rules"),
        ("groups:\n  - name: g\n    rules:\n      - sql: x\n", "needs `alert:`"),
        ("groups:\n  - name: g\n    rules:\n      - alert: A\n", "no `sql:`"),
        ("groups: [", "rules.yaml"),
    ];
    for (text, expected) in cases {
        let error = RuleFile::parse("rules.yaml", text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}\n  gave: {error}\n  want: {expected}");
    }
}

#[test]
fn a_query_that_cannot_make_alerts_is_refused() {
    let cases = [
        ("sql: SELECT service, n FROM nosuch", "rollups: there are: requests, others"),
        ("sql: SELECT service, severity_number FROM logs", "a rule reads a rollup"),
        ("sql: SELECT 1 AS n", "it reads no table"),
        ("sql: SELECT a.n FROM requests a JOIN others b ON a.service = b.service", "it reads others and requests"),
        ("sql: SELECT service FROM requests", "no numeric column"),
        ("sql: SELECT nosuch, n FROM requests", "nosuch"),
        ("sql: SELECT service, n FROM requests WHERE window_start > now()", "now() depends on the clock"),
        ("sql: CREATE TABLE x AS SELECT n FROM requests", "DDL"),
        ("sql: SELECT service, n FROM requests\nannotations: {a: '{{ $labels.nosuch }}'}", "$labels.nosuch"),
        ("sql: SELECT service, n FROM requests\nannotations: {a: '{{ $value | humanize }}'}", "cannot be rendered"),
        ("sql: SELECT service, n FROM requests\nlabels: {a: '{{ $value }}'}", "another alert of every value"),
        ("sql: SELECT service, n FROM requests\nlabels: {alertname: x}", "alertname"),
        ("sql: SELECT service, n FROM requests\nlabels: {a-b: x}", "a-b"),
    ];
    for (lines, expected) in cases {
        let error = plan(lines).expect_err(lines);
        assert!(error.contains(expected), "{lines}\n  gave: {error}\n  want: {expected}");
        assert!(error.starts_with("rule A in group g: "), "{error}");
    }
}

#[test]
fn a_query_may_be_as_rich_as_a_query() {
    plan("sql: >\n  WITH busy AS (SELECT service, sum(n) AS total FROM requests GROUP BY service)\n  SELECT service, total, rank() OVER (ORDER BY total DESC) AS place FROM busy WHERE total > (SELECT avg(n) FROM requests) ORDER BY total LIMIT 3")
        .unwrap();
}

#[test]
fn names_are_unique_across_files() {
    let text = "groups:\n  - name: g\n    rules:\n      - alert: A\n        sql: SELECT service, n FROM requests\n";
    let file = RuleFile::parse("a.yaml", text).unwrap();
    let rollup = RollupConfig::new(
        "requests",
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2",
    );
    let mut config = ProcessorsConfig { rollups: vec![rollup.clone()], rule_files: vec![file.clone()], partitions: 4 };
    let laid_out = topology(&config).unwrap();
    let names: Vec<&str> = laid_out.tasks.iter().map(|t| &*t.name).collect();
    assert_eq!(names.len(), 4 + 4 + 4 + 4 + 1 + 4);
    assert_eq!(
        (names[0], names[4], names[8], names[12], names[16], names[17]),
        ("logs/0", "metrics/0", "spans/0", "__highwater.partials/0", "__highwater.rules/0", "__highwater.backfill/0")
    );
    config.rule_files.push(RuleFile { file: "b.yaml".to_owned(), ..file });
    assert!(topology(&config).err().unwrap().to_string().contains("b.yaml"));
    config.rule_files.clear();
    config.rollups.push(rollup);
    assert!(topology(&config).err().unwrap().to_string().contains("two rollups"));
    assert!(topology(&ProcessorsConfig { partitions: 0, ..ProcessorsConfig::default() }).is_err());
}
