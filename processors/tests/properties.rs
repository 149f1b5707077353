//! The property everything rests on: results follow from the rows, not from how they came.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use highwater_pipeline::data::time;
use highwater_processors::rollups::RollupConfig;
use highwater_processors::rules::RuleFile;
use highwater_processors::{ProcessorsConfig, Topology, topology};
use proptest::prelude::*;
use support::{House, oracle};

const PARTITIONS: i32 = 3;
const START_US: i64 = 1_714_996_800_000_000;
/// More than any row is behind the watermark of its partition, so that none is late.
const LATENESS_MS: i64 = 20_000;
const DISORDER_US: i64 = 15_000_000;
/// Less than the 5 minutes after which a partition is left behind.
const SPAN_US: i64 = 240_000_000;

/// A row: partition, event time, how far behind it is, service, level, value.
type Row = (i32, i64, i64, Option<u8>, u8, i32);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0..PARTITIONS, 0..SPAN_US, 0..DISORDER_US, proptest::option::of(0..4u8), 0..3u8, -1_000..1_000i32);
    proptest::collection::vec(row, 1..60).prop_map(|mut rows| {
        rows.sort_by_key(|row| row.1);
        rows
    })
}

fn queries() -> impl Strategy<Value = String> {
    let widths = prop_oneof![Just("7 seconds"), Just("30 seconds"), Just("1 minute"), Just("1 hour")];
    let keys = prop_oneof![Just(""), Just(", service"), Just(", service, level"), Just(", upper(service) AS up")];
    let aggregates = prop_oneof![
        Just("count(*) AS n"),
        Just("count(service) AS n, sum(severity_number) AS s"),
        Just(
            "min(CAST(request_id AS DOUBLE)) AS lo, max(CAST(request_id AS DOUBLE)) AS hi, avg(CAST(request_id AS DOUBLE)) AS mean"
        ),
        Just(
            "count(*) FILTER (WHERE level = 'ERROR') AS e, count(*) AS n, sum(CAST(request_id AS BIGINT)) / count(*) AS mean"
        ),
        Just("min(message) AS first, max(timestamp) AS last, bool_or(level = 'ERROR') AS bad"),
        Just("sum(CAST(request_id AS DOUBLE) * 0.1) AS tenth, max(severity_number) - min(severity_number) AS spread"),
    ];
    let filters = prop_oneof![
        Just(""),
        Just("WHERE level <> 'INFO'"),
        Just("WHERE CAST(request_id AS BIGINT) > 0 OR service IS NULL")
    ];
    let having = prop_oneof![Just(""), Just("HAVING count(*) > 1")];
    (widths, keys, aggregates, filters, having).prop_map(|(width, key, aggregates, filter, having)| {
        let group: String =
            key.split(", ").skip(1).map(|k| format!(", {}", k.split(" AS ").next().unwrap_or(k))).collect();
        format!(
            "SELECT tumble(timestamp, INTERVAL '{width}') AS window_start{key}, {aggregates} FROM logs {filter} \
             GROUP BY tumble(timestamp, INTERVAL '{width}'){group} {having}"
        )
    })
}

