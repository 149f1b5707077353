//! Seeded disorder: while a load runs, workers are killed, paused past their session and continued, added and stopped, the broker is
//! killed and started again, and (on S3) the store answers with errors and drops replies. In the end the tables hold exactly what was
//! acknowledged, and rollups what the query over the stored rows gives.
//!
//! `HIGHWATER_CHAOS_SEED` chooses what happens when; `HIGHWATER_CHAOS_SEEDS` how many seeds from there; `HIGHWATER_CHAOS_ROWS` how long the load is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::watch;

use super::cluster::{Cluster, Process, WORKERS};
use super::s3_proxy::Faults;
use crate::support::{Load, Progress, Server, eventually, signal};

/// Midnight of 2026-03-01, UTC.
const HOUR_S: i64 = 1_772_323_200;
/// How often something is done to the cluster during one load.
const ACTS: u64 = 6;

const CONFIG: &str = "
rollups:
  - name: requests_1m
    lateness: 2s
    sql: |
      SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS requests
      FROM logs GROUP BY 1, 2
";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[derive(Debug)]
enum Act {
    Kill,
    Pause,
    Add,
    Stop,
    Broker,
}

async fn act(cluster: &mut Cluster, random: &mut SmallRng) {
    let act = match random.random_range(0..100) {
        0..35 => Act::Kill,
        35..60 => Act::Pause,
        60..75 => Act::Add,
        75..85 if cluster.workers.len() > 1 => Act::Stop,
        85.. => Act::Broker,
        _ => Act::Kill,
    };
    let worker = random.random_range(0..cluster.workers.len());
    eprintln!("  {act:?} (worker {worker} of {})", cluster.workers.len());
    match act {
        Act::Kill => {
            let Process { site, server } = &mut cluster.workers[worker];
            server.kill_in_place().await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..2_000))).await;
            *server = site.spawn().announced().await;
        }
        Act::Pause => {
            // Sometimes shorter than its session, sometimes so long that others take over and it comes back as a zombie.
            let pid = cluster.workers[worker].server.pid();
            signal(pid, "STOP").await;
            tokio::time::sleep(Duration::from_millis(random.random_range(500..12_000))).await;
            signal(pid, "CONT").await;
        }
        Act::Add => cluster.add_worker().await,
        Act::Stop => cluster.workers.remove(worker).server.stop().await,
        Act::Broker => {
            let kafka = Arc::clone(&cluster.kafka);
            let away = Duration::from_millis(random.random_range(0..3_000));
            let restarted = tokio::task::spawn_blocking(move || {
                kafka.kill();
                std::thread::sleep(away);
                kafka.restart();
            });
            restarted.await.unwrap();
        }
    }
}

async fn disorder(seed: u64, rows: u64, on_s3: bool) {
    eprintln!("HIGHWATER_CHAOS_SEED={seed} HIGHWATER_CHAOS_ROWS={rows} on_s3={on_s3}");
    let mut random = SmallRng::seed_from_u64(seed);
    let Some(mut cluster) = Cluster::start(CONFIG, &[], on_s3).await else { return };
    let (_address, follow) = watch::channel(cluster.gateway().url(""));
    let progress = Arc::new(Progress::default());
    let load = Arc::new(Load { name: format!("chaos-{seed}"), rows, start_s: HOUR_S });
    let sending = tokio::spawn(load.run(follow, Arc::clone(&progress)));
    cluster.spoil_storage(Faults { refused: 0.05, lost_replies: 0.03 });
    for number in 0..ACTS {
        let point = number * rows / ACTS;
        while progress.acknowledged.load(Ordering::Relaxed) < point && !sending.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        act(&mut cluster, &mut random).await;
    }
    sending.await.unwrap();
    cluster.spoil_storage(Faults::default());
    while cluster.workers.len() > WORKERS {
        cluster.workers.pop().unwrap().server.stop().await;
    }

    let query = cluster.query();
    let rows = rows as i64;
    let twice = "SELECT request_id, count(*) AS times FROM logs GROUP BY 1 HAVING count(*) > 1 LIMIT 5";
    assert_eq!(query.sql(twice).await, Vec::<serde_json::Value>::new(), "stored more than once");
    assert_eq!(query.number("SELECT count(DISTINCT request_id) FROM logs").await, rows);
    assert_eq!(query.number("SELECT count(*) FROM logs").await, rows);
    assert_eq!(query.number("SELECT count(*) FROM dead_letter").await, 0);

    // Rows a good while later close every window of the load.
    close_windows(cluster.gateway(), HOUR_S + 900).await;
    let rollup = "SELECT CAST(window_start AS BIGINT) AS at, service, requests FROM requests_1m WHERE service <> 'later' ORDER BY 1, 2";
    let oracle = "SELECT CAST(tumble(timestamp, INTERVAL '1 minute') AS BIGINT) AS at, service, count(*) AS requests \
                  FROM logs WHERE service <> 'later' GROUP BY 1, 2 ORDER BY 1, 2";
    let expected = query.sql(oracle).await;
    eventually("the rollup is what the query over the rows gives", expected, async || query.sql(rollup).await).await;
    cluster.caught_up().await;
    cluster.finish().await;
}

async fn close_windows(gateway: &Server, at_s: i64) {
    for step in 0..3 {
        let rows: Vec<_> = (0..40)
            .map(|host| json!({"timestamp": at_s + step * 60, "service": "later", "host": format!("host-{host}"), "message": "later"}))
            .collect();
        gateway.accepted("/logs", json!(rows).to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disorder_leaves_no_trace() {
    let first = setting("HIGHWATER_CHAOS_SEED", 1);
    for seed in first..first + setting("HIGHWATER_CHAOS_SEEDS", 1) {
        disorder(seed, setting("HIGHWATER_CHAOS_ROWS", 30_000), seed % 2 == 0).await;
    }
}
