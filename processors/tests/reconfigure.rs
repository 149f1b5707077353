//! A restart with an edited configuration: what is unchanged goes on as if nothing had happened, what is changed starts anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "reconfigure/spread.rs"]
mod spread;
mod support;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{Field, Int64Type};
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::{content_type, ipc, labels, metrics, time};
use highwater_pipeline::log::Record;
use highwater_processors::rollups::RollupConfig;
use highwater_processors::rules::RuleFile;
use highwater_processors::{ProcessorsConfig, Topology, topology};
use highwater_promql::{BucketSpan, Histogram};
use support::{House, oracle};

const START_MS: i64 = 1_714_996_800_000;

fn rollup(name: &str, condition: &str) -> RollupConfig {
    let sql = format!(
        "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, count(*) AS n FROM logs {condition} GROUP BY 1"
    );
    RollupConfig { lateness_ms: 0, backfill: false, ..RollupConfig::new(name, sql) }
}

fn configured(rollups: Vec<RollupConfig>, rules: &[(&str, &str)]) -> Topology {
    let rules: String = rules.iter().map(|(name, sql)| format!("      - {{alert: {name}, sql: '{sql}'}}\n")).collect();
    let text = format!("groups:\n  - name: g\n    rules:\n{}", if rules.is_empty() { "      []\n" } else { &rules });
    let rule_files = vec![RuleFile::parse("rules.yaml", &text).unwrap()];
    topology(&ProcessorsConfig { rollups, rule_files, partitions: 1, ..ProcessorsConfig::default() }).unwrap()
}

