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
    assert_eq!((rule.name(), rule.for_ms, rule.keep_firing_for_ms), ("High", 90_000, 300_000));
    assert_eq!(rule.labels["severity"], "page");
    let plan = RulePlan::new(group, rule, &rollups()).unwrap();
    assert_eq!((plan.group(), plan.name(), plan.rollup().name()), ("web", "High", "requests"));
}

#[test]
fn what_is_not_a_rule_file_is_refused_with_its_place() {
    let rule = |lines: &str| {
        let lines: String = lines.lines().map(|line| format!("\n        {line}")).collect();
        format!("groups:\n  - name: g\n    rules:\n      -{}\n", &lines[8..])
    };
    let cases = [
        ("groups:\n  - name: g\n    rulez: []\n".to_owned(), "rules.yaml:3:5: "),
        ("groups:\n  - rules: []\n".to_owned(), "name"),
        ("groups:\n  - name: ''\n".to_owned(), "rules.yaml:2:11: a group has no name"),
        ("groups:\n  - name: g\n  - name: g\n".to_owned(), "rules.yaml:3:11: there are two groups g"),
        (rule("alert: A\nsql: x\nfor: 5 minutes"), "rules.yaml:6:14: rule A in group g: `5 minutes` is not a duration"),
        (rule("alert: A\nexpr: up ==="), "rules.yaml:5:20: rule A in group g: could not parse expression: "),
        (rule("alert: A\nexpr: |\n  up\n    == foo bar"), "rules.yaml:7:20: "),
        (rule("record: a:b\nexpr: up\nfor: 1m"), "invalid field `for` in a recording rule"),
        (rule("record: a:b\nexpr: up\nannotations: {a: b}"), "invalid field `annotations` in a recording rule"),
        (rule("record: a{b=\"c\"}\nexpr: up"), "braces in the name"),
        (rule("record: a:b\nalert: A\nexpr: up"), "only one of `record` and `alert`"),
        (rule("record: a:b\nsql: SELECT 1"), "in SQL a rollup does the same"),
        (rule("alert: A\nexpr: up\nsql: SELECT 1"), "only one of `expr` and `sql`"),
        (rule("alert: A\nexpr: up\nlabels: {'': c}"), "invalid label name ``"),
        (rule("alert: A\nexpr: up\nlabels: {__name__: c}"), "invalid label name `__name__`"),
        (
            rule("alert: A\nexpr: up\nannotations: {a: '{{ nosuch }}'}"),
            "rules.yaml:6:27: rule A in group g: annotation `a`: function \"nosuch\" not defined",
        ),
        (rule("sql: x"), "needs `alert:`"),
        (rule("alert: A"), "no `sql:`"),
        (rule("alert: A\nexpr: up\ncolour: red"), "colour"),
        ("groups: [".to_owned(), "rules.yaml"),
    ];
    for (text, expected) in cases {
        let error = RuleFile::parse("rules.yaml", &text).expect_err(&text).to_string();
        assert!(error.contains(expected), "{text}\n  gave: {error}\n  want: {expected}");
    }
}