fn configured(sql: &str) -> Topology {
    let rollup = RollupConfig { lateness_ms: LATENESS_MS, ..RollupConfig::new("r", sql) };
    topology(&ProcessorsConfig { rollups: vec![rollup], partitions: PARTITIONS, ..ProcessorsConfig::default() })
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// A rollup with rules over it: one whose alerts wait, and one whose alerts linger.
fn watched() -> Topology {
    let rollup = RollupConfig {
        lateness_ms: LATENESS_MS,
        ..RollupConfig::new(
            "r",
            "SELECT tumble(timestamp, INTERVAL '30 seconds') AS window_start, service, count(*) AS n,
                    count(*) FILTER (WHERE level = 'ERROR') AS errors
             FROM logs GROUP BY 1, 2",
        )
    };
    let rules = "groups:
  - name: g
    rules:
      - {alert: Errors, sql: 'SELECT service, errors FROM r WHERE errors > 0', for: 30s}
      - {alert: Any, sql: 'SELECT service, n FROM r WHERE n > 0', keep_firing_for: 1m}
";
    let rule_files = vec![RuleFile::parse("rules.yaml", rules).unwrap()];
    topology(&ProcessorsConfig {
        rollups: vec![rollup],
        rule_files,
        partitions: PARTITIONS,
        ..ProcessorsConfig::default()
    })
    .unwrap()
}

/// Appends the rows, `batch` of a partition to a record.
fn fill(house: &mut House, rows: &[Row], batch: usize) {
    let mut append_time_ms = START_US / 1_000;
    for partition in 0..PARTITIONS {
        let own: Vec<String> = rows.iter().filter(|row| row.0 == partition).map(json).collect();
        for record in own.chunks(batch) {
            append_time_ms += 1;
            house.append_json("logs", partition, append_time_ms + SPAN_US / 1_000, &format!("[{}]", record.join(",")));
        }
    }
}

/// Lets time pass in silence until every window is closed. In steps that leave no partition behind.
fn close(house: &mut House) {
    for minute in 1..=66 {
        let now_us = START_US + minute * 60_000_000;
        (0..PARTITIONS).for_each(|p| house.append_clock("logs", p, now_us / 1_000, Some(now_us), true));
        house.settle();
    }
}

fn json((_, at, behind, service, level, value): &Row) -> String {
    let at = time::format(START_US + (at - behind).max(0));
    let level = ["INFO", "ERROR", "WARNING"][usize::from(*level)];
    let mut row = serde_json::json!({"timestamp": at, "message": format!("m{value}"), "level": level, "request_id": value.to_string()});
    if let Some(service) = service {
        row["service"] = format!("s{service}").into();
    }
    row.to_string()
}

/// Steps tasks in the order that `choices` gives until all have read everything; `restarts` says at which steps the task is
/// snapshotted, and at which it is killed, restored and brought back to where it was.
fn run(house: &mut House, choices: &[usize], restarts: Option<&[u8]>) {
    let tasks = house.task_count();
    let mut idle = 0;
    let mut at = 0;
    while idle < tasks {
        let task = (choices[at % choices.len()] + at) % tasks;
        if let Some(restarts) = restarts {
            match restarts[at % restarts.len()] {
                0 => house.snapshot(task),
                1 => house.restart_and_catch_up(task),
                _ => {}
            }
        }
        idle = if house.step(task) { 0 } else { idle + 1 };
        at += 1;
        if idle == tasks {
            // The choices may have missed one that had something to read.
            idle = if house.round() { 0 } else { tasks };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_batch(
        rows in rows(), sql in queries(), batch in 1..20usize, choices in proptest::collection::vec(0..100usize, 1..40),
    ) {
        let topology = configured(&sql);
        let mut house = House::new(&topology);
        fill(&mut house, &rows, batch);
        run(&mut house, &choices, None);
        close(&mut house);
        let expected = oracle::batch_answer(&house, PARTITIONS, &sql);
        let columns: Vec<String> = match expected.first() {
            Some(batch) => batch.schema().fields().iter().map(|f| f.name().clone()).collect(),
            None => Vec::new(),
        };
        prop_assert_eq!(oracle::text(&oracle::newest(&house, &topology.rollups[0], PARTITIONS), &columns), oracle::text(&expected, &columns), "{}", sql);
    }

    #[test]
    fn restarts_leave_no_trace(
        rows in rows(), sql in queries(), batch in 1..20usize, choices in proptest::collection::vec(0..100usize, 1..40),
        restarts in proptest::collection::vec(0..6u8, 1..60),
    ) {
        let topology = configured(&sql);
        let mut calm = House::new(&topology);
        fill(&mut calm, &rows, batch);
        run(&mut calm, &choices, None);
        close(&mut calm);
        let mut stormy = House::new(&topology);
        fill(&mut stormy, &rows, batch);
        run(&mut stormy, &choices, Some(&restarts));
        close(&mut stormy);
        prop_assert_eq!(calm.topics, stormy.topics, "to the byte");
    }

    #[test]
    fn how_rows_are_grouped_into_records_is_nothing(
        rows in rows(), sql in queries(), batch in 2..20usize,
    ) {
        let topology = configured(&sql);
        let answers: Vec<Vec<String>> = [1, batch].into_iter().map(|batch| {
            let mut house = House::new(&topology);
            fill(&mut house, &rows, batch);
            house.settle();
            close(&mut house);
            let batches = oracle::newest(&house, &topology.rollups[0], PARTITIONS);
            let columns = topology.rollups[0].output_schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
            oracle::text(&batches, &columns)
        }).collect();
        prop_assert_eq!(&answers[0], &answers[1], "{}", sql);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_after_every_record_leaves_no_trace_in_windows_and_alerts(
        rows in rows(), batch in 1..20usize, choices in proptest::collection::vec(0..100usize, 1..40),
    ) {
        let topology = watched();
        let [calm, restless] = [false, true].map(|restless| {
            let mut house = House::new(&topology);
            house.restless = restless;
            fill(&mut house, &rows, batch);
            run(&mut house, &choices, None);
            close(&mut house);
            house.topics
        });
        prop_assert!(!calm[&("alerts".to_owned(), 0)].is_empty(), "there are alerts to compare");
        prop_assert_eq!(calm, restless, "to the byte");
    }
}
