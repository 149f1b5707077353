#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::data::json::{EntrySink, read_entries};
use crate::data::labels;

#[derive(Default)]
struct Sink {
    columns: MetricColumns,
    refused: Vec<String>,
    keys: Vec<String>,
}

impl<'a> EntrySink<'a, Metrics> for Sink {
    fn row(&mut self, _index: i32, row: &MetricRow<'a>) {
        self.columns.append(row);
        let mut key = Vec::new();
        Metrics::partition_key(row, &mut key);
        self.keys.push(String::from_utf8(key).unwrap());
    }

    fn refused(&mut self, _index: i32, refusal: Refusal, _bytes: &'a [u8]) {
        self.refused.push(refusal.to_string());
    }
}

fn read(body: &str) -> (RecordBatch, Sink) {
    let mut sink = Sink::default();
    read_entries::<Metrics>(body.as_bytes(), false, &Limits::default(), &mut sink).unwrap();
    let batch = sink.columns.finish("acme").unwrap();
    assert_eq!(batch.schema(), wire_schema());
    (batch, sink)
}

fn text<'b>(batch: &'b RecordBatch, column: &str, row: usize) -> Option<&'b str> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

fn value(batch: &RecordBatch, row: usize) -> f64 {
    let column = batch.column_by_name("value").unwrap();
    assert!(column.is_valid(row));
    column.as_primitive::<Float64Type>().value(row)
}

fn refusal(entry: &str) -> String {
    let (batch, mut sink) = read(entry);
    assert_eq!((batch.num_rows(), sink.refused.len()), (0, 1), "{entry}");
    sink.refused.remove(0)
}

#[test]
fn fills_every_column() {
    let (batch, sink) = read(
        r#"{"metrics":[{"name":"http_requests_total","type":"Counter","value":12.5,"timestamp":1714979289123,"temporality":"cumulative",
            "labels":{"job":"web","instance":"a:1","service":"shop","code":200,"ok":true,"none":null,"empty":""},"zone":"eu","tenant":"evil"}]}"#,
    );
    assert_eq!(sink.refused, [""; 0]);
    let labels =
        r#"{"code":"200","instance":"a:1","job":"web","ok":"true","service":"shop","tenant":"evil","zone":"eu"}"#;
    let series = labels.replacen('{', r#"{"__name__":"http_requests_total","#, 1);
    for (column, expected) in [
        ("name", Some("http_requests_total")),
        ("kind", Some("counter")),
        ("labels", Some(labels)),
        ("job", Some("web")),
        ("instance", Some("a:1")),
        ("service", Some("shop")),
        ("temporality", Some("cumulative")),
        ("tenant", Some("acme")),
    ] {
        assert_eq!(text(&batch, column, 0), expected, "{column}");
    }
    assert_eq!(value(&batch, 0), 12.5);
    let timestamp = batch.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(timestamp, 1_714_979_289_123_000);
    let series_id = batch.column_by_name("series_id").unwrap().as_primitive::<Int64Type>().value(0);
    assert_eq!(series_id, labels::series_id(&series));
    assert_eq!(sink.keys, [series]);
    assert!(!batch.column_by_name("stale").unwrap().as_boolean().value(0));
    assert!(batch.column_by_name("histogram").unwrap().is_null(0));
}

