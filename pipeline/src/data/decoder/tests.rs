#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Int32Type, Int64Type, Schema, TimestampMicrosecondType};
use highwater_broker::{Header, Record};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::data::alerts::{State, Transition};
use crate::data::{columns, identity};

const APPEND_TIME_MS: i64 = 1_714_979_289_000;
const APPEND_TIME_US: i64 = APPEND_TIME_MS * 1_000;

fn stored(content_type: Option<&str>, value: impl Into<Bytes>) -> StoredRecord {
    let headers = content_type.map(|content_type| Header::new(content_type::HEADER, content_type.to_owned()));
    StoredRecord {
        offset: 7,
        timestamp_ms: APPEND_TIME_MS,
        key: None,
        value: Some(value.into()),
        headers: headers.into_iter().collect(),
    }
}

fn decode(kind: RowKind, content_type: Option<&str>, value: impl Into<Bytes>) -> Decoded {
    Decoder::new(kind).decode(3, &stored(content_type, value))
}

fn decode_rows(kind: RowKind, content_type: Option<&str>, value: impl Into<Bytes>) -> (RecordBatch, Vec<Refused>) {
    let schema = Decoder::new(kind.clone()).schema();
    match decode(kind, content_type, value) {
        Decoded::Rows { batch, refused } => {
            assert_eq!(batch.schema(), schema);
            (batch, refused)
        }
        other => panic!("{other:?}"),
    }
}

fn undecodable(decoded: Decoded) -> String {
    match decoded {
        Decoded::Undecodable(refused) => {
            assert_eq!(refused.row, -1);
            refused.reason
        }
        other => panic!("{other:?}"),
    }
}

fn texts<'b>(batch: &'b RecordBatch, column: &str) -> Vec<Option<&'b str>> {
    batch.column_by_name(column).unwrap().as_string::<i32>().iter().collect()
}

fn ints(batch: &RecordBatch, column: &str) -> Vec<i32> {
    batch.column_by_name(column).unwrap().as_primitive::<Int32Type>().values().to_vec()
}

