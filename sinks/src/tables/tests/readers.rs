//! Engines that none of us wrote read our tables with no help, and see what we see: also after corrections, while a merge is on its way, and behind it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::superseding::{close, table as rollup};
use super::*;
use crate::tables::maintenance::Eagerness;
use crate::testing::Fault;

/// A Python with DuckDB, Polars and delta-rs. None: says so loudly.
fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let candidates = [
        std::env::var_os("HIGHWATER_PYTHON").map(PathBuf::from),
        cache.map(|cache| cache.join("highwater/python/bin/python")),
        Some(PathBuf::from("python3")),
    ];
    let has_all = |python: &PathBuf| {
        let imports = "import duckdb, duckdb_extension_delta, polars, deltalake, pyarrow";
        Command::new(python).args(["-c", imports]).output().is_ok_and(|output| output.status.success())
    };
    let found = candidates.into_iter().flatten().find(has_all);
    if found.is_none() {
        let required = std::env::var_os("HIGHWATER_REQUIRE_READERS").is_some();
        assert!(!required, "HIGHWATER_REQUIRE_READERS is set, and no Python has duckdb, polars and deltalake");
        println!(
            "SKIPPED: reading our tables with other engines: no Python with duckdb, duckdb-extension-delta, polars, deltalake and pyarrow (see .ci/prepare)"
        );
    }
    found
}

/// The rows each engine sees, of these columns, sorted.
fn seen(python: &PathBuf, world: &World, table: &str, columns: &str) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tables/tests/readers.py");
    let directory = world.dir.path().join("tables").join(table);
    let output = Command::new(python).arg(script).arg(directory).arg(columns).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let engines: serde_json::Map<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(engines.keys().collect::<Vec<_>>(), ["delta-rs", "duckdb", "polars"]);
    for rows in engines.values() {
        assert_eq!(*rows, engines["duckdb"]);
    }
    engines["duckdb"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_see_what_we_see_before_during_and_after_a_merge() {
    let Some(python) = python() else { return };
    let mut world = World::new(2);
    world.config.compaction = false;
    let writer = world.start();
    for i in 0..8 {
        world.append(i % 2, 40);
        writer.flush().await.unwrap();
    }
    let columns = "_partition,_offset,_row,tenant,service,message";
    let ours = async || {
        let rows = world.identities("logs").await.into_iter().map(|(partition, offset, row)| {
            json!([partition, offset, row, "default", format!("service-{}", row % 3), format!("message {row}")])
        });
        rows.collect::<Vec<_>>()
    };
    let before = ours().await;
    assert_eq!(before.len(), 320);
    assert_eq!(seen(&python, &world, "logs", columns), before);
    let commit = "_delta_log/00000000000000000009.json";
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject(commit, 1, Fault::Hold(Arc::clone(&gate)));
    let mut maintainer = world.maintainer(logs_table()).await;
    let merge = tokio::spawn(async move { maintainer.compact(Eagerness::Everything).await });
    eventually("the merge is on its way", async || world.faults.puts(commit) == 1).await;
    assert_eq!(seen(&python, &world, "logs", columns), before, "the merged file lies there, and nobody reads it");
    gate.add_permits(1);
    assert_eq!(merge.await.unwrap().unwrap().merged_files, 8);
    assert_eq!(seen(&python, &world, "logs", columns), before);
    world.clock.advance_ms(i64::try_from(world.config.vacuum_after_ms).unwrap() + 1);
    assert_eq!(world.maintainer(logs_table()).await.vacuum().await.unwrap().removed, 8);
    assert_eq!(seen(&python, &world, "logs", columns), before);
    assert_eq!(ours().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_see_each_window_once_after_corrections_and_merges() {
    let Some(python) = python() else { return };
    let mut world = World { log: MemoryLog::with_topic("rollup.r", 1), ..World::new(1) };
    world.config.compaction = false;
    let writer = world.start_with(rollup());
    for window in 0..6 {
        close(&world, 0, window, 0, &[("web", window), ("db", 1)]);
        writer.flush().await.unwrap();
    }
    let merge = async || world.maintainer(rollup()).await.compact(Eagerness::Everything).await.unwrap().merged_files;
    assert_eq!(merge().await, 6);
    close(&world, 0, 2, 1, &[("web", 100)]);
    writer.flush().await.unwrap();
    let expected = |row: &[(&str, i64, i64)]| row.iter().map(|(s, n, r)| json!([s, n, r])).collect::<Vec<_>>();
    let mut rows: Vec<(&str, i64, i64)> = vec![("db", 1, 0); 5];
    rows.extend([0, 1, 3, 4, 5].map(|n| ("web", n, 0)));
    rows.push(("web", 100, 1));
    assert_eq!(seen(&python, &world, "r", "service,n,_revision"), expected(&rows));
    assert_eq!(merge().await, 2);
    assert_eq!(seen(&python, &world, "r", "service,n,_revision"), expected(&rows));
    world.assert_clean().await;
}
