#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{TestFile, run};
use crate::rules::RuleFile;

const RULES: &str = r#"
groups:
  - name: example
    rules:
      - record: job:errors:rate1m
        expr: sum by (job) (rate(errors_total[1m]))
      - alert: Errors
        expr: job:errors:rate1m > 0.5
        for: 2m
        keep_firing_for: 2m
        labels: {severity: page}
        annotations:
          summary: '{{ $labels.job }} has {{ $value | printf "%.2f" }}/s in {{ $externalLabels.region }}'
      - alert: Down
        expr: up == 0
"#;

fn play(tests: &str) -> Vec<String> {
    let file = TestFile::parse("tests.yaml", tests).unwrap();
    let rules = [RuleFile::parse("rules.yaml", RULES).unwrap()];
    failures(&file, &rules)
}

fn failures(file: &TestFile, rules: &[RuleFile]) -> Vec<String> {
    run(file, rules, &[], |_| true, false)
        .map_or_else(|error| vec![error], |cases| cases.into_iter().flat_map(|case| case.failures).collect())
}

#[test]
fn what_is_expected_passes() {
    let failures = play(
        r#"
rule_files: [rules.yaml]
evaluation_interval: 1m
fuzzy_compare: true
tests:
  - interval: 15s
    external_labels: {region: eu}
    input_series:
      - {series: 'errors_total{job="web"}', values: '0+15x20 300x40'}
      - {series: 'up{job="web", instance="a"}', values: '1 1 1 1 0x7 stale'}
    alert_rule_test:
      - {eval_time: 2m, alertname: Errors}
      - eval_time: 3m
        alertname: Errors
        exp_alerts:
          - exp_labels: {severity: page, job: web}
            exp_annotations: {summary: 'web has 1.00/s in eu'}
      - eval_time: 7m59s
        alertname: Errors
        exp_alerts:
          - exp_labels: {severity: page, job: web}
            exp_annotations: {summary: 'web has 1.00/s in eu'}
      - {eval_time: 9m, alertname: Errors}
      - {eval_time: 0, alertname: Down}
      - {eval_time: 1m, alertname: Down, exp_alerts: [{exp_labels: {job: web, instance: a}}]}
      - {eval_time: 3m, alertname: Down}
    promql_expr_test:
      - {expr: 'job:errors:rate1m', eval_time: 4m, exp_samples: [{labels: 'job:errors:rate1m{job="web"}', value: 1}]}
      - {expr: 'ALERTS{alertname="Errors"}', eval_time: 4m, exp_samples: [{labels: 'ALERTS{alertname="Errors", alertstate="firing", job="web", severity="page"}', value: 1}]}
      - {expr: 'ALERTS_FOR_STATE', eval_time: 4m, exp_samples: [{labels: 'ALERTS_FOR_STATE{alertname="Errors", job="web", severity="page"}', value: 60}]}
      - {expr: 'time()', eval_time: 4m, exp_samples: [{value: 240}]}
"#,
    );
    assert_eq!(failures, Vec::<String>::new());
}

#[test]
fn what_is_not_is_shown_as_promtool_shows_it() {
    let failures = play(
        r#"
evaluation_interval: 1m
tests:
  - name: wrong
    interval: 1m
    input_series: [{series: 'up{job="web"}', values: '0 0'}]
    alert_rule_test:
      - {eval_time: 1m, alertname: Down}
    promql_expr_test:
      - {expr: up, eval_time: 1m, exp_samples: [{labels: 'up{job="web"}', value: 1}]}
      - {expr: 'up +', eval_time: 1m}
"#,
    );
    assert_eq!(failures.len(), 3);
    assert_eq!(
        failures[0],
        "    name: wrong,\n    alertname: Down, time: 1m, \n        exp:[], \n        got:[\n            0:\n              Labels:{alertname=\"Down\", job=\"web\"}\n              Annotations:{}\n            ]"
    );
    assert_eq!(
        failures[1],
        "    expr: \"up\", time: 1m,\n        exp: {__name__=\"up\", job=\"web\"} 1E+00\n        got: {__name__=\"up\", job=\"web\"} 0E+00"
    );
    assert!(failures[2].contains("err: 1:5: parse error"), "{}", failures[2]);
}

