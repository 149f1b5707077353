//! Groups of PromQL rules spread over several tasks: they say what they say in one, and who moves is taken down and put up by one hand.

use std::collections::BTreeMap;

use highwater_pipeline::data::{metrics, time};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const RULES_TOPIC: &str = highwater_processors::RULES_TOPIC;

fn spread(rules: &str, rule_partitions: i32) -> Topology {
    let rule_files = vec![RuleFile::parse("promql.yaml", rules).unwrap()];
    topology(&ProcessorsConfig { rule_files, partitions: 2, rule_partitions, ..ProcessorsConfig::default() }).unwrap()
}

/// Groups that look at each other's samples, and others that look at nothing.
const MANY: &str = "
groups:
  - name: records
    rules:
      - {record: 'job:load:sum', expr: 'sum by (job) (load)'}
      - {record: 'job:load:max', expr: 'max_over_time(job:load:sum[10s])'}
  - name: reads
    interval: 2s
    rules:
      - {alert: Loaded, expr: 'job:load:max > 8', for: 4s, labels: {severity: page}, annotations: {now: '{{ $value }}'}}
  - name: alone
    rules:
      - {alert: High, expr: 'load > 5', keep_firing_for: 3s}
      - {alert: Rate, expr: 'sum(rate(count_total[10s])) > 2', for: 2s}
  - name: absent
    rules: [{alert: Missing, expr: 'absent(nothing_there)', for: 3s}]
  - name: always
    rules: [{alert: Watchdog, expr: vector(1)}]
  - name: over-alerts
    rules: [{alert: Several, expr: 'count(ALERTS{alertname=\"High\", alertstate=\"firing\"}) > 1'}]
  - name: also
    interval: 5s
    rules: [{record: 'count:max', expr: 'max(count_total)'}, {alert: Half, expr: 'load{instance=\"1\"} < 3'}]
  - name: tells
    rules: [{alert: Tells, expr: 'load > 6', annotations: {all: '{{ range query \"count:max\" }}{{ .Value }}{{ end }}'}}]
";

/// Samples of one second in one partition, of two tenants by turns.
fn second(house: &mut House, partition: i32, second: i64, values: (u8, u8)) {
    let sample = |name: &str, value: u64| {
        let at = START_S + second;
        format!(
            r#"{{"name":"{name}","labels":{{"job":"web","instance":"{partition}"}},"value":{value},"timestamp":{at}}}"#
        )
    };
    let counted = u64::from(values.1) + second.unsigned_abs() * 2;
    let text = format!("[{},{}]", sample("load", values.0.into()), sample("count_total", counted));
    house.append_json("metrics", partition, (START_S + second) * 1_000, &text);
}

/// What was said, but for where and when in the log: by alert, in its order; and the newest words.
fn said(house: &House) -> BTreeMap<String, Vec<Value>> {
    let mut said: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in house.records("alerts", 0) {
        let key = String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
        let mut value: Value =
            record.value.as_ref().map_or(Value::Null, |value| serde_json::from_slice(value).unwrap());
        if let Some(source) = value["source"].as_object_mut() {
            source.retain(|key, _| !["partition", "offset", "watermark"].contains(&key.as_str()));
        }
        said.entry(key).or_default().push(value);
    }
    said
}

/// What was recorded, by series and time.
fn recorded_rows(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for partition in 0..2 {
        for record in house.records(metrics::RECORDED_TOPIC, partition) {
            for batch in ipc::decode(record.value.as_ref().unwrap()).unwrap() {
                let text = |name: &str| std::sync::Arc::clone(batch.column_by_name(name).unwrap());
                let columns = ["timestamp", "name", "labels", "value", "stale", "tenant"].map(text);
                let format = |column: &arrow::array::ArrayRef, row| {
                    arrow::util::display::array_value_to_string(column, row).unwrap()
                };
                found.extend(
                    (0..batch.num_rows())
                        .map(|row| columns.iter().map(|c| format(c, row)).collect::<Vec<_>>().join(" ")),
                );
            }
        }
    }
    found.sort();
    found
}

