//! A log, tables and an engine in a directory of their own.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use futures::TryStreamExt;
use highwater_pipeline::data::{RowKind, content_type, identity, logs, time};
use highwater_pipeline::log::{Append, Guard, Log, Record, TopicConfig};
use highwater_pipeline::storage::{self, Storage};
use highwater_pipeline::tables::{TableSpec, built_in_tables, rollup_table};
use highwater_sql::output::{Encoder, Format};
use highwater_sql::{Engine, SqlConfig, SqlError};
use serde_json::json;
use tempfile::TempDir;

use crate::log::MemoryLog;

pub(crate) struct Fixture<L = MemoryLog> {
    pub(crate) log: Arc<L>,
    pub(crate) storage: Storage,
    pub(crate) engine: Engine,
    pub(crate) directory: TempDir,
}

/// Queries of tests have little of everything.
pub(crate) fn small() -> SqlConfig {
    SqlConfig { memory_limit_bytes: 64 << 20, spill_limit_bytes: 64 << 20, threads: 2, ..SqlConfig::default() }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(small(), built_in_tables()).await
    }

    pub(crate) async fn with(config: SqlConfig, tables: Vec<TableSpec>) -> Self {
        Self::over(Arc::new(MemoryLog::default()), config, tables).await
    }
}

impl<L: Log> Fixture<L> {
    /// Over this log; its topics are made, four partitions each but for alerts and dead letters.
    pub(crate) async fn over(log: Arc<L>, config: SqlConfig, tables: Vec<TableSpec>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage::open(directory.path().join("storage").to_str().unwrap()).unwrap();
        Self::on(storage, directory, log, config, tables).await
    }

    /// The same on this storage.
    pub(crate) async fn on(
        storage: Storage,
        directory: TempDir,
        log: Arc<L>,
        config: SqlConfig,
        tables: Vec<TableSpec>,
    ) -> Self {
        for table in &tables {
            for topic in &table.topics {
                let single = matches!(table.kind, RowKind::Alerts | RowKind::DeadLetter);
                let config = TopicConfig { partitions: if single { 1 } else { 4 }, ..TopicConfig::default() };
                log.ensure_topic(topic, config).await.unwrap();
            }
        }
        let spill = directory.path().join("spill");
        std::fs::create_dir(&spill).unwrap();
        let shared: Arc<dyn Log> = Arc::<L>::clone(&log);
        let engine = Engine::new(config, storage.clone(), shared, tables, &spill).unwrap();
        Self { log, storage, engine, directory }
    }

    /// Appends one record; gives its offset.
    pub(crate) async fn append(&self, topic: &str, partition: i32, record: Record) -> i64 {
        let append = Append { topic: topic.into(), partition, records: vec![record], guard: Guard::None };
        self.log.append(append).await.unwrap().base_offset
    }

    /// Appends a JSON record, as any Kafka client would; tenant `default`.
    pub(crate) async fn append_json(&self, topic: &str, partition: i32, json: &serde_json::Value) -> i64 {
        let record =
            Record { value: Some(json.to_string().into()), timestamp_ms: Some(APPENDED_MS), ..Record::default() };
        self.append(topic, partition, record).await
    }

    /// Appends rows in the wire schema.
    pub(crate) async fn append_rows(&self, topic: &str, partition: i32, rows: &RecordBatch) -> i64 {
        let value = highwater_pipeline::data::ipc::encode(rows).unwrap();
        let record = Record {
            value: Some(value),
            headers: vec![content_type::header(content_type::ARROW)],
            timestamp_ms: Some(APPENDED_MS),
            ..Record::default()
        };
        self.append(topic, partition, record).await
    }

    /// The result as CSV without its header.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<String>, SqlError> {
        self.rows_of("default", sql).await
    }

    pub(crate) async fn rows_of(&self, tenant: &str, sql: &str) -> Result<Vec<String>, SqlError> {
        let result = self.engine.query(tenant, sql).await?;
        let mut encoder = Encoder::new(Format::Csv, result.schema()).unwrap();
        let batches: Vec<RecordBatch> = result.try_collect().await?;
        let mut text = Vec::new();
        for batch in &batches {
            text.extend(encoder.batch(batch).unwrap());
        }
        text.extend(encoder.finish().unwrap());
        Ok(String::from_utf8(text).unwrap().lines().skip(1).map(str::to_string).collect())
    }

    /// The single value of a query that has one.
    pub(crate) async fn one(&self, sql: &str) -> String {
        let rows = self.rows(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.into_iter().next().unwrap()
    }

    pub(crate) async fn error(&self, sql: &str) -> SqlError {
        match self.rows(sql).await {
            Err(error) => error,
            Ok(rows) => panic!("{sql}: no error but {} rows", rows.len()),
        }
    }
}

/// When records of these tests are appended, Unix milliseconds: 2026-01-02T03:04:05Z.
pub(crate) const APPENDED_MS: i64 = 1_767_323_045_000;

/// The tables of the sample: the built-in ones and a rollup.
pub(crate) fn sample_tables() -> Vec<TableSpec> {
    let mut fields: Vec<FieldRef> = [
        ("service", DataType::Utf8),
        ("requests", DataType::Int64),
        ("errors", DataType::Int64),
        ("window_start", time::data_type()),
        ("window_end", time::data_type()),
        ("_revision", DataType::Int32),
    ]
    .into_iter()
    .map(|(name, data_type)| Arc::new(Field::new(name, data_type, true)))
    .collect();
    fields.push(Arc::new(Field::new("tenant", DataType::Utf8, false)));
    fields.extend(identity::fields());
    let rollup = rollup_table("requests_1m", Arc::new(Schema::new(fields))).unwrap();
    built_in_tables().into_iter().chain([rollup]).collect()
}

