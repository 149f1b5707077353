//! What is in a file, and what Delta is told about it.

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use highwater_pipeline::data::{identity, time};
use highwater_pipeline::tables::{rollup_table, stored_batch};
use serde_json::{Value, json};

use super::*;
use crate::tables::encode::{EncodedFile, encode};

/// Rows of a small rollup: window_start, value, text.
fn rollup(rows: &[(i64, Option<f64>, Option<&str>)], tenant: &str) -> (TableSpec, RecordBatch) {
    let mut fields = vec![
        Field::new("tenant", DataType::Utf8, false),
        Field::new("window_start", time::data_type(), true),
        Field::new("value", DataType::Float64, true),
        Field::new("text", DataType::Utf8, true),
    ];
    fields.extend(identity::fields().iter().map(|f| f.as_ref().clone()));
    let schema = Arc::new(Schema::new(fields));
    let spec = rollup_table("r", Arc::clone(&schema)).unwrap();
    let coordinate = identity::Coordinate { partition: 0, offset: 7, append_time_us: DAY };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|_| Some(tenant)).collect::<StringArray>()),
        Arc::new(time::array(rows.iter().map(|r| r.0).collect())),
        Arc::new(rows.iter().map(|r| r.1).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.2).collect::<StringArray>()),
    ];
    columns.extend(coordinate.columns((0..i32::try_from(rows.len()).unwrap()).collect::<Vec<_>>().into(), None));
    let batch = RecordBatch::try_new(schema, columns).unwrap();
    let stored = stored_batch(&spec, "rollup.r", &batch).unwrap();
    (spec, stored)
}

fn encoded(rows: &[(i64, Option<f64>, Option<&str>)]) -> Vec<EncodedFile> {
    let (spec, batch) = rollup(rows, "t");
    encode(&spec, &TablesConfig::default(), &[batch]).unwrap()
}

fn stats(file: &EncodedFile) -> Value {
    serde_json::from_str(&file.stats).unwrap()
}

#[test]
fn statistics_say_what_the_file_holds() {
    let files = encoded(&[(DAY + 3, Some(2.5), Some("b")), (DAY + 1, None, Some("a")), (DAY + 2, Some(-0.5), None)]);
    assert_eq!(files.len(), 1);
    let stats = stats(&files[0]);
    assert_eq!(stats["numRecords"], 3);
    assert_eq!(stats["minValues"]["window_start"], "2025-11-20T00:00:00.000001Z");
    assert_eq!(stats["maxValues"]["window_start"], "2025-11-20T00:00:00.000003Z");
    assert_eq!((&stats["minValues"]["value"], &stats["maxValues"]["value"]), (&json!(-0.5), &json!(2.5)));
    assert_eq!((&stats["minValues"]["text"], &stats["maxValues"]["text"]), (&json!("a"), &json!("b")));
    assert_eq!(stats["minValues"]["_offset"], 7);
    assert_eq!(stats["nullCount"]["value"], 1);
    assert_eq!(stats["nullCount"]["window_start"], 0);
    assert!(stats["nullCount"].get("tenant").is_none(), "partition values are Delta's own");
}

#[test]
fn bounds_that_would_mislead_are_left_out() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let stats = stats(&encoded(&[(DAY, Some(1.0), None), (DAY, Some(odd), None)])[0]);
        assert!(stats["minValues"].get("value").is_none(), "{odd}: {stats}");
        assert!(stats["maxValues"].get("value").is_none(), "{odd}: {stats}");
        assert_eq!(stats["nullCount"]["value"], 0);
        assert!(stats["minValues"].get("text").is_none(), "all NULL");
        assert_eq!(stats["nullCount"]["text"], 2);
    }
    let far = stats(&encoded(&[(i64::MAX / 2, None, None)])[0]);
    assert!(far["maxValues"].get("window_start").is_none(), "no reader parses the year 146 thousand: {far}");
}