#[test]
fn what_is_no_test_file_is_refused_with_its_place() {
    for (text, expected) in [
        ("tests:\n  - intervall: 1m\n", "t.yaml:2:5: "),
        ("evaluation_interval: soon\n", "is not a duration"),
        ("group_eval_order: [a, b, a]\n", "repeated in evaluation order: a"),
    ] {
        let error = TestFile::parse("t.yaml", text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let broken = play("tests:\n  - input_series: [{series: 'up{', values: '0'}]\n");
    assert!(broken[0].contains("parse error"), "{broken:?}");
}

const SQL_RULES: &str = "
groups:
  - name: logs
    labels: {team: ops}
    rules:
      - alert: Burst
        sql: SELECT service, errors FROM errors_1m WHERE errors > 3
        keep_firing_for: 2m
        annotations: {summary: '{{ $labels.service }}: {{ $value }}'}
      - alert: Busy
        sql: SELECT job, load FROM loads WHERE load > 5
        for: 1m
";

#[test]
fn rules_in_sql_are_tested_in_the_same_form() {
    let tests = r#"
rollups:
  - name: errors_1m
    sql: SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS errors FROM logs WHERE level = 'ERROR' GROUP BY 1, 2
  - name: loads
    sql: SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, job, avg(value) AS load FROM metrics WHERE name = 'load' GROUP BY 1, 2
evaluation_interval: 1m
tests:
  - interval: 10s
    start_timestamp: 2026-03-01T00:00:00Z
    input_logs:
      - {line: {level: ERROR, service: web, message: lost}, values: '0x5 2x1 _x20'}
      - {line: {level: INFO, service: web, message: fine}, values: '9x30'}
    input_series:
      - {series: 'load{job="a"}', values: '7x11 1x20'}
      - {series: 'load{job="b"}', values: '7x5 1x20'}
    alert_rule_test:
      - {eval_time: 1m, alertname: Burst}
      - {eval_time: 2m, alertname: Burst, exp_alerts: [{exp_labels: {service: web, team: ops}, exp_annotations: {summary: 'web: 4'}}]}
      - {eval_time: 4m, alertname: Burst, exp_alerts: [{exp_labels: {service: web, team: ops}, exp_annotations: {summary: 'web: 4'}}]}
      - {eval_time: 5m, alertname: Burst}
      - {eval_time: 1m, alertname: Busy}
      - {eval_time: 2m, alertname: Busy, exp_alerts: [{exp_labels: {job: a, team: ops}}]}
      - {eval_time: 3m, alertname: Busy}
"#;
    let file = TestFile::parse("tests.yaml", tests).unwrap();
    let rules = [RuleFile::parse("rules.yaml", SQL_RULES).unwrap()];
    assert_eq!(failures(&file, &rules), Vec::<String>::new());
    let wrong = TestFile::parse("t.yaml", &tests.replace("2x1 ", "1x1 ")).unwrap();
    let found = failures(&wrong, &rules);
    assert!(found.len() == 2 && found[0].contains("alertname: Burst, time: 2m"), "{found:?}");
    let wrong = TestFile::parse("t.yaml", &tests.replace("2x1 ", "1.5 ")).unwrap();
    assert!(failures(&wrong, &rules)[0].contains("is a whole number"));
    let wrong = TestFile::parse("t.yaml", &tests.replace("errors_1m\n", "others\n")).unwrap();
    assert!(failures(&wrong, &rules)[0].contains("errors_1m"));
}

#[test]
fn every_test_is_a_case_of_its_own_and_differences_can_be_shown() {
    let text = r#"
evaluation_interval: 1m
tests:
  - input_series: [{series: 'up{job="web"}', values: '1'}]
    alert_rule_test: [{eval_time: 0, alertname: Down}]
  - name: one is down
    input_series: [{series: 'up{job="web", instance="a"}', values: '0'}]
    alert_rule_test: [{eval_time: 0, alertname: Down, exp_alerts: [{exp_labels: {job: shop, region: eu}}]}]
"#;
    let file = TestFile::parse("tests.yaml", text).unwrap();
    let rules = [RuleFile::parse("rules.yaml", RULES).unwrap()];
    let cases = run(&file, &rules, &[], |_| true, true).unwrap();
    let names: Vec<_> = cases.iter().map(|case| (case.name.as_str(), case.failures.len())).collect();
    assert_eq!(names, [("unnamed#0", 0), ("one is down", 1)]);
    let expected = "    name: one is down,
    alertname: Down, time: 0s, 
        diff: [
                {
                    \"Annotations\": {
                    },
                    \"Labels\": {
                        \"alertname\": \"Down\",
                        G\"instance\": \"a\"N,
                        Y\"job\": \"shop\" => \"web\"N,
                        R\"region\": \"eu\"N,
                    },
                },
            ]";
    let colours = [("G", "\u{1b}[0;32m"), ("R", "\u{1b}[0;31m"), ("Y", "\u{1b}[0;33m"), ("N", "\u{1b}[0m")];
    let found =
        colours.iter().fold(cases[1].failures[0].clone(), |text, (letter, colour)| text.replace(colour, letter));
    assert_eq!(found, expected);
    let chosen = run(&file, &rules, &[], |name| name.contains("down"), true).unwrap();
    assert_eq!(chosen, cases[1..]);
}
