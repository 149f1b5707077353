//! Tables on the real broker: restarts, retention, and verification beside a running server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Broker, BrokerConfig, RealFs, SystemClock};
use highwater_pipeline::log::{Append, EmbeddedLog, Guard, Log, Record, TopicConfig, TopicPartition};
use highwater_pipeline::storage::{Storage, open, open_existing};
use highwater_pipeline::tables::built_in_tables;
use highwater_sinks::SinkError;
use highwater_sinks::tables::{Tables, TablesConfig};
use highwater_sinks::verify::{FindingKind, VerifyReport, verify};
use tokio_util::sync::CancellationToken;

const PARTITIONS: i32 = 4;

fn open_log(dir: &Path) -> Arc<EmbeddedLog> {
    let config = BrokerConfig::new(dir.join("log"));
    let broker = Broker::open(config, Arc::new(RealFs), Arc::new(SystemClock)).unwrap();
    Arc::new(EmbeddedLog::new(Arc::new(broker)))
}

fn open_storage(dir: &Path) -> Storage {
    open(dir.join("storage").to_str().unwrap()).unwrap()
}

fn start(log: &Arc<EmbeddedLog>, storage: &Storage, shutdown: &CancellationToken) -> Tables {
    let config = TablesConfig { commit_interval_ms: 20, ..TablesConfig::default() };
    let log: Arc<dyn Log> = Arc::clone(log) as Arc<dyn Log>;
    let tables = Tables::new(log, storage.clone(), config, Arc::new(SystemClock), shutdown.clone());
    tables.start(built_in_tables().remove(0));
    let of = |partition| TopicPartition { topic: "logs".into(), partition };
    tables.assign(&(0..PARTITIONS).map(of).collect::<Vec<_>>());
    tables
}

async fn append(log: &dyn Log, partition: i32, n: usize) {
    let value = serde_json::json!([
        {"message": format!("first of {n}"), "service": format!("s{}", n % 5), "timestamp": 1_700_000_000 + n, "n": n},
        {"message": format!("second of {n}"), "level": "warn", "labels": {"a": "b"}},
    ]);
    let record = Record { value: Some(value.to_string().into()), ..Record::default() };
    let append = Append { topic: "logs".into(), partition, records: vec![record], guard: Guard::None };
    log.append(append).await.unwrap();
}

/// As `highwater verify --data-dir` does it: everything opened for reading, nothing shared with the server.
async fn verify_from_outside(dir: &Path) -> VerifyReport {
    let storage = open_existing(dir.join("storage").to_str().unwrap()).unwrap();
    let log_dir = dir.join("log");
    verify(&storage, &[], || {
        let broker = Broker::open_read_only(log_dir, Arc::new(RealFs), Arc::new(SystemClock))
            .map_err(|e| SinkError::Log(e.into()))?;
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::new(broker)));
        Ok(Some(log))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_restarts_every_record_is_in_the_table_once() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_storage(dir.path());
    let mut appended = 0;
    for life in 0..4 {
        let log = open_log(dir.path());
        log.ensure_topic("logs", TopicConfig::with_partitions(PARTITIONS)).await.unwrap();
        let shutdown = CancellationToken::new();
        let tables = start(&log, &storage, &shutdown);
        for n in 0..50 {
            append(log.as_ref(), n % PARTITIONS, usize::try_from(n).unwrap() + 50 * life).await;
            appended += 2;
        }
        if life % 2 == 0 {
            // Stopped in the middle, as it happens to stand.
            tables.abort();
        } else {
            shutdown.cancel();
            tables.join().await.unwrap();
        }
        log.broker().shutdown().await;
    }
    let log = open_log(dir.path());
    let shutdown = CancellationToken::new();
    let tables = start(&log, &storage, &shutdown);
    tables.flush().await.unwrap();
    let report = verify_from_outside(dir.path()).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.tables[0].rows, appended, "{report}");
    assert_eq!(report.tables[0].partitions.iter().map(|p| p.compared_rows).sum::<u64>(), appended);

    let committed = log.committed("__highwater.table.logs").await.unwrap();
    for offset in committed {
        let end = log.offsets("logs", offset.partition).await.unwrap().high_watermark;
        assert_eq!(offset.offset, end, "partition {}", offset.partition);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_is_clean_beside_a_running_writer() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_storage(dir.path());
    let log = open_log(dir.path());
    log.ensure_topic("logs", TopicConfig::with_partitions(PARTITIONS)).await.unwrap();
    let shutdown = CancellationToken::new();
    let tables = start(&log, &storage, &shutdown);
    let load = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for n in 0..400 {
                append(log.as_ref(), n % PARTITIONS, usize::try_from(n).unwrap()).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    while !load.is_finished() {
        let report = verify_from_outside(dir.path()).await;
        assert!(report.is_clean(), "{report}");
    }
    load.await.unwrap();
    tables.flush().await.unwrap();
    let report = verify_from_outside(dir.path()).await;
    assert_eq!((report.is_clean(), report.tables[0].rows), (true, 800), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_deleted_under_a_stopped_table_are_a_recorded_gap() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_storage(dir.path());
    let log = open_log(dir.path());
    log.ensure_topic("logs", TopicConfig::with_partitions(1)).await.unwrap();
    let shutdown = CancellationToken::new();
    let tables = start(&log, &storage, &shutdown);
    append(log.as_ref(), 0, 0).await;
    tables.flush().await.unwrap();
    shutdown.cancel();
    tables.join().await.unwrap();
    for n in 1..6 {
        append(log.as_ref(), 0, n).await;
    }
    assert_eq!(log.broker().delete_records("logs", 0, 4).await.unwrap(), 4);

    let tables = start(&log, &storage, &CancellationToken::new());
    tables.flush().await.unwrap();
    let report = verify_from_outside(dir.path()).await;
    let found: Vec<_> = report.findings().map(|f| (f.kind, f.from, f.to)).collect();
    assert_eq!(found, [(FindingKind::RecordedGap, 1, 4)], "{report}");
    assert_eq!(report.tables[0].rows, 6);
}
