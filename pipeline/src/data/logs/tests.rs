#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::data::json::{EntrySink, read_entries};
use crate::data::{level, time};

/// A row by column name; columns that are NULL are left out, attributes are under `attributes`.
type Row = BTreeMap<String, Value>;

#[derive(Default)]
struct Sink {
    columns: LogColumns,
    refused: Vec<String>,
}

impl<'a> EntrySink<'a, Logs> for Sink {
    fn row(&mut self, _index: i32, row: &LogRow<'a>) {
        self.columns.append(row);
    }

    fn refused(&mut self, _index: i32, refusal: Refusal, _bytes: &'a [u8]) {
        self.refused.push(refusal.to_string());
    }
}

fn read_with(body: &str, limits: &Limits) -> (Vec<Row>, Vec<String>) {
    let mut sink = Sink::default();
    read_entries::<Logs>(body.as_bytes(), false, limits, &mut sink).unwrap();
    (rows(&sink.columns.finish("acme").unwrap()), sink.refused)
}

fn read(body: &str) -> (Vec<Row>, Vec<String>) {
    read_with(body, &Limits::default())
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    assert_eq!(batch.schema(), wire_schema());
    (0..batch.num_rows()).map(|row| columns(batch, row)).collect()
}

/// Attributes sorted by key: their order is not promised.
fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    for attributes in rows.iter_mut().filter_map(|row| row.get_mut("attributes")?.as_array_mut()) {
        attributes.sort_by(|a, b| a[0].as_str().cmp(&b[0].as_str()));
    }
    rows
}

fn columns(batch: &RecordBatch, row: usize) -> Row {
    let mut values = Row::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if column.is_null(row) {
            continue;
        }
        let value = match field.data_type() {
            DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
            DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
            DataType::Timestamp(..) => json!(column.as_primitive::<TimestampMicrosecondType>().value(row)),
            _ => {
                let entries = column.as_map().value(row);
                let (keys, texts) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
                Value::Array((0..entries.len()).map(|i| json!([keys.value(i), texts.value(i)])).collect())
            }
        };
        values.insert(field.name().clone(), value);
    }
    values
}

