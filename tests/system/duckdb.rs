//! DuckDB reads our tables with no help from us, and counts the same.

use serde_json::json;

use crate::support::{DuckDb, Site, eventually};

const ROLLUP: &str = "
rollups:
  - name: requests_10s
    sql: |
      SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, count(*) AS requests
      FROM logs WHERE service = 'rolled-up' GROUP BY 1, 2
";

/// 2026-02-27T00:00:00Z.
const START_S: i64 = 1_772_150_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_reads_the_same_tables() {
    let Some(duckdb) = DuckDb::find().await else { return };
    let site = Site::with_config(ROLLUP);
    let server = site.start().await;

    // A minute of logs for the rollup, closed by what comes half a minute later.
    let rolled_up: Vec<_> = (0..400)
        .map(|i| json!({"timestamp": START_S + i * 60 / 400, "service": "rolled-up", "host": format!("host-{}", i % 40), "message": "m"}))
        .collect();
    server.accepted("/logs", json!(rolled_up).to_string()).await;
    server.pass_time("later", START_S + 90).await;
    server.until("SELECT coalesce(sum(requests), 0) FROM requests_10s", 400).await;

    // Two days, so two Delta partitions by date; attributes, so a map column; 40 hosts, so every partition of the log.
    let logs: Vec<_> = (0..1000)
        .map(|i| {
            json!({
                "timestamp": format!("2026-03-{:02}T12:{:02}:{:02}.5Z", 1 + i / 500, i / 60 % 60, i % 60),
                "service": format!("service-{}", i % 3), "host": format!("host-{}", i % 40),
                "level": if i % 10 == 0 { "error" } else { "info" },
                "message": format!("naïve “row” {i}"), "labels": {"shard": i % 7},
            })
        })
        .collect();
    server.accepted("/logs", json!(logs).to_string()).await;
    let metrics: Vec<_> = (0..500)
        .map(|i| json!({"name": "queue_depth", "value": i, "type": "gauge", "labels": {"queue": format!("q{}", i % 20)}}))
        .collect();
    server.accepted("/metrics", json!({"metrics": metrics}).to_string()).await;

    let (logs, metrics, rollup) = (site.table("logs"), site.table("metrics"), site.table("requests_10s"));
    eventually("DuckDB counts logs", Ok(1440), async || duckdb.count(&logs).await).await;
    eventually("DuckDB counts metrics", Ok(500), async || duckdb.count(&metrics).await).await;
    let sum = format!("SELECT count(*), sum(requests)::BIGINT FROM delta_scan('{}')", rollup.display());
    eventually("DuckDB sums the rollup", Ok(vec![vec![json!(6), json!(400)]]), async || duckdb.query(&sum).await).await;

    // The same rows, not only as many: types, text, maps, times and dates read the same on both sides.
    let theirs = format!(
        "SELECT level, tenant, strftime(date, '%Y-%m-%d'), count(*), min(message), max(epoch_us(timestamp)), \
           sum(CAST(attributes['shard'] AS BIGINT))::BIGINT, max(_row) \
         FROM delta_scan('{}') WHERE service LIKE 'service-%' GROUP BY ALL ORDER BY ALL",
        logs.display()
    );
    let ours = "SELECT level, tenant, CAST(date AS VARCHAR) AS date, count(*) AS rows, min(message) AS message, \
                  max(CAST(timestamp AS BIGINT)) AS last, sum(CAST(attributes['shard'] AS BIGINT)) AS shards, \
                  max(_row) AS row \
                FROM logs WHERE service LIKE 'service-%' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
    let columns = ["level", "tenant", "date", "rows", "message", "last", "shards", "row"];
    let rows = server.sql(ours).await;
    let ours: Vec<Vec<_>> = rows.iter().map(|row| columns.map(|column| row[column].clone()).to_vec()).collect();
    assert_eq!(ours.len(), 4, "two levels on two days: {ours:?}");
    assert_eq!(duckdb.query(&theirs).await.unwrap(), ours);

    let theirs = format!(
        "SELECT name, kind, count(*), sum(value), count(DISTINCT series_id) FROM delta_scan('{}') GROUP BY ALL",
        metrics.display()
    );
    assert_eq!(
        duckdb.query(&theirs).await.unwrap(),
        [[json!("queue_depth"), json!("gauge"), json!(500), json!(124_750.0), json!(20)]]
    );
    server.stop().await;
    site.verify().await;
}