/// One row each second of `seconds`.
fn fill(house: &mut House, seconds: std::ops::Range<i64>) {
    for second in seconds {
        let at = START_MS + second * 1_000;
        house.append_json("logs", 0, at, &format!(r#"{{"message":"m","timestamp":{at}}}"#));
    }
    house.settle();
}

/// The counts of a rollup's rows, in order.
fn counts(house: &House, name: &str) -> Vec<i64> {
    let records = house.records(&format!("rollup.{name}"), 0);
    let rows = records.iter().filter(|r| content_type::of(r) == Some(content_type::ARROW));
    let batches = rows.flat_map(|r| ipc::decode(r.value.as_ref().unwrap()).unwrap());
    batches.flat_map(|b| b.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn alerts(house: &House) -> Vec<String> {
    let show = |value: &[u8]| {
        let alert: serde_json::Value = serde_json::from_slice(value).unwrap();
        format!("{} {}", alert["state"].as_str().unwrap(), alert["alertname"].as_str().unwrap())
    };
    house.records("alerts", 0).iter().map(|r| show(r.value.as_ref().unwrap())).collect()
}

#[test]
fn an_edited_rollup_starts_anew_and_its_neighbours_go_on() {
    let mut house = House::new(&configured(vec![rollup("kept", ""), rollup("edited", ""), rollup("removed", "")], &[]));
    fill(&mut house, 0..15);
    let after = configured(vec![rollup("added", ""), rollup("kept", ""), rollup("edited", "WHERE message = 'm'")], &[]);
    house.reconfigure(&after);
    fill(&mut house, 15..41);
    assert_eq!(counts(&house, "kept"), [10, 10, 10, 10], "no row lost, none twice");
    assert_eq!(counts(&house, "edited"), [10, 5, 10, 10], "the window that was open has the rows since the edit");
    assert_eq!(counts(&house, "added"), [5, 10, 10]);
    assert_eq!(counts(&house, "removed"), [10]);
}

/// Its rows are in the table: closed anew, with the late row alone, the window would be there twice.
#[test]
fn a_row_for_a_window_that_the_older_definition_has_closed_is_too_late() {
    let mut house = House::new(&configured(vec![rollup("kept", ""), rollup("edited", "")], &[]));
    fill(&mut house, 0..15);
    house.reconfigure(&configured(vec![rollup("kept", ""), rollup("edited", "WHERE message = 'm'")], &[]));
    fill(&mut house, 5..6);
    fill(&mut house, 15..35);
    fill(&mut house, 35..46);
    assert_eq!(counts(&house, "edited"), [10, 5, 10, 10]);
    assert_eq!((house.count("edited", "late_rows"), house.count("edited", "too_late_rows")), (0, 1));
    assert_eq!((house.count("kept", "late_rows"), house.count("kept", "too_late_rows")), (1, 0));
    assert_eq!(counts(&house, "kept"), [10, 10, 10, 11, 10], "and opens the window of the unchanged one again");
}

#[test]
fn partials_of_an_older_definition_are_left_alone() {
    let mut house = House::new(&configured(vec![rollup("r", "")], &[]));
    let at = START_MS;
    house.append_json("logs", 0, at, &format!(r#"{{"message":"m","timestamp":{at}}}"#));
    house.append_clock("logs", 0, at + 60_000, Some((at + 60_000) * 1_000), true);
    // Stage 1 has passed its partials on; stage 2 has not read them when the definition changes.
    while house.step(0) {}
    house.reconfigure(&configured(vec![rollup("r", "WHERE message <> 'x'")], &[]));
    house.settle();
    assert_eq!(counts(&house, "r"), [0i64; 0]);
}

#[test]
fn alerts_of_a_rule_that_is_no_more_are_resolved_once() {
    let rollups = || vec![rollup("r", "")];
    let (kept, edited) = (("Kept", "SELECT n FROM r"), ("Edited", "SELECT n FROM r"));
    let mut house = House::new(&configured(rollups(), &[kept, edited, ("Removed", "SELECT n FROM r")]));
    fill(&mut house, 0..11);
    assert_eq!(alerts(&house), ["firing Kept", "firing Edited", "firing Removed"]);
    house.reconfigure(&configured(rollups(), &[kept, ("Edited", "SELECT n FROM r WHERE n > 5")]));
    fill(&mut house, 11..31);
    assert_eq!(alerts(&house)[3..], ["resolved Edited", "resolved Removed", "firing Edited"]);
    house.reconfigure(&configured(rollups(), &[kept]));
    fill(&mut house, 31..51);
    assert_eq!(alerts(&house)[6..], ["resolved Edited"]);
}

fn filled(name: &str, condition: &str) -> RollupConfig {
    RollupConfig { backfill: true, ..rollup(name, condition) }
}

/// What holds of a rollup: starts and counts of its windows, by start.
fn holding(house: &House, topology: &Topology, name: &str) -> Vec<String> {
    let plan = topology.rollups.iter().find(|plan| plan.name() == name).unwrap();
    let columns = ["window_start", "n", "_revision"].map(str::to_owned);
    oracle::text(&oracle::newest(house, plan, 1), &columns)
}

#[test]
fn a_new_rollup_has_the_rows_before_it_and_those_after_it_once() {
    let mut house = House::new(&configured(vec![rollup("kept", "")], &[]));
    fill(&mut house, 0..35);
    let after = configured(vec![rollup("kept", ""), filled("added", "")], &[]);
    house.reconfigure(&after);
    fill(&mut house, 35..61);
    assert_eq!(counts(&house, "added"), [10; 6], "the window that was open at the cut is whole");
    assert_eq!(counts(&house, "kept"), [10; 6]);
}

#[test]
fn a_crash_anywhere_while_it_is_filled_leaves_no_trace() {
    let run = |restless: bool| {
        let mut house = House::new(&configured(vec![rollup("kept", "")], &[]));
        house.restless = restless;
        fill(&mut house, 0..35);
        house.reconfigure(&configured(vec![rollup("kept", ""), filled("added", "")], &[]));
        fill(&mut house, 35..61);
        house.topics
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn an_edited_rollup_replaces_what_its_older_definition_wrote() {
    let before = configured(vec![filled("edited", "")], &[]);
    let mut house = House::new(&before);
    // A window in which the new definition finds nothing, too.
    let at = START_MS + 200_000;
    fill(&mut house, 0..31);
    house.append_json("logs", 0, at, &format!(r#"{{"message":"gone","timestamp":{at}}}"#));
    let at = START_MS + 230_000;
    house.append_json("logs", 0, at, &format!(r#"{{"message":"m","timestamp":{at}}}"#));
    house.settle();
    assert_eq!(holding(&house, &before, "edited").len(), 5);
    let after = configured(vec![filled("edited", "WHERE message = 'm'")], &[]);
    house.reconfigure(&after);
    fill(&mut house, 235..261);
    let lines = holding(&house, &after, "edited");
    assert_eq!(
        lines,
        [
            "2024-05-06T12:00:00Z 10 1",
            "2024-05-06T12:00:10Z 10 1",
            "2024-05-06T12:00:20Z 10 1",
            "2024-05-06T12:00:30Z 1 1",
            "2024-05-06T12:03:50Z 6 0",
            "2024-05-06T12:04:00Z 10 0",
            "2024-05-06T12:04:10Z 10 0"
        ]
    );
}

#[test]
fn rules_are_not_told_of_what_is_filled_in() {
    let mut house = House::new(&configured(vec![rollup("kept", "")], &[]));
    fill(&mut house, 0..35);
    let after = configured(vec![rollup("kept", ""), filled("added", "")], &[("Many", "SELECT n FROM added")]);
    house.reconfigure(&after);
    fill(&mut house, 35..61);
    assert_eq!(alerts(&house), ["firing Many"]);
    let first: serde_json::Value =
        serde_json::from_slice(house.records("alerts", 0)[0].value.as_ref().unwrap()).unwrap();
    assert!(first["timestamp"].as_str().unwrap() >= "2024-05-06T12:00:40", "{first}");
}

#[test]
fn rollups_over_a_filled_one_are_filled_by_it() {
    let over = |n: &str| {
        let sql = format!(
            "SELECT tumble(window_start, INTERVAL '20 seconds') AS window_start, sum(n) AS n FROM {n} GROUP BY 1"
        );
        RollupConfig { lateness_ms: 0, ..RollupConfig::new("over", sql) }
    };
    let mut house = House::new(&configured(vec![rollup("kept", "")], &[]));
    fill(&mut house, 0..35);
    house.reconfigure(&configured(vec![rollup("kept", ""), filled("added", ""), over("added")], &[]));
    fill(&mut house, 35..81);
    assert_eq!(counts(&house, "over"), [20; 4]);
}

const PROMQL: &str = "
groups:
  - name: web
    rules:
      - {record: 'job:load:sum', expr: 'sum by (job) (load)'}
      - alert: Loaded
        expr: job:load:sum > 10
        for: 10s
        keep_firing_for: 5s
        labels: {severity: page}
        annotations: {summary: '{{ $labels.job }} {{ $value }}'}
      - {alert: Silent, expr: 'absent(load)', for: 2s}
";

fn promql(rules: &str) -> Topology {
    let rule_files = vec![RuleFile::parse("promql.yaml", rules).unwrap()];
    topology(&ProcessorsConfig { rule_files, partitions: 2, ..ProcessorsConfig::default() }).unwrap()
}

/// 2026-03-01T00:00:00Z.
const START_S: i64 = 1_772_323_200;

/// A sample a second in each partition, 8 from 10 to 30 and 1 else, up to the second 60.
fn load(house: &mut House, seconds: std::ops::Range<i64>) {
    for second in seconds {
        let value = if (10..30).contains(&second) { 8 } else { 1 };
        for partition in 0..2 {
            let at = START_S + second;
            let sample = format!(
                r#"{{"name":"load","labels":{{"job":"web","instance":"{partition}"}},"value":{value},"timestamp":{at}}}"#
            );
            house.append_json("metrics", partition, at * 1_000, &sample);
        }
        house.settle();
    }
}

/// State, name, and seconds after the start of evaluation, beginning and fire.
fn transitions(house: &House) -> Vec<String> {
    let second = |value: &serde_json::Value| {
        let us = value.as_str().and_then(highwater_pipeline::data::time::parse);
        us.map_or("-".to_owned(), |us| (us / 1_000_000 - START_S).to_string())
    };
    let show = |value: &[u8]| {
        let alert: serde_json::Value = serde_json::from_slice(value).unwrap();
        let (state, name) = (alert["state"].as_str().unwrap(), alert["alertname"].as_str().unwrap());
        let [at, since, fired] = ["timestamp", "starts_at", "fired_at"].map(|key| second(&alert[key]));
        format!("{state} {name} {at} {since} {fired}")
    };
    house.records("alerts", 0).iter().map(|r| show(r.value.as_ref().unwrap())).collect()
}

#[test]
fn promql_rules_go_by_event_time_and_a_restart_after_every_record_leaves_no_trace() {
    let topology = promql(PROMQL);
    let play = |restless: bool| {
        let mut house = House::new(&topology);
        house.restless = restless;
        load(&mut house, 0..60);
        house
    };
    let calm = play(false);
    assert_eq!(transitions(&calm), ["pending Loaded 10 10 -", "firing Loaded 20 10 20", "resolved Loaded 35 10 20"]);
    let first: serde_json::Value =
        serde_json::from_slice(calm.records("alerts", 0)[0].value.as_ref().unwrap()).unwrap();
    assert_eq!(first["annotations"]["summary"], "web 16");
    assert_eq!(first["labels"], serde_json::json!({"alertname": "Loaded", "job": "web", "severity": "page"}));
    assert_eq!(first["source"]["series"][0]["labels"]["__name__"], "job:load:sum");
    assert!(!calm.records("metrics-recorded", 0).is_empty() || !calm.records("metrics-recorded", 1).is_empty());
    let restless = play(true);
    for topic in ["alerts", "metrics-recorded"] {
        for partition in 0..2 {
            assert_eq!(calm.records(topic, partition), restless.records(topic, partition), "{topic}/{partition}");
        }
    }
}

/// One row of a native histogram, as ingest writes it.
fn native(histogram: &Histogram, at_s: i64) -> Record {
    let schema = metrics::wire_schema();
    let mut id = String::new();
    labels::write_series("latency", &[("job", "web")], &mut id);
    let column = |field: &Field| -> ArrayRef {
        let column: ArrayRef = match field.name().as_str() {
            "timestamp" => Arc::new(TimestampMicrosecondArray::from(vec![at_s * 1_000_000]).with_timezone(time::ZONE)),
            "name" => Arc::new(StringArray::from(vec!["latency"])),
            "stale" => Arc::new(BooleanArray::from(vec![false])),
            "histogram" => Arc::new(BinaryArray::from(vec![histogram.to_message().as_slice()])),
            "labels" => Arc::new(StringArray::from(vec![r#"{"job":"web"}"#])),
            "series_id" => Arc::new(Int64Array::from(vec![labels::series_id(&id)])),
            "tenant" => Arc::new(StringArray::from(vec!["default"])),
            _ => new_null_array(field.data_type(), 1),
        };
        cast(&column, field.data_type()).unwrap()
    };
    let columns = schema.fields().iter().map(|field| column(field)).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let headers = vec![content_type::header(content_type::ARROW)];
    Record { value: Some(ipc::encode(&batch).unwrap()), headers, ..Record::default() }
}

#[test]
fn rules_see_native_histograms() {
    let topology = promql(
        "
groups:
  - name: g
    interval: 1s
    rules:
      - {record: 'latency:median', expr: 'histogram_quantile(0.5, rate(latency[10s]))'}
      - {alert: Slow, expr: 'latency:median > 2'}
      - {alert: Seen, expr: 'histogram_count(latency) > 20'}
",
    );
    let play = |restless: bool| {
        let mut house = House::new(&topology);
        house.restless = restless;
        let (mut fast, mut slow) = (0.0, 0.0);
        for second in 0..40 {
            // One observation a second: of up to one, and in the middle of between two and four.
            *(if (11..26).contains(&second) { &mut slow } else { &mut fast }) += 1.0;
            let histogram = Histogram {
                count: fast + slow,
                sum: fast + 3.0 * slow,
                positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
                positive_buckets: vec![fast, 0.0, slow],
                ..Histogram::default()
            };
            let at_s = START_S + second;
            house.append("metrics", 0, at_s * 1_000, native(&histogram, at_s));
            house.append_clock("metrics", 1, at_s * 1_000, Some(at_s * 1_000_000), true);
            house.settle();
        }
        house
    };
    let calm = play(false);
    // Five of the nine that a range of ten seconds knows the increase of; the alert looks at what is recorded at the same tick.
    assert_eq!(transitions(&calm), ["firing Slow 15 15 15", "firing Seen 20 20 20", "resolved Slow 30 15 15"]);
    let seen: serde_json::Value = serde_json::from_slice(calm.records("alerts", 0)[1].value.as_ref().unwrap()).unwrap();
    let evidence = &seen["source"]["series"][0];
    assert_eq!(evidence["labels"], serde_json::json!({"__name__": "latency", "job": "web"}));
    assert_eq!(evidence["value"], 21.0);
    let record =
        calm.records("metrics", 0).iter().filter(|r| r.offset <= evidence["record"]["offset"].as_i64().unwrap());
    let with_rows = record.filter(|r| r.header("content-type").is_none_or(|h| !h.ends_with(b"control+json")));
    assert_eq!(with_rows.count(), 21);
    let restless = play(true);
    for topic in ["alerts", "metrics-recorded"] {
        for partition in 0..2 {
            assert_eq!(calm.records(topic, partition), restless.records(topic, partition), "{topic}/{partition}");
        }
    }
}

#[test]
fn silence_is_evaluated_and_a_long_gap_is_passed_over() {
    let mut house = House::new(&promql(PROMQL));
    load(&mut house, 0..10);
    // Ten minutes of silence, told by clock records once a minute, then a year at once.
    for minute in 1..=10_i64 {
        let at_s = START_S + 10 + minute * 60;
        for partition in 0..2 {
            house.append_clock("metrics", partition, at_s * 1_000, Some(at_s * 1_000_000), true);
        }
        house.settle();
    }
    // The last sample, of second 9, is gone 300 s later.
    let told = transitions(&house);
    assert_eq!(told[..2], ["pending Silent 309 309 -", "firing Silent 311 309 311"]);
    // The two rules that select what is gone, and do not wait for that, are told of.
    assert_eq!(told[2..], ["firing HighwaterRuleSelectsNothing 360 360 360"; 2]);
    let year_s = START_S + 365 * 86_400;
    for partition in 0..2 {
        house.append_clock("metrics", partition, year_s * 1_000, Some(year_s * 1_000_000), true);
    }
    house.settle();
    assert_eq!(transitions(&house).len(), 4);
}

#[test]
fn what_is_kept_firing_ends_at_its_time_however_long_the_gap_and_whoever_restarts() {
    let topology = promql(
        "groups: [{name: web, rules: [{alert: Loaded, expr: 'load{instance=\"0\"} > 4', keep_firing_for: 20m}]}]",
    );
    for restless in [false, true] {
        let mut house = House::new(&topology);
        house.restless = restless;
        load(&mut house, 0..20);
        // Long enough that no sample is left in memory, then a day at once.
        for at_s in (1..=10).map(|minute| START_S + 20 + minute * 60).chain([START_S + 86_400]) {
            for partition in 0..2 {
                house.append_clock("metrics", partition, at_s * 1_000, Some(at_s * 1_000_000), true);
            }
            house.settle();
        }
        // The last sample is seen until second 318, and 20 minutes follow.
        let told = transitions(&house);
        let told: Vec<&str> = told.iter().map(String::as_str).filter(|t| t.contains(" Loaded ")).collect();
        assert_eq!(told, ["firing Loaded 10 10 10", "resolved Loaded 1519 10 10"], "restless: {restless}");
    }
}

#[test]
fn an_edited_rule_starts_anew_and_the_others_go_on() {
    let mut house = House::new(&promql(PROMQL));
    load(&mut house, 0..27);
    assert_eq!(transitions(&house).len(), 2, "{:?}", transitions(&house));
    house.reconfigure(&promql(&PROMQL.replace("severity: page", "severity: low")));
    load(&mut house, 27..30);
    let after = transitions(&house)[2..].to_vec();
    assert!(after[0].starts_with("resolved Loaded"), "{after:?}");
    assert!(after[1].starts_with("pending Loaded 22 22"), "{after:?}");
    let mut same = House::new(&promql(PROMQL));
    load(&mut same, 0..27);
    same.reconfigure(&promql(&format!("{PROMQL}      - {{alert: More, expr: 'vector(0) > 1'}}\n")));
    load(&mut same, 27..60);
    assert_eq!(transitions(&same), ["pending Loaded 10 10 -", "firing Loaded 20 10 20", "resolved Loaded 35 10 20"]);
}

/// Rules that look back, each in its way.
const LOOKING_BACK: &str = "
groups:
  - name: back
    rules:
      - {record: mean, expr: 'avg_over_time(load[30s])'}
      - {record: before, expr: 'load offset 20s'}
      - {record: rise, expr: 'increase(load{instance=~\"0|x\"}[25s])'}
      - {record: nested, expr: 'max_over_time(sum(load)[30s:5s])'}
      - {record: never, expr: 'absent_over_time(nothing[1m])'}
      - {record: 'job:load:sum', expr: 'sum by (job) (load)'}
      - {alert: Mean, expr: 'avg_over_time(load{instance=\"0\"}[30s]) > 3'}
";

/// What rules recorded: second, series and value.
fn recorded(house: &House) -> std::collections::BTreeSet<(i64, String, String)> {
    use highwater_pipeline::data::{Decoded, Decoder, RowKind};
    let mut all = std::collections::BTreeSet::new();
    for partition in 0..2 {
        for record in house.records("metrics-recorded", partition) {
            let Decoded::Rows { batch, .. } = Decoder::new(RowKind::Metrics).decode(partition, record) else {
                panic!("rows")
            };
            let column = |name: &str| std::sync::Arc::clone(batch.column_by_name(name).unwrap());
            let (names, labels, values) = (column("name"), column("labels"), column("value"));
            let times = column("timestamp");
            let times = times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                let series = format!("{}{}", names.as_string::<i32>().value(row), labels.as_string::<i32>().value(row));
                let value = values.as_primitive::<arrow::datatypes::Float64Type>().value(row);
                all.insert((times.value(row) / 1_000_000 - START_S, series, value.to_string()));
            }
        }
    }
    all
}

fn asked(house: &House) -> usize {
    (0..2).map(|partition| house.records(highwater_processors::BACKFILL_TOPIC, partition).len()).sum()
}

#[test]
fn a_rule_that_is_added_sees_what_was_stored() {
    let mut always = House::new(&promql(LOOKING_BACK));
    load(&mut always, 0..60);
    assert_eq!(asked(&always), 0, "there was nothing before the rules");
    let always = recorded(&always);
    let play = |restless: bool| {
        let mut house = House::new(&promql("groups: []"));
        load(&mut house, 0..45);
        house.reconfigure(&promql(LOOKING_BACK));
        house.restless = restless;
        load(&mut house, 45..60);
        house
    };
    let calm = play(false);
    assert!(asked(&calm) > 4, "several slices of each partition: {}", asked(&calm));
    let seen = recorded(&calm);
    let first = seen.first().unwrap().0;
    assert_eq!(first, 41, "the first tick that had not been when the rules began");
    // Every value as if the rules had always been there, but for what alerts say of when they began.
    let values = |all: &std::collections::BTreeSet<(i64, String, String)>| {
        let since = all.iter().filter(|(second, series, _)| *second >= first && !series.starts_with("ALERTS"));
        since.cloned().collect::<Vec<_>>()
    };
    assert_eq!(values(&seen), values(&always));
    assert!(values(&seen).contains(&(41, "mean{\"instance\":\"0\",\"job\":\"web\"}".to_owned(), "5.2".to_owned())));
    assert_eq!(transitions(&calm), ["firing Mean 41 41 41", "resolved Mean 51 41 41"]);
    let restless = play(true);
    for topic in ["alerts", "metrics-recorded", "__highwater.rules"] {
        for partition in 0..2 {
            assert_eq!(calm.records(topic, partition), restless.records(topic, partition), "{topic}/{partition}");
        }
    }
}

#[test]
fn a_restart_in_the_middle_of_looking_back_leaves_no_trace() {
    let play = |restarts: Option<usize>| {
        let mut house = House::new(&promql("groups: []"));
        load(&mut house, 0..45);
        house.reconfigure(&promql(LOOKING_BACK));
        for partition in 0..2 {
            let at_s = START_S + 45;
            house.append_clock("metrics", partition, at_s * 1_000, Some(at_s * 1_000_000), false);
        }
        let mut rounds = 0;
        while house.round() {
            rounds += 1;
            if restarts == Some(rounds) {
                // Half of them from a snapshot of now, the others from that of before.
                for task in 0..house.task_count() {
                    if task % 2 == 0 {
                        house.snapshot(task);
                    }
                    house.restart_and_catch_up(task);
                }
            }
        }
        load(&mut house, 45..60);
        (house, rounds)
    };
    let (calm, rounds) = play(None);
    assert!(rounds > 4, "{rounds}");
    for at in 1..rounds {
        let (restarted, _) = play(Some(at));
        for topic in ["alerts", "metrics-recorded"] {
            for partition in 0..2 {
                let (found, expected) = (restarted.records(topic, partition), calm.records(topic, partition));
                assert_eq!(found, expected, "{topic}/{partition}, restarted after round {at}");
            }
        }
    }
}

#[test]
fn what_is_recorded_is_looked_back_to_and_rules_with_all_they_need_do_not_ask() {
    let sums = "
groups:
  - name: sums
    rules:
      - {record: 'job:load:sum', expr: 'sum by (job) (load)'}
";
    let mut house = House::new(&promql(sums));
    load(&mut house, 0..40);
    // Twenty minutes without a sample: memory has forgotten all.
    for minute in 1..=20_i64 {
        let at_s = START_S + 40 + minute * 60;
        for partition in 0..2 {
            house.append_clock("metrics", partition, at_s * 1_000, Some(at_s * 1_000_000), false);
        }
        house.settle();
    }
    load(&mut house, 1250..1260);
    // Another label, and a rule over what there is: nothing has to be read.
    let more = sums.replace("(load)'", "(load)', labels: {made: here}");
    house.reconfigure(&promql(&format!("{more}      - {{record: most, expr: 'max_over_time(load[4m])'}}\n")));
    load(&mut house, 1260..1262);
    assert_eq!(asked(&house), 0);
    let long = format!("{sums}      - {{alert: Had, expr: 'max_over_time(job:load:sum[30m]) > 10'}}\n");
    house.reconfigure(&promql(&long));
    load(&mut house, 1262..1270);
    assert!(asked(&house) > 0);
    let told = transitions(&house);
    assert_eq!(told.last().map(String::as_str), Some("firing Had 1258 1258 1258"), "{told:?}");
}
