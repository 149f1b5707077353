#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Clock, SystemClock};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::run::run_in;
use super::*;
use crate::agents::testing::{Act, TestServer, shipping};

fn options(per_core: bool) -> CollectOptions {
    let labels = BTreeMap::from([("zone".to_owned(), "a \"b\"".to_owned())]);
    CollectOptions { service: "hosts".into(), host: "h1".into(), per_core, labels }
}

fn parsed(collection: &Collection) -> Vec<Value> {
    let text = std::str::from_utf8(&collection.body).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len() as u64, collection.samples);
    rows
}

fn names(rows: &[Value]) -> BTreeSet<&str> {
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn a_collection_has_every_part_of_the_host() {
    let mut collector = Collector::new(&options(true));
    let first = parsed(&collector.collect(1_700_000_000_000_000));
    for name in [
        "system.cpu.cores",
        "system.cpu.seconds_total",
        "system.load_1m",
        "system.load_5m",
        "system.load_15m",
        "system.memory.total_bytes",
        "system.memory.used_bytes",
        "system.memory.available_bytes",
        "system.memory.used_percent",
        "system.swap.total_bytes",
        "system.network.received_bytes_total",
        "system.uptime_seconds",
    ] {
        assert!(names(&first).contains(name), "{name}");
    }
    assert!(!names(&first).contains("system.cpu.usage_percent"), "a share needs two looks");
    std::thread::sleep(Duration::from_millis(250));
    let second = parsed(&collector.collect(1_700_000_010_000_000));
    assert!(names(&second).contains("system.cpu.usage_percent"));
    assert!(names(&second).contains("system.network.received_bytes_per_second"));

    let cores = first.iter().find(|row| row["name"] == "system.cpu.cores").unwrap()["value"].as_f64().unwrap();
    let usages = second.iter().filter(|row| row["name"] == "system.cpu.usage_percent");
    assert_eq!(usages.count() as f64, cores + 1.0, "each core and all");
    for row in &second {
        assert_eq!(row["timestamp"], 1_700_000_010_000_000_i64);
        assert_eq!((&row["labels"]["host"], &row["labels"]["service"]), (&"h1".into(), &"hosts".into()));
        assert_eq!(row["labels"]["zone"], "a \"b\"");
        let kind = if row["name"].as_str().unwrap().ends_with("_total") { "counter" } else { "gauge" };
        assert_eq!(row["type"], kind, "{row}");
        assert!(row["value"].as_f64().unwrap() >= 0.0, "{row}");
    }
    let mut series: Vec<String> = second.iter().map(|row| format!("{}{}", row["name"], row["labels"])).collect();
    series.sort();
    let count = series.len();
    series.dedup();
    assert_eq!(series.len(), count, "no series twice");
}

#[test]
fn the_memory_is_this_machines() {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib: f64 = text.lines().next().unwrap().split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    let rows = parsed(&Collector::new(&options(false)).collect(1));
    let total = rows.iter().find(|row| row["name"] == "system.memory.total_bytes").unwrap();
    assert_eq!(total["value"].as_f64().unwrap(), kib * 1024.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_collection_is_shipped_once() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    server.will([Act::Fail(503), Act::LoseReply]);
    let options = MetricsOptions { once: true, ..MetricsOptions::new(shipping(&server.url(), dir.path()), "s", "h") };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let report = run_in(options, clock, 1, CancellationToken::new()).await.unwrap();
    assert_eq!(server.paths(), ["metrics"]);
    assert_eq!(server.rows().len() as u64, report.rows_shipped);
    assert!(report.rows_shipped > 20, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_collects_at_every_interval_until_it_is_told_to_stop() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let mut options = MetricsOptions::new(shipping(&server.url(), dir.path()), "s", "h");
    options.interval = Duration::from_millis(100);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run_in(options, Arc::new(SystemClock), 1, shutdown.clone()));
    let collections = || {
        let rows = server.rows();
        rows.iter()
            .filter(|row| row["name"] == "system.load_1m")
            .map(|row| row["timestamp"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    crate::agents::testing::eventually("four collections", || collections().len() >= 4).await;
    shutdown.cancel();
    let report = task.await.unwrap().unwrap();
    assert_eq!((report.rows_spooled, report.rows_dropped), (0, 0));
    assert!(collections().is_sorted());
}

#[tokio::test]
async fn an_interval_that_cannot_work_is_named() {
    let mut options = MetricsOptions::new(shipping("http://h", std::path::Path::new("nowhere")), "s", "h");
    options.interval = Duration::from_millis(1);
    let error = run(options, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("--interval: "), "{error}");
}
