//! What is a rollup, and what is refused with which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{RollupConfig, RollupPlan, Source};

fn plan(sql: &str) -> Result<RollupPlan, String> {
    RollupPlan::new(&RollupConfig::new("r", sql)).map_err(|e| e.to_string())
}

const WINDOW: &str = "tumble(timestamp, INTERVAL '1 minute')";

#[test]
fn a_rollup_has_the_columns_it_selects_and_those_every_rollup_has() {
    let plan = plan(&format!(
        "SELECT {WINDOW} AS window_start, service AS svc, tenant, count(*) AS n, avg(severity_number) + 1 AS mean
         FROM logs AS l WHERE message LIKE '%x%' GROUP BY 1, 2, tenant HAVING count(*) > 1"
    ))
    .unwrap();
    let schema = plan.output_schema();
    let names: Vec<_> = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    assert_eq!(
        names,
        [
            "svc Utf8",
            "n Int64",
            "mean Float64",
            "window_start Timestamp(µs, \"UTC\")",
            "window_end Timestamp(µs, \"UTC\")",
            "_revision Int32",
            "tenant Utf8"
        ]
    );
    assert_eq!((plan.source(), plan.width_us(), plan.topic()), (Source::Logs, 60_000_000, "rollup.r"));
    let table = plan.table_schema();
    let identity: Vec<_> = table.fields()[7..].iter().map(|f| f.name().as_str()).collect();
    assert_eq!(identity, ["_partition", "_offset", "_row", "_append_time", "_flags"]);
}

#[test]
fn the_window_need_not_be_selected_and_json_operators_work() {
    let plan =
        plan(&format!("SELECT labels->>'job' AS job, max(value) AS top FROM metrics GROUP BY {WINDOW}, 1")).unwrap();
    assert_eq!(plan.source(), Source::Metrics);
    let schema = plan.output_schema();
    assert_eq!((schema.field(0).name().as_str(), schema.field(1).name().as_str()), ("job", "top"));
}

#[test]
fn spans_are_rolled_up_like_logs() {
    let plan = plan(&format!(
        "SELECT {WINDOW} AS window_start, service, attributes['http.route'] AS route, count(*) FILTER (WHERE status = 'ERROR') AS errors,
                quantile(duration_ns / 1e6, 0.95) AS p95_ms
         FROM spans WHERE kind = 'SERVER' GROUP BY 1, 2, 3"
    ))
    .unwrap();
    assert_eq!((plan.source(), plan.input()), (Source::Spans, "spans"));
}

#[test]
fn the_arrow_binds_tighter_than_the_comparison_as_in_a_query() {
    plan(&format!("SELECT count(*) AS n FROM metrics WHERE labels->>'job' = 'web' GROUP BY {WINDOW}")).unwrap();
}

