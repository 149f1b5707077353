//! Scripts that a person can read: what goes in, and what must come out.
//!
//! ```text
//! rollup <name> <lateness> [<horizon> | drop]    the SQL follows, indented; the correction horizon is 24h if not said; `drop` is the late policy
//! rules                               a rule file follows, indented
//! partitions <n>                      of logs; 1 if not said
//!
//! logs/0 @12:00:01                    one record appended at this time, its rows indented:
//!   12:00:00 service=web level=ERROR tenant=acme
//! clock logs/0 @12:00:09 12:00:08     a clock record with this event time; `idle` may follow; `-` for no event time
//! late <rollup> <rows> <rows> [<rows>]    so many rows were late, so many too late, and so many dropped, so far
//! restart                             every task is killed and restored from a snapshot taken here
//! > requests_1m 12:00:00 service=web n=1
//! > requests_1m 12:00:00 superseded by revision 1
//! > requests_1m 12:00:00 service=web n=2 revision=1
//! > alert firing HighErrors 12:01:00 service=web value=3 since=12:01:00
//! > alert retracted HighErrors 12:02:00 service=web value=3 since=12:01:00 was=firing
//! > alert buried                              the alert's key is taken away, a day after it was over
//! ```
//! Lines with `>` are everything that the step before them causes, in any order across partitions; a step without them
//! must cause nothing. Times are of one day; `tenant` is `default` and not shown unless it is another. A row shows where its window begins, and of a
//! session where it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, StringArray};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use highwater_pipeline::data::{Control, Decoded, Decoder, RowKind, content_type, identity, ipc, time};
use highwater_pipeline::log::{Record, StoredRecord};
use highwater_processors::rollups::{LatePolicy, RollupConfig};
use highwater_processors::rules::{RuleFile, parse_duration_ms};
use highwater_processors::{ProcessorsConfig, topology};
use support::House;

const DAY: &str = "2024-05-06";

#[test]
fn scripts() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "the scripts are missing");
    let mut failures = String::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Err(failure) = run(&std::fs::read_to_string(&path).unwrap()) {
            writeln!(failures, "{name}: {failure}\n").unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// A line that is not indented, with the indented ones below it.
struct Step<'a> {
    number: usize,
    line: &'a str,
    below: Vec<&'a str>,
    expected: Vec<String>,
}

fn steps(script: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for (number, line) in (1..).zip(script.lines()) {
        let content = if line.starts_with('#') { "" } else { line.trim_end() };
        if content.is_empty() {
            continue;
        }
        if content.starts_with(' ') {
            steps.last_mut().expect("an indented line belongs to the line above").below.push(content);
        } else if let Some(expected) = content.strip_prefix("> ") {
            steps.last_mut().expect("a step").expected.push(expected.to_owned());
        } else {
            steps.push(Step { number, line: content, below: Vec::new(), expected: Vec::new() });
        }
    }
    steps
}

/// The name of a rule's own rollup without the hash at its end.
fn without_hash(rollup: &str) -> String {
    match rollup.strip_prefix("rule_").and_then(|_| rollup.rsplit_once('_')) {
        Some((name, _)) => format!("{name}_HASH"),
        None => rollup.to_owned(),
    }
}

