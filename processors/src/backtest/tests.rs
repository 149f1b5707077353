//! A backtest beside the tasks that read the log: the same transitions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::compute::{concat_batches, lexsort_to_indices, take_record_batch};
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::alerts::Transition;
use highwater_pipeline::data::{Control, Decoded, Decoder, RowKind};
use highwater_pipeline::log::{Record, StoredRecord};
use highwater_pipeline::runtime::{Effects, TaskCore};
use serde_json::{Value, json};

use super::Backtest;
use crate::rollups::{RollupConfig, Source};
use crate::rules::RuleFile;
use crate::{ProcessorsConfig, topology};

const START_S: i64 = 1_772_323_200;
const RULES: &str = "
groups:
  - name: load
    rules:
      - {record: 'job:load:sum', expr: sum by (job) (load)}
      - alert: Loaded
        expr: job:load:sum > 10
        for: 20s
        keep_firing_for: 5s
        labels: {severity: page}
        annotations: {summary: '{{ $labels.job }} has {{ $value }}'}
      - {alert: Silent, expr: 'absent_over_time(load[30s])'}
  - name: slow
    interval: 15s
    query_offset: 2s
    rules:
      - {alert: Rising, expr: 'deriv(load[20s]) > 0.1', for: 15s}
  - name: logs
    rules:
      - {alert: Burst, sql: 'SELECT service, n FROM errors_10s WHERE n > 3', keep_firing_for: 10s}
      - {alert: Quiet, sql: 'SELECT coalesce(sum(n), 0) AS n FROM errors_10s HAVING coalesce(sum(n), 0) < 2', for: 20s}
";

fn config(rules: &str) -> ProcessorsConfig {
    let sql = "SELECT hop(timestamp, INTERVAL '5 seconds', INTERVAL '10 seconds') AS window_start, service, \
               count(*) AS n FROM logs WHERE level = 'ERROR' GROUP BY 1, 2";
    ProcessorsConfig {
        rollups: vec![
            RollupConfig::new("errors_10s", sql),
            // One that no rule reads.
            RollupConfig::new(
                "loads",
                "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, sum(value) AS s FROM metrics GROUP BY 1",
            ),
        ],
        rule_files: vec![RuleFile::parse("rules.yaml", rules).unwrap()],
        ..ProcessorsConfig::default()
    }
}

/// A record that came in.
struct Arrival {
    source: Source,
    partition: i32,
    append_s: i64,
    value: Value,
}

/// Five minutes of a load that rises, falls, is silent and comes back, and of errors: each second a record in some partition, one series in each.
fn arrivals() -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for second in 0..300_i64 {
        let value = match second {
            0..30 => 2.0,
            30..90 => 2.0 + (second - 30) as f64 * 0.2,
            90..140 => 4.0,
            140..200 => continue,
            _ => 7.5 - (second % 7) as f64,
        };
        for partition in 0..3 {
            let labels = json!({"job": "web", "instance": format!("i{partition}")});
            let sample = json!({"name": "load", "value": value, "timestamp": START_S + second, "labels": labels});
            arrivals.push(Arrival { source: Source::Metrics, partition, append_s: second, value: sample });
        }
        let errors = if (60..75).contains(&second) || second == 250 { 2 } else { i64::from(second % 9 == 0) };
        for _ in 0..errors {
            let line = json!({"timestamp": START_S + second, "level": "ERROR", "service": "web", "message": "no"});
            let partition = i32::try_from(second % 4).unwrap();
            arrivals.push(Arrival { source: Source::Logs, partition, append_s: second, value: line });
        }
    }
    arrivals
}

fn record(offset: i64, append_s: i64, record: Record) -> StoredRecord {
    let Record { key, value, headers, .. } = record;
    StoredRecord { offset, timestamp_ms: (START_S + append_s) * 1_000, key, value, headers }
}

fn json_record(value: &Value) -> Record {
    Record { value: Some(value.to_string().into()), ..Record::default() }
}

/// The tasks of a configuration, stepped through record by record.
struct Live {
    tasks: BTreeMap<(Arc<str>, i32), TaskCore>,
    offsets: BTreeMap<(Arc<str>, i32), i64>,
    transitions: Vec<Transition>,
    /// The rows of input topics, as tables store them.
    stored: BTreeMap<Source, Vec<RecordBatch>>,
}

