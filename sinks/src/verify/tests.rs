#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use highwater_broker::ManualClock;
use highwater_pipeline::log::{CleanupPolicy, Log};
use highwater_pipeline::storage::{Storage, open};
use highwater_pipeline::tables::built_in_tables;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::tables::maintenance::Upkeep;
use crate::tables::{MemoryBudget, TableWriter, TablesConfig, WriterParts};
use crate::testing::{LogRow, MemoryLog, log_record, partitions};

/// A table of two commits over two partitions: offsets 0..2 and 2..3 of each, two rows per record.
async fn written() -> (tempfile::TempDir, Arc<MemoryLog>, Storage) {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path().to_str().unwrap()).unwrap();
    let log = MemoryLog::with_topic("logs", 2);
    let push = |partition, n: i64| {
        let row = |i: i64| LogRow {
            timestamp_us: 1_700_000_000_000_000 + i,
            tenant: "default".into(),
            message: format!("m{i}"),
            ..LogRow::default()
        };
        log.push("logs", partition, log_record(&[row(n), row(n + 1)]));
    };
    let writer = TableWriter::start(WriterParts {
        spec: built_in_tables().remove(0),
        log: Arc::clone(&log) as Arc<dyn Log>,
        storage: storage.clone(),
        config: Arc::new(TablesConfig { commit_interval_ms: 3_600_000, ..TablesConfig::default() }),
        clock: Arc::new(ManualClock::new(0)),
        budget: MemoryBudget::new(usize::MAX),
        upkeep: Upkeep::new(0),
        shutdown: CancellationToken::new(),
    });
    writer.assign(&partitions("logs", 0..2));
    for n in 0..2 {
        push(0, n);
        push(1, n);
    }
    writer.flush().await.unwrap();
    push(0, 2);
    push(1, 2);
    assert_eq!(writer.flush().await.unwrap().version, Some(2));
    writer.abort();
    (dir, log, storage)
}

fn commit_path(dir: &tempfile::TempDir, version: u64) -> std::path::PathBuf {
    dir.path().join(format!("tables/logs/_delta_log/{version:020}.json"))
}

