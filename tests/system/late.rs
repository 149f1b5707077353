//! Old logs loaded beside live ones: windows of both close, nothing waits on the other, and in the end a rollup says what SQL says over all rows.

use std::time::Duration;

use highwater_pipeline::log::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::loghub::loghub;
use crate::support::{Agent, DuckDb, Server, Site, eventually};

const ROLLUP: &str = "
rollups:
  - name: volume_10s
    sql: |
      SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2
";

/// 2005-01-01T00:00:00Z.
const OLD_S: i64 = 1_104_537_600;
const YEAR_S: i64 = 365 * 24 * 3600;

fn now_s() -> i64 {
    SystemClock.now_ms() / 1_000
}

async fn send(server: &Server, service: &str, rows: impl Iterator<Item = (i64, String)>) {
    let rows: Vec<Value> =
        rows.map(|(at_s, host)| json!({"timestamp": at_s, "service": service, "host": host, "message": "m"})).collect();
    server.accepted("/logs", json!(rows).to_string()).await;
}

/// One of five loads of the same 200 windows in three years, each from all hosts, so into every partition, and in no order that matters.
async fn old_rows(server: &Server, load: i64) {
    let rows = (0..200).map(|row| {
        let window = (row * 7919 + load * 31) % 200;
        (OLD_S + window * (3 * YEAR_S / 200) / 10 * 10 + (row + load) % 10, format!("host-{}", row % 40))
    });
    send(server, "old", rows).await;
}

/// The rollup, and the same SQL over the rows: every window that ends before `until_s`.
async fn both(server: &Server, until_s: i64) -> [Vec<Value>; 2] {
    let until = format!("to_timestamp_micros({})", until_s * 1_000_000);
    let rollup = format!(
        "SELECT CAST(window_start AS BIGINT) / 1000000 AS at, service, n FROM volume_10s \
         WHERE window_start < {until} ORDER BY 1, 2, 3"
    );
    let rows = format!(
        "SELECT CAST(tumble(timestamp, INTERVAL '10 seconds') AS BIGINT) / 1000000 AS at, service, count(*) AS n FROM logs \
         WHERE timestamp < {until} GROUP BY 1, 2 ORDER BY 1, 2, 3"
    );
    [server.sql(&rollup).await, server.sql(&rows).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn years_of_old_logs_and_a_host_an_hour_behind_beside_live_ones() {
    let site = Site::with_self_monitoring(ROLLUP);
    let server = site.start().await;
    let url = server.url("");
    // A real file of 2005, where there is one.
    let agent = loghub().map(|directory| {
        let file = directory.join("Linux.log");
        let arguments =
            ["logs", "--service", "linux", "--year", "2005", "--file", file.to_str().unwrap(), "--server", &url];
        Agent::spawn(site.path(), &arguments)
    });
    let closed = "SELECT count(*) FROM volume_10s WHERE service = 'live'";
    let started_s = now_s();
    let (mut load, mut closed_early) = (0, None);
    while now_s() < started_s + 50 {
        let at_s = now_s();
        send(&server, "live", (0..8).map(|host| (at_s, format!("host-{host}")))).await;
        send(&server, "behind", [(at_s - 3600, "slow".to_owned())].into_iter()).await;
        // The same windows again and again, with pauses in which some of them close.
        if at_s >= started_s + load * 12 {
            old_rows(&server, load).await;
            load += 1;
        }
        if at_s >= started_s + 25 && closed_early.is_none() {
            closed_early = Some(server.number(closed).await);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let closed_early = closed_early.unwrap();
    let closed_late = server.number(closed).await;
    assert!(
        closed_early >= 1 && closed_late > closed_early,
        "live windows close beside the load: {closed_early}, {closed_late}"
    );

    let until_s = now_s() / 10 * 10;
    eventually("the rollup is what SQL says over all rows", true, async || {
        let [rollup, rows] = both(&server, until_s).await;
        rollup == rows
    })
    .await;
    let old = "SELECT coalesce(sum(n), 0) FROM volume_10s WHERE service = 'old'";
    server.until(old, 200 * load).await;
    assert!(server.number("SELECT count(*) FROM volume_10s WHERE service = 'old' AND _revision > 0").await > 0);
    let twice = "SELECT count(*) FROM (SELECT window_start, service FROM volume_10s GROUP BY 1, 2 HAVING count(*) > 1)";
    assert_eq!(server.number(twice).await, 0);
    if let Some(agent) = agent {
        server.until("SELECT coalesce(sum(n), 0) FROM volume_10s WHERE service = 'linux'", 2000).await;
        assert!(agent.terminate().await.success());
    }
    let metrics = server.get("/metrics").await.text;
    let too_late = metrics.lines().filter(|line| line.starts_with("highwater_rollup_too_late_rows_total"));
    assert_eq!(too_late.filter(|line| !line.ends_with(" 0")).collect::<Vec<_>>(), [""; 0]);

    server.stop().await;
    site.verify().await;
    assert_eq!(site.offline_number(old).await, 200 * load);
    if let Some(duckdb) = DuckDb::find().await {
        let theirs = format!(
            "SELECT sum(n)::BIGINT, count(*) = count(DISTINCT (window_start, service)) FROM delta_scan('{}') WHERE service = 'old'",
            site.table("volume_10s").display()
        );
        assert_eq!(duckdb.query(&theirs).await, Ok(vec![vec![json!(200 * load), json!(true)]]));
    }
}
