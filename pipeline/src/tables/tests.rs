#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use arrow::array::{Array, AsArray, MapBuilder, RecordBatch, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, TimeUnit};
use url::Url;
use uuid::Uuid;

use super::*;

fn rollup_schema() -> arrow::datatypes::SchemaRef {
    Arc::new(Schema::new(vec![Field::new(
        "window_start",
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        true,
    )]))
}

#[test]
fn dates_are_utc_days_and_stay_in_four_digits() {
    assert_eq!(date_of_us(0), 0);
    assert_eq!(date_of_us(-1), -1);
    assert_eq!(date_of_us(86_400_000_000), 1);
    assert_eq!(date_text(0), "1970-01-01");
    assert_eq!(date_text(-1), "1969-12-31");
    assert_eq!(date_text(20_412), "2025-11-20");
    assert_eq!(date_text(date_of_us(i64::MAX)), "9999-12-31");
    assert_eq!(date_text(date_of_us(i64::MIN)), "0001-01-01");
}

#[test]
fn path_values_are_safe_names() {
    assert_eq!(encode_path_value(Some("acme-1.eu_x")), "acme-1.eu_x");
    assert_eq!(encode_path_value(Some("a/b c=é%")), "a%2Fb%20c%3D%C3%A9%25");
    assert_eq!(encode_path_value(Some("../..")), "..%2F..");
    assert_eq!(encode_path_value(Some("")), "__HIVE_DEFAULT_PARTITION__");
    assert_eq!(encode_path_value(None), "__HIVE_DEFAULT_PARTITION__");
    let long = "x".repeat(5_000);
    let other = format!("{}y", "x".repeat(4_999));
    assert_eq!(encode_path_value(Some(&long)).len(), 128);
    assert_ne!(encode_path_value(Some(&long)), encode_path_value(Some(&other)));
}

#[test]
fn only_our_own_file_names_are_recognised() {
    let id = Uuid::from_u128(7);
    let path = data_file_path(Some("a/b"), Some("2025-01-02"), id);
    assert_eq!(path, "tenant=a%2Fb/date=2025-01-02/00000000-0000-0000-0000-000000000007.parquet");
    assert!(is_data_file_path(&path));
    assert!(!is_data_file_path("_delta_log/00000000000000000000.json"));
    assert!(!is_data_file_path("tenant=a/date=b/part-0.parquet"));
    assert!(!is_data_file_path("tenant=a/date=b/c/00000000-0000-0000-0000-000000000007.parquet"));
    assert!(!is_data_file_path("00000000-0000-0000-0000-000000000007.parquet"));
}

#[test]
fn table_urls_end_in_a_slash_whatever_the_root() {
    for root in ["file:///data/hw", "file:///data/hw/"] {
        assert_eq!(table_url(&Url::parse(root).unwrap(), "logs").as_str(), "file:///data/hw/tables/logs/");
    }
    assert_eq!(table_url(&Url::parse("s3://b").unwrap(), "logs").as_str(), "s3://b/tables/logs/");
}

#[test]
fn covers_survive_json() {
    let cover = Cover {
        topic: "logs".into(),
        topic_id: Uuid::from_u128(1),
        partition: 3,
        from: 10,
        to: 20,
        rows: 5,
        gap: false,
    };
    let gap = Cover { gap: true, rows: 0, ..cover.clone() };
    let json = covers_to_json(&[cover.clone(), gap.clone()]);
    assert!(json[0].get("gap").is_none());
    assert_eq!(json[1]["gap"], true);
    assert_eq!(covers_from_json("logs", 4, &json).unwrap(), vec![cover.clone(), gap]);
    assert_eq!(cover.app_id(), "00000000-0000-0000-0000-000000000001/3");

    let backwards = covers_to_json(&[Cover { from: 20, to: 10, ..cover }]);
    let error = covers_from_json("logs", 4, &backwards).unwrap_err().to_string();
    assert!(error.contains("commit 4 of table logs") && error.contains("20..10"), "{error}");
    assert!(covers_from_json("logs", 4, &serde_json::json!({})).is_err());
}

#[test]
fn stored_rows_carry_their_date_and_topic() {
    let mut spec = rollup_table("requests_1m", rollup_schema()).unwrap();
    let times =
        TimestampMicrosecondArray::from(vec![Some(0), None, Some(-1), Some(86_400_000_000)]).with_timezone("UTC");
    let batch = RecordBatch::try_new(rollup_schema(), vec![Arc::new(times)]).unwrap();

    let stored = stored_batch(&spec, "rollup.requests_1m", &batch).unwrap();
    assert_eq!(stored.schema(), spec.table_schema());
    let dates = stored.column_by_name("date").unwrap().as_primitive::<Date32Type>();
    assert_eq!(dates.iter().collect::<Vec<_>>(), vec![Some(0), None, Some(-1), Some(1)]);

    spec.topics.push("other".into());
    let stored = stored_batch(&spec, "other", &batch).unwrap();
    assert_eq!(stored.schema(), spec.table_schema());
    assert_eq!(stored.column_by_name("_topic").unwrap().as_string::<i32>().value(2), "other");
}