impl Live {
    fn new(config: &ProcessorsConfig) -> Self {
        let tasks = topology(config).unwrap().tasks;
        let tasks = tasks.iter().map(|spec| {
            let place = (Arc::clone(&spec.input.topic), spec.input.partition);
            (place, TaskCore::new(spec, 0).unwrap())
        });
        let (offsets, transitions, stored) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { tasks: tasks.collect(), offsets, transitions, stored }
    }

    fn append(&mut self, topic: &str, partition: i32, append_s: i64, first: Record) {
        let mut queue = VecDeque::from([((Arc::<str>::from(topic), partition), first)]);
        while let Some((place, one)) = queue.pop_front() {
            if &*place.0 == "alerts" {
                self.transitions.push(Transition::parse(&one.value.unwrap()).unwrap());
                continue;
            }
            if &*place.0 == crate::BACKFILL_TOPIC {
                continue;
            }
            let Some(task) = self.tasks.get_mut(&place) else { continue };
            let offset = self.offsets.entry(place.clone()).or_default();
            let mut effects = Effects::new();
            let one = record(*offset, append_s, one);
            task.step(&one, &mut effects).unwrap();
            *offset += 1;
            let kind = match &*place.0 {
                "logs" => Some((Source::Logs, RowKind::Logs)),
                "metrics" => Some((Source::Metrics, RowKind::Metrics)),
                _ => None,
            };
            if let Some((source, kind)) = kind
                && let Decoded::Rows { batch, .. } = Decoder::new(kind).decode(place.1, &one)
            {
                self.stored.entry(source).or_default().push(batch);
            }
            queue.extend(effects.take().into_iter().map(|effect| ((effect.topic, effect.partition), effect.record)));
        }
    }

    /// The clock records of a second.
    fn clocks(&mut self, second: i64) {
        for topic in ["logs", "metrics"] {
            for partition in 0..4 {
                let task = &self.tasks[&(Arc::from(topic), partition)];
                let last = task.watermark().last_row();
                let event_time_us =
                    last.and_then(|row| Some(row.watermark_us? + (START_S + second) * 1_000_000 - row.append_time_us));
                let idle = last.is_none_or(|row| (START_S + second) * 1_000_000 - row.append_time_us >= 30_000_000);
                let clock = Control::Clock { base_offset: last.map_or(-1, |row| row.offset), event_time_us, idle };
                self.append(topic, partition, second, clock.to_record());
            }
        }
    }
}

fn live(config: &ProcessorsConfig, arrivals: &[Arrival]) -> Live {
    let mut live = Live::new(config);
    let mut left = arrivals.iter().peekable();
    for second in 0..400 {
        while let Some(arrival) = left.next_if(|arrival| arrival.append_s == second) {
            live.append(arrival.source.topic(), arrival.partition, second, json_record(&arrival.value));
        }
        live.clocks(second + 1);
    }
    live
}

/// The stored rows in the order of their time.
fn sorted(source: Source, stored: &[RecordBatch]) -> RecordBatch {
    let all = concat_batches(&source.schema(), stored).unwrap();
    let by = ["timestamp", "_partition", "_offset"].map(|name| arrow::compute::SortColumn {
        values: Arc::clone(all.column_by_name(name).unwrap()),
        options: None,
    });
    take_record_batch(&all, &lexsort_to_indices(&by, None).unwrap()).unwrap()
}

fn backtest(config: &ProcessorsConfig, stored: &BTreeMap<Source, Vec<RecordBatch>>, slice_s: i64) -> Vec<Transition> {
    let mut test = Backtest::new(config).unwrap();
    let tables = [Source::Logs, Source::Metrics].map(|source| (source, sorted(source, &stored[&source])));
    let mut at_s = 0;
    while at_s < 395 {
        let until_s = (at_s + slice_s).min(395);
        let within = tables.each_ref().map(|(source, batch)| {
            let times = batch.column_by_name("timestamp").unwrap();
            let times = arrow::array::AsArray::as_primitive::<arrow::datatypes::TimestampMicrosecondType>(times);
            let at = |second: i64| times.values().partition_point(|us| *us < (START_S + second) * 1_000_000);
            (*source, batch.slice(at(at_s), at(until_s) - at(at_s)))
        });
        test.slice(&within, (START_S + until_s) * 1_000_000).unwrap();
        at_s = until_s;
    }
    test.take_transitions()
}

