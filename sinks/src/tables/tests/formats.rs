//! Table directories written by earlier versions stay readable, writable and true. They lie in `sinks/fixtures`, each as its version left it:
//!
//! | directory | written by |
//! |---|---|
//! | `tables-v1` | 0.1.0 before compaction: no bloom filters, plain values, 131,072 rows a group |
//!
//! To add one, before the format changes: `HIGHWATER_WRITE_FIXTURE=tables-vN cargo test -p highwater-sinks --lib formats::write`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::superseding::{close, table as rollup};
use super::*;
use crate::tables::maintenance::Eagerness;
use crate::testing::json_record;

const METRICS: &str = "metrics";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The log that the fixtures' tables were made from; ids of topics apart.
fn log() -> Arc<MemoryLog> {
    let log = MemoryLog::with_topic("logs", 2);
    log.add_topic(METRICS, 2);
    log.add_topic("rollup.r", 2);
    log
}

fn first_half(world: &World) {
    let entry = |i: i64| {
        json!({
            "timestamp": DAY + i * 3_600_000_000, "service": format!("service-{}", i % 3), "host": "a", "level": "error",
            "message": format!("message {i} naïve"), "trace_id": format!("{i:032x}"), "user_id": format!("u{}", i % 5),
            "attributes": {"k": i, "nested": {"a": [1, 2]}, "none": null},
        })
    };
    for i in 0..20 {
        let record = if i % 4 == 3 { json!([entry(i), entry(i + 24)]) } else { entry(i) };
        world.log.push("logs", (i % 2) as i32, json_record(&record));
    }
    for i in 0..20_i64 {
        let value = if i == 7 { json!("NaN") } else { json!(i as f64 / 4.0) };
        let record = json!({"name": format!("m_{}", i % 2), "value": value, "type": "gauge", "timestamp": DAY + i * 1_000_000,
                            "labels": {"job": "j", "instance": format!("i{}", i % 3)}});
        world.log.push(METRICS, (i % 2) as i32, json_record(&record));
    }
    close(world, 0, 0, 0, &[("web", 1), ("db", 1), ("other", 1)]);
    close(world, 1, 0, 0, &[("web", 2)]);
    close(world, 1, 1, 0, &[("web", 3)]);
}

fn second_half(world: &World) {
    let rows: Vec<LogRow> = (0..10)
        .map(|i| LogRow {
            timestamp_us: DAY + i,
            tenant: if i % 2 == 0 { "acme/eu" } else { "default" }.into(),
            service: None,
            message: String::new(),
            attributes: (i > 5).then(|| vec![("k".into(), None)]),
        })
        .collect();
    world.log.push("logs", 1, log_record(&rows));
    close(world, 0, 0, 1, &[("web", 5)]);
}

/// Commits all that is in the log to the three tables.
async fn commit(world: &World) {
    let metrics = built_in_tables().into_iter().find(|t| t.name == METRICS).unwrap();
    for spec in [logs_table(), metrics, rollup()] {
        world.start_with(spec).flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write() {
    let Ok(name) = std::env::var("HIGHWATER_WRITE_FIXTURE") else {
        println!("SKIPPED: writes a fixture, and only where HIGHWATER_WRITE_FIXTURE names it");
        return;
    };
    let world = World { log: log(), ..World::new(2) };
    first_half(&world);
    commit(&world).await;
    second_half(&world);
    commit(&world).await;
    world.shutdown.cancel();
    let target = fixtures().join(name);
    std::fs::create_dir(&target).unwrap();
    copy(&world.dir.path().join("tables"), &target.join("tables"));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// A copy of a fixture, with no log.
fn open_fixture(name: &str) -> World {
    let world = World { log: log(), ..World::new(2) };
    copy(&fixtures().join(name).join("tables"), &world.dir.path().join("tables"));
    world
}

async fn verify_without_log(world: &World) -> VerifyReport {
    let report = verify(&world.storage, &[], || Ok(None)).await.unwrap();
    assert!(report.is_clean(), "{report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_version_1_are_read_verified_compacted_and_written_on() {
    let mut world = open_fixture("tables-v1");
    world.config.retention.clear();
    world.config.retention.push(keep_all("logs"));
    let rows = |report: &VerifyReport| report.tables.iter().map(|t| (t.table.clone(), t.rows)).collect::<Vec<_>>();
    let before = verify_without_log(&world).await;
    assert_eq!(rows(&before), [("logs".into(), 30), ("metrics".into(), 20), ("r".into(), 3)]);
    let metrics = built_in_tables().into_iter().find(|t| t.name == METRICS).unwrap();
    for spec in [logs_table(), metrics, rollup()] {
        let identities = world.identities(&spec.name).await;
        let compacted = world.maintainer(spec.clone()).await.compact(Eagerness::Everything).await.unwrap();
        assert_eq!(compacted.overtaken, 0);
        assert_eq!(world.identities(&spec.name).await, identities, "{}", spec.name);
        if spec.name == "logs" {
            assert!(compacted.merged_files >= 2, "{compacted:?}");
        }
    }
    assert_eq!(rows(&verify_without_log(&world).await), rows(&before));

    // And written on: the log is another one, so its topics are new to the table.
    first_half(&world);
    world.start().flush().await.unwrap();
    let after = world.verify().await;
    let logs = &after.tables[0];
    assert_eq!(logs.rows, 30 + 25);
    assert!(logs.notes.iter().any(|note| note.contains("made anew")), "{after}");
}