fn run(script: &str) -> Result<(), String> {
    let steps = steps(script);
    let mut config = ProcessorsConfig { partitions: 1, ..ProcessorsConfig::default() };
    let mut house: Option<House> = None;
    let mut seen = Seen::default();
    for step in steps {
        let words: Vec<&str> = step.line.split_whitespace().collect();
        match words.as_slice() {
            ["rollup", name, lateness, horizon @ ..] => {
                let mut rollup = RollupConfig::new(*name, step.below.join("\n"));
                rollup.lateness_ms = parse_duration_ms(lateness)?;
                match horizon {
                    ["drop"] => rollup.late = LatePolicy::Drop,
                    [horizon] => rollup.correction_horizon_ms = parse_duration_ms(horizon)?,
                    _ => {}
                }
                if rollup.sql.contains("session(") {
                    seen.sessions.insert(rollup.name.clone());
                }
                config.rollups.push(rollup);
                continue;
            }
            ["rules"] => {
                config.rule_files.push(RuleFile::parse("script", &step.below.join("\n")).map_err(|e| e.to_string())?);
                continue;
            }
            ["partitions", n] => {
                config.partitions = n.parse().unwrap();
                continue;
            }
            _ => {}
        }
        if house.is_none() {
            house = Some(House::new(&topology(&config).map_err(|e| e.to_string())?));
        }
        let house = house.as_mut().unwrap();
        match words.as_slice() {
            ["late", rollup, expected @ ..] => {
                let counts =
                    ["late_rows", "too_late_rows", "dropped_rows"].map(|name| house.count(rollup, name).to_string());
                if counts[..expected.len()] != *expected {
                    return Err(format!("line {}: {}\n  but there are {counts:?}", step.number, step.line));
                }
            }
            ["restart"] => (0..house.task_count()).for_each(|task| {
                house.snapshot(task);
                house.restart(task);
            }),
            ["clock", input, at, event, rest @ ..] => {
                let (topic, partition) = input.split_once('/').unwrap();
                let event = (*event != "-").then(|| instant_us(event));
                let idle = rest == ["idle"];
                house.append_clock(topic, partition.parse().unwrap(), append_ms(at), event, idle);
            }
            [input, at] if input.contains('/') => {
                let (topic, partition) = input.split_once('/').unwrap();
                house.append(topic, partition.parse().unwrap(), append_ms(at), record(topic, &step.below));
            }
            _ => return Err(format!("line {}: not a step: {}", step.number, step.line)),
        }
        house.settle();
        let mut actual = seen.new_outputs(house);
        let mut expected = step.expected.clone();
        actual.sort();
        expected.sort();
        if actual != expected {
            return Err(format!(
                "line {}: {}\n  expected:\n    {}\n  caused:\n    {}",
                step.number,
                step.line,
                expected.join("\n    "),
                actual.join("\n    ")
            ));
        }
    }
    Ok(())
}

fn instant_us(text: &str) -> i64 {
    // A time of day, or a whole instant for what lies on another day.
    let text = if text.contains('T') { text.to_owned() } else { format!("{DAY}T{text}Z") };
    time::parse(&text).unwrap_or_else(|| panic!("{text} is no time"))
}

fn append_ms(at: &str) -> i64 {
    instant_us(at.strip_prefix('@').expect("@time")) / 1_000
}

/// The rows as one record: JSON as a foreign client writes it, or Arrow as the doors do, where a row names its tenant.
fn record(topic: &str, lines: &[&str]) -> Record {
    let rows = lines.iter().map(|line| row(topic, line)).collect::<Vec<_>>().join(",");
    let value = Some(Bytes::from(format!("[{rows}]")));
    if !rows.contains("tenant") {
        return Record { value, ..Record::default() };
    }
    let kind = if topic == "logs" { RowKind::Logs } else { RowKind::Metrics };
    let json = StoredRecord { offset: 0, timestamp_ms: 0, key: None, value, headers: Vec::new() };
    let Decoded::Rows { batch, .. } = Decoder::new(kind).decode(0, &json) else { panic!("rows") };
    let wire = identity::strip(&batch);
    let tenant_of =
        |line: &&str| line.split("tenant=").nth(1).map_or("default", |t| t.split(' ').next().unwrap()).to_owned();
    let tenants = StringArray::from_iter_values(lines.iter().map(tenant_of));
    let mut columns = wire.columns().to_vec();
    columns[wire.schema().index_of("tenant").unwrap()] = Arc::new(tenants);
    let wire = RecordBatch::try_new(wire.schema(), columns).unwrap();
    let headers = vec![content_type::header(content_type::ARROW)];
    Record { value: Some(ipc::encode(&wire).unwrap()), headers, ..Record::default() }
}

/// `12:00:00 service=web level=ERROR` as a JSON object.
fn row(topic: &str, line: &str) -> String {
    let mut words = line.split_whitespace();
    let at = time::format(instant_us(words.next().unwrap()));
    let mut fields = serde_json::Map::from_iter([("timestamp".to_owned(), at.into())]);
    match topic {
        "logs" => fields.insert("message".to_owned(), "m".into()),
        _ => fields.insert("name".to_owned(), "m".into()),
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let number = value.parse::<f64>().ok().filter(|v| v.is_finite() && key == "value");
        fields.insert(key.to_owned(), number.map_or_else(|| value.into(), Into::into));
    }
    serde_json::Value::Object(fields).to_string()
}

