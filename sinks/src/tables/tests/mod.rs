#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod crash;
mod encoding;
mod equality;
mod formats;
mod maintenance;
mod owners;
mod readers;
mod schema;
mod superseding;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use deltalake_core::DeltaTable;
use highwater_broker::ManualClock;
use highwater_pipeline::storage::{DurableLocal, Storage};
use highwater_pipeline::tables::{TableSpec, built_in_tables};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::*;
use crate::tables::maintenance::{Maintainer, Upkeep};
use crate::testing::{FaultStore, LogRow, MemoryLog, log_record, partitions};
use crate::verify::{VerifyReport, verify};

const DAY_US: i64 = 86_400_000_000;
/// 2025-11-20T00:00:00Z.
const DAY: i64 = 20_412 * DAY_US;

/// A log, a store and the writers on them.
struct World {
    dir: tempfile::TempDir,
    log: Arc<MemoryLog>,
    faults: Arc<FaultStore>,
    storage: Storage,
    config: TablesConfig,
    clock: Arc<ManualClock>,
    budget: MemoryBudget,
    shutdown: CancellationToken,
    partitions: i32,
}

impl World {
    fn new(partitions: i32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(dir.path()).unwrap();
        let faults = Arc::new(FaultStore::new(Arc::new(DurableLocal::new())));
        let storage = Storage::new(Arc::clone(&faults) as Arc<dyn object_store::ObjectStore>, url).unwrap();
        let config = TablesConfig {
            commit_interval_ms: 3_600_000,
            empty_commit_interval_ms: 3_600_000,
            max_backoff_ms: 20,
            // The tests' days are long past.
            retention: vec![keep_all("logs")],
            ..TablesConfig::default()
        };
        Self {
            dir,
            log: MemoryLog::with_topic("logs", partitions),
            faults,
            storage,
            config,
            clock: Arc::new(ManualClock::new(now_ms())),
            budget: MemoryBudget::new(usize::MAX),
            shutdown: CancellationToken::new(),
            partitions,
        }
    }

    /// A writer of the table `logs` that has all its partitions.
    fn start(&self) -> TableHandle {
        self.start_with(logs_table())
    }

    fn start_with(&self, spec: TableSpec) -> TableHandle {
        let topics = spec.topics.clone();
        let writer = self.start_idle(spec);
        for topic in topics {
            writer.assign(&partitions(&topic, 0..self.partitions));
        }
        writer
    }

    /// A writer that has no partition.
    fn start_idle(&self, spec: TableSpec) -> TableHandle {
        TableWriter::start(WriterParts {
            spec,
            log: Arc::clone(&self.log) as Arc<dyn highwater_pipeline::log::Log>,
            storage: self.storage.clone(),
            config: Arc::new(self.config.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn highwater_pipeline::log::Clock>,
            budget: self.budget.clone(),
            upkeep: Upkeep::new(0),
            shutdown: self.shutdown.clone(),
        })
    }

    /// What keeps a table in shape, at hand.
    async fn maintainer(&self, spec: TableSpec) -> Maintainer {
        self.maintainer_on(spec, &self.storage).await
    }

    async fn maintainer_on(&self, spec: TableSpec, storage: &Storage) -> Maintainer {
        let clock = Arc::clone(&self.clock) as Arc<dyn highwater_pipeline::log::Clock>;
        let config = Arc::new(self.config.clone());
        Maintainer::open(Arc::new(spec), storage, config, clock, Upkeep::new(0)).await.unwrap()
    }

    /// One record of `rows` rows.
    fn append(&self, partition: i32, rows: usize) -> i64 {
        let rows: Vec<LogRow> = (0..rows)
            .map(|i| LogRow {
                timestamp_us: DAY + i as i64,
                tenant: "default".into(),
                service: Some(format!("service-{}", i % 3)),
                message: format!("message {i}"),
                attributes: Some(vec![("k".into(), Some(i.to_string()))]),
            })
            .collect();
        self.log.push("logs", partition, log_record(&rows))
    }

    async fn verify(&self) -> VerifyReport {
        verify(&self.storage, &[], || Ok(Some(Arc::clone(&self.log) as Arc<dyn highwater_pipeline::log::Log>)))
            .await
            .unwrap()
    }

    /// Asserts that the table is, row by row, the log; the number of rows.
    async fn assert_clean(&self) -> u64 {
        let report = self.verify().await;
        assert!(report.is_clean(), "{report}");
        report.tables.iter().map(|t| t.rows).sum()
    }

    /// `(partition, offset, row)` of every row in the table, sorted, read with nothing of ours but the list of files.
    async fn identities(&self, table: &str) -> Vec<(i32, i64, i32)> {
        let mut found: Vec<_> = self.read(table).await.iter().flat_map(identities_of).collect();
        found.sort_unstable();
        found
    }

    async fn read(&self, table: &str) -> Vec<RecordBatch> {
        let mut batches = Vec::new();
        let delta = self.delta(table).await;
        for file in delta.snapshot().unwrap().log_data().iter() {
            let path = file.object_store_path();
            let bytes = delta.object_store().get(&path).await.unwrap().bytes().await.unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            batches.extend(reader.map(Result::unwrap));
        }
        batches
    }

    async fn delta(&self, table: &str) -> DeltaTable {
        let mut delta = DeltaTable::new(delta::log_store(table, &self.storage));
        delta.load().await.unwrap();
        delta
    }

    fn group(&self, partition: i32) -> Option<i64> {
        self.log.group("__highwater.table.logs").get(&("logs".to_string(), partition)).copied()
    }

    fn parquet_files(&self) -> usize {
        fn count(dir: &std::path::Path) -> usize {
            std::fs::read_dir(dir)
                .map(|entries| {
                    entries
                        .map(|e| e.unwrap().path())
                        .map(|p| {
                            if p.is_dir() {
                                count(&p)
                            } else {
                                usize::from(p.extension().is_some_and(|e| e == "parquet"))
                            }
                        })
                        .sum()
                })
                .unwrap_or(0)
        }
        count(&self.dir.path().join("tables"))
    }
}

fn identities_of(batch: &RecordBatch) -> Vec<(i32, i64, i32)> {
    let partitions = batch.column_by_name("_partition").unwrap().as_primitive::<Int32Type>().clone();
    let offsets = batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().clone();
    let rows = batch.column_by_name("_row").unwrap().as_primitive::<Int32Type>().clone();
    (0..batch.num_rows()).map(|i| (partitions.value(i), offsets.value(i), rows.value(i))).collect()
}

fn keep_all(table: &str) -> RetentionRule {
    RetentionRule { table: table.to_string(), tenant: None, age_ms: None, size_bytes: None }
}

fn logs_table() -> TableSpec {
    built_in_tables().into_iter().find(|t| t.name == "logs").unwrap()
}

/// Files get the real time of their writing, so ages are measured against it.
fn now_ms() -> i64 {
    highwater_pipeline::log::Clock::now_ms(&highwater_pipeline::log::SystemClock)
}

/// Waits until something holds, for as long as a slow machine may need.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came true: {what}");
}