fn edit(dir: &tempfile::TempDir, version: u64, from: &str, to: &str) {
    let path = commit_path(dir, version);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

async fn kinds(storage: &Storage, log: Option<Arc<MemoryLog>>) -> Vec<(FindingKind, i32, i64, i64)> {
    let report = verify(storage, &[], || Ok(log.map(|log| log as Arc<dyn Log>))).await.unwrap();
    report.findings().map(|f| (f.kind, f.partition, f.from, f.to)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_compaction_took_is_missing_from_no_table() {
    let (_dir, log, storage) = written().await;
    log.compact("logs", 0, 1);
    // Of a topic that keeps all, a record is gone.
    assert_eq!(kinds(&storage, Some(Arc::clone(&log))).await, [(FindingKind::Mismatch, 0, 0, 2)]);
    log.set_cleanup("logs", CleanupPolicy::Compact);
    let report = verify(&storage, &[], || Ok(Some(log))).await.unwrap();
    assert!(report.is_clean(), "{report}");
    let compared: Vec<_> = report.tables[0].partitions.iter().map(|p| (p.rows, p.compared_rows)).collect();
    assert_eq!(compared, [(6, 4), (6, 6)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_table_is_clean_with_and_without_a_log() {
    let (_dir, log, storage) = written().await;
    let report = verify(&storage, &[], || Ok(Some(log))).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.exit_code(), 0);
    let table = &report.tables[0];
    assert_eq!((table.commits, table.rows, table.version), (2, 12, 2));
    let partitions: Vec<_> =
        table.partitions.iter().map(|p| (p.partition, p.from, p.to, p.rows, p.compared_rows)).collect();
    assert_eq!(partitions, [(0, 0, 3, 6, 6), (1, 0, 3, 6, 6)]);
    assert!(report.to_string().ends_with("clean: 1 tables, 12 rows"), "{report}");

    let without = verify(&storage, &[], || Ok(None)).await.unwrap();
    assert!(without.is_clean());
    assert_eq!(without.tables[0].partitions[0].compared_rows, 0);
    assert!(without.to_string().contains("no log at hand"), "{without}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_log_still_holds_is_compared() {
    let (_dir, log, storage) = written().await;
    log.trim("logs", 0, 1);
    let report = verify(&storage, &[], || Ok(Some(log))).await.unwrap();
    assert!(report.is_clean(), "{report}");
    let compared: Vec<_> = report.tables[0].partitions.iter().map(|p| p.compared_rows).collect();
    assert_eq!(compared, [4, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_commit_is_a_hole_and_rows_gone_with_it() {
    let (dir, log, storage) = written().await;
    // Version 1 becomes a commit of nothing.
    let text = std::fs::read_to_string(commit_path(&dir, 1)).unwrap();
    let id = log.topic("logs").await.unwrap().unwrap().id;
    assert!(text.contains(&id.to_string()));
    std::fs::write(commit_path(&dir, 1), r#"{"commitInfo":{"timestamp":0,"operation":"FENCE"}}"#).unwrap();
    // The first cover seen is now 2..3: as far as covers tell the table began there.
    assert!(kinds(&storage, Some(log)).await.is_empty());

    let (dir, log, storage) = written().await;
    edit(&dir, 1, r#""from":0,"partition":1,"rows":4,"to":2"#, r#""from":0,"partition":1,"rows":4,"to":1"#);
    let found = kinds(&storage, Some(log)).await;
    assert!(found.contains(&(FindingKind::Hole, 1, 1, 2)), "{found:?}");
    assert!(found.iter().any(|f| f.0 == FindingKind::Mismatch), "its rows no longer fit: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn overlaps_and_wrong_transactions_are_found() {
    let (dir, _log, storage) = written().await;
    edit(&dir, 2, r#""from":2,"partition":0"#, r#""from":1,"partition":0"#);
    let found = kinds(&storage, None).await;
    assert!(found.contains(&(FindingKind::Overlap, 0, 1, 2)), "{found:?}");

    let (dir, log, storage) = written().await;
    let id = log.topic("logs").await.unwrap().unwrap().id;
    edit(&dir, 2, &format!(r#""appId":"{id}/0","version":3"#), &format!(r#""appId":"{id}/0","version":9"#));
    let found = kinds(&storage, None).await;
    assert!(found.contains(&(FindingKind::Mismatch, 0, 2, 3)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_added_twice_is_duplicate_rows() {
    let (dir, log, storage) = written().await;
    // The same rows under another file name.
    let text = std::fs::read_to_string(commit_path(&dir, 2)).unwrap();
    let add = text.lines().find(|l| l.contains("\"add\"")).unwrap();
    let value: serde_json::Value = serde_json::from_str(add).unwrap();
    let path = value["add"]["path"].as_str().unwrap().to_string();
    let file = dir.path().join("tables/logs").join(&path);
    let copy = format!("{}.parquet", uuid::Uuid::new_v4());
    std::fs::copy(&file, file.with_file_name(&copy)).unwrap();
    let name = path.rsplit('/').next().unwrap();
    std::fs::write(commit_path(&dir, 2), format!("{text}{}\n", add.replace(name, &copy))).unwrap();
    let found = kinds(&storage, Some(log)).await;
    assert!(found.contains(&(FindingKind::Duplicate, 0, 2, 3)), "{found:?}");
    assert!(found.contains(&(FindingKind::Mismatch, 0, 2, 3)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_other_content_is_a_mismatch_that_names_the_column() {
    let (_dir, log, storage) = written().await;
    let other = MemoryLog::with_topic("logs", 2);
    other.set_topic_id("logs", log.topic("logs").await.unwrap().unwrap().id);
    for partition in 0..2 {
        for _ in 0..3 {
            let row = LogRow {
                timestamp_us: 1_700_000_000_000_000,
                tenant: "default".into(),
                message: "x".into(),
                ..LogRow::default()
            };
            other.push("logs", partition, log_record(&[row.clone(), row]));
        }
    }
    let report = verify(&storage, &[], || Ok(Some(other))).await.unwrap();
    assert!(!report.is_clean());
    let text = report.to_string();
    assert!(
        text.contains("mismatch: table logs, logs/0 offsets 0..1, version 1: row 0 differs from the log in message"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_nobody_vouches_for_are_found() {
    let (dir, log, storage) = written().await;
    let text = std::fs::read_to_string(commit_path(&dir, 2)).unwrap();
    let bare: Vec<_> = text.lines().filter(|l| !l.contains("commitInfo")).collect();
    std::fs::write(commit_path(&dir, 2), bare.join("\n")).unwrap();
    let report = verify(&storage, &[], || Ok(Some(log))).await.unwrap();
    let text = report.to_string();
    assert!(text.contains("added by a commit that covers nothing"), "{text}");
    assert!(text.contains("the table stands at 3, but its last commit covers up to 2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tables_at_all_are_clean() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path().to_str().unwrap()).unwrap();
    let report = verify(&storage, &[], || Ok(None)).await.unwrap();
    assert!(report.is_clean() && report.tables.is_empty());
}