#[test]
fn a_query_that_cannot_make_alerts_is_refused() {
    let cases = [
        ("sql: SELECT service, n FROM nosuch", "rollups: there are: requests, others"),
        ("sql: SELECT service, severity_number FROM logs", "over which time?"),
        ("sql: SELECT service, severity_number FROM logs\nwindow: 1m", "must be in GROUP BY or an aggregate"),
        ("sql: SELECT 1 AS n", "it reads no table"),
        ("sql: SELECT a.n FROM requests a JOIN others b ON a.service = b.service", "it reads others and requests"),
        ("sql: SELECT service FROM requests", "no numeric column"),
        ("sql: SELECT nosuch, n FROM requests", "nosuch"),
        ("sql: SELECT service, n FROM requests WHERE window_start > now()", "now() depends on the clock"),
        ("sql: CREATE TABLE x AS SELECT n FROM requests", "DDL"),
        ("sql: SELECT service, n FROM requests\nannotations: {a: '{{ $labels.nosuch }}'}", "$labels.nosuch"),
        ("sql: SELECT service, n FROM requests\nannotations: {a: '{{ $value | nosuch }}'}", "\"nosuch\" not defined"),
        ("sql: SELECT service, n FROM requests\nlabels: {a: '{{ $value }}'}", "another alert of every value"),
    ];
    for (lines, expected) in cases {
        let error = plan(lines).expect_err(lines);
        assert!(error.contains(expected), "{lines}\n  gave: {error}\n  want: {expected}");
        assert!(error.contains("rule A in group g: "), "{error}");
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
    let mut config = ProcessorsConfig {
        rollups: vec![rollup.clone()],
        rule_files: vec![file.clone()],
        ..ProcessorsConfig::default()
    };
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

#[test]
fn what_people_write_loads_unchanged() {
    let text = r#"---
# Comments, anchors, numbers as expressions, empty keys, folded and quoted texts.
groups:
  - name: example
    interval: 30s
    query_offset: 1m
    limit: 10
    labels: {team: sre, tier: 1}
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
        labels:
      - alert: Always
        expr: 1
      - alert: Folded
        expr: >
          sum(rate(a[5m]))
            > 0.5
        for: 1d12h
        labels: &shared
          severity: critical
        annotations:
          description: |-
            {{ with query "up" }}{{ . | first | value | humanize }}{{ end }}
            second line {{ $labels.instance }}
      - alert: Other
        expr: "vector(1) == 1"
        keep_firing_for: 10m
        labels: *shared
        annotations: {}
  - name: empty
  - name: none
    rules:
"#;
    let file = RuleFile::parse("rules.yaml", text).unwrap();
    assert_eq!(file.groups.len(), 3);
    let group = &file.groups[0];
    assert_eq!((group.interval_ms, group.query_offset_ms, group.limit), (30_000, 60_000, 10));
    assert_eq!(group.labels["tier"], "1");
    assert_eq!(group.rules[1].expr, "1");
    assert_eq!(group.rules[2].expr, "sum(rate(a[5m]))\n  > 0.5");
    assert_eq!(group.rules[2].for_ms, 129_600_000);
    assert_eq!(group.rules[3].labels["severity"], "critical");
    let plans = super::promql::GroupPlan::of_files(&[file]).unwrap();
    assert_eq!(plans.len(), 1, "a group without rules is none");
    assert_eq!(plans[0].rules.len(), 4);
    assert_eq!(RuleFile::parse("rules.yaml", "# nothing\n").unwrap().groups.len(), 0);
    assert_eq!(RuleFile::parse("rules.yaml", "groups:\n").unwrap().groups.len(), 0);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: up ==\n      - alert: B\n        expr: up\n        for: soon\n";
    let problems = RuleFile::read("rules.yaml", text).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.place.line).collect();
    assert_eq!(places, [5, 8]);
}

/// What the rule finds in these rows of `requests`, with the statements that show the first.
fn shown(lines: &str) -> (String, Option<String>) {
    use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
    use highwater_pipeline::data::time;
    let plan = plan(lines).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["o'neil"])),
        Arc::new(StringArray::from(vec![None::<&str>])),
        Arc::new(Int64Array::from(vec![7])),
        Arc::new(time::array(vec![60_000_000])),
        Arc::new(time::array(vec![120_000_000])),
        Arc::new(Int32Array::from(vec![0])),
        Arc::new(StringArray::from(vec!["default"])),
    ];
    let rows = arrow::record_batch::RecordBatch::try_new(plan.rollup().output_schema(), columns).unwrap();
    let found = plan.evaluate(vec![rows]).unwrap();
    let window_us = (60_000_000, 120_000_000);
    (plan.statements.row_sql(window_us, &found[0].row), plan.statements.input_sql(window_us, &found[0].row))
}

#[test]
fn statements_name_the_window_the_row_and_its_input() {
    let window = "timestamp >= '1970-01-01T00:01:00.000000Z' AND timestamp < '1970-01-01T00:02:00.000000Z'";
    let (row, input) = shown("sql: SELECT service, host, n FROM requests WHERE n > 5;");
    assert_eq!(
        row,
        "WITH \"requests\" AS (SELECT * FROM \"requests\" WHERE window_start = '1970-01-01T00:01:00.000000Z') \
         SELECT * FROM (\nSELECT service, host, n FROM requests WHERE n > 5\n) AS answer \
         WHERE \"service\" = 'o''neil' AND \"host\" IS NULL"
    );
    let of = |conditions: &str| {
        let what = "SELECT timestamp, level, service, host, message FROM logs WHERE";
        Some(format!("{what} {window}{conditions} ORDER BY timestamp LIMIT 10"))
    };
    assert_eq!(input, of(" AND (service) = 'o''neil' AND (host) IS NULL"));
    // A column that is not the rollup's any more says nothing of its input; one that has another name still is.
    let (_, input) = shown("sql: SELECT upper(service) AS service, host AS machine, n FROM requests");
    assert_eq!(input, of(" AND (host) IS NULL"));
    let grouped = "sql: WITH a AS (SELECT r.service AS s, sum(n) AS n FROM requests r GROUP BY 1) SELECT s, n FROM a ORDER BY n LIMIT 3";
    assert_eq!(shown(grouped).1, of(" AND (service) = 'o''neil'"));
}
