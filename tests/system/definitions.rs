//! Rollups that are edited while data flows: which definition a row is counted under is in the log, so no restart, kill or lost snapshot changes it, and
//! what was not edited goes on as if nothing had happened.

use serde_json::Value;

use crate::support::{Server, Site, eventually};

/// A full minute of 2026-03-01, UTC.
const START_S: i64 = 1_772_362_800;
/// Rows of a [`Server::pass_time`]: what each call below adds.
const ROWS: i64 = 40;

/// A rollup that stays, and one that is edited: it counts rows `factor` times. Both begin with the rows that come from then on.
fn rollups(factor: i64) -> String {
    let rollup = |name: &str, count: &str| {
        format!(
            "  - name: {name}\n    backfill: false\n    sql: |\n      SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, {count} AS n\n      FROM logs GROUP BY 1, 2\n"
        )
    };
    format!("rollups:\n{}{}", rollup("kept", "count(*)"), rollup("edited", &format!("{factor} * count(*)")))
}

async fn version(server: &Server) -> Value {
    server.get("/api/v1/status").await.json()["definitions_version"].clone()
}

/// Asserts what a rollup has of `app` in a minute: one row, this number.
async fn assert_minute(server: &Server, rollup: &str, minute: i64, expected: i64) {
    let window = format!("service = 'app' AND window_start = to_timestamp({})", START_S + 60 * minute);
    server.until(&format!("SELECT coalesce(sum(n), 0) FROM {rollup} WHERE {window}"), expected).await;
    assert_eq!(server.number(&format!("SELECT count(*) FROM {rollup} WHERE {window}")).await, 1, "{rollup} {minute}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_rollup_changes_where_the_log_says_whatever_is_killed() {
    let site = Site::with_config(&rollups(1));
    let server = site.start().await;
    assert_eq!(version(&server).await, 1);
    server.pass_time("app", START_S + 10).await;
    // Closes minute 0, and opens minute 1.
    server.pass_time("app", START_S + 65).await;
    assert_minute(&server, "edited", 0, ROWS).await;

    site.configure(&rollups(1000));
    let reply = server.post("/-/reload", "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(version(&server).await, 2);
    server.pass_time("app", START_S + 70).await;
    eventually("every task of logs applies version 2", true, async || {
        let status = server.get("/api/v1/status").await.json();
        let tasks = status["tasks"].as_array().unwrap();
        tasks.iter().filter(|t| t["task"].as_str().unwrap().starts_with("logs/")).all(|t| t["definitions_version"] == 2)
    })
    .await;

    // Without snapshots state is built anew from the whole log: under version 1 up to the reload, under version 2 from there on.
    server.kill().await;
    drop(std::fs::remove_dir_all(site.data_dir().join("snapshots")));
    let server = site.start().await;
    assert_eq!(version(&server).await, 2);
    server.pass_time("app", START_S + 126).await;
    for (rollup, minutes) in [("kept", [ROWS, 2 * ROWS]), ("edited", [ROWS, 1000 * ROWS])] {
        for (minute, expected) in (0..).zip(minutes) {
            assert_minute(&server, rollup, minute, expected).await;
        }
    }

    // Edited while the server is down after a kill: the start writes the new version.
    server.kill().await;
    site.configure(&rollups(7));
    let server = site.start().await;
    assert_eq!(version(&server).await, 3);
    server.pass_time("app", START_S + 130).await;
    server.pass_time("app", START_S + 186).await;
    assert_minute(&server, "kept", 2, 2 * ROWS).await;
    assert_minute(&server, "edited", 2, 7 * ROWS).await;

    // The same file again is no new version.
    assert_eq!(server.post("/-/reload", "").await.status, 200);
    assert_eq!(version(&server).await, 3);
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_come_and_go_with_a_reload_and_tasks_stay() {
    let site = Site::new();
    let server = site.start().await;
    let epochs = async |server: &Server| -> Vec<(String, i64)> {
        let status = server.get("/api/v1/status").await.json();
        let tasks = status["tasks"].as_array().unwrap().iter();
        tasks.map(|t| (t["task"].as_str().unwrap().to_owned(), t["epoch"].as_i64().unwrap())).collect()
    };
    server.pass_time("app", START_S + 1).await;
    eventually("every task has started", true, async || epochs(&server).await.iter().all(|(_, epoch)| *epoch > 0))
        .await;
    let before = epochs(&server).await;
    assert!(server.try_sql("SELECT * FROM kept").await.status >= 400, "there is no such table yet");

    site.configure(&rollups(1));
    assert_eq!(server.post("/-/reload", "").await.status, 200);
    assert_eq!(server.number("SELECT count(*) FROM kept").await, 0);
    server.pass_time("app", START_S + 2).await;
    server.pass_time("app", START_S + 66).await;
    assert_minute(&server, "kept", 0, ROWS).await;
    let table = site.table("kept").join("_delta_log");
    eventually("the new rollup is written to its table", true, async || table.exists()).await;

    site.configure("");
    assert_eq!(server.post("/-/reload", "").await.status, 200);
    assert_eq!(version(&server).await, 3);
    assert!(server.try_sql("SELECT * FROM kept").await.status >= 400, "its table is not asked any more");
    assert!(table.exists(), "and stays where it is");
    assert_eq!(epochs(&server).await, before, "no task was started again");

    site.configure(&rollups(1));
    assert_eq!(server.post("/-/reload", "").await.status, 200);
    assert_minute(&server, "kept", 0, ROWS).await;
    server.stop().await;
    site.verify().await;
}
