//! `kill -9` in the middle of a load. The sender retries under idempotency keys until everything is acknowledged; then the
//! log, the tables, SQL, a rollup and another reader must all hold exactly those rows.
//!
//! `HIGHWATER_KILL_SEED` chooses where it is killed, `HIGHWATER_KILL_ROWS` how long the load is (see `.ci/long`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::watch;

use crate::support::{Agent, DuckDb, Load, Progress, Site, eventually};

/// How often the server is killed during one load.
const KILLS: u64 = 5;

/// Midnight of 2026-03-01, UTC: the hour that all rows of a load fall into.
const HOUR_S: i64 = 1_772_323_200;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

const ROLLUP: &str = "
log: { segment_size_bytes: 4194304 }
rollups:
  - name: requests_1h
    sql: |
      SELECT tumble(timestamp, INTERVAL '1 hour') AS window_start, service, count(*) AS requests
      FROM logs GROUP BY 1, 2
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_killed_under_load_keeps_exactly_what_it_acknowledged() {
    let seed = setting("HIGHWATER_KILL_SEED", 1);
    let rows = setting("HIGHWATER_KILL_ROWS", 100_000);
    eprintln!("HIGHWATER_KILL_SEED={seed} HIGHWATER_KILL_ROWS={rows}");
    let mut random = SmallRng::seed_from_u64(seed);

    let site = Site::with_config(ROLLUP);
    let mut server = site.start().await;
    let (address, follow) = watch::channel(server.url(""));
    let progress = Arc::new(Progress::default());
    let load = Arc::new(Load { name: format!("kill-{seed}"), rows, start_s: HOUR_S });
    let sending = tokio::spawn(load.run(follow, Arc::clone(&progress)));

    for kill in 0..KILLS {
        // Somewhere in this kill's share of the load, then a moment more, so that it falls anywhere between two acks.
        let share = rows / KILLS;
        let point = kill * share + random.random_range(share / 10..share);
        while progress.acknowledged.load(Ordering::Relaxed) < point {
            assert!(!sending.is_finished(), "the load ended before kill point {point}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        server.kill().await;
        if random.random_bool(0.5) {
            // Killed again while it recovers.
            let recovering = site.spawn();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
            recovering.kill().await;
        }
        server = site.start().await;
        address.send_replace(server.url(""));
    }
    sending.await.unwrap();
    assert!(progress.retries.load(Ordering::Relaxed) > 0, "no request was cut off: the kills missed the load");

    let rows = rows as i64;
    let twice =
        server.sql("SELECT request_id, count(*) AS times FROM logs GROUP BY 1 HAVING count(*) > 1 LIMIT 5").await;
    assert!(twice.is_empty(), "stored more than once: {twice:?}");
    assert_eq!(server.number("SELECT count(*) FROM logs").await, rows);
    assert_eq!(server.number("SELECT count(DISTINCT request_id) FROM logs").await, rows);
    let extent = "SELECT min(CAST(request_id AS BIGINT)) AS lo, max(CAST(request_id AS BIGINT)) AS hi FROM logs";
    assert_eq!(server.sql(extent).await, [json!({"lo": 0, "hi": rows - 1})]);
    assert_eq!(server.number("SELECT count(*) FROM dead_letter").await, 0);

    // The tasks died with the server each time: their window must still count every row once. It may close before every partition has handed
    // over, and is corrected then.
    server.pass_time("later", HOUR_S + 3 * 3600).await;
    let first_hour = "window_start = TIMESTAMP '2026-03-01T00:00:00Z'";
    server.until(&format!("SELECT coalesce(sum(requests), 0) FROM requests_1h WHERE {first_hour}"), rows).await;
    server.until(&format!("SELECT count(*) FROM requests_1h WHERE {first_hour}"), 5).await;

    server.stop().await;
    site.verify().await;
    assert_eq!(site.offline_number("SELECT count(DISTINCT request_id) FROM logs").await, rows);
    if let Some(duckdb) = DuckDb::find().await {
        assert_eq!(duckdb.count(&site.table("logs")).await, Ok(rows + 40));
    }
}

/// Appends lines `from..to` to a file, as a program that logs does: open, write, keep going.
fn append_lines(path: &Path, from: u64, to: u64) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    for line in from..to {
        writeln!(file, "2026-03-01T00:00:00Z INFO request_id={line} line of a file that has to arrive").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_killed_while_shipping_loses_and_doubles_no_line() {
    let seed = setting("HIGHWATER_KILL_SEED", 1);
    eprintln!("HIGHWATER_KILL_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let site = Site::new();
    let server = site.start().await;
    let file = site.path().join("app.log");
    let (path, url) = (file.to_str().unwrap().to_owned(), server.url(""));
    let arguments = ["logs", "--service", "app", "--file", &path, "--server", &url];

    const ROUNDS: u64 = 6;
    const LINES: u64 = 4000;
    for round in 0..ROUNDS {
        let agent = Agent::spawn(site.path(), &arguments);
        // Half of the lines at once, half while the agent is at work.
        let half = round * LINES + LINES / 2;
        append_lines(&file, round * LINES, half);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..800))).await;
        append_lines(&file, half, (round + 1) * LINES);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..800))).await;
        agent.kill().await;
    }
    let agent = Agent::spawn(site.path(), &arguments);
    let total = (ROUNDS * LINES) as i64;
    server.until("SELECT count(DISTINCT message) FROM logs WHERE service = 'app'", total).await;
    assert!(agent.terminate().await.success());
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE service = 'app'").await, total, "lines stored twice");
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_spools_while_the_server_is_down() {
    let site = Site::new();
    let server = site.start().await;
    let file = site.path().join("app.log");
    // A fixed port, so that the agent finds the server again.
    let address = server.url("");
    let port = address.rsplit(':').next().unwrap().to_owned();
    let agent = Agent::spawn(
        site.path(),
        &["logs", "--service", "app", "--file", file.to_str().unwrap(), "--server", &address],
    );
    append_lines(&file, 0, 1000);
    server.until("SELECT count(*) FROM logs WHERE service = 'app'", 1000).await;
    server.kill().await;
    append_lines(&file, 1000, 3000);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let server = site.start_on(&format!("127.0.0.1:{port}")).await;
    eventually("the lines written while the server was down", 3000, async || {
        server.number("SELECT count(*) FROM logs WHERE service = 'app'").await
    })
    .await;
    assert!(agent.terminate().await.success());
    assert_eq!(server.number("SELECT count(DISTINCT message) FROM logs WHERE service = 'app'").await, 3000);
    server.stop().await;
}