#[test]
fn long_text_is_shortened_to_the_safe_side() {
    let (low, high) = (format!("{}a", "é".repeat(100)), format!("{}z", "é".repeat(100)));
    let stats = stats(&encoded(&[(DAY, None, Some(&low)), (DAY, None, Some(&high))])[0]);
    let (min, max) = (stats["minValues"]["text"].as_str().unwrap(), stats["maxValues"]["text"].as_str().unwrap());
    assert!(min <= low.as_str() && max >= high.as_str(), "{min} {max}");
    assert!(min.len() <= 64 && max.len() <= 64);
}

#[test]
fn row_groups_are_bounded_and_their_bounds_merged() {
    let (spec, batch) = rollup(&(0..1_000).map(|i| (DAY + i, Some(i as f64), None)).collect::<Vec<_>>(), "t");
    let config = TablesConfig { row_group_rows: 128, ..TablesConfig::default() };
    let files = encode(&spec, &config, &[batch]).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone()).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 8);
    assert_eq!(reader.metadata().row_group(0).num_rows(), 128);
    let stats = stats(&files[0]);
    assert_eq!((&stats["minValues"]["value"], &stats["maxValues"]["value"]), (&json!(0.0), &json!(999.0)));
    let sorting = reader.metadata().row_group(0).sorting_columns().unwrap();
    let column = &reader.parquet_schema().columns()[usize::try_from(sorting[0].column_idx).unwrap()];
    assert_eq!(column.path().string(), "window_start");
}

#[test]
fn append_times_of_many_records_are_packed_as_deltas() {
    let (spec, batch) = rollup(&(0..10_000).map(|i| (DAY, Some(i as f64), None)).collect::<Vec<_>>(), "t");
    let at = batch.schema().index_of(identity::APPEND_TIME).unwrap();
    let encodings_of = |records: i64| {
        let mut columns = batch.columns().to_vec();
        columns[at] = Arc::new(time::array((0..10_000).map(|row| DAY + row % records * 1_000).collect()));
        let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
        let files = encode(&spec, &TablesConfig::default(), &[batch]).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone()).unwrap();
        let columns = reader.metadata().row_group(0).columns();
        let column = columns.iter().find(|c| c.column_path().string() == identity::APPEND_TIME).unwrap();
        column.encodings().collect::<Vec<_>>()
    };
    assert!(encodings_of(10_000).contains(&parquet::basic::Encoding::DELTA_BINARY_PACKED));
    assert!(!encodings_of(100).contains(&parquet::basic::Encoding::DELTA_BINARY_PACKED));
}

#[test]
fn rows_are_split_by_tenant_and_date_and_sorted_inside() {
    let rows: Vec<LogRow> = [("b", 1, "y", 2), ("a", 0, "x", 1), ("b", 0, "y", 1), ("b", 1, "x", 9), ("b", 1, "y", 1)]
        .iter()
        .map(|(tenant, day, service, second)| LogRow {
            tenant: (*tenant).to_string(),
            timestamp_us: DAY + day * DAY_US + second,
            service: Some((*service).to_string()),
            ..LogRow::default()
        })
        .collect();
    let spec = logs_table();
    let decoder = highwater_pipeline::data::Decoder::new(spec.kind.clone());
    let record = log_record(&rows);
    let record = highwater_pipeline::log::StoredRecord {
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: record.value,
        headers: record.headers,
    };
    let highwater_pipeline::data::Decoded::Rows { batch, refused } = decoder.decode(0, &record) else { panic!() };
    assert!(refused.is_empty());
    let stored = stored_batch(&spec, "logs", &batch).unwrap();
    let files = encode(&spec, &TablesConfig::default(), &[stored]).unwrap();
    let found: Vec<_> =
        files.iter().map(|f| (f.tenant.as_deref().unwrap(), f.date.as_deref().unwrap(), f.rows)).collect();
    assert_eq!(found, [("a", "2025-11-20", 1), ("b", "2025-11-20", 1), ("b", "2025-11-21", 3)]);
    let read: Vec<_> =
        ParquetRecordBatchReaderBuilder::try_new(files[2].bytes.clone()).unwrap().build().unwrap().collect();
    let batch = read[0].as_ref().unwrap();
    let services: Vec<_> = batch.column_by_name("service").unwrap().as_string::<i32>().iter().flatten().collect();
    assert_eq!(services, ["x", "y", "y"]);
    let identities: Vec<i32> = identities_of(batch).iter().map(|i| i.2).collect();
    assert_eq!(identities, [3, 4, 0]);
    assert!(batch.column_by_name("tenant").is_none() && batch.column_by_name("date").is_none());
}