/// All of a transition but where in the log it was found.
fn said(transitions: &[Transition]) -> Vec<String> {
    let mut lines: Vec<String> = transitions
        .iter()
        .map(|one| {
            let mut value = serde_json::to_value(one).unwrap();
            for place in ["offset", "watermark"] {
                value["source"].as_object_mut().unwrap().remove(place);
            }
            value.to_string()
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_backtest_says_what_was_said_live_to_the_byte() {
    let (config, arrivals) = (config(RULES), arrivals());
    let Live { transitions: live, stored, .. } = live(&config, &arrivals);
    let count = |name: &str, state: &str| {
        live.iter().filter(|one| one.alertname == name && one.state.as_str() == state).count()
    };
    for (name, fired) in [("Loaded", 1), ("Silent", 1), ("Rising", 1), ("Burst", 1), ("Quiet", 1)] {
        assert!(count(name, "firing") >= fired, "{name} has not fired: {:?}", said(&live));
    }
    assert!(count("Loaded", "resolved") >= 1 && count("Silent", "resolved") >= 1 && count("Burst", "resolved") >= 1);
    let expected = said(&live);
    for slice_s in [400, 60, 7] {
        let found = said(&backtest(&config, &stored, slice_s));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "in slices of {slice_s} s");
        }
        assert_eq!(found.len(), expected.len(), "in slices of {slice_s} s");
    }
}

#[test]
fn it_reads_what_its_rules_look_at() {
    let test = Backtest::new(&config(RULES)).unwrap();
    let reads = test.reads();
    assert_eq!(reads.iter().map(|one| one.source).collect::<Vec<_>>(), [Source::Logs, Source::Metrics]);
    let names = reads[1].names.as_ref().unwrap().iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(names, ["job:load:sum", "load"]);
    assert_eq!(reads[1].recorded.as_ref().unwrap().iter().collect::<Vec<_>>(), ["job:load:sum"]);
    // Five minutes of lookback, fifteen seconds of holding, and two evaluations of the slow group.
    assert_eq!(test.warmup_us(), 345_000_000);
    assert_eq!(test.settle_us(), 15_000_000);
    let only_logs =
        Backtest::new(&config("groups: [{name: a, rules: [{alert: A, sql: 'SELECT service, n FROM errors_10s'}]}]"));
    assert_eq!(only_logs.unwrap().reads().iter().map(|one| one.source).collect::<Vec<_>>(), [Source::Logs]);
}

#[test]
fn hours_of_silence_make_nothing_late() {
    let rules = "groups: [{name: logs, rules: [{alert: Burst, sql: 'SELECT service, n FROM errors_10s WHERE n > 3', keep_firing_for: 10s}]}]";
    let bursts = [0, 4_000, 9_000, 9_290];
    // All in the last partition: the others are told first how late it is.
    let rows = bursts.into_iter().zip(0..).map(|(second, offset)| {
        let line = json!({"timestamp": START_S + second + 1, "level": "ERROR", "service": "web", "message": "no"});
        match Decoder::new(RowKind::Logs).decode(3, &record(offset, second, json_record(&json!(vec![line; 5])))) {
            Decoded::Rows { batch, .. } => batch,
            other => panic!("{other:?}"),
        }
    });
    let rows = sorted(Source::Logs, &rows.collect::<Vec<_>>());
    let mut test = Backtest::new(&config(rules)).unwrap();
    test.slice(&[(Source::Logs, rows)], (START_S + 20_000) * 1_000_000).unwrap();
    let told = test.take_transitions();
    let told: Vec<(i64, &str, Option<f64>)> =
        told.iter().map(|one| (one.timestamp_us / 1_000_000 - START_S, one.state.as_str(), one.value)).collect();
    let expected = bursts.iter().flat_map(|at| [(at + 5, "firing", Some(5.0)), (at + 25, "resolved", Some(5.0))]);
    assert_eq!(told, expected.collect::<Vec<_>>());
}
