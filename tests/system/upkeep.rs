//! Compactors, two at a time and killed with -9 wherever they are, beside a server that merges, commits, ingests and is killed itself. Whoever asks meanwhile gets every
//! row that was acknowledged, and none twice.
//!
//! `HIGHWATER_UPKEEP_SEED` chooses what is killed when, `HIGHWATER_UPKEEP_ROWS` how long the load is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::sync::watch;

use crate::support::{DuckDb, Load, Progress, Site, command};

/// How often the server is killed during one load.
const KILLS: u64 = 3;
/// Midnight of 2026-03-01, UTC.
const START_S: i64 = 1_772_323_200;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Runs compactors one after the other, and kills about half of them on their way. Gives how many ended well, and how many were killed.
async fn compact(site: Arc<Site>, seed: u64, working: Arc<AtomicBool>) -> (u64, u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut ended, mut killed) = (0, 0);
    while working.load(Ordering::SeqCst) || ended == 0 {
        let data_dir = site.data_dir().to_str().unwrap().to_owned();
        let mut child =
            command(site.path()).args(["table", "compact", "--data-dir", &data_dir, "logs"]).spawn().unwrap();
        let patience = Duration::from_millis(random.random_range(20..600));
        if random.random_bool(0.5) && working.load(Ordering::SeqCst) {
            match tokio::time::timeout(patience, child.wait()).await {
                Ok(status) => ended += u64::from(status.unwrap().success()),
                Err(_) => {
                    child.kill().await.unwrap();
                    killed += 1;
                }
            }
        } else {
            // Before the first commit there is no table, and other writers may be too busy for it: neither does harm.
            ended += u64::from(child.wait().await.unwrap().success());
        }
    }
    (ended, killed)
}

/// Asks for as long as there is work, and holds each answer against what had been acknowledged. Gives how many answers there were.
async fn ask(address: watch::Receiver<String>, rows: u64, progress: Arc<Progress>, working: Arc<AtomicBool>) -> u64 {
    const QUERY: &str =
        r#"{"query": "SELECT count(*) AS n, count(DISTINCT request_id) AS d FROM logs", "format": "json"}"#;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
    let mut answers = 0;
    while working.load(Ordering::SeqCst) {
        let at_least = progress.acknowledged.load(Ordering::SeqCst);
        let url = format!("{}/api/v1/sql", address.borrow().as_str());
        let asked = client.post(url).header("content-type", "application/json").body(QUERY).send().await;
        // A server that is being killed gives none, or half of one.
        let Ok(response) = asked else { continue };
        if response.status() != 200 {
            continue;
        }
        let Ok(Value::Array(answer)) = response.json::<Value>().await else { continue };
        let (n, distinct) = (answer[0]["n"].as_u64().unwrap(), answer[0]["d"].as_u64().unwrap());
        assert!(n == distinct, "{n} rows, of which {distinct} are different");
        assert!((at_least..=rows).contains(&n), "{n} rows, where {at_least} of {rows} had been acknowledged");
        answers += 1;
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compactors_and_a_server_killed_beside_each_other_change_no_answer() {
    let (seed, rows) = (setting("HIGHWATER_UPKEEP_SEED", 1), setting("HIGHWATER_UPKEEP_ROWS", 40_000));
    eprintln!("HIGHWATER_UPKEEP_SEED={seed} HIGHWATER_UPKEEP_ROWS={rows}");
    let mut random = SmallRng::seed_from_u64(seed);
    let site = Arc::new(Site::with_config("sql: { timeout: 20s }\n"));
    let mut server = site.start().await;
    let (address, follow) = watch::channel(server.url(""));
    let (progress, working) = (Arc::new(Progress::default()), Arc::new(AtomicBool::new(true)));
    let load = Arc::new(Load { name: format!("upkeep-{seed}"), rows, start_s: START_S });
    let sending = tokio::spawn(load.run(follow.clone(), Arc::clone(&progress)));
    let compacting = [1, 2].map(|n| tokio::spawn(compact(Arc::clone(&site), seed * 10 + n, Arc::clone(&working))));
    let asking = tokio::spawn(ask(follow, rows, Arc::clone(&progress), Arc::clone(&working)));

    for kill in 1..=KILLS {
        while progress.acknowledged.load(Ordering::SeqCst) < kill * rows / (KILLS + 1) {
            assert!(!sending.is_finished() || kill > 1, "the load ended before the first kill");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        server.kill().await;
        server = site.start().await;
        address.send_replace(server.url(""));
    }
    sending.await.unwrap();
    // Once all is in the table, merges and answers go on over it.
    server
        .until(
            "SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) FROM table_storage WHERE table_name = 'logs'",
            rows as i64,
        )
        .await;
    working.store(false, Ordering::SeqCst);
    let answers = asking.await.unwrap();
    let (mut ended, mut killed) = (0, 0);
    for compactor in compacting {
        let (well, not) = compactor.await.unwrap();
        (ended, killed) = (ended + well, killed + not);
    }
    eprintln!("{answers} answers, {ended} compactions, {killed} killed");
    assert!(answers > 0 && ended > 0, "{answers} answers, {ended} compactions");
    assert_eq!(server.number("SELECT count(DISTINCT request_id) FROM logs").await, rows as i64);
    assert_eq!(server.number("SELECT count(*) FROM logs").await, rows as i64);
    server.stop().await;
    site.verify().await;
    if let Some(duckdb) = DuckDb::find().await {
        assert_eq!(duckdb.count(&site.table("logs")).await, Ok(rows as i64));
    }
}
