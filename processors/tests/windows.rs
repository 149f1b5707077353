//! The oracle for every kind of window: whatever is kept up to date equals the same SQL over all rows.
//!
//! A family of queries (windows x aggregates x filters x keys x lateness) over a family of logs: out of order, late by seconds and by minutes, with gaps,
//! skewed over keys and partitions, some partitions empty. However the rows come in records, however many partitions there are, whatever task works
//! when, and wherever tasks are killed and restored: alone, or all at once, to be worked on by more or fewer processes than before. Where late rows
//! are dropped the answer is that over the rows which came in time, and no less.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use highwater_pipeline::data::time;
use highwater_processors::rollups::{LatePolicy, RollupConfig};
use highwater_processors::{ProcessorsConfig, Topology, topology};
use proptest::prelude::*;
use support::{House, oracle};

const START_MS: i64 = 1_714_996_800_000;
const SECOND_MS: i64 = 1_000;

#[derive(Debug, Clone, Copy)]
struct Row {
    /// How far event time is behind append time.
    behind_ms: i64,
    key: u8,
    level: u8,
    value: i32,
}

/// What happens to one partition, how long after the event before.
#[derive(Debug, Clone)]
struct Event {
    after_ms: i64,
    /// Skewed: most rows go to the first.
    partition: i32,
    rows: Vec<Row>,
    /// How many steps tasks take then.
    steps: usize,
}

#[derive(Debug, Clone)]
struct Case {
    sql: String,
    lateness_ms: i64,
    partitions: i32,
    events: Vec<Event>,
    batch: usize,
}