/// A fixture with the sample's rows: all in the log, all in tables, or half of each.
pub(crate) async fn sample(all_in_log: bool, all_in_tables: bool, config: SqlConfig) -> Fixture {
    let tables = sample_tables();
    let fixture = Fixture::with(config, tables.clone()).await;
    append_first_half(&fixture).await;
    if !all_in_log {
        for table in &tables {
            fixture.commit(table).await;
        }
    }
    append_second_half(&fixture).await;
    if all_in_tables {
        for table in &tables {
            fixture.commit(table).await;
        }
    }
    fixture
}

async fn append_first_half(fixture: &Fixture) {
    fixture
        .append_json(
            "logs",
            0,
            &json!({
                "timestamp": "2026-01-02T03:00:00Z", "level": "INFO", "service": "web", "host": "a",
                "message": "GET /index 200", "labels": {"path": "/index", "status": "200"}
            }),
        )
        .await;
    fixture
        .append_json(
            "logs",
            0,
            &json!({
                "timestamp": "2026-01-02T03:00:30.5Z", "level": "error", "service": "web", "host": "a",
                "message": "GET /x 500", "trace_id": "t1", "labels": {"path": "/x", "status": "500"}
            }),
        )
        .await;
    fixture.append_json("logs", 1, &json!([
        {"timestamp": "2026-01-02T03:01:00Z", "level": "warn", "service": "db", "host": "b",
         "message": "slow query", "labels": {"ms": "1200"}},
        {"timestamp": "2026-01-03T00:00:00Z", "level": "INFO", "service": "db", "host": "b", "message": "started"}
    ])).await;
    fixture.append_rows("logs", 0, &other_tenant()).await;
    for (host, value, second) in [("a", 0.5, 0), ("a", 0.75, 10), ("b", 0.25, 0)] {
        fixture
            .append_json(
                "metrics",
                0,
                &json!({
                    "name": "cpu", "value": value, "type": "gauge", "labels": {"job": "node", "host": host},
                    "timestamp": format!("2026-01-02T03:00:{second:02}Z")
                }),
            )
            .await;
    }
    let window = |service: &str, minute: i64, requests: i64, errors: i64| rollup_row(service, minute, requests, errors);
    fixture.append_rows("rollup.requests_1m", 0, &window("web", 0, 2, 1)).await;
    fixture.append_rows("rollup.requests_1m", 1, &window("db", 1, 1, 0)).await;
}

async fn append_second_half(fixture: &Fixture) {
    // Nothing but its offset comes of a record that is none.
    fixture.append("logs", 3, Record { value: Some("not json".into()), ..Record::default() }).await;
    fixture.append_json("logs", 3, &json!({
        "timestamp": "2026-01-02T03:02:00.123456Z", "message": "naïve ✓ \"quoted\", comma", "service": "web", "host": "c"
    })).await;
    fixture
        .append_json(
            "logs",
            0,
            &json!({
                "timestamp": "2026-01-02T03:00:59.999999Z", "level": "CRITICAL", "service": "web", "host": "a",
                "message": "out of memory", "labels": {"path": "/x"}
            }),
        )
        .await;
    fixture.append_rows("logs", 1, &other_tenant()).await;
    fixture
        .append_json(
            "metrics",
            1,
            &json!({
                "name": "requests_total", "value": 42, "type": "counter", "labels": {"job": "web", "code": "500"},
                "timestamp": "2026-01-02T03:00:00Z"
            }),
        )
        .await;
    fixture.append_rows("rollup.requests_1m", 0, &rollup_row("web", 1, 5, 0)).await;
}

/// Two rows of a tenant who is not asking.
pub(crate) fn other_tenant() -> RecordBatch {
    let schema = logs::wire_schema();
    let columns = schema
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "timestamp" => {
                    Arc::new(TimestampMicrosecondArray::from(vec![1_767_323_045_000_000; 2]).with_timezone("UTC"))
                }
                "message" => Arc::new(StringArray::from(vec!["secret of another tenant"; 2])),
                "tenant" => Arc::new(StringArray::from(vec!["other"; 2])),
                _ => new_null_array(field.data_type(), 2),
            }
        })
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// A row of table `requests_1m`.
pub(crate) fn rollup_row(service: &str, minute: i64, requests: i64, errors: i64) -> RecordBatch {
    const BEGIN_US: i64 = 1_767_322_800_000_000; // 2026-01-02T03:00:00Z
    let at = |minute: i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![BEGIN_US + minute * 60_000_000]).with_timezone("UTC"))
    };
    RecordBatch::try_from_iter::<_, &str>([
        ("service", Arc::new(StringArray::from(vec![service])) as ArrayRef),
        ("requests", Arc::new(Int64Array::from(vec![requests]))),
        ("errors", Arc::new(Int64Array::from(vec![errors]))),
        ("window_start", at(minute)),
        ("window_end", at(minute + 1)),
        ("_revision", Arc::new(Int32Array::from(vec![1]))),
        ("tenant", Arc::new(StringArray::from(vec!["default"]))),
    ])
    .unwrap()
}
