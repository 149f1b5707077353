//! DuckDB reads our tables with no help from us: an independent reader of Delta and Parquet.
//!
//! Needs Python with `duckdb-extension-delta` from PyPI; `HIGHWATER_PYTHON` names the interpreter (default `python3`). Where they are missing the test says
//! so and passes, unless `HIGHWATER_REQUIRE_DUCKDB` is set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use highwater_broker::{Broker, BrokerConfig, RealFs, SystemClock};
use highwater_pipeline::log::{Append, EmbeddedLog, Guard, Log, Record, TopicConfig, TopicPartition};
use highwater_pipeline::storage::open;
use highwater_pipeline::tables::built_in_tables;
use highwater_sinks::tables::{Tables, TablesConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The answer of DuckDB, or `None` where there is none on this machine.
fn ask(table: &Path, query: &str) -> Option<Value> {
    let python = std::env::var("HIGHWATER_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_with_duckdb.py");
    let output = match Command::new(&python).arg(script).arg(table).arg(query).output() {
        Ok(output) => output,
        Err(e) => return skip(&format!("{python}: {e}")),
    };
    let errors = String::from_utf8_lossy(&output.stderr).to_string();
    match output.status.code() {
        Some(0) => Some(serde_json::from_slice(&output.stdout).unwrap()),
        Some(77) => skip(&errors),
        _ => panic!("{query}: {errors}"),
    }
}

fn skip(reason: &str) -> Option<Value> {
    assert!(std::env::var_os("HIGHWATER_REQUIRE_DUCKDB").is_none(), "DuckDB is required here: {reason}");
    eprintln!("SKIPPED: DuckDB did not read the tables: {reason}");
    None
}

fn all_partitions(topic: &str) -> Vec<TopicPartition> {
    let of = |partition| TopicPartition { topic: topic.into(), partition };
    (0..TopicConfig::default().partitions).map(of).collect()
}

async fn append(log: &dyn Log, topic: &str, value: Value) {
    let record = Record { value: Some(value.to_string().into()), ..Record::default() };
    let append = Append { topic: topic.into(), partition: 0, records: vec![record], guard: Guard::None };
    log.append(append).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_reads_what_we_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let broker =
        Broker::open(BrokerConfig::new(dir.path().join("log")), Arc::new(RealFs), Arc::new(SystemClock)).unwrap();
    let log = Arc::new(EmbeddedLog::new(Arc::new(broker)));
    for topic in ["logs", "metrics"] {
        log.ensure_topic(topic, TopicConfig::default()).await.unwrap();
    }
    let storage = open(dir.path().join("storage").to_str().unwrap()).unwrap();
    let config = TablesConfig { checkpoint_every: 2, ..TablesConfig::default() };
    let shutdown = CancellationToken::new();
    let tables =
        Tables::new(Arc::clone(&log) as Arc<dyn Log>, storage, config, Arc::new(SystemClock), shutdown.clone());
    for spec in built_in_tables().into_iter().take(2) {
        tables.assign(&all_partitions(&spec.topics[0]));
        tables.start(spec);
    }
    // Several commits, so that DuckDB goes through a checkpoint and what follows it.
    for day in 0..5 {
        let rows: Vec<Value> = (0..100)
            .map(|i| {
                json!({
                    "timestamp": 1_700_006_400 + day * 86_400 + i, "message": format!("line {i} of day {day}, ünïcode"),
                    "service": format!("s{}", i % 4), "level": if i % 10 == 0 { "error" } else { "info" },
                    "labels": {"i": i.to_string(), "odd \"key\"": "x"},
                })
            })
            .collect();
        append(log.as_ref(), "logs", Value::Array(rows)).await;
        let samples = [("a", json!(1.5)), ("b", json!(-0.25)), ("c", json!(2))];
        for (name, value) in samples {
            let sample = json!({"name": name, "value": value, "timestamp": 1_700_006_400 + day * 86_400, "labels": {"job": "j"}});
            append(log.as_ref(), "metrics", sample).await;
        }
        tables.flush().await.unwrap();
    }
    shutdown.cancel();
    tables.join().await.unwrap();

    let logs = dir.path().join("storage/tables/logs");
    let Some(count) = ask(&logs, "SELECT count(*), count(DISTINCT (_partition, _offset, _row)), count(user_id) FROM t")
    else {
        return;
    };
    assert_eq!(count, json!([[500, 500, 0]]));
    let by_day = "SELECT date, tenant, count(*), epoch_us(min(timestamp)), epoch_us(max(timestamp)) FROM t WHERE date = DATE '2023-11-16' GROUP BY ALL";
    assert_eq!(
        ask(&logs, by_day).unwrap(),
        json!([["2023-11-16", "default", 100, 1_700_092_800_000_000_i64, 1_700_092_899_000_000_i64]])
    );
    let filtered = "SELECT message, attributes['i'], attributes['odd \"key\"'] FROM t WHERE level = 'ERROR' AND service = 's2' AND timestamp >= TIMESTAMPTZ '2023-11-18 00:00:00+00' ORDER BY timestamp";
    assert_eq!(
        ask(&logs, filtered).unwrap(),
        json!([
            ["line 10 of day 3, ünïcode", "10", "x"],
            ["line 30 of day 3, ünïcode", "30", "x"],
            ["line 50 of day 3, ünïcode", "50", "x"],
            ["line 70 of day 3, ünïcode", "70", "x"],
            ["line 90 of day 3, ünïcode", "90", "x"],
            ["line 10 of day 4, ünïcode", "10", "x"],
            ["line 30 of day 4, ünïcode", "30", "x"],
            ["line 50 of day 4, ünïcode", "50", "x"],
            ["line 70 of day 4, ünïcode", "70", "x"],
            ["line 90 of day 4, ünïcode", "90", "x"],
        ])
    );
    let metrics = dir.path().join("storage/tables/metrics");
    let sums = "SELECT name, count(*), sum(value), any_value(job) FROM t GROUP BY name ORDER BY name";
    assert_eq!(ask(&metrics, sums).unwrap(), json!([["a", 5, 7.5, "j"], ["b", 5, -1.25, "j"], ["c", 5, 10.0, "j"]]));
}