/// How much of each output has been looked at.
#[derive(Default)]
struct Seen {
    records: BTreeMap<(String, i32), usize>,
    /// Rollups whose rows show their end.
    sessions: BTreeSet<String>,
}

impl Seen {
    fn new_outputs(&mut self, house: &House) -> Vec<String> {
        let mut lines = Vec::new();
        for ((topic, partition), records) in &house.topics {
            let seen = self.records.entry((topic.clone(), *partition)).or_default();
            for record in &records[*seen..] {
                let Some(value) = record.value.as_ref() else {
                    assert!(topic == "alerts" && record.key.is_some());
                    lines.push("alert buried".to_owned());
                    continue;
                };
                if let (Some(rollup), Some(content_type::CONTROL)) =
                    (topic.strip_prefix("rollup."), content_type::of(record))
                {
                    let Ok(Control::Superseded { window_start_us, revision, .. }) = Control::parse(value) else {
                        panic!("{value:?}")
                    };
                    let start = clock_time(&time::format(window_start_us));
                    lines.push(format!("{rollup} {start} superseded by revision {revision}"));
                } else if let Some(rollup) = topic.strip_prefix("rollup.") {
                    for batch in ipc::decode(value).unwrap() {
                        let ends = self.sessions.contains(rollup);
                        (0..batch.num_rows()).for_each(|row| lines.push(show_row(rollup, &batch, row, ends)));
                    }
                } else if topic == "alerts" {
                    lines.push(show_alert(value));
                } else if topic == "dead-letter" {
                    let header = |name: &str| String::from_utf8_lossy(record.header(name).unwrap()).into_owned();
                    lines.push(format!("dead letter {}: {}", header("row"), header("reason")));
                }
            }
            *seen = records.len();
        }
        lines
    }
}

fn show_row(rollup: &str, batch: &RecordBatch, row: usize, ends: bool) -> String {
    let text = |name: &str| array_value_to_string(batch.column_by_name(name).unwrap(), row).unwrap();
    let mut line = format!("{} {}", without_hash(rollup), clock_time(&text("window_start")));
    if ends {
        write!(line, "-{}", clock_time(&text("window_end"))).unwrap();
    }
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let common = ["window_start", "window_end", "_revision"].contains(&field.name().as_str());
        let value = if column.is_null(row) { "NULL".to_owned() } else { array_value_to_string(column, row).unwrap() };
        if common || field.name() == "matching_lines" || field.name() == "tenant" && value == "default" {
            continue;
        }
        write!(line, " {}={value}", field.name()).unwrap();
    }
    match text("_revision").as_str() {
        "0" => line,
        revision => format!("{line} revision={revision}"),
    }
}

fn show_alert(value: &[u8]) -> String {
    let alert: serde_json::Value = serde_json::from_slice(value).unwrap();
    let text = |name: &str| alert[name].as_str().unwrap_or("-").to_owned();
    let mut line = format!("alert {} {} {}", text("state"), text("alertname"), clock_time(&text("timestamp")));
    for (name, value) in alert["labels"].as_object().unwrap() {
        if name != "alertname" {
            write!(line, " {name}={}", value.as_str().unwrap()).unwrap();
        }
    }
    write!(line, " value={} since={}", alert["value"], clock_time(&text("starts_at"))).unwrap();
    if alert["ends_at"].is_string() {
        write!(line, " ends={}", clock_time(&text("ends_at"))).unwrap();
    }
    if let Some(was) = alert["source"]["correction"]["was"].as_str() {
        write!(line, " was={was}").unwrap();
    }
    for evidence in alert["source"]["lines"].as_array().into_iter().flatten() {
        write!(line, " line={}", evidence["offset"]).unwrap();
    }
    if text("tenant") != "default" {
        write!(line, " tenant={}", text("tenant")).unwrap();
    }
    for (name, value) in alert["annotations"].as_object().unwrap() {
        write!(line, " {name}={:?}", value.as_str().unwrap()).unwrap();
    }
    line
}

/// The time of day of an instant of [`DAY`], without a fraction that is zero; other days in full.
fn clock_time(instant: &str) -> String {
    let text = instant.trim_end_matches('Z');
    let text = text.strip_suffix(".000000").unwrap_or(text);
    text.strip_prefix(DAY).and_then(|t| t.strip_prefix('T')).unwrap_or(text).to_owned()
}
