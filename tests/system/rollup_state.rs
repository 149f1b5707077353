//! What rollups keep: more keys than anybody meant, put aside on disk; snapshots that write what is new; rows whose time is over.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::support::{Server, Site, eventually};

/// A full hour of 2026-03-01, UTC.
const START_S: i64 = 1_772_362_800;
/// Keys in one window.
const KEYS: i64 = 60_000;

const BY_REQUEST: &str = "state: { memory_bytes: 65536 }
rollups:
  - name: requests
    sql: |
      SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, request_id, count(*) AS n, sum(1.5) AS s, max(message) AS m, quantile(severity_number, 0.5) AS q
      FROM logs WHERE service = 'keys' GROUP BY 1, 2
";

/// Bytes of state that are put aside now.
async fn aside_bytes(server: &Server) -> f64 {
    let page = server.get("/metrics").await.text;
    let line = page.lines().find_map(|line| line.strip_prefix("highwater_scratch_size_bytes "));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// The rows of the window: how many, of how many keys, and of what values.
async fn answer(server: &Server) -> serde_json::Value {
    let query = format!(
        "SELECT count(*) AS n, count(DISTINCT request_id) AS keys, CAST(sum(n) AS BIGINT) AS counted, sum(s) AS s, min(m) AS low, max(m) AS high, max(q) AS q, max(_revision) AS revision
         FROM requests WHERE CAST(extract(epoch FROM window_start) AS BIGINT) = {START_S}"
    );
    server.sql(&query).await.remove(0)
}

fn packs(site: &Site) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![site.data_dir().join("snapshots/__highwater.partials")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "pack") {
                found.insert(entry.path().display().to_string());
            }
        }
    }
    found
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_more_keys_than_memory_is_put_aside_and_right_after_restarts_and_corrections() {
    let site = Site::with_config(BY_REQUEST);
    let server = site.start().await;
    for from in (0..KEYS).step_by(5_000) {
        let row = |key: i64| {
            format!(
                r#"{{"timestamp":{},"service":"keys","host":"h{}","level":"INFO","message":"m{key:06}","request_id":"request-{key}-{}"}}"#,
                START_S + key % 60,
                key % 40,
                key * 7_919 % 1_000_003
            )
        };
        let body: Vec<String> = (from..from + 5_000).map(row).collect();
        server.accepted("/logs", format!("[{}]", body.join(","))).await;
    }
    server.pass_time("later", START_S + 90).await;
    let wanted = |counted: i64, s: f64, revision: i64| json!({"n": KEYS, "keys": KEYS, "counted": counted, "s": s, "low": "m000000", "high": "m059999", "q": 9, "revision": revision});
    let first = wanted(KEYS, 1.5 * KEYS as f64, 0);
    eventually("every key once", first.clone(), async || rounded(answer(&server).await)).await;
    assert!(aside_bytes(&server).await > 200_000.0, "the window's partials are kept for late rows, and not in memory");
    assert!(files(&site.data_dir().join("state-aside")) > 0);
    server.stop().await;
    // What was kept stands in the snapshots, in packs; a restart takes it from there.
    let before = packs(&site);
    assert!(!before.is_empty());
    let server = site.start().await;
    assert_eq!(rounded(answer(&server).await), first);
    // A late row for one key: the window is folded again, with all that was put aside.
    let late = json!([{"timestamp": START_S + 5, "service": "keys", "host": "h0", "level": "INFO", "message": "m000000", "request_id": "request-0-0"}]);
    server.accepted("/logs", late.to_string()).await;
    server.kill().await;
    let server = site.start().await;
    server.pass_time("later", START_S + 95).await;
    // It is in one partition; the window's rows in the others stay as they were.
    let second = wanted(KEYS + 1, 1.5 * (KEYS + 1) as f64, 1);
    eventually("the late row is counted, and nothing is twice", second.clone(), async || {
        rounded(answer(&server).await)
    })
    .await;
    assert_eq!(dropped(&server).await, 0.0);
    server.stop().await;
    let after = packs(&site);
    assert!(!after.is_empty() && after.len() <= before.len() + 16, "{before:?} {after:?}");
    site.verify().await;
}

/// Rows that were left out for want of room.
async fn dropped(server: &Server) -> f64 {
    let page = server.get("/metrics").await.text;
    let of = page.lines().filter(|line| line.starts_with("highwater_rollup_dropped_rows_total"));
    of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A sketch's answer is within its error.
fn rounded(mut answer: serde_json::Value) -> serde_json::Value {
    if let Some(q) = answer["q"].as_f64() {
        answer["q"] = json!(q.round() as i64);
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_retention_of_a_rollup_takes_its_rows_and_no_others() {
    let rollups = |retention: &str| {
        format!(
            "rollups:
  - name: short
    retention: {retention}
    sql: SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2
  - name: long
    sql: SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2
"
        )
    };
    let site = Site::with_config(&rollups("90d"));
    let server = site.start().await;
    server.pass_time("app", START_S).await;
    server.pass_time("app", START_S + 70).await;
    let count = |table: &str| {
        format!(
            "SELECT coalesce(sum(n), 0) FROM {table} WHERE CAST(extract(epoch FROM window_start) AS BIGINT) = {START_S}"
        )
    };
    for table in ["short", "long"] {
        server.until(&count(table), 40).await;
        // All in files: retention takes files, and after a start it looks at those at once, then after minutes only.
        let elsewhere = format!(
            "SELECT (SELECT count(*) FROM {table}) - (SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) FROM table_storage WHERE table_name = '{table}')"
        );
        server.until(&elsewhere, 0).await;
    }
    server.stop().await;
    // A restart finds none past their time: they were appended today.
    let server = site.start().await;
    server.until(&count("short"), 40).await;
    server.stop().await;
    site.configure(&rollups("1s"));
    let server = site.start().await;
    server.until(&count("short"), 0).await;
    assert_eq!(server.number(&count("long")).await, 40, "another table's rows stay");
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE service = 'app'").await, 80);
    server.stop().await;
    assert_eq!(site.offline_number("SELECT count(*) AS n FROM short").await, 0);
    site.verify().await;
}