/// The partition of the rules topic that the samples of these rules go to.
fn place(rules: &str) -> i32 {
    let mut house = House::new(&spread(rules, 2));
    second(&mut house, 0, 0, (1, 1));
    house.settle();
    let goes_to = |partition: &i32| {
        house.records(RULES_TOPIC, *partition).iter().any(|record| record.header("highwater-rows").is_some())
    };
    let places: Vec<i32> = (0..2).filter(goes_to).collect();
    assert_eq!(places.len(), 1, "one component");
    places[0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_say_in_several_tasks_what_they_say_in_one(
        values in proptest::collection::vec((0..9_u8, 0..9_u8), 40..80),
        order in proptest::collection::vec(0..100_usize, 1..60),
        restless in any::<bool>(),
    ) {
        let play = |rule_partitions: i32, restless: bool, order: &[usize]| {
            let mut house = House::new(&spread(MANY, rule_partitions));
            house.restless = restless;
            let mut order = order.iter().cycle();
            for (at, both) in (0..).zip(values.chunks(2)) {
                for (partition, values) in (0..).zip(both) {
                    second(&mut house, partition, at, *values);
                }
                for _ in 0..20 {
                    let task = order.next().map_or(0, |task| task % house.task_count());
                    house.step(task);
                }
            }
            house.settle();
            house
        };
        let one = play(1, false, &[0]);
        prop_assert!(said(&one).len() > 3);
        for rule_partitions in [2, 5] {
            let several = play(rule_partitions, restless, &order);
            prop_assert_eq!(said(&several), said(&one));
            prop_assert_eq!(recorded_rows(&several), recorded_rows(&one));
            let used = (0..rule_partitions).filter(|p| !several.records(RULES_TOPIC, *p).is_empty()).count();
            prop_assert!(used > 1, "they are spread");
        }
    }
}

/// A group that records this, one that has an alert up, and the latter with a look at what the former records: that binds it to it. From where it moves,
/// and to where.
fn moving(recorded: &str) -> (String, String, i32, i32) {
    let records = format!("  - {{name: records, rules: [{{record: 'r:x', expr: {recorded}}}]}}\n");
    let target = place(&format!("groups:\n{records}"));
    let group = |name: &str, more: &str| {
        format!(
            "  - {{name: {name}, rules: [{{alert: High, expr: 'load > 4'}}, {{record: 'high:x', expr: 'load > 4'}}{more}]}}\n"
        )
    };
    let name = (0..).map(|n| format!("g{n}")).find(|name| place(&format!("groups:\n{}", group(name, ""))) != target);
    let name = name.unwrap();
    let before = format!("groups:\n{records}{}", group(&name, ""));
    let after = format!("groups:\n{records}{}", group(&name, ", {alert: Reads, expr: 'r:x > 1000'}"));
    (before, after, 1 - target, target)
}

/// State and evaluation of everything said of an alert of this instance.
fn words(house: &House, instance: &str) -> Vec<String> {
    let of = |value: &&Value| value["labels"]["instance"] == instance && value["alertname"] == "High";
    let all: Vec<Value> = said(house).into_values().flatten().collect();
    let show = |value: &Value| {
        let us = time::parse(value["timestamp"].as_str().unwrap()).unwrap();
        format!("{} {}", value["state"].as_str().unwrap(), us / 1_000_000 - START_S)
    };
    all.iter().filter(of).map(show).collect()
}

/// Samples of both partitions, 8 from 10 to 30 and 1 else, up to the second 60.
fn seconds(house: &mut House, seconds: std::ops::Range<i64>) {
    for at in seconds {
        for partition in 0..2 {
            second(house, partition, at, (if (10..30).contains(&at) { 8 } else { 1 }, 1));
        }
        house.settle();
    }
}

#[test]
fn a_group_that_moves_is_taken_down_and_put_up_by_one_hand() {
    // Where it goes others look at the same samples, or they do not and are read from the table.
    for (recorded, expected) in [
        ("load", ["firing 10", "firing 20", "firing 20", "resolved 30"]),
        ("count_total", ["firing 10", "resolved 20", "firing 21", "resolved 30"]),
    ] {
        let (before, after, from, to) = moving(recorded);
        assert_ne!(from, to);
        let mut house = House::new(&spread(&before, 2));
        seconds(&mut house, 0..25);
        assert_eq!(words(&house, "0"), ["firing 10"]);
        house.reconfigure(&spread(&after, 2));
        seconds(&mut house, 25..60);
        assert_eq!(words(&house, "0"), expected, "{recorded}");
        let reasons = said(&house).into_values().flatten().map(|one| one["source"]["reason"].clone());
        let told = "the rule's group is evaluated in another task now";
        assert_eq!(reasons.filter(|reason| reason == told).count(), 2, "of both instances");
        // What it recorded has ended with the alert.
        let of = |row: &String| row.contains(" high:x ") && row.contains("\"instance\":\"0\"");
        let last = recorded_rows(&house).into_iter().rfind(of).unwrap();
        assert!(last.contains(":30") && last.ends_with("true default"), "{last}");
    }
}

/// The task that had the group lags behind, with the old rules: it has the last word, and it is wrong.
#[test]
fn the_last_word_is_that_of_the_task_that_has_the_group() {
    let (before, after, from, to) = moving("load");
    let [old, new] = [from, to].map(|place| format!("{RULES_TOPIC}/{place}"));
    let mut house = House::new(&spread(&before, 2));
    seconds(&mut house, 0..25);
    let send = |house: &mut House, seconds: std::ops::Range<i64>, value: u8| {
        for at in seconds {
            (0..2).for_each(|partition| second(house, partition, at, (value, 1)));
        }
        ["metrics/0", "metrics/1"].map(|name| house.settle_one(name, i64::MAX)).len()
    };
    send(&mut house, 25..30, 8);
    send(&mut house, 30..45, 1);
    let switches_at = house.records(RULES_TOPIC, from).len() as i64;
    house.reconfigure_those(&spread(&after, 2), |name| name != old);
    send(&mut house, 45..60, 8);
    house.settle_one(&new, i64::MAX);
    assert_eq!(words(&house, "0"), ["firing 10", "firing 20", "resolved 30", "firing 45"]);
    house.settle_one(&old, switches_at);
    assert_eq!(words(&house, "0").last().map(String::as_str), Some("resolved 30"), "what it had not read yet");
    house.reconfigure(&spread(&after, 2));
    send(&mut house, 60..61, 8);
    house.settle();
    let told = words(&house, "0");
    assert_eq!(told[4..], ["resolved 30", "firing 55"], "{told:?}");
}

#[test]
fn the_day_after_which_an_alert_that_is_over_is_forgotten_goes_with_its_group() {
    let (before, after, ..) = moving("load");
    let mut house = House::new(&spread(&before, 2));
    seconds(&mut house, 0..45);
    assert_eq!(words(&house, "0"), ["firing 10", "resolved 30"]);
    house.reconfigure(&spread(&after, 2));
    seconds(&mut house, 45..50);
    let last =
        |house: &House| said(house).into_values().map(|words| words.last().cloned().unwrap()).collect::<Vec<_>>();
    // A day later the keys are taken away by whoever has the group.
    let day_ms = START_S * 1_000 + 25 * 3_600_000;
    let later = |house: &mut House, at_ms: i64, value: u8| {
        for partition in 0..2 {
            let sample = format!(
                r#"{{"name":"load","labels":{{"job":"web","instance":"{partition}"}},"value":{value},"timestamp":{}}}"#,
                at_ms / 1_000
            );
            house.append_json("metrics", partition, at_ms, &sample);
        }
        house.settle();
    };
    let mut again = House::new(&spread(&before, 2));
    seconds(&mut again, 0..45);
    later(&mut house, day_ms, 1);
    later(&mut house, day_ms + 10_000, 1);
    let buried = house.records("alerts", 0).iter().filter(|record| record.value.is_none());
    let buried: Vec<&[u8]> = buried.map(|record| record.key.as_deref().unwrap()).collect();
    let both = said(&house).into_iter().filter(|(_, words)| words[0]["alertname"] == "High");
    assert!(
        both.map(|(key, _)| key).all(|key| buried.iter().filter(|at| **at == key.as_bytes()).count() == 1),
        "{buried:?}"
    );

    // One that is up again by then stays.
    again.reconfigure(&spread(&after, 2));
    for second in 0..10 {
        later(&mut again, (START_S + 45 + second) * 1_000, 9);
    }
    let firing = |house: &House| last(house).iter().filter(|word| word["state"] == "firing").count();
    assert_eq!(firing(&again), 2, "{:?}", last(&again));
    for second in 0..10 {
        later(&mut again, day_ms + second * 1_000, 9);
    }
    let ups = last(&again);
    assert!(ups.iter().all(|word| !word.is_null()), "{ups:?}");
}

#[test]
fn what_is_up_ends_with_the_last_rule() {
    for rule_partitions in [1, 2] {
        let rules = "groups: [{name: g, rules: [{alert: High, expr: 'load > 4'}]}]";
        let mut house = House::new(&spread(rules, rule_partitions));
        seconds(&mut house, 0..25);
        assert_eq!(words(&house, "0"), ["firing 10"]);
        house.reconfigure(&spread("groups: []", rule_partitions));
        seconds(&mut house, 25..40);
        let told = words(&house, "0");
        assert!(told.len() == 2 && told[1].starts_with("resolved"), "{told:?}");
        // And they begin again when they are back.
        house.reconfigure(&spread(rules, rule_partitions));
        seconds(&mut house, 40..60);
        assert_eq!(words(&house, "0").len(), 2);
    }
}