#[test]
fn columns_survive_parquet_as_they_were() {
    let values = [Some(f64::NAN), Some(-0.0), Some(f64::INFINITY), None];
    let (spec, batch) = rollup(&values.map(|v| (DAY, v, None)), "t");
    let files = encode(&spec, &TablesConfig::default(), &[batch]).unwrap();
    let read = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone())
        .unwrap()
        .build()
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let column = read.column_by_name("value").unwrap().as_primitive::<arrow::datatypes::Float64Type>().clone();
    let bits: Vec<_> = column.iter().map(|v| v.map(f64::to_bits)).collect();
    assert_eq!(bits, values.map(|v| v.map(f64::to_bits)));
    assert_eq!(read.column_by_name("window_start").unwrap().data_type(), &time::data_type());
    let offsets: &Int64Array = read.column_by_name("_offset").unwrap().as_primitive();
    assert_eq!(offsets.value(0), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_partition_values_name_directories_and_come_back_as_they_were() {
    let world = World::new(1);
    let tenants = ["a/b c%é", "..", "x=y", "", "'\"#?*", &"ü".repeat(200)];
    let mut files = Vec::new();
    for (i, tenant) in tenants.iter().enumerate() {
        let (spec, batch) = rollup(&[(DAY + i as i64, None, None)], tenant);
        files.extend(encode(&spec, &TablesConfig::default(), &[batch]).unwrap());
    }
    let (spec, _) = rollup(&[], "t");
    let mut log = delta::DeltaLog::open(&spec, &world.storage, 0).await.unwrap();
    for file in &files {
        let mut path = highwater_pipeline::tables::table_path("r");
        path.extend(object_store::path::Path::parse(&file.path).unwrap().parts());
        world.storage.objects().put(&path, file.bytes.clone().into()).await.unwrap();
    }
    let commit = log.begin(Vec::new(), files).unwrap();
    assert!(matches!(log.try_commit(&commit, 0).await.unwrap(), delta::Attempt::Done(_)));
    assert_eq!(world.read("r").await.iter().map(RecordBatch::num_rows).sum::<usize>(), tenants.len());
    let table = world.delta("r").await;
    let mut found: Vec<_> = table
        .snapshot()
        .unwrap()
        .log_data()
        .iter()
        .map(|f| f.partition_values_map()["tenant"].clone().unwrap_or_default())
        .collect();
    found.sort();
    let mut expected: Vec<_> = tenants.map(str::to_string).into();
    expected.sort();
    assert_eq!(found, expected);
    let outside = world.dir.path().parent().unwrap().join("date=2025-11-20");
    assert!(!outside.exists());
}

#[test]
fn settings_that_cannot_work_are_named() {
    assert_eq!(TablesConfig::default().problem(), None);
    let zero = TablesConfig { checkpoint_every: 0, ..TablesConfig::default() };
    assert!(zero.problem().unwrap().contains("tables.checkpoint_every"));
    let level = TablesConfig { compression_level: 99, ..TablesConfig::default() };
    assert!(level.problem().unwrap().contains("1 to 22"));
}

#[test]
fn waits_double_up_to_their_limit_with_jitter() {
    let config = TablesConfig { max_backoff_ms: 1_000, ..TablesConfig::default() };
    assert_eq!(config.backoff(0, 0), Duration::from_millis(25));
    assert_eq!(config.backoff(0, 25), Duration::from_millis(50));
    assert_eq!(config.backoff(2, 0), Duration::from_millis(100));
    assert_eq!(config.backoff(40, 500), Duration::from_millis(1_000));
}