#[test]
fn what_is_not_a_rollup_is_refused_with_its_place_and_the_nearest_that_works() {
    let w = WINDOW;
    let cases = [
        (format!("SELECT {w} AS window_start, count(*) AS n FROM logs GROUP BY 1 ORDER BY n"), "column 99: ORDER BY"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM logs GROUP BY 1 LIMIT 5"), "LIMIT"),
        (format!("SELECT DISTINCT {w} AS window_start, count(*) AS n FROM logs GROUP BY 1"), "SELECT DISTINCT"),
        ("SELECT service, count(*) AS n FROM logs GROUP BY 1".to_owned(), "GROUP BY has no window"),
        ("SELECT service FROM logs".to_owned(), "no aggregate"),
        (format!("SELECT {w} AS window_start, sum(DISTINCT severity_number) AS n FROM logs GROUP BY 1"), "count(DISTINCT x) of one column can"),
        (format!("SELECT {w} AS window_start, count(DISTINCT attributes) AS n FROM logs GROUP BY 1"), "count one of their parts"),
        ("SELECT count(*) AS n FROM logs".to_owned(), "line 1, column 1: GROUP BY has no window"),
        (format!("SELECT {w} AS window_start, median(value) AS n FROM metrics GROUP BY 1"), "use quantile(value, 0.5)"),
        (format!("SELECT {w} AS window_start, count(*) FROM logs GROUP BY 1"), "with AS"),
        (format!("SELECT {w} AS w, count(*) AS window_start FROM logs GROUP BY 1"), "window_start is taken"),
        (format!("SELECT {w} AS window_start, count(*) AS _n FROM logs GROUP BY 1"), "_n is taken"),
        (format!("SELECT {w} AS window_start, count(*) AS n, sum(1) AS \"N\" FROM logs GROUP BY 1"), "there is another column"),
        (format!("SELECT {w} AS window_start, nosuch, count(*) AS n FROM logs GROUP BY 1, 2"), "nosuch"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM nosuch GROUP BY 1"), "nosuch"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM logs JOIN metrics USING (timestamp) GROUP BY 1"), "JOIN"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM (SELECT * FROM logs) GROUP BY 1"), "subqueries"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM logs WHERE service IN (SELECT job FROM metrics) GROUP BY 1"), "subqueries"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM logs WHERE timestamp > now() GROUP BY 1"), "now() depends on the clock"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM logs WHERE random() > 0.5 GROUP BY 1"), "random() depends"),
        (format!("SELECT {w} AS window_start, attributes, count(*) AS n FROM logs GROUP BY 1, 2"), "a group cannot be a Map"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM logs GROUP BY ROLLUP ({w}, service)"), "one rollup for each grouping"),
        (format!("SELECT {w} AS a, tumble(timestamp, INTERVAL '1 hour') AS b, count(*) AS n FROM logs GROUP BY 1, 2"), "one window"),
        ("SELECT tumble(timestamp, INTERVAL '1 month') AS window_start, count(*) AS n FROM logs GROUP BY 1".to_owned(), "months"),
        ("SELECT tumble(observed_timestamp, INTERVAL '1 minute') AS window_start, count(*) AS n FROM logs GROUP BY 1".to_owned(), "column timestamp"),
        ("SELECT hop(timestamp, INTERVAL '5 minutes', INTERVAL '1 minute') AS window_start, count(*) AS n FROM logs GROUP BY 1".to_owned(), "line 1, column 8: GROUP BY hop(logs.timestamp"),
        ("SELECT hop(timestamp, INTERVAL '5 minutes', INTERVAL '1 minute') AS window_start, count(*) AS n FROM logs GROUP BY 1".to_owned(), "the window is smaller than the slide"),
        ("SELECT hop(timestamp, INTERVAL '1 second', INTERVAL '10 hours') AS window_start, count(*) AS n FROM logs GROUP BY 1".to_owned(), "36000 panes"),
        ("SELECT hop(timestamp, INTERVAL '1 minute') AS window_start, count(*) AS n FROM logs GROUP BY 1".to_owned(), "slide first, then size"),
        ("SELECT session(timestamp, 5) AS window_start, count(*) AS n FROM logs GROUP BY 1".to_owned(), "session takes intervals"),
        ("SELECT session(observed_timestamp, INTERVAL '1 minute') AS window_start, count(*) AS n FROM logs GROUP BY 1".to_owned(), "column timestamp"),
        (format!("SELECT {w} AS window_start, count(*) AS n FROM logs WHERE session(timestamp, INTERVAL '1 minute') > '2024-01-01' GROUP BY 1"), "stand by themselves in GROUP BY"),
        (format!("SELECT {w} AS window_start,\n  approx_percentile_cont_with_weight(value, 1, 0.9) AS n FROM metrics GROUP BY 1"), "line 2, column 3: SELECT approx_percentile_cont_with_weight"),
        (format!("SELECT {w} AS window_start, approx_percentile_cont(value, 1.9) AS n FROM metrics GROUP BY 1"), "1.9"),
        (format!("SELECT {w} AS window_start, first_value(value ORDER BY timestamp) AS n FROM metrics GROUP BY 1"), "use first(value)"),
        (format!("SELECT {w} AS window_start, nosuch(value) AS n FROM metrics GROUP BY 1"), "nosuch"),
        (format!("SELECT {w} AS window_start, sum(message) AS n FROM logs GROUP BY 1"), "sum"),
        (format!("SELECT {w} AS window_start, quantile(value, 95) AS n FROM metrics GROUP BY 1"), "a number from 0 to 1"),
        (format!("SELECT {w} AS window_start, increase(severity_number) AS n FROM logs GROUP BY 1"), "timestamp and series_id"),
        (format!("SELECT {w} AS window_start, approx_distinct(level = 'ERROR') AS n FROM logs GROUP BY 1"), "widen it"),
        (format!("SELECT {w} AS window_start, count(*) AS n, row_number() OVER () AS r FROM logs GROUP BY 1"), "OVER"),
        ("DROP TABLE logs".to_owned(), "only SELECT"),
        ("SELECT FROM WHERE".to_owned(), "rollup r: "),
    ];
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let error = plan(&sql).err().unwrap_or_default();
        if !error.contains(expected) || !error.starts_with("rollup r: ") {
            wrong.push(format!("{sql}\n  gave: {error}\n  want: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_rollup_reads_a_rollup_by_its_window_start() {
    let below = |sql: &str| vec![std::sync::Arc::new(plan(sql).unwrap())];
    let minutes = below(&format!("SELECT {WINDOW} AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2"));
    let over = |sql: &str, rollups: &[_]| {
        RollupPlan::over(&RollupConfig::new("hours", sql), rollups).map_err(|e| e.to_string())
    };
    let sql =
        "SELECT tumble(window_start, INTERVAL '1 hour') AS window_start, service, sum(n) AS n FROM r GROUP BY 1, 2";
    let plan = over(sql, &minutes).unwrap();
    assert_eq!((plan.source(), plan.input(), plan.upstream().unwrap().name()), (Source::Logs, "rollup.r", "r"));
    let edited = below(&format!("SELECT {WINDOW} AS window_start, service, count(*) + 1 AS n FROM logs GROUP BY 1, 2"));
    assert_ne!(plan.definition(), over(sql, &edited).unwrap().definition(), "what it reads has another meaning");
    for (sql, wanted) in [
        ("SELECT tumble(timestamp, INTERVAL '1 hour') AS window_start, sum(n) AS n FROM r GROUP BY 1", "timestamp"),
        (
            "SELECT tumble(window_end, INTERVAL '1 hour') AS window_start, sum(n) AS n FROM r GROUP BY 1",
            "column window_start",
        ),
        (
            "SELECT session(window_start, INTERVAL '1 hour') AS window_start, sum(n) AS n FROM r GROUP BY 1",
            "line 1, column 78: FROM r: session",
        ),
        (
            "SELECT tumble(window_start, INTERVAL '1 hour') AS window_start, first(n) AS n FROM r GROUP BY 1",
            "first(value, instant)",
        ),
        ("SELECT service, sum(n) AS n FROM r GROUP BY 1", "tumble(window_start"),
    ] {
        let error = over(sql, &minutes).unwrap_err();
        assert!(error.contains(wanted), "{sql}: {error}");
    }
    let sessions =
        below("SELECT session(timestamp, INTERVAL '1 minute') AS window_start, count(*) AS n FROM logs GROUP BY 1");
    assert!(
        over(
            "SELECT tumble(window_start, INTERVAL '1 hour') AS window_start, sum(n) AS n FROM r GROUP BY 1",
            &sessions
        )
        .unwrap_err()
        .contains("sessions")
    );
}

#[test]
fn what_stands_for_an_aggregate_that_does_not_merge_has_the_type_of_what_it_is() {
    let plan = plan(&format!(
        "SELECT {WINDOW} AS window_start, count(DISTINCT host) AS hosts, approx_percentile_cont(severity_number, 0.9) AS p,
                approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY severity_number DESC) + 1 AS q, approx_median(severity_number) AS m
         FROM logs GROUP BY 1 HAVING count(DISTINCT host) > 1"
    ))
    .unwrap();
    let types: Vec<_> =
        plan.output_schema().fields()[..4].iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    assert_eq!(types, ["hosts Int64", "p Float64", "q Float64", "m Float64"]);
}

#[test]
fn an_unknown_column_is_named_with_its_place() {
    let error =
        plan(&format!("SELECT {WINDOW} AS window_start,\n  count(nosuch) AS n FROM logs GROUP BY 1")).unwrap_err();
    assert!(error.contains("line 2, column 9"), "{error}");
}

#[test]
fn a_name_is_a_table_and_none_that_there_is() {
    let sql = format!("SELECT {WINDOW} AS window_start, count(*) AS n FROM logs GROUP BY 1");
    for name in ["", "Requests", "1m", "a-b", "a.b", "../x", "logs", "dead_letter", &"x".repeat(65)] {
        let error = RollupPlan::new(&RollupConfig::new(name, sql.clone())).unwrap_err().to_string();
        assert!(error.contains("name"), "{name}: {error}");
    }
    RollupPlan::new(&RollupConfig::new("_a1", sql.clone())).unwrap();
    let negative = RollupConfig { lateness_ms: -1, ..RollupConfig::new("r", sql) };
    assert!(RollupPlan::new(&negative).unwrap_err().to_string().contains("lateness"));
}

#[test]
fn a_changed_definition_has_another_hash() {
    let sql = format!("SELECT {WINDOW} AS window_start, count(*) AS n FROM logs GROUP BY 1");
    let config = RollupConfig::new("r", sql.clone());
    let hash = |config: &RollupConfig| RollupPlan::new(config).unwrap().definition();
    assert_eq!(hash(&config), hash(&RollupConfig::new("r", format!("  {sql}\n"))), "space around it is nothing");
    assert_ne!(hash(&config), hash(&RollupConfig { lateness_ms: 1, ..config.clone() }));
    assert_ne!(hash(&config), hash(&RollupConfig::new("r", sql.replace("1 minute", "2 minutes"))));
}