fn queries() -> impl Strategy<Value = String> {
    let windows = prop_oneof![
        Just("tumble(timestamp, INTERVAL '20 seconds')"),
        Just("hop(timestamp, INTERVAL '10 seconds', INTERVAL '30 seconds')"),
        Just("hop(timestamp, INTERVAL '4 seconds', INTERVAL '6 seconds')"),
        Just("hop(timestamp, INTERVAL '1 second', INTERVAL '25 seconds')"),
        Just("session(timestamp, INTERVAL '3 seconds')"),
        Just("session(timestamp, INTERVAL '25 seconds')"),
        Just("session(timestamp, INTERVAL '500 milliseconds')"),
    ];
    let keys = prop_oneof![Just(""), Just("service"), Just("service, level"), Just("attributes['k'] || '!'")];
    let aggregates = prop_oneof![
        Just("count(*) AS n, count(service) AS c, sum(severity_number) AS s"),
        Just(
            "min(CAST(request_id AS DOUBLE)) AS lo, max(message) AS hi, avg(CAST(request_id AS DOUBLE) * 0.1) AS mean"
        ),
        Just(
            "stddev(CAST(request_id AS DOUBLE)) AS sd, var_pop(CAST(request_id AS DOUBLE)) AS v, bit_xor(CAST(request_id AS BIGINT)) AS x"
        ),
        Just(
            "first(message) AS f, last(message) AS l, last(request_id) FILTER (WHERE level = 'ERROR') AS e, bool_or(level = 'ERROR') AS bad, bool_and(level = 'ERROR') AS all_bad"
        ),
        Just(
            "quantile(CAST(request_id AS DOUBLE), 0.9) AS p90, quantile(CAST(request_id AS DOUBLE), 0.1) AS p10, approx_distinct(message) AS d"
        ),
        Just("top_k(CAST(request_id AS BIGINT), 3) AS top, bottom_k(message, 2) AS low"),
        Just(
            "count(DISTINCT message) AS d, count(DISTINCT CAST(request_id AS DOUBLE)) FILTER (WHERE level = 'ERROR') AS e, bit_or(severity_number) AS o"
        ),
        Just(
            "count(nullif(level, 'INFO')) AS nf, max(coalesce(attributes['k'], service, '-')) AS co, max(nvl2(service, 'y', 'n')) AS nv, min(greatest(severity_number, 10)) AS gr, count(*) FILTER (WHERE coalesce(service, 'none') = 'none') AS fl, max(date_part('minute', timestamp)) AS dp, max(regexp_replace(message, '[0-9]+', 'n')) AS re"
        ),
        Just(
            "stddev_pop(CAST(request_id AS DOUBLE)) AS sp, var_samp(CAST(request_id AS DOUBLE)) AS vs, upper(max(message)) AS u, round(avg(CAST(request_id AS DOUBLE)), 2) AS r"
        ),
        Just(
            "increase(CAST(request_id AS DOUBLE), timestamp, severity_number) AS grown, rate(CAST(request_id AS DOUBLE), timestamp, 1) AS per_second"
        ),
        Just(
            "sum(CASE WHEN level = 'ERROR' THEN 1 ELSE 0 END) * 100 / count(*) AS percent, max(timestamp) - min(timestamp) AS lasted"
        ),
        Just(
            "histogram_quantile(0.5, CASE severity_number WHEN 9 THEN '1' WHEN 17 THEN '2.5' ELSE '+Inf' END, abs(CAST(request_id AS DOUBLE)), timestamp, severity_number) AS h"
        ),
    ];
    let filters = prop_oneof![
        3 => Just(""),
        1 => Just("WHERE level <> 'INFO'"),
        1 => Just("WHERE CAST(request_id AS BIGINT) > 0 OR attributes['k'] IS NULL"),
    ];
    let having = prop_oneof![3 => Just(""), 1 => Just("HAVING count(*) > 1")];
    (windows, keys, aggregates, filters, having).prop_map(|(window, keys, aggregates, filter, having)| {
        let named = match keys {
            "" => String::new(),
            "attributes['k'] || '!'" => format!("{keys} AS k, "),
            keys => format!("{keys}, "),
        };
        let group = if keys.is_empty() { String::new() } else { format!(", {keys}") };
        format!(
            "SELECT {window} AS window_start, {named}{aggregates} FROM logs {filter} GROUP BY {window}{group} {having}"
        )
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let behind = prop_oneof![
        6 => 0..2 * SECOND_MS,
        2 => 0..15 * SECOND_MS,
        1 => 0..150 * SECOND_MS,
    ];
    let key = prop_oneof![4 => Just(0u8), 1 => 0..4u8];
    let row = (behind, key, 0..3u8, -500..500i32).prop_map(|(behind_ms, key, level, value)| Row {
        behind_ms,
        key,
        level,
        value,
    });
    let after = prop_oneof![4 => 0..3 * SECOND_MS, 1 => 0..40 * SECOND_MS];
    let partition = prop_oneof![3 => Just(0), 2 => 0..4i32];
    let event = (after, partition, proptest::collection::vec(row, 1..8), 0..12usize)
        .prop_map(|(after_ms, partition, rows, steps)| Event { after_ms, partition, rows, steps });
    proptest::collection::vec(event, 1..30)
}

fn cases() -> impl Strategy<Value = Case> {
    (queries(), prop_oneof![Just(0), Just(5), Just(20)], 1..5i32, events(), 1..8usize).prop_map(
        |(sql, lateness, partitions, events, batch)| Case {
            sql,
            lateness_ms: lateness * SECOND_MS,
            partitions,
            events,
            batch,
        },
    )
}

fn configured(case: &Case) -> Topology {
    with_policy(case, LatePolicy::Correct)
}

fn with_policy(case: &Case, late: LatePolicy) -> Topology {
    let rollup = RollupConfig { lateness_ms: case.lateness_ms, late, ..RollupConfig::new("r", case.sql.clone()) };
    topology(&ProcessorsConfig { rollups: vec![rollup], partitions: case.partitions, ..ProcessorsConfig::default() })
        .unwrap_or_else(|e| panic!("{}: {e}", case.sql))
}

fn json(now_ms: i64, row: &Row) -> String {
    let at = time::format((now_ms - row.behind_ms) * 1_000);
    let level = ["INFO", "ERROR", "WARNING"][usize::from(row.level)];
    let mut fields = serde_json::json!({
        "timestamp": at, "message": format!("m{}", row.value % 20), "level": level, "request_id": row.value.to_string()
    });
    if row.key > 0 {
        fields["service"] = format!("s{}", row.key).into();
        fields["k"] = format!("k{}", row.key % 2).into();
    }
    fields.to_string()
}

/// Plays the case, with a snapshot or a restart of some task wherever `restarts` says so; then lets silence close everything.
fn play(topology: &Topology, case: &Case, restarts: &[u8]) -> House {
    play_in(House::new(topology), case, restarts)
}

fn play_in(mut house: House, case: &Case, restarts: &[u8]) -> House {
    let mut now_ms = START_MS;
    let mut turn = 0;
    let mut step = |house: &mut House| {
        let task = turn % house.task_count();
        match restarts.get(turn % restarts.len().max(1)) {
            Some(0) => house.snapshot(task),
            Some(1) => house.restart_and_catch_up(task),
            _ => {}
        }
        turn += 1;
        house.step(task);
    };
    for event in &case.events {
        now_ms += event.after_ms;
        let rows: Vec<String> = event.rows.iter().map(|row| json(now_ms, row)).collect();
        for record in rows.chunks(case.batch) {
            house.append_json("logs", event.partition % case.partitions, now_ms, &format!("[{}]", record.join(",")));
        }
        (0..event.steps).for_each(|_| step(&mut house));
    }
    silence(&mut house, case, now_ms, &mut step);
    house
}

/// Time goes on in silence until every window is closed, late ones included.
fn silence(house: &mut House, case: &Case, now_ms: i64, step: &mut dyn FnMut(&mut House)) {
    for seconds in [0, 1, 11, 22, 33, 70, 81, 92, 140, 151, 162, 173] {
        house.settle();
        let now_ms = now_ms + 60 * SECOND_MS + seconds * SECOND_MS;
        (0..case.partitions).for_each(|p| house.append_clock("logs", p, now_ms, Some(now_ms * 1_000), true));
        (0..2 * house.task_count()).for_each(|_| step(house));
    }
    house.settle();
}

/// Of one partition, where late rows are dropped: what is counted by window and service, and how many rows are in none. By the rule of the design: a row counts
/// unless its window's end and the lateness are behind the watermark, which is the largest time so far, its own included.
fn in_time(case: &Case, width_ms: i64) -> (BTreeMap<(i64, u8), i64>, u64) {
    let (mut counted, mut dropped) = (BTreeMap::new(), 0);
    let (mut now_ms, mut watermark_ms) = (START_MS, i64::MIN);
    for event in &case.events {
        now_ms += event.after_ms;
        for row in &event.rows {
            let at_ms = now_ms - row.behind_ms;
            watermark_ms = watermark_ms.max(at_ms);
            let start_ms = at_ms - at_ms.rem_euclid(width_ms);
            if start_ms + width_ms + case.lateness_ms <= watermark_ms {
                dropped += 1;
            } else {
                *counted.entry((start_ms, row.key)).or_default() += 1;
            }
        }
    }
    (counted, dropped)
}

/// How tasks are shared out: to how many processes, until how many more steps have been taken. Those of one process take turns; a process takes its step
/// while others may take many.
#[derive(Debug, Clone)]
struct Shift {
    processes: usize,
    steps: usize,
    /// Which process is next.
    turns: Vec<usize>,
}

fn shifts() -> impl Strategy<Value = Vec<Shift>> {
    let shift = (1..6usize, 0..60usize, proptest::collection::vec(0..6usize, 1..12));
    proptest::collection::vec(shift.prop_map(|(processes, steps, turns)| Shift { processes, steps, turns }), 1..5)
}

/// Plays the case by more and fewer processes in turn. Where one shift ends all tasks stop, and start from their snapshots wherever the next shift has them; every
/// other time they are killed instead, and the snapshots are older.
fn play_in_shifts(topology: &Topology, case: &Case, shifts: &[Shift]) -> House {
    let mut house = House::new(topology);
    let mut now_ms = START_MS;
    for event in &case.events {
        now_ms += event.after_ms;
        let rows: Vec<String> = event.rows.iter().map(|row| json(now_ms, row)).collect();
        for record in rows.chunks(case.batch) {
            house.append_json("logs", event.partition % case.partitions, now_ms, &format!("[{}]", record.join(",")));
        }
    }
    let tasks = house.task_count();
    for (number, Shift { processes, steps, turns }) in shifts.iter().enumerate() {
        let mut next = vec![0; *processes];
        for step in 0..*steps {
            let process = turns[step % turns.len()] % processes;
            let own: Vec<usize> = (0..tasks).filter(|task| task % processes == process).collect();
            house.step(own[next[process] % own.len()]);
            next[process] += 1;
            if step == steps / 2 {
                (0..tasks).for_each(|task| house.snapshot(task));
            }
        }
        if number % 2 == 0 {
            (0..tasks).for_each(|task| house.snapshot(task));
        }
        (0..tasks).for_each(|task| house.restart(task));
    }
    silence(&mut house, case, now_ms, &mut |house: &mut House| {
        house.round();
    });
    house
}

/// A rollup, and two steps above it: what each reads is the rows of the one below that hold.
#[derive(Debug, Clone)]
struct Steps {
    case: Case,
    second: String,
    third: String,
}

fn steps() -> impl Strategy<Value = Steps> {
    let first = prop_oneof![
        Just("tumble(timestamp, INTERVAL '10 seconds')"),
        Just("hop(timestamp, INTERVAL '5 seconds', INTERVAL '15 seconds')"),
    ];
    let having = prop_oneof![2 => Just(""), 1 => Just("HAVING count(*) < 4")];
    let first = (first, having).prop_map(|(window, having)| {
        format!(
            "SELECT {window} AS window_start, service, count(*) AS n, sum(CAST(request_id AS BIGINT)) AS s, max(message) AS hi
             FROM logs GROUP BY {window}, service {having}"
        )
    });
    let second = prop_oneof![
        Just("tumble(window_start, INTERVAL '30 seconds')"),
        Just("tumble(window_start, INTERVAL '10 seconds')"),
        Just("tumble(window_start, INTERVAL '12 seconds')"),
        Just("hop(window_start, INTERVAL '20 seconds', INTERVAL '1 minute')"),
    ];
    let key = prop_oneof![Just(""), Just(", service"), Just(", n % 2")];
    let second = (second, key).prop_map(|(window, key)| {
        let named = if key == ", n % 2" { ", n % 2 AS odd" } else { key };
        format!(
            "SELECT {window} AS window_start{named}, count(*) AS windows, sum(n) AS total, min(s) AS low, max(hi) AS hi, avg(n) AS mean,
                    last(s, window_start) AS latest, count(DISTINCT service) AS services
             FROM r WHERE n > 0 GROUP BY {window}{key}"
        )
    });
    let third = Just(
        "SELECT tumble(window_start, INTERVAL '1 minute') AS window_start, sum(total) AS total, max(windows) AS most, count(*) AS n FROM second GROUP BY 1"
            .to_owned(),
    );
    (cases(), first, second, third).prop_map(|(case, sql, second, third)| Steps {
        case: Case { sql, ..case },
        second,
        third,
    })
}

impl Steps {
    fn topology(&self) -> Topology {
        let rollup = |name: &str, sql: &str| RollupConfig {
            lateness_ms: self.case.lateness_ms,
            ..RollupConfig::new(name, sql.to_owned())
        };
        // The one that reads before the one that is read: the order in a file is nothing.
        let rollups = vec![rollup("third", &self.third), rollup("r", &self.case.sql), rollup("second", &self.second)];
        topology(&ProcessorsConfig { rollups, partitions: self.case.partitions, ..ProcessorsConfig::default() })
            .unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }
}

/// What a rollup has kept, and what its SQL answers over the rows of the one it reads that hold.
fn beside(house: &House, topology: &Topology, partitions: i32, name: &str, sql: &str) -> (Vec<String>, Vec<String>) {
    let plan = topology.rollups.iter().find(|r| r.name() == name).unwrap();
    let below = plan.upstream().unwrap();
    let rows = oracle::newest(house, below, partitions);
    let expected = oracle::answer_over(below.name(), below.table_schema(), rows, sql);
    let columns: Vec<String> =
        expected.first().map(|b| b.schema().fields().iter().map(|f| f.name().clone()).collect()).unwrap_or_default();
    (oracle::text(&oracle::newest(house, plan, partitions), &columns), oracle::text(&expected, &columns))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rollup_of_a_rollup_equals_the_query_over_its_newest_rows(steps in steps()) {
        let (topology, case) = (steps.topology(), &steps.case);
        let house = play(&topology, case, &[]);
        for (name, sql) in [("second", &steps.second), ("third", &steps.third)] {
            let (kept, answered) = beside(&house, &topology, case.partitions, name, sql);
            prop_assert!(oracle::same(&kept, &answered), "{}: {}\n  kept: {:#?}\n  batch: {:#?}", name, sql, kept, answered);
        }
    }

    #[test]
    fn restarts_leave_no_trace_in_rollups_of_rollups(steps in steps(), restarts in proptest::collection::vec(0..8u8, 1..80)) {
        let topology = steps.topology();
        let calm = play(&topology, &steps.case, &[]);
        let stormy = play(&topology, &steps.case, &restarts);
        prop_assert_eq!(&calm.topics, &stormy.topics, "to the byte: {:?}", steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_up_to_date_equals_the_batch_answer(case in cases()) {
        let topology = configured(&case);
        let mut house = play(&topology, &case, &[]);
        let expected = oracle::batch_answer(&house, case.partitions, &case.sql);
        let columns: Vec<String> =
            expected.first().map(|b| b.schema().fields().iter().map(|f| f.name().clone()).collect()).unwrap_or_default();
        let newest = oracle::newest(&house, &topology.rollups[0], case.partitions);
        let (kept, answered) = (oracle::text(&newest, &columns), oracle::text(&expected, &columns));
        prop_assert!(oracle::same(&kept, &answered), "{}\n  kept: {:#?}\n  batch: {:#?}", case.sql, kept, answered);
        prop_assert_eq!(house.count("r", "too_late_rows"), 0);
    }

    #[test]
    fn restarts_leave_no_trace(case in cases(), restarts in proptest::collection::vec(0..8u8, 1..80)) {
        let topology = configured(&case);
        let calm = play(&topology, &case, &[]);
        // And so does state that is put aside.
        let stormy = play_in(House::putting_aside(&topology), &case, &restarts);
        prop_assert_eq!(&calm.topics, &stormy.topics, "to the byte: {}", case.sql);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_or_fewer_processes_after_a_restart_give_the_batch_answer(case in cases(), shifts in shifts()) {
        let topology = configured(&case);
        let mut house = play_in_shifts(&topology, &case, &shifts);
        let expected = oracle::batch_answer(&house, case.partitions, &case.sql);
        let columns: Vec<String> =
            expected.first().map(|b| b.schema().fields().iter().map(|f| f.name().clone()).collect()).unwrap_or_default();
        let newest = oracle::newest(&house, &topology.rollups[0], case.partitions);
        let (kept, answered) = (oracle::text(&newest, &columns), oracle::text(&expected, &columns));
        prop_assert!(oracle::same(&kept, &answered), "{} {:?}\n  kept: {:#?}\n  batch: {:#?}", case.sql, shifts, kept, answered);
        prop_assert_eq!(house.count("r", "too_late_rows"), 0);
    }

    #[test]
    fn restarts_leave_no_trace_where_late_rows_are_dropped(case in cases(), restarts in proptest::collection::vec(0..8u8, 1..80)) {
        let topology = with_policy(&case, LatePolicy::Drop);
        let calm = play(&topology, &case, &[]);
        let stormy = play(&topology, &case, &restarts);
        prop_assert_eq!(&calm.topics, &stormy.topics, "to the byte: {}", case.sql);
    }

    #[test]
    fn where_late_rows_are_dropped_those_in_time_are_counted_and_the_others_are_known(
        events in events(), lateness in prop_oneof![Just(0), Just(5), Just(20)], batch in 1..8usize, width in prop_oneof![Just(5), Just(20), Just(60)],
    ) {
        let sql = format!(
            "SELECT tumble(timestamp, INTERVAL '{width} seconds') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2"
        );
        let case = Case { sql, lateness_ms: lateness * SECOND_MS, partitions: 1, events, batch };
        let topology = with_policy(&case, LatePolicy::Drop);
        let mut house = play(&topology, &case, &[]);
        let (counted, dropped) = in_time(&case, width * SECOND_MS);
        let mut kept: BTreeMap<(i64, u8), i64> = BTreeMap::new();
        for batch in oracle::newest(&house, &topology.rollups[0], 1) {
            let column = |name: &str| Arc::clone(batch.column_by_name(name).unwrap());
            let (starts, services, counts) = (column("window_start"), column("service"), column("n"));
            for row in 0..batch.num_rows() {
                let service = services.as_string::<i32>();
                let key = if service.is_null(row) { 0 } else { service.value(row)[1..].parse().unwrap() };
                let start_us = starts.as_primitive::<TimestampMicrosecondType>().value(row);
                kept.insert((start_us / 1_000, key), counts.as_primitive::<Int64Type>().value(row));
            }
        }
        prop_assert_eq!(&kept, &counted, "{:?}", case);
        prop_assert_eq!(house.count("r", "dropped_rows"), dropped);
        let all: usize = case.events.iter().map(|event| event.rows.len()).sum();
        prop_assert_eq!(kept.values().sum::<i64>() as u64 + dropped, all as u64);
    }
}

/// The tasks of the lower rollup do not run abreast, and no window above is closed before all of them have passed it on.
#[test]
fn a_rollup_of_a_rollup_closes_once_where_nothing_is_late() {
    let hours =
        "SELECT tumble(window_start, INTERVAL '1 hour') AS window_start, sum(n) AS total FROM minutes GROUP BY 1";
    let minutes =
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2";
    let rollups = vec![RollupConfig::new("hours", hours), RollupConfig::new("minutes", minutes)];
    let topology = topology(&ProcessorsConfig { rollups, partitions: 2, ..ProcessorsConfig::default() }).unwrap();
    let task = |name: &str| topology.tasks.iter().position(|task| &*task.name == name).unwrap();
    let mut house = House::new(&topology);
    for minute in 0..190 {
        let at_ms = START_MS + minute * 60 * SECOND_MS;
        for partition in 0..2 {
            let row = |key: i64| {
                let at = time::format(at_ms * 1_000);
                format!(r#"{{"timestamp":"{at}","message":"m","service":"s{key}"}}"#)
            };
            let rows: Vec<String> = (0..10).map(row).collect();
            house.append_json("logs", partition, at_ms, &format!("[{}]", rows.join(",")));
        }
    }
    // Stage 1 keeps abreast, as the runtime sees to; of the second stage one task reads all there is before the other begins.
    while house.step(task("logs/0")) | house.step(task("logs/1")) {}
    while house.step(task("__highwater.partials/0")) {}
    house.settle();
    let plan = topology.rollups.iter().find(|plan| plan.name() == "hours").unwrap();
    let columns = ["window_start", "total", "_revision"].map(str::to_owned);
    let lines = oracle::text(&oracle::newest(&house, plan, 2), &columns);
    let expected = ["2024-05-06T12:00:00Z 1200 0", "2024-05-06T13:00:00Z 1200 0", "2024-05-06T14:00:00Z 1200 0"];
    assert_eq!(lines, expected, "each hour once, and whole");
}