fn row(entry: &str) -> Row {
    let (mut rows, refused) = read(entry);
    assert_eq!(refused, [""; 0], "{entry}");
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn expect(entry: &str, expected: Value) {
    let Value::Object(mut expected) = expected else { panic!("an object") };
    expected.insert("tenant".into(), json!("acme"));
    expected.entry("attributes").or_insert(json!([]));
    assert_eq!(row(entry), expected.into_iter().collect::<Row>(), "{entry}");
}

fn refusal(entry: &str) -> String {
    let (rows, mut refused) = read(entry);
    assert_eq!((rows.len(), refused.len()), (0, 1), "{entry}");
    refused.remove(0)
}

#[test]
fn fills_every_column() {
    expect(
        r#"{"timestamp":"2024-05-06T07:08:09.123456789Z","observed_timestamp":1714979290,"level":"Warn","service":"web","host":"h1",
            "message":"a \"quoted\"\nline","trace_id":"t","span_id":"s","request_id":"r","correlation_id":"c","user_id":42,
            "labels":{"region":"eu","n":1.50,"ok":true,"no":null,"deep":{"a": [1]}},"extra":"x","tenant":"evil","list":[1, "a"]}"#,
        json!({
            "timestamp": 1_714_979_289_123_456_i64, "observed_timestamp": 1_714_979_290_000_000_i64, "severity_number": 13,
            "level": "WARNING", "severity_text": "Warn", "service": "web", "host": "h1", "message": "a \"quoted\"\nline",
            "trace_id": "t", "span_id": "s", "request_id": "r", "correlation_id": "c", "user_id": "42",
            "attributes": [["region", "eu"], ["n", "1.50"], ["ok", "true"], ["deep", r#"{"a": [1]}"#], ["extra", "x"],
                ["tenant", "evil"], ["list", r#"[1, "a"]"#]],
        }),
    );
}

#[test]
fn knows_the_aliases() {
    expect(
        r#"{"msg":"m","lvl":"err","service.name":"a","hostname":"h","@timestamp":"1714979289","traceId":"t","spanId":"s",
            "requestId":"r","correlationId":"c","userId":"u"}"#,
        json!({
            "message": "m", "severity_text": "err", "level": "ERROR", "severity_number": 17, "service": "a", "host": "h",
            "timestamp": 1_714_979_289_000_000_i64, "trace_id": "t", "span_id": "s", "request_id": "r", "correlation_id": "c",
            "user_id": "u",
        }),
    );
}

#[test]
fn of_several_names_the_own_one_wins_and_the_others_are_attributes() {
    let expected = json!({"message": "own", "service": "x", "attributes": [["msg", "other"], ["app", "y"]]});
    expect(r#"{"msg":"other","message":"own","service":"x","app":"y"}"#, expected.clone());
    expect(r#"{"message":"own","msg":"other","app":"y","service":"x"}"#, expected);
}

#[test]
fn an_alias_that_does_not_fit_is_an_attribute() {
    expect(
        r#"{"message":"m","log":{"level":"info"},"time":"10/Oct/2000:13:55:36 -0700","host":{"name":"h"},"body":7}"#,
        json!({"message": "m", "attributes": [["log", r#"{"level":"info"}"#], ["time", "10/Oct/2000:13:55:36 -0700"],
            ["host", r#"{"name":"h"}"#], ["body", "7"]]}),
    );
}

#[test]
fn null_and_empty_are_no_value() {
    expect(
        r#"{"message":"m","level":null,"service":"","timestamp":"","host":null,"x":null,"y":"","labels":null}"#,
        json!({"message": "m", "attributes": [["y", ""]]}),
    );
}

#[test]
fn of_a_repeated_key_the_last_value_stands() {
    expect(
        r#"{"message":"a","message":"b","x":1,"y":2,"x":3,"labels":{"y":"4"}}"#,
        json!({"message": "b", "attributes": [["x", "3"], ["y", "4"]]}),
    );
}

#[test]
fn reads_levels() {
    for (entry, expected) in [
        (r#""level":30"#, (Some(9), Some("INFO"), Some("30"))),
        (r#""level":"17""#, (Some(17), Some("ERROR"), Some("17"))),
        (r#""level":"banana""#, (None, None, Some("banana"))),
        (r#""severity":"emerg""#, (Some(23), Some("CRITICAL"), Some("emerg"))),
        (r#""severity_number":10"#, (Some(10), Some("INFO"), None)),
        (r#""severity_number":18,"severity_text":"oops""#, (Some(18), Some("ERROR"), Some("oops"))),
        (r#""severity_number":0,"level":"info""#, (Some(9), Some("INFO"), Some("info"))),
    ] {
        let row = row(&format!(r#"{{"message":"m",{entry}}}"#));
        let text = |name: &str| row.get(name).and_then(Value::as_str);
        let number = row.get("severity_number").and_then(Value::as_i64);
        assert_eq!((number, text("level"), text("severity_text")), expected, "{entry}");
    }
}

#[test]
fn says_why_an_entry_is_refused() {
    for (entry, expected) in [
        ("{}", "`message` is missing"),
        (r#"{"message":null}"#, "`message` is missing"),
        (r#"{"message":""}"#, "`message` is empty"),
        (r#"{"msg":""}"#, "`message` is empty"),
        (r#"{"message":5}"#, "`message` must be a string, not a number"),
        (r#"{"message":{"a":1}}"#, "`message` must be a string, not an object"),
        (r#"{"message":"m","level":true}"#, "`level` must be a string or a number, not a boolean"),
        (r#"{"message":"m","timestamp":[]}"#, "`timestamp` must be a time, not an array"),
        (
            r#"{"message":"m","timestamp":"yesterday"}"#,
            "`timestamp` is \"yesterday\", which is not a time (RFC 3339, or a Unix number in s, ms, µs or ns) in the years 1 to 9999",
        ),
        ("[true]", "an entry must be a JSON object, not a boolean"),
    ] {
        assert_eq!(refusal(entry), expected, "{entry}");
    }
}

#[test]
fn keeps_limits() {
    let limits = Limits { max_value_size_bytes: 10, max_attributes: 2, max_name_size_bytes: 8, ..Limits::default() };
    let refused = |entry: &str| read_with(entry, &limits).1;
    assert_eq!(refused(r#"{"message":"0123456789"}"#), [""; 0]);
    assert_eq!(refused(r#"{"message":"0123456789a"}"#), ["`message` has 11 bytes; the limit is 10"]);
    assert_eq!(refused(r#"{"message":"m","x":[1,2,3,4,5]}"#), ["`x` has 11 bytes; the limit is 10"]);
    assert_eq!(
        refused(r#"{"message":"m","labels":{"012345678":1}}"#),
        ["the name `012345678` has 9 bytes; the limit is 8"]
    );
    assert_eq!(refused(r#"{"message":"m","a":1,"b":2,"a":3}"#), [""; 0]);
    assert_eq!(refused(r#"{"message":"m","a":1,"b":2,"c":3}"#), ["more than 2 attributes"]);
}

#[test]
fn one_entry_leaves_nothing_behind_for_the_next() {
    let full = r#"{"message":"m","level":"info","service":"s","timestamp":1,"trace_id":"t","x":"y"}"#;
    let (rows, refused) = read(&format!(r#"[{full},{{"nothing":1}},{{"message":"n"}}]"#));
    assert_eq!(refused, ["`message` is missing"]);
    let expected = json!({"message": "n", "tenant": "acme", "attributes": []});
    assert_eq!(json!(rows[1]), expected);
}

/// The same rules again, the plain way, over a tree.
fn oracle(entry: &[(String, Value)]) -> Option<Row> {
    const NAMES: [(&str, &[&str]); 12] = [
        ("message", &["message", "msg", "body", "log"]),
        (
            "level",
            &[
                "level",
                "severity",
                "severity_text",
                "severityText",
                "lvl",
                "loglevel",
                "log_level",
                "log.level",
                "levelname",
            ],
        ),
        ("severity_number", &["severity_number", "severityNumber"]),
        ("timestamp", &["timestamp", "@timestamp", "time", "ts"]),
        ("observed_timestamp", &["observed_timestamp", "observedTimestamp"]),
        ("service", &["service", "service.name", "service_name", "serviceName", "app", "application"]),
        ("host", &["host", "hostname", "host.name", "host_name"]),
        ("trace_id", &["trace_id", "traceId", "trace.id", "traceID"]),
        ("span_id", &["span_id", "spanId", "span.id", "spanID"]),
        ("request_id", &["request_id", "requestId"]),
        ("correlation_id", &["correlation_id", "correlationId"]),
        ("user_id", &["user_id", "userId"]),
    ];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fits = |column: &str, value: &Value| match column {
        "message" => value.is_string(),
        "timestamp" | "observed_timestamp" => {
            (value.is_string() || value.is_number()) && (text(value).is_empty() || time::parse(&text(value)).is_some())
        }
        _ => value.is_string() || value.is_number(),
    };
    let given: BTreeMap<&str, &Value> =
        entry.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.as_str(), v)).collect();
    let mut chosen: BTreeMap<&str, &str> = BTreeMap::new();
    for (column, names) in NAMES {
        let own = given.get(column);
        if own.is_some_and(|value| !fits(column, value))
            && matches!(column, "message" | "level" | "severity_number" | "timestamp" | "observed_timestamp")
        {
            return None;
        }
        if let Some(name) = names.iter().find(|name| given.get(*name).is_some_and(|value| fits(column, value))) {
            chosen.insert(column, name);
        }
    }
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (key, value) in entry {
        let members: Vec<(&String, &Value)> = match value {
            Value::Object(members) if key == "labels" || key == "attributes" => members.iter().collect(),
            _ if chosen.values().any(|name| name == key) => continue,
            _ => vec![(key, value)],
        };
        for (key, value) in members.into_iter().filter(|(_, value)| !value.is_null()) {
            match attributes.iter_mut().find(|(known, _)| known == key) {
                Some((_, known)) => *known = text(value),
                None => attributes.push((key.clone(), text(value))),
            }
        }
    }
    let mut row = Row::new();
    for (column, name) in chosen {
        let value = text(given[name]);
        let target = if column == "level" { "severity_text" } else { column };
        let value = match column {
            _ if value.is_empty() => continue,
            "severity_number" => continue,
            "timestamp" | "observed_timestamp" => json!(time::parse(&value).unwrap()),
            _ => json!(value),
        };
        row.insert(target.into(), value);
    }
    row.get("message")?;
    let number = ["severity_number", "severityNumber"].iter().find_map(|name| given.get(name).filter(|v| fits("", v)));
    let number = number.and_then(|value| text(value).parse::<i32>().ok()).filter(|n| (1..=24).contains(n));
    let number = number.or_else(|| level::parse(row.get("severity_text")?.as_str()?));
    if let Some(number) = number {
        row.insert("severity_number".into(), json!(number));
        row.insert("level".into(), json!(level::name(number).unwrap()));
    }
    row.insert("attributes".into(), attributes.into_iter().map(|(key, value)| json!([key, value])).collect());
    row.insert("tenant".into(), json!("acme"));
    Some(row)
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        2 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        2 => (1..70i64).prop_map(Value::from),
        1 => any::<f64>().prop_filter_map("finite", |n| serde_json::Number::from_f64(n).map(Value::from)),
        4 => any::<String>().prop_map(Value::from),
        2 => prop::sample::select(vec!["", "info", "WARN", "2024-05-06T07:08:09Z", "1714979289.5", "12"]).prop_map(Value::from),
    ];
    scalar.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn entry() -> impl Strategy<Value = Vec<(String, Value)>> {
    let names = vec![
        "message",
        "message",
        "message",
        "msg",
        "body",
        "log",
        "level",
        "severity",
        "severity_number",
        "severityNumber",
        "timestamp",
        "ts",
        "time",
        "observed_timestamp",
        "service",
        "app",
        "host",
        "hostname",
        "trace_id",
        "traceId",
        "user_id",
        "labels",
        "attributes",
        "tenant",
        "x",
        "\"\\\n",
    ];
    let key = prop_oneof![5 => prop::sample::select(names).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec((key, value()), 0..12).prop_map(|members| {
        let mut seen = std::collections::HashSet::new();
        members.into_iter().filter(|(key, _)| seen.insert(key.clone())).collect()
    })
}

fn write(entry: &[(String, Value)]) -> String {
    let members: Vec<_> = entry.iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str()))).collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #[test]
    fn rows_are_those_of_the_plain_way(entries in prop::collection::vec(entry(), 1..6)) {
        let expected: Vec<Row> = entries.iter().filter_map(|entry| oracle(entry)).collect();
        let texts: Vec<String> = entries.iter().map(|entry| write(entry)).collect();
        let (array, refused) = read(&format!("[{}]", texts.join(",")));
        prop_assert_eq!(refused.len(), entries.len() - expected.len());
        let expected = sorted(expected);
        prop_assert_eq!(&sorted(array), &expected);
        let (lines, _) = read(&texts.join("\n"));
        prop_assert_eq!(&sorted(lines), &expected);
    }
}

#[test]
fn a_record_of_one_row_is_not_mostly_padding() {
    let mut sink = Sink::default();
    let body = r#"{"message":"hi","service":"web"}"#;
    read_entries::<Logs>(body.as_bytes(), false, &Limits::default(), &mut sink).unwrap();
    let bytes = crate::data::ipc::encode(&sink.columns.finish("acme").unwrap()).unwrap();
    assert!(bytes.len() < 3_000, "{}", bytes.len());
}
