#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamReader;

use super::*;

fn text(format: Format, batches: &[RecordBatch], schema: SchemaRef) -> String {
    let mut encoder = Encoder::new(format, schema).unwrap();
    let mut bytes = Vec::new();
    for batch in batches {
        bytes.extend(encoder.batch(batch).unwrap());
    }
    bytes.extend(encoder.finish().unwrap());
    String::from_utf8(bytes).unwrap()
}

type Entries<'a> = &'a [(&'a str, Option<&'a str>)];

fn map(rows: &[Option<Entries<'_>>]) -> ArrayRef {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for (key, value) in row.unwrap_or_default() {
            builder.keys().append_value(key);
            builder.values().append_option(*value);
        }
        builder.append(row.is_some()).unwrap();
    }
    Arc::new(builder.finish())
}

fn sample() -> RecordBatch {
    let times = TimestampMicrosecondArray::from(vec![
        Some(1_767_323_045_000_000),
        Some(1_767_323_045_678_000),
        Some(1_767_323_045_678_901),
        None,
    ])
    .with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("at", Arc::new(times)),
        ("n", Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(-1), None, Some(0)]))),
        ("v", Arc::new(Float64Array::from(vec![1.5, f64::NAN, f64::INFINITY, -0.0]))),
        ("ok", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, None]))),
        ("text", Arc::new(StringArray::from(vec![Some("a \"b\", c"), Some(""), None, Some("line\nbreak")]))),
        (
            "attributes",
            map(&[Some(&[("k", Some("v")), ("q\"", None)]), Some(&[]), None, Some(&[("path", Some("/x"))])]),
        ),
        ("raw", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), Some(b""), None, None]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap()
}

#[test]
fn json_is_an_array_of_row_objects() {
    let batch = sample();
    let document = text(Format::Json, std::slice::from_ref(&batch), batch.schema());
    let rows: Vec<serde_json::Value> = serde_json::from_str(&document).unwrap();
    assert_eq!(
        rows,
        [
            serde_json::json!({"at": "2026-01-02T03:04:05Z", "n": i64::MAX, "v": 1.5, "ok": true, "text": "a \"b\", c",
                               "attributes": {"k": "v", "q\"": null}, "raw": "00ff"}),
            serde_json::json!({"at": "2026-01-02T03:04:05.678Z", "n": -1, "v": null, "ok": false, "text": "",
                               "attributes": {}, "raw": ""}),
            serde_json::json!({"at": "2026-01-02T03:04:05.678901Z", "n": null, "v": null, "ok": null, "text": null,
                               "attributes": null, "raw": null}),
            serde_json::json!({"at": null, "n": 0, "v": -0.0, "ok": null, "text": "line\nbreak",
                               "attributes": {"path": "/x"}, "raw": null}),
        ]
    );
}

#[test]
fn json_over_several_batches_is_one_array() {
    let batch = sample();
    let (head, tail) = (batch.slice(0, 1), batch.slice(1, 3));
    let document = text(Format::Json, &[head, batch.slice(0, 0), tail], batch.schema());
    assert_eq!(document, text(Format::Json, std::slice::from_ref(&batch), batch.schema()));
}

#[test]
fn ndjson_is_a_row_per_line() {
    let batch = sample();
    let document = text(Format::Ndjson, std::slice::from_ref(&batch), batch.schema());
    let lines: Vec<&str> = document.lines().collect();
    assert_eq!(lines.len(), 4);
    let row: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(row["at"], "2026-01-02T03:04:05.678Z");
}

#[test]
fn csv_has_a_header_and_quotes_what_needs_it() {
    let batch = sample();
    let document = text(Format::Csv, &[batch.slice(0, 2), batch.slice(2, 2)], batch.schema());
    assert_eq!(
        document,
        concat!(
            "at,n,v,ok,text,attributes,raw\n",
            "2026-01-02T03:04:05Z,9223372036854775807,1.5,true,\"a \"\"b\"\", c\",\"{\"\"k\"\":\"\"v\"\",\"\"q\\\"\"\"\":null}\",00ff\n",
            "2026-01-02T03:04:05.678Z,-1,NaN,false,,{},\n",
            "2026-01-02T03:04:05.678901Z,,inf,,,,\n",
            ",0,-0.0,,\"line\nbreak\",\"{\"\"path\"\":\"\"/x\"\"}\",\n",
        )
    );
}

#[test]
fn a_table_is_aligned() {
    let batch = sample().project(&[0, 1, 5]).unwrap();
    let document = text(Format::Table, &[batch.slice(0, 2)], batch.schema());
    assert_eq!(
        document,
        concat!(
            "+--------------------------+---------------------+----------------------+\n",
            "| at                       | n                   | attributes           |\n",
            "+--------------------------+---------------------+----------------------+\n",
            "| 2026-01-02T03:04:05Z     | 9223372036854775807 | {\"k\":\"v\",\"q\\\"\":null} |\n",
            "| 2026-01-02T03:04:05.678Z | -1                  | {}                   |\n",
            "+--------------------------+---------------------+----------------------+\n",
        )
    );
}

#[test]
fn arrow_comes_back_as_it_was() {
    let batch = sample();
    let mut encoder = Encoder::new(Format::Arrow, batch.schema()).unwrap();
    let mut bytes = encoder.batch(&batch).unwrap();
    bytes.extend(encoder.batch(&batch.slice(1, 1)).unwrap());
    bytes.extend(encoder.finish().unwrap());
    let batches: Vec<RecordBatch> =
        StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches, [batch.clone(), batch.slice(1, 1)]);
}

#[test]
fn an_empty_result_is_a_whole_document() {
    let schema = sample().schema();
    assert_eq!(text(Format::Json, &[], Arc::clone(&schema)), "[]\n");
    assert_eq!(text(Format::Ndjson, &[], Arc::clone(&schema)), "");
    assert_eq!(text(Format::Csv, &[], Arc::clone(&schema)), "at,n,v,ok,text,attributes,raw\n");
    assert!(text(Format::Table, &[], Arc::clone(&schema)).contains("| at | n | v | ok | text | attributes | raw |"));
    let mut encoder = Encoder::new(Format::Arrow, Arc::clone(&schema)).unwrap();
    let _nothing = encoder.batch(&RecordBatch::new_empty(Arc::clone(&schema))).unwrap();
    let reader = StreamReader::try_new(
        std::io::Cursor::new(Encoder::new(Format::Arrow, Arc::clone(&schema)).unwrap().finish().unwrap()),
        None,
    )
    .unwrap();
    assert_eq!(reader.schema(), schema);
}

#[test]
fn columns_of_one_name_stay_apart_in_json() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("a", DataType::Int64, true),
        Field::new("a_2", DataType::Int64, true),
    ]));
    let one = |n| -> ArrayRef { Arc::new(Int64Array::from(vec![n])) };
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![one(1), one(2), one(3)]).unwrap();
    assert_eq!(text(Format::Ndjson, &[batch], schema), "{\"a\":1,\"a_2\":2,\"a_2_2\":3}\n");
}

#[test]
fn formats_are_known_by_name() {
    for format in [Format::Table, Format::Json, Format::Ndjson, Format::Csv, Format::Arrow] {
        assert_eq!(format.name().parse(), Ok(format));
        assert_eq!(format.name().to_uppercase().parse(), Ok(format));
    }
    let error = "parquet".parse::<Format>().unwrap_err();
    assert_eq!(error.to_string(), "unknown format \"parquet\": choose table, json, ndjson, csv or arrow");
}