#[test]
fn rollup_tables_are_checked() {
    assert_eq!(rollup_table("r", rollup_schema()).unwrap().topics, ["rollup.r"]);
    for bad in ["", "logs", "../x", "a b", "1x", &"x".repeat(201)] {
        assert!(matches!(rollup_table(bad, rollup_schema()), Err(TableError::BadName { .. })), "{bad}");
    }
    let no_time = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let error = rollup_table("r", no_time).unwrap_err().to_string();
    assert!(error.contains("window_start") && error.contains("missing"), "{error}");
}

#[test]
fn every_built_in_table_has_the_columns_it_is_sorted_and_partitioned_by() {
    let tables = built_in_tables();
    assert_eq!(
        tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(),
        ["logs", "metrics", "spans", "metric_metadata", "alerts", "dead_letter"]
    );
    for table in tables {
        let schema = table.table_schema();
        for column in table.sort_columns.iter().map(String::as_str).chain(PARTITION_COLUMNS) {
            assert!(schema.field_with_name(column).is_ok(), "{} lacks {column}", table.name);
        }
        super::columns::check_time_column(&table.name, &schema, &table.time_column).unwrap();
        assert_eq!(table.group(), format!("__highwater.table.{}", table.name));
    }
}

#[test]
fn types_that_delta_lacks_are_stored_as_ones_it_has() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("window_start", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
        Field::new("n", DataType::UInt64, true),
        Field::new("s", DataType::Utf8View, true),
    ]));
    let spec = rollup_table("r", Arc::clone(&schema)).unwrap();
    let row = |n: u64| {
        RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(arrow::array::TimestampNanosecondArray::from(vec![1_500])),
                Arc::new(arrow::array::UInt64Array::from(vec![n])),
                Arc::new(arrow::array::StringViewArray::from(vec!["x"])),
            ],
        )
        .unwrap()
    };
    let stored = stored_batch(&spec, "rollup.r", &row(7)).unwrap();
    assert_eq!(stored.schema(), spec.table_schema());
    assert_eq!(stored.column(0).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0), 1);
    assert_eq!(stored.column(1).as_primitive::<arrow::datatypes::Int64Type>().value(0), 7);
    assert_eq!(stored.column(2).as_string::<i32>().value(0), "x");
    assert!(stored_batch(&spec, "rollup.r", &row(u64::MAX)).is_err(), "a value is never stored as another");
}

#[test]
fn promoted_attributes_are_columns_behind_the_others() {
    let logs = || built_in_tables().into_iter().find(|table| table.name == "logs").unwrap();
    let mut spec = logs();
    spec.promote(["http.route", "tier", "tier"]).unwrap();
    assert_eq!(spec.promoted, ["http.route", "tier"]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in [&[("tier", Some("gold")), ("http.route", Some("/a")), ("tier", Some("second"))][..], &[("tier", None)]]
    {
        for (key, value) in row {
            map.keys().append_value(key);
            map.values().append_option(*value);
        }
        map.append(true).unwrap();
    }
    map.append(false).unwrap();
    let map = map.finish();
    let column = |name: &str| attribute_column(&map.slice(0, 3), name).unwrap().as_string::<i32>().clone();
    assert_eq!(column("tier").iter().collect::<Vec<_>>(), [Some("gold"), None, None]);
    assert_eq!(column("http.route").iter().collect::<Vec<_>>(), [Some("/a"), None, None]);
    assert_eq!(column("nothing").null_count(), 3);
    let sliced = attribute_column(&map.slice(1, 2), "http.route").unwrap();
    assert_eq!(sliced.null_count(), 2, "the offsets of a slice do not begin at 0");

    let schema = spec.table_schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[names.len() - 3..], ["date", "http.route", "tier"]);

    let refused = |table: &str, attribute: &str| {
        let mut spec = built_in_tables().into_iter().find(|spec| spec.name == table).unwrap();
        spec.promote([attribute]).unwrap_err().to_string()
    };
    assert!(refused("metrics", "job").contains("no map `attributes`"));
    assert!(refused("logs", "User_ID").contains("the table has a column `user_id`"));
    for bad in ["", "a b", "a,b", "a=b", "_x", &"x".repeat(200)] {
        assert!(refused("logs", bad).contains("a column's name"), "{bad}");
    }
    let many: Vec<String> = (0..65).map(|i| format!("a{i}")).collect();
    assert!(logs().promote(many.iter().map(String::as_str)).unwrap_err().to_string().contains("at most 64"));
}
