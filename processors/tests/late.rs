//! Rows that come late: by seconds, by an hour, by years; into partitions that are live, idle or waking up. Whatever the order, the last revision of every
//! window is what the same SQL says over all rows, and a replay says the same to the byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use highwater_pipeline::data::time;
use highwater_processors::rollups::RollupConfig;
use highwater_processors::{ProcessorsConfig, Topology, topology};
use proptest::prelude::*;
use support::{House, oracle};

const PARTITIONS: i32 = 3;
/// 2024-05-06T12:00:00Z.
const START_MS: i64 = 1_714_996_800_000;
const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600 * SECOND_MS;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

const SQL: &str = "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, count(*) AS n, \
                     min(CAST(request_id AS DOUBLE)) AS lo, avg(CAST(request_id AS DOUBLE)) AS mean \
                   FROM logs GROUP BY tumble(timestamp, INTERVAL '10 seconds'), service";

/// How old a row is when it is appended.
#[derive(Debug, Clone, Copy)]
enum Age {
    Seconds(i64),
    AnHour(i64),
    Years(i64),
}

#[derive(Debug, Clone, Copy)]
struct Row {
    age: Age,
    service: u8,
    value: i32,
}

/// What happens to one partition, and how long after the event before.
#[derive(Debug, Clone)]
struct Event {
    after_ms: i64,
    partition: i32,
    what: What,
    /// How many steps tasks take then: few leave a backlog.
    steps: usize,
}

#[derive(Debug, Clone)]
enum What {
    Rows(Vec<Row>),
    Clock { idle: bool },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let age = prop_oneof![
        4 => (0..8 * SECOND_MS).prop_map(Age::Seconds),
        2 => (0..40 * SECOND_MS).prop_map(Age::AnHour),
        1 => (0..30 * SECOND_MS).prop_map(Age::Years),
        1 => (0..10 * YEAR_MS).prop_map(Age::Years),
    ];
    let row = (age, 0..3u8, -1_000..1_000i32).prop_map(|(age, service, value)| Row { age, service, value });
    let what = prop_oneof![
        3 => proptest::collection::vec(row, 1..8).prop_map(What::Rows),
        1 => any::<bool>().prop_map(|idle| What::Clock { idle }),
    ];
    let event = (prop_oneof![3 => 0..2_000i64, 1 => 0..20_000i64], 0..PARTITIONS, what, 0..12usize)
        .prop_map(|(after_ms, partition, what, steps)| Event { after_ms, partition, what, steps });
    proptest::collection::vec(event, 1..40)
}

fn configured(horizon_ms: i64) -> Topology {
    let rollup = RollupConfig { lateness_ms: 0, correction_horizon_ms: horizon_ms, ..RollupConfig::new("r", SQL) };
    topology(&ProcessorsConfig { rollups: vec![rollup], partitions: PARTITIONS, ..ProcessorsConfig::default() })
        .unwrap()
}

fn json(now_ms: i64, row: &Row) -> String {
    let at_ms = match row.age {
        Age::Seconds(ms) => now_ms - ms,
        Age::AnHour(ms) => now_ms - HOUR_MS - ms,
        Age::Years(ms) => START_MS - 10 * YEAR_MS + ms,
    };
    let at = time::format(at_ms * 1_000);
    format!(r#"{{"timestamp":"{at}","message":"m","service":"s{}","request_id":"{}"}}"#, row.service, row.value)
}

/// Plays the events, at most `batch` rows to a record, with a snapshot or a restart of some task wherever `restarts` says so; then lets silence
/// close everything.
fn play(topology: &Topology, events: &[Event], batch: usize, restarts: &[u8]) -> House {
    let mut house = House::new(topology);
    let mut now_ms = START_MS;
    let mut turn = 0;
    let step = |house: &mut House, turn: &mut usize| {
        let task = *turn % house.task_count();
        match restarts.get(*turn % restarts.len().max(1)) {
            Some(0) => house.snapshot(task),
            Some(1) => house.restart_and_catch_up(task),
            _ => {}
        }
        *turn += 1;
        house.step(task)
    };
    for event in events {
        now_ms += event.after_ms;
        match &event.what {
            What::Rows(rows) => {
                let rows: Vec<String> = rows.iter().map(|row| json(now_ms, row)).collect();
                for record in rows.chunks(batch) {
                    house.append_json("logs", event.partition, now_ms, &format!("[{}]", record.join(",")));
                }
            }
            What::Clock { idle } => {
                house.append_clock("logs", event.partition, now_ms, Some(now_ms * 1_000), *idle);
            }
        }
        (0..event.steps).for_each(|_| {
            step(&mut house, &mut turn);
        });
    }
    // Nobody is behind the others by more than it is allowed to, so that what is open closes; then 10 s pass, twice over.
    for seconds in [0, 1, 11, 22, 33] {
        house.settle();
        let now_ms = now_ms + 60 * SECOND_MS + seconds * SECOND_MS;
        (0..PARTITIONS).for_each(|p| house.append_clock("logs", p, now_ms, Some(now_ms * 1_000), true));
        for _ in 0..2 * house.task_count() {
            step(&mut house, &mut turn);
        }
    }
    house.settle();
    house
}

fn columns() -> Vec<String> {
    ["window_start", "service", "n", "lo", "mean"].map(str::to_owned).to_vec()
}

fn answer(house: &House, topology: &Topology) -> Vec<String> {
    oracle::text(&oracle::newest(house, &topology.rollups[0], PARTITIONS), &columns())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_revisions_are_the_batch_answer(events in events(), batch in 1..8usize) {
        let topology = configured(24 * HOUR_MS);
        let mut house = play(&topology, &events, batch, &[]);
        let expected = oracle::text(&oracle::batch_answer(&house, PARTITIONS, SQL), &columns());
        prop_assert_eq!(answer(&house, &topology), expected);
        prop_assert_eq!(house.count("r", "too_late_rows"), 0);
    }

    #[test]
    fn a_replay_says_the_same_to_the_byte(
        events in events(), batch in 1..8usize, restarts in proptest::collection::vec(0..8u8, 1..80),
        horizon_s in prop_oneof![Just(86_400i64), 0..40i64],
    ) {
        let topology = configured(horizon_s * SECOND_MS);
        let calm = play(&topology, &events, batch, &[]);
        let stormy = play(&topology, &events, batch, &restarts);
        prop_assert_eq!(&calm.topics, &stormy.topics);
    }

    #[test]
    fn every_row_is_in_the_last_revision_or_counted_as_too_late(events in events(), horizon_s in 0..40i64) {
        let topology = configured(horizon_s * SECOND_MS);
        let mut house = play(&topology, &events, 4, &[]);
        let counted: i64 = oracle::newest(&house, &topology.rollups[0], PARTITIONS)
            .iter()
            .map(|batch| oracle::sum(batch, "n"))
            .sum();
        let sent: usize = events.iter().map(|e| match &e.what { What::Rows(rows) => rows.len(), What::Clock { .. } => 0 }).sum();
        prop_assert_eq!(counted as u64 + house.count("r", "too_late_rows"), sent as u64);
    }
}
