//! Compactors, two at a time and killed with -9 wherever they are, beside a server that merges, commits, ingests and is killed itself. Whoever asks meanwhile gets every
//! row that was acknowledged, and none twice.
//!
//! `HIGHWATER_UPKEEP_SEED` chooses what is killed when, `HIGHWATER_UPKEEP_ROWS` how long the load is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{DEADLINE, DuckDb, Load, Progress, Server, Site, command, within};

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

/// Days of rows, and commits of all of them: so many files to merge, at least.
const DAYS: i64 = 12;
const COMMITS: i64 = 6;
/// How often compactors, and servers that vacuum, are killed.
const CUTS: usize = 4;
/// Files go so soon after they are replaced. A query may run as long, so those below ask again where the machine is too busy for it.
const VACUUMS: &str = "sql: { timeout: 3s }\ntables: { commit_interval: 100ms, compaction: false, vacuum_after: 3s }\n";

/// The files of rows in a table's directory, by their paths in it, whether the table has them or not.
fn files_there(table: &Path) -> BTreeSet<String> {
    fn walk(directory: &Path, table: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            // What is deleted meanwhile is neither.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => walk(&path, table, found),
                Ok(_) if path.extension().is_some_and(|extension| extension == "parquet") => {
                    found.insert(path.strip_prefix(table).unwrap().to_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(table, table, &mut found);
    found.retain(|path| !path.starts_with("_delta_log"));
    found
}

/// The files that the table's commits have put in and not taken out, and those that they have taken out.
fn files_by_commits(table: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut commits: Vec<_> = std::fs::read_dir(table.join("_delta_log")).unwrap().map(|e| e.unwrap().path()).collect();
    commits.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    commits.sort();
    let (mut has, mut had) = (BTreeSet::new(), BTreeSet::new());
    for commit in commits {
        for line in std::fs::read_to_string(commit).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["remove"]["path"].as_str() {
                assert!(has.remove(path), "{path} was taken out and not in");
                had.insert(path.to_owned());
            }
            if let Some(path) = action["add"]["path"].as_str() {
                has.insert(path.to_owned());
            }
        }
    }
    (has, had)
}

/// The only number of a query, asked until there is time for it.
async fn number(server: &Server, query: &str) -> i64 {
    let asking = async {
        loop {
            let reply = server.try_sql(query).await;
            if reply.status == 200 {
                return reply.json()[0]["n"].as_i64().unwrap();
            }
            assert!([429, 504].contains(&reply.status), "{query}: {reply:?}");
        }
    };
    within(DEADLINE, query, asking).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_killed_while_they_vacuum_keep_every_row() {
    let seed = setting("HIGHWATER_UPKEEP_SEED", 1);
    eprintln!("HIGHWATER_UPKEEP_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let site = Site::with_config(VACUUMS);
    let server = site.start().await;
    for commit in 1..=COMMITS {
        let log = |day: i64| json!({"timestamp": START_S + day * 86_400, "service": "s", "host": format!("h{day}"), "message": format!("{commit}/{day}")});
        server.accepted("/logs", json!((0..DAYS).map(log).collect::<Vec<_>>()).to_string()).await;
        let stored = "SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) AS n FROM table_storage WHERE table_name = 'logs'";
        let committed = async { while number(&server, stored).await < commit * DAYS {} };
        within(DEADLINE, "the rows are in the table", committed).await;
    }
    server.stop().await;
    let (logs, rows) = (site.table("logs"), COMMITS * DAYS);
    let before = files_there(&logs).len();
    assert!(before as i64 >= rows / 2, "{before} files");
    let duckdb = DuckDb::find().await;
    let same_for_duckdb = async || {
        if let Some(duckdb) = &duckdb {
            let query = format!("SELECT count(*), count(DISTINCT message) FROM delta_scan('{}')", logs.display());
            assert_eq!(duckdb.query(&query).await, Ok(vec![vec![json!(rows), json!(rows)]]));
        }
    };

    let data_dir = site.data_dir().to_str().unwrap().to_owned();
    let arguments = ["table", "compact", "--data-dir", &data_dir, "logs"];
    for _ in 0..CUTS {
        let mut compactor = command(site.path()).args(arguments).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
        compactor.kill().await.unwrap();
    }
    same_for_duckdb().await;
    site.run(&arguments).await.output();
    same_for_duckdb().await;
    let (has, had) = files_by_commits(&logs);
    assert!(had.len() >= before && has.len() < before, "{before} files were {} and are {}", had.len(), has.len());
    // Whatever a compactor that was killed has left there no commit names: that is swept when it is older.
    let gone = || had.difference(&files_there(&logs)).count();
    assert_eq!(gone(), 0);

    // Past the time for which replaced files stay. Each server begins with a vacuum; it is killed in it, or soon before or after.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for cut in 0..CUTS {
        let server = site.spawn();
        let vacuuming = async {
            while cut == 0 && gone() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(DEADLINE, "the first file is deleted", vacuuming).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..if cut == 0 { 20 } else { 1000 }))).await;
        server.kill().await;
        eprintln!("killed with {} of {} files deleted", gone(), had.len());
        assert!(has.is_subset(&files_there(&logs)), "a file of the table is gone");
        same_for_duckdb().await;
    }
    let server = site.start().await;
    let vacuumed = async {
        while gone() < had.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(DEADLINE, "the files that were taken out are deleted", vacuumed).await;
    assert!(has.is_subset(&files_there(&logs)), "a file of the table is gone");
    assert_eq!(number(&server, "SELECT count(*) AS n FROM logs").await, rows);
    assert_eq!(number(&server, "SELECT count(DISTINCT message) AS n FROM logs").await, rows);
    server.stop().await;
    site.verify().await;
    same_for_duckdb().await;
}
