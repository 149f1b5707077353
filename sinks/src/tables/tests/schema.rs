//! Tables whose columns change.

use arrow::datatypes::{DataType, Field, Schema};
use highwater_pipeline::data::{identity, time};
use highwater_pipeline::tables::rollup_table;

use super::delta::DeltaLog;
use super::*;
use crate::SinkError;

fn spec(columns: &[(&str, DataType, bool)]) -> TableSpec {
    let mut fields =
        vec![Field::new("tenant", DataType::Utf8, false), Field::new("window_start", time::data_type(), true)];
    fields.extend(columns.iter().map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable)));
    fields.extend(identity::fields().iter().map(|f| f.as_ref().clone()));
    rollup_table("r", Arc::new(Schema::new(fields))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_nullable_columns_are_added_and_old_ones_stay() {
    let world = World::new(1);
    let first = spec(&[("a", DataType::Int64, true)]);
    assert_eq!(DeltaLog::open(&first, &world.storage, 0).await.unwrap().version(), 0);
    assert_eq!(DeltaLog::open(&first, &world.storage, 0).await.unwrap().version(), 0, "opening changes nothing");
    let second = spec(&[("b", DataType::Float64, true)]);
    assert_eq!(DeltaLog::open(&second, &world.storage, 0).await.unwrap().version(), 1);
    let schema = world.delta("r").await.snapshot().unwrap().snapshot().arrow_schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).filter(|n| n.len() == 1).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(DeltaLog::open(&first, &world.storage, 0).await.unwrap().version(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_do_not_fit_are_refused_by_name() {
    let world = World::new(1);
    DeltaLog::open(&spec(&[("a", DataType::Int64, true), ("c", DataType::Utf8, false)]), &world.storage, 0)
        .await
        .unwrap();
    let refused = async |columns: &[(&str, DataType, bool)]| {
        let error = DeltaLog::open(&spec(columns), &world.storage, 0).await.unwrap_err();
        assert!(!error.is_retryable());
        match &error {
            SinkError::SchemaConflict { column, in_table, wanted, .. } => {
                (column.clone(), in_table.clone(), wanted.clone())
            }
            other => panic!("{other}"),
        }
    };
    let c = ("c", DataType::Utf8, false);
    let owned = |a: &str, b: &str, c: &str| (a.to_string(), b.to_string(), c.to_string());
    assert_eq!(refused(&[("a", DataType::Utf8, true), c.clone()]).await, owned("a", "long", "string"));
    assert_eq!(refused(&[("c", DataType::Utf8, true)]).await, owned("c", "string not null", "string"));
    assert_eq!(refused(&[c.clone(), ("d", DataType::Int64, false)]).await, owned("d", "missing", "long not null"));
    assert_eq!(refused(&[]).await, owned("c", "string not null", "missing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raised_protocol_is_not_written_to() {
    let world = World::new(1);
    world.append(0, 1);
    world.start().flush().await.unwrap();
    let commit = world.dir.path().join("tables/logs/_delta_log/00000000000000000002.json");
    std::fs::write(
        commit,
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#,
    )
    .unwrap();
    let error = world.start().join().await.unwrap_err();
    assert!(matches!(error, SinkError::Protocol { reader: 3, writer: 7, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_built_in_table_can_be_made() {
    let world = World::new(1);
    for spec in built_in_tables() {
        let log = DeltaLog::open(&spec, &world.storage, 0).await.unwrap();
        assert_eq!((log.version(), log.table()), (0, spec.name.as_str()));
    }
    let mut names = crate::verify::table_names(&world.storage).await.unwrap();
    names.sort();
    assert_eq!(names, ["alerts", "dead_letter", "logs", "metric_metadata", "metrics", "spans"]);
}