#[test]
fn a_metric_needs_only_name_and_value() {
    let (batch, _) = read(r#"{"metric":"system.cpu.usage","value":-0.0}"#);
    assert_eq!(text(&batch, "name", 0), Some("system.cpu.usage"));
    assert_eq!(text(&batch, "labels", 0), Some("{}"));
    assert!(value(&batch, 0).is_sign_negative());
    for column in ["timestamp", "kind", "job", "instance", "service", "temporality"] {
        assert!(batch.column_by_name(column).unwrap().is_null(0), "{column}");
    }
}

#[test]
fn the_name_may_be_a_label() {
    let (batch, _) = read(r#"{"labels":{"__name__":"up","job":"a"},"value":1}"#);
    assert_eq!((text(&batch, "name", 0), text(&batch, "labels", 0)), (Some("up"), Some(r#"{"job":"a"}"#)));
}

#[test]
fn special_values_are_spelled_as_prometheus_does() {
    let (batch, _) = read(
        r#"[{"name":"a","value":"NaN"},{"name":"a","value":"+Inf"},{"name":"a","value":"-Inf"},{"name":"a","value":"Infinity"}]"#,
    );
    assert!(value(&batch, 0).is_nan());
    assert_eq!([1, 2, 3].map(|row| value(&batch, row)), [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY]);
}

#[test]
fn kinds_are_those_of_prometheus() {
    let (batch, _) = read(
        r#"[{"name":"a","value":1,"type":"GAUGE"},{"name":"a","value":1,"kind":"untyped"},{"name":"a","value":1,"type":""}]"#,
    );
    assert_eq!([0, 1, 2].map(|row| text(&batch, "kind", row)), [Some("gauge"), None, None]);
}

#[test]
fn says_why_an_entry_is_refused() {
    let wanted = "a number, or one of the strings NaN, +Inf and -Inf";
    for (entry, expected) in [
        (r#"{"value":1}"#, "`name` is missing".to_owned()),
        (r#"{"name":"","value":1}"#, "`name` is missing".to_owned()),
        (r#"{"name":5,"value":1}"#, "`name` must be a string, not a number".to_owned()),
        (
            r#"{"name":"a b","value":1}"#,
            "`name` is \"a b\", which is not a metric name (1 to 255 bytes, a letter, `_` or `:` first, no white space)".to_owned(),
        ),
        (r#"{"name":"a"}"#, "`value` is missing".to_owned()),
        (r#"{"name":"a","value":null}"#, format!("`value` must be {wanted}, not null")),
        (r#"{"name":"a","value":"12"}"#, format!("`value` must be {wanted}, not a string")),
        (r#"{"name":"a","value":true}"#, format!("`value` must be {wanted}, not a boolean")),
        (r#"{"name":"a","value":[1]}"#, format!("`value` must be {wanted}, not an array")),
        (r#"{"name":"a","value":1e400}"#, "`value` is \"1e400\", which is not within the range of a 64-bit float".to_owned()),
        (
            r#"{"name":"a","value":1,"type":"banana"}"#,
            "`type` is \"banana\", which is not one of counter, gauge, histogram, summary".to_owned(),
        ),
        (r#"{"name":"a","value":1,"labels":"x"}"#, "`labels` must be an object of strings, not a string".to_owned()),
        (
            r#"{"name":"a","value":1,"labels":{"x":{}}}"#,
            "`x` must be a string, a number or a boolean, not an object".to_owned(),
        ),
        (r#"{"name":"a","value":1,"timestamp":true}"#, "`timestamp` must be a time, not a boolean".to_owned()),
    ] {
        assert_eq!(refusal(entry), expected, "{entry}");
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from)
    ]
}

proptest! {
    #[test]
    fn series_are_those_of_the_plain_way(
        name in "[a-z_:][a-z.0-9]{0,8}",
        number in any::<f64>().prop_filter("finite", |n| n.is_finite()),
        members in prop::collection::btree_map("[a-zA-Z_]{1,6}|\\PC{1,4}", scalar(), 0..6),
    ) {
        let (batch, sink) = read(&json!({"name": name, "value": number, "labels": members}).to_string());
        prop_assert_eq!(&sink.refused, &[""; 0]);
        let mut expected: BTreeMap<String, String> = members
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        prop_assert_eq!(text(&batch, "labels", 0).unwrap(), serde_json::to_string(&expected).unwrap());
        prop_assert_eq!(value(&batch, 0).to_bits(), number.to_bits());
        expected.insert("__name__".into(), name);
        let series = serde_json::to_string(&expected).unwrap();
        prop_assert_eq!(batch.column_by_name("series_id").unwrap().as_primitive::<Int64Type>().value(0), labels::series_id(&series));
    }
}