fn instants(batch: &RecordBatch, column: &str) -> Vec<i64> {
    batch.column_by_name(column).unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

/// An Arrow stream of these columns.
fn arrow(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    ipc::encode(&RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap())
        .unwrap()
}

fn strings(values: Vec<Option<&str>>) -> ArrayRef {
    std::sync::Arc::new(StringArray::from(values))
}

#[test]
fn rows_carry_their_identity() {
    let (batch, refused) = decode_rows(
        RowKind::Logs,
        Some(content_type::ARROW),
        arrow(vec![
            ("message", strings(vec![Some("a"), Some("b")])),
            ("tenant", strings(vec![Some("acme"), Some("acme")])),
        ]),
    );
    assert_eq!(refused, []);
    assert_eq!(texts(&batch, "message"), [Some("a"), Some("b")]);
    assert_eq!(texts(&batch, "tenant"), [Some("acme"), Some("acme")]);
    assert_eq!(ints(&batch, identity::PARTITION), [3, 3]);
    assert_eq!(batch.column_by_name(identity::OFFSET).unwrap().as_primitive::<Int64Type>().values(), &[7, 7]);
    assert_eq!(ints(&batch, identity::ROW), [0, 1]);
    assert_eq!(instants(&batch, identity::APPEND_TIME), [APPEND_TIME_US; 2]);
    assert_eq!(ints(&batch, identity::FLAGS), [0, 0]);
    assert_eq!(instants(&batch, "timestamp"), [APPEND_TIME_US; 2], "a missing timestamp is the append time");
    let stripped = identity::strip(&batch);
    let names: Vec<_> = stripped.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!((names.len(), names.last().unwrap().as_str()), (15, "tenant"));
}

#[test]
fn times_too_far_ahead_are_flagged() {
    let limit = APPEND_TIME_US + identity::MAX_AHEAD_US;
    let times: ArrayRef = std::sync::Arc::new(time_array(vec![limit, limit + 1]));
    let (batch, _) = decode_rows(RowKind::Logs, Some(content_type::ARROW), arrow(vec![("timestamp", times)]));
    assert_eq!(ints(&batch, identity::FLAGS), [0, identity::FLAG_FUTURE]);
}

fn time_array(values: Vec<i64>) -> arrow::array::TimestampMicrosecondArray {
    crate::data::time::array(values)
}

#[test]
fn arrow_columns_are_found_by_name_and_cast() {
    let nanos = TimestampNanosecondArray::from(vec![1_500, 2_999]);
    let rows = arrow(vec![
        ("unknown", strings(vec![Some("x"), Some("x")])),
        ("_offset", strings(vec![Some("forged"), Some("forged")])),
        ("message", std::sync::Arc::new(arrow::array::LargeStringArray::from(vec!["a", "b"]))),
        ("severity_number", std::sync::Arc::new(arrow::array::Int64Array::from(vec![9, 17]))),
        ("timestamp", std::sync::Arc::new(nanos)),
    ]);
    let (batch, refused) = decode_rows(RowKind::Logs, Some(content_type::ARROW), rows);
    assert_eq!(refused, []);
    assert_eq!(texts(&batch, "message"), [Some("a"), Some("b")]);
    assert_eq!(ints(&batch, "severity_number"), [9, 17]);
    assert_eq!(instants(&batch, "timestamp"), [1, 2]);
    assert_eq!(texts(&batch, "tenant"), [Some("default"); 2]);
}

#[test]
fn a_cast_that_would_lose_values_refuses_the_record() {
    let rows = arrow(vec![("severity_number", std::sync::Arc::new(arrow::array::Int64Array::from(vec![i64::MAX])))]);
    let reason = undecodable(decode(RowKind::Logs, Some(content_type::ARROW), rows));
    assert!(reason.starts_with("column `severity_number` is Int64, not Int32: "), "{reason}");
}

#[test]
fn arrow_rows_are_refused_one_by_one() {
    let rows = arrow(vec![
        ("timestamp", std::sync::Arc::new(time_array(vec![1, 2, i64::MAX, 4]))),
        ("message", strings(vec![Some("a"), Some("b"), Some("c"), Some("d")])),
        ("tenant", strings(vec![Some("acme"), Some("../etc"), Some("acme"), None])),
    ]);
    let (batch, refused) = decode_rows(RowKind::Logs, Some(content_type::ARROW), rows);
    assert_eq!((texts(&batch, "message"), ints(&batch, identity::ROW)), (vec![Some("a"), Some("d")], vec![0, 3]));
    assert_eq!(texts(&batch, "tenant"), [Some("acme"), Some("default")]);
    let reasons: Vec<_> = refused.iter().map(|refused| (refused.row, refused.reason.as_str())).collect();
    assert_eq!(reasons[0].0, 1);
    assert!(reasons[0].1.starts_with("tenant \"../etc\" is not allowed"), "{}", reasons[0].1);
    assert_eq!(reasons[1], (2, "event time 9223372036854775807 µs is outside the years 1 to 9999"));
    let alone = ipc::decode(&refused[1].bytes).unwrap();
    assert_eq!(texts(&alone[0], "message"), [Some("c")]);
}

#[test]
fn required_columns_are_required() {
    let value: ArrayRef = std::sync::Arc::new(Float64Array::from(vec![1.0]));
    let rows = arrow(vec![("name", strings(vec![Some("up")])), ("value", value)]);
    let (batch, refused) = decode_rows(RowKind::Metrics, Some(content_type::ARROW), rows);
    assert_eq!((batch.num_rows(), refused.len()), (0, 1));
    assert_eq!(refused[0].reason, "column `stale` is NULL");
}

#[test]
fn several_batches_are_numbered_through() {
    let batch = RecordBatch::try_from_iter([("message", strings(vec![Some("a"), Some("b")]))]).unwrap();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let (batch, _) = decode_rows(RowKind::Logs, Some(content_type::ARROW), writer.into_inner().unwrap());
    assert_eq!(ints(&batch, identity::ROW), [0, 1, 2, 3]);
}

#[test]
fn foreign_json_is_read_as_the_doors_read_it() {
    let body = r#"[{"message":"a","tenant":"evil"},5,{"message":"b","timestamp":1}]"#;
    for content_type in [None, Some("application/json; charset=utf-8")] {
        let (batch, refused) = decode_rows(RowKind::Logs, content_type, body);
        assert_eq!((texts(&batch, "message"), ints(&batch, identity::ROW)), (vec![Some("a"), Some("b")], vec![0, 2]));
        assert_eq!(texts(&batch, "tenant"), [Some("default"); 2]);
        assert_eq!(instants(&batch, "timestamp"), [APPEND_TIME_US, 1_000_000]);
        let reason = "an entry must be a JSON object, not a number".to_owned();
        assert_eq!(refused, [Refused { row: 1, reason, bytes: Bytes::from_static(b"5") }]);
    }
    let (batch, _) = decode_rows(RowKind::Metrics, Some(content_type::NDJSON), "{\"name\":\"a\",\"value\":1}\n");
    assert_eq!((texts(&batch, "name"), ints(&batch, identity::FLAGS)), (vec![Some("a")], vec![0]));
}

#[test]
fn a_line_of_text_is_a_message() {
    let (batch, _) = decode_rows(RowKind::Logs, Some("text/plain; charset=utf-8"), "hello\r\n");
    assert_eq!(texts(&batch, "message"), [Some("hello")]);
    let text = |value: &'static [u8]| undecodable(decode(RowKind::Logs, Some(content_type::TEXT), value));
    assert_eq!(text(b"\n"), "`message` is empty");
    assert_eq!(text(b"ab\xff"), "not UTF-8 at byte 2");
}

#[test]
fn a_header_says_whose_rows_they_are() {
    let of = |content_type: Option<&str>, tenant: &'static [u8], value: Bytes| {
        let mut record = stored(content_type, value);
        record.headers.push(Header::new(tenant::HEADER, tenant));
        Decoder::new(RowKind::Logs).decode(3, &record)
    };
    for (content_type, value) in [(None, r#"[{"message": "a", "tenant": "evil"}]"#), (Some("text/plain"), "a")] {
        let Decoded::Rows { batch, .. } = of(content_type, b"shop", value.into()) else { panic!("{content_type:?}") };
        assert_eq!(texts(&batch, "tenant"), [Some("shop")], "{content_type:?}");
    }
    // Arrow rows say it themselves.
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("message", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("tenant", Arc::new(StringArray::from(vec![Some("acme"), None]))),
    ];
    let Decoded::Rows { batch, .. } = of(Some(content_type::ARROW), b"shop", arrow(columns)) else { panic!() };
    assert_eq!(texts(&batch, "tenant"), [Some("acme"), Some("default")]);
    let reason = undecodable(of(None, b"../other", "{}".into()));
    assert!(reason.starts_with("tenant \"../other\" is not allowed"), "{reason}");
    assert_eq!(undecodable(of(None, b"\xff", "{}".into())), "its tenant header is not UTF-8");
}

#[test]
fn says_why_nothing_can_be_read() {
    let logs = |content_type, value: &'static str| undecodable(decode(RowKind::Logs, content_type, value));
    assert_eq!(logs(None, "hello"), "malformed JSON at line 1, column 1 (byte 0): expected a value");
    assert_eq!(logs(Some("image/png"), "x"), "content type \"image/png\" is not one that this topic holds");
    assert!(logs(Some(content_type::ARROW), "x").starts_with("not a readable Arrow IPC stream"));
    assert!(logs(Some(content_type::CONTROL), "x").starts_with("not a control record"));
    let metrics = undecodable(decode(RowKind::Metrics, Some(content_type::TEXT), "x"));
    assert_eq!(metrics, "content type \"text/plain\" is not one that this topic holds");
}

#[test]
fn control_records_are_control() {
    let control = Control::Clock { base_offset: 1, event_time_us: None, idle: true };
    let Record { value, headers, .. } = control.to_record();
    let record = StoredRecord { headers, value, ..stored(None, "") };
    for kind in [RowKind::Logs, RowKind::Metrics, RowKind::Alerts, RowKind::Arrow(logs::schema())] {
        assert_eq!(Decoder::new(kind).decode(0, &record), Decoded::Control(control.clone()));
    }
}

#[test]
fn a_tombstone_is_no_rows() {
    let record = StoredRecord { value: None, ..stored(None, "") };
    for kind in [RowKind::Logs, RowKind::Metrics, RowKind::Alerts, RowKind::Arrow(logs::schema())] {
        let decoder = Decoder::new(kind);
        let expected = Decoded::Rows { batch: RecordBatch::new_empty(decoder.schema()), refused: vec![] };
        assert_eq!(decoder.decode(0, &record), expected);
    }
}

fn transition() -> Transition {
    Transition {
        timestamp_us: APPEND_TIME_US,
        fingerprint: "00c0ffee00c0ffee".into(),
        alertname: "HighErrorRate".into(),
        group_name: "web".into(),
        state: State::Firing,
        labels: BTreeMap::from([("service".into(), "a\"b".into())]),
        annotations: BTreeMap::new(),
        value: Some(f64::INFINITY),
        starts_at_us: Some(APPEND_TIME_US - 1),
        fired_at_us: None,
        ends_at_us: None,
        rule: json!({"sql": "SELECT 1"}),
        source: json!(null),
        tenant: "acme".into(),
    }
}

#[test]
fn alerts_are_rows() {
    let Record { value, headers, key, .. } = transition().to_record().unwrap();
    assert_eq!(key.unwrap(), "00c0ffee00c0ffee");
    assert_eq!(Transition::parse(value.as_ref().unwrap()).unwrap(), transition());
    let record = StoredRecord { headers, value, ..stored(None, "") };
    let Decoded::Rows { batch, .. } = Decoder::new(RowKind::Alerts).decode(0, &record) else { panic!("rows") };
    for (column, expected) in [
        ("fingerprint", Some("00c0ffee00c0ffee")),
        ("alertname", Some("HighErrorRate")),
        ("group_name", Some("web")),
        ("state", Some("firing")),
        ("labels", Some(r#"{"service":"a\"b"}"#)),
        ("annotations", Some("{}")),
        ("rule", Some(r#"{"sql":"SELECT 1"}"#)),
        ("source", None),
        ("tenant", Some("acme")),
    ] {
        assert_eq!(texts(&batch, column), [expected], "{column}");
    }
    assert_eq!(
        (instants(&batch, "timestamp"), instants(&batch, "starts_at")),
        (vec![APPEND_TIME_US], vec![APPEND_TIME_US - 1])
    );
    assert!(batch.column_by_name("ends_at").unwrap().is_null(0));
    assert_eq!(
        batch.column_by_name("value").unwrap().as_primitive::<arrow::datatypes::Float64Type>().value(0),
        f64::INFINITY
    );
}

#[test]
fn alerts_that_are_none_say_why() {
    let alert = |text: String| undecodable(decode(RowKind::Alerts, None, text));
    assert!(alert("{}".into()).starts_with("not an alert: missing field `timestamp`"), "{}", alert("{}".into()));
    let evil = serde_json::to_string(&Transition { tenant: "..".into(), ..transition() }).unwrap();
    assert!(alert(evil).starts_with("tenant \"..\" is not allowed"));
    let odd = serde_json::to_string(&transition()).unwrap().replace("\"+Inf\"", "\"much\"");
    assert!(alert(odd).contains("\"much\" is no value"));
}

#[test]
fn dead_letters_keep_their_bytes() {
    let refused = Refused { row: 2, reason: "why".into(), bytes: Bytes::from_static(b"\xff\0") };
    let Record { value, headers, .. } = dead_letter::record(&refused, "logs", 1, 42, "acme");
    let record = StoredRecord { headers, value, ..stored(None, "") };
    let Decoded::Rows { batch, .. } = Decoder::new(RowKind::DeadLetter).decode(0, &record) else { panic!("rows") };
    assert_eq!((texts(&batch, "reason"), texts(&batch, "topic")), (vec![Some("why")], vec![Some("logs")]));
    assert_eq!((ints(&batch, "source_partition"), ints(&batch, "source_row")), (vec![1], vec![2]));
    assert_eq!(batch.column_by_name("source_offset").unwrap().as_primitive::<Int64Type>().values(), &[42]);
    assert_eq!(batch.column_by_name("value").unwrap().as_binary::<i32>().value(0), b"\xff\0");
    assert_eq!((texts(&batch, "tenant"), instants(&batch, "timestamp")), (vec![Some("acme")], vec![APPEND_TIME_US]));
}

#[test]
fn a_dead_letter_of_anybody_is_a_row() {
    let headers = vec![
        Header::new("partition", &b"x"[..]),
        Header::new("tenant", &b"../x"[..]),
        Header::new("reason", &b"\xff"[..]),
    ];
    let record = StoredRecord { headers, value: None, ..stored(None, "") };
    let Decoded::Rows { batch, .. } = Decoder::new(RowKind::DeadLetter).decode(0, &record) else { panic!("rows") };
    assert_eq!((texts(&batch, "tenant"), texts(&batch, "reason")), (vec![Some("default")], vec![None]));
    assert!(batch.column_by_name("source_partition").unwrap().is_null(0));
    assert!(batch.column_by_name("value").unwrap().is_null(0));
}

/// The table schema of a rollup: no `timestamp`, so nothing is filled or flagged.
fn rollup() -> SchemaRef {
    columns::table_schema(vec![columns::required_text("service"), columns::required_instant("window_start")])
}

#[test]
fn rollup_rows_are_aligned() {
    let times: ArrayRef = std::sync::Arc::new(time_array(vec![APPEND_TIME_US * 2]));
    let rows = arrow(vec![
        ("window_start", times),
        ("service", strings(vec![Some("a")])),
        ("tenant", strings(vec![Some("t")])),
    ]);
    let (batch, refused) = decode_rows(RowKind::Arrow(rollup()), Some(content_type::ARROW), rows);
    assert_eq!((refused, texts(&batch, "service"), ints(&batch, identity::FLAGS)), (vec![], vec![Some("a")], vec![0]));
    let reason = undecodable(decode(RowKind::Arrow(rollup()), None, "{}"));
    assert_eq!(reason, "content type \"application/json\" is not one that this topic holds");
}

#[test]
fn schemas_have_what_every_table_has() {
    for schema in [logs::schema(), metrics::schema(), alerts::schema(), dead_letter::schema()] {
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names[0], "timestamp");
        assert_eq!(names[names.len() - 6..], ["tenant", "_partition", "_offset", "_row", "_append_time", "_flags"]);
        assert!(schema.fields()[names.len() - 6..].iter().all(|field| !field.is_nullable()));
    }
    let wire = logs::wire_schema();
    assert!(wire.field_with_name("timestamp").unwrap().is_nullable());
    assert_eq!(wire.fields().last().unwrap().name(), "tenant");
    let _: &Schema = &wire;
}

fn kinds() -> impl Strategy<Value = RowKind> {
    prop::sample::select(vec![
        RowKind::Logs,
        RowKind::Metrics,
        RowKind::Alerts,
        RowKind::DeadLetter,
        RowKind::Arrow(rollup()),
    ])
}

fn content_types() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![
        None,
        Some(content_type::ARROW),
        Some(content_type::JSON),
        Some(content_type::NDJSON),
        Some(content_type::TEXT),
        Some(content_type::CONTROL),
        Some(""),
    ])
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        kind in kinds(), content_type in content_types(),
        value in prop_oneof![prop::collection::vec(any::<u8>(), 0..64), "[\\[{]?(\\{\"(message|name|value|labels)\":[0-9\"a{}]{0,5}\\}[,\n]?){0,4}\\]?".prop_map(String::into_bytes)],
        offset in any::<i64>(), timestamp_ms in any::<i64>(), partition in any::<i32>(),
    ) {
        let decoder = Decoder::new(kind);
        let record = StoredRecord { offset, timestamp_ms, ..stored(content_type, value) };
        if let Decoded::Rows { batch, .. } = decoder.decode(partition, &record) {
            prop_assert_eq!(batch.schema(), decoder.schema());
        }
    }

    #[test]
    fn every_entry_is_a_row_or_refused(entries in prop::collection::vec(prop::sample::select(vec!["{\"message\":\"m\"}", "{}", "1", "null", "{\"message\":1}"]), 0..20)) {
        let (batch, refused) = decode_rows(RowKind::Logs, None, format!("[{}]", entries.join(",")));
        let mut indexes: Vec<i32> = ints(&batch, identity::ROW).into_iter().chain(refused.iter().map(|r| r.row)).collect();
        indexes.sort_unstable();
        prop_assert_eq!(indexes, (0..i32::try_from(entries.len()).unwrap()).collect::<Vec<_>>());
        for refused in refused {
            prop_assert_eq!(&refused.bytes[..], entries[usize::try_from(refused.row).unwrap()].as_bytes());
        }
    }
}

#[test]
fn a_record_with_too_much_to_refuse_is_refused_as_a_whole() {
    let body = |bad: usize| format!("[{{\"message\":\"m\"}}{}]", ",1".repeat(bad));
    let (batch, refused) = decode_rows(RowKind::Logs, None, body(MAX_REFUSED));
    assert_eq!((batch.num_rows(), refused.len()), (1, MAX_REFUSED));
    let reason = undecodable(decode(RowKind::Logs, None, body(MAX_REFUSED + 1)));
    assert_eq!(
        reason,
        "more than 10000 of its entries are refused, for example: an entry must be a JSON object, not a number"
    );
}

#[test]
fn so_is_one_with_too_many_rows_to_refuse() {
    let rows = |bad: usize| arrow(vec![("tenant", strings(vec![Some("a/b"); bad]))]);
    let (batch, refused) = decode_rows(RowKind::Logs, Some(content_type::ARROW), rows(100));
    assert_eq!((batch.num_rows(), refused.len()), (0, 100));
    let reason = undecodable(decode(RowKind::Logs, Some(content_type::ARROW), rows(MAX_REFUSED + 1)));
    assert!(
        reason.starts_with("more than 10000 of its rows are refused, for example: tenant \"a/b\" is not"),
        "{reason}"
    );
}

#[test]
fn columns_that_only_share_a_name_are_left_alone() {
    let schema = columns::table_schema(vec![columns::required("timestamp", arrow::datatypes::DataType::Int64)]);
    let times: ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(vec![Some(i64::MAX), None]));
    let (batch, refused) =
        decode_rows(RowKind::Arrow(schema), Some(content_type::ARROW), arrow(vec![("timestamp", times)]));
    assert_eq!((batch.num_rows(), ints(&batch, identity::FLAGS)), (1, vec![0]));
    assert_eq!(refused[0].reason, "column `timestamp` is NULL");
}

#[test]
fn the_door_says_whose_rows_a_client_produces() {
    let forced = |content_type: Option<&str>, value: Vec<u8>| {
        let mut record = stored(content_type, value);
        record.headers.push(highwater_broker::Header::new("tenant", "bank"));
        record.headers.push(highwater_broker::Header::new(crate::data::FORCED_TENANT, "shop"));
        match Decoder::new(RowKind::Logs).decode(0, &record) {
            Decoded::Rows { batch, refused } => {
                assert_eq!(refused, []);
                let column = batch.column_by_name("tenant").unwrap().as_string::<i32>();
                column.iter().map(|tenant| tenant.unwrap().to_owned()).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(forced(None, br#"{"message": "m"}"#.to_vec()), ["shop"]);
    let rows =
        arrow(vec![("message", strings(vec![Some("a"), Some("b")])), ("tenant", strings(vec![Some("bank"), None]))]);
    assert_eq!(forced(Some(content_type::ARROW), rows.to_vec()), ["shop", "shop"]);
}
