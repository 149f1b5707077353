//! A second Highwater on the first one's Kafka port: one process has the log and takes in, others do the work.
//!
//! The first runs `--roles gateway,query` on its embedded log; workers with `log.kind: kafka` reach it as any Kafka client does, in one
//! consumer group, each task's outputs and progress in one transaction. Tables and snapshots are in one directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use crate::end_to_end::{ALERTING, RULES, START_S};
use crate::support::{Load, Progress, Server, Site, eventually, free_address};

/// An hour after the windows of the alerts.
const HOUR_S: i64 = START_S + 3600;
const ROWS: u64 = 30_000;

/// The process that has the log, and what workers need to know of it.
struct First {
    site: Site,
    server: Server,
    brokers: String,
}

impl First {
    /// Starts it with these roles. It listens on the same Kafka port whenever it is started again.
    async fn start(roles: &str) -> Self {
        let free = free_address();
        let site = Site::with_config(&format!("roles: [{roles}]\nkafka: {{ listen: \"{free}\" }}\n{ALERTING}"));
        site.write("rules.yaml", RULES);
        let server = site.start().await;
        assert_eq!(server.kafka(), free);
        Self { site, server, brokers: free }
    }

    /// A place for a process with these roles on the first one's log.
    fn place(&self, roles: &str) -> Site {
        self.place_with(roles, "")
    }

    /// The same, with more configuration.
    fn place_with(&self, roles: &str, more: &str) -> Site {
        let site = Site::with_config(&format!(
            "roles: [{roles}]\nlog:\n  kind: kafka\n  kafka:\n    brokers: \"{}\"\n    \
             options: {{ session.timeout.ms: 6000, heartbeat.interval.ms: 1000 }}\n\
             storage: {{ url: \"file://{}\" }}\n{ALERTING}{more}",
            self.brokers,
            self.site.data_dir().display()
        ));
        site.write("rules.yaml", RULES);
        site
    }

    async fn kill_and_restart(&mut self) {
        self.server.kill_in_place().await;
        self.server = self.site.start().await;
    }
}

/// One window of traffic from every partition, the first `errors` of its requests errors.
async fn window(gateway: &Server, index: i64, errors: usize) {
    let rows: Vec<_> = (0..40)
        .map(|host| {
            let level = if host < errors { "error" } else { "info" };
            let at = START_S + index * 10 + (host % 10) as i64;
            json!({"timestamp": at, "service": "shop", "host": format!("host-{host}"), "level": level, "message": "GET /"})
        })
        .collect();
    gateway.accepted("/logs", json!(rows).to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_elsewhere_do_everything_once() {
    let mut first = First::start("gateway, query").await;
    let (second, third) = (first.place("worker"), first.place("worker"));
    let (mut second_server, third_server) = tokio::join!(second.start(), third.start());
    first.server.settled(2).await;

    for (index, errors) in [0, 7, 8, 0, 0, 0].into_iter().enumerate() {
        window(&first.server, index as i64, errors).await;
    }
    let states = |names: &[&str]| names.iter().map(|state| json!({"state": state})).collect::<Vec<_>>();
    let alerts = "SELECT state FROM alerts ORDER BY _offset";
    eventually("three transitions", states(&["pending", "firing", "resolved"]), async || {
        first.server.sql(alerts).await
    })
    .await;

    // A load, and in the middle of it a worker is killed and comes back, and then the process that has the log.
    let (address, follow) = watch::channel(first.server.url(""));
    let progress = Arc::new(Progress::default());
    let load = Arc::new(Load { name: "second".into(), rows: ROWS, start_s: HOUR_S });
    let sending = tokio::spawn(load.run(follow, Arc::clone(&progress)));
    let reached = async |rows: u64| {
        while progress.acknowledged.load(Ordering::Relaxed) < rows {
            assert!(!sending.is_finished(), "the load ended before {rows} rows");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    reached(ROWS / 4).await;
    second_server.kill_in_place().await;
    reached(ROWS / 2).await;
    first.kill_and_restart().await;
    address.send_replace(first.server.url(""));
    second_server = second.start().await;
    sending.await.unwrap();
    assert!(progress.retries.load(Ordering::Relaxed) > 0, "no request was cut off: the kill missed the load");

    let rows = ROWS as i64;
    let loaded = "FROM logs WHERE request_id IS NOT NULL";
    assert_eq!(first.server.number(&format!("SELECT count(*) {loaded}")).await, rows);
    assert_eq!(first.server.number(&format!("SELECT count(DISTINCT request_id) {loaded}")).await, rows);
    assert_eq!(first.server.number("SELECT count(*) FROM dead_letter").await, 0);

    // Every window, against the query over the rows.
    first.server.settled(2).await;
    for step in 0..3 {
        first.server.pass_time("later", HOUR_S + 900 + step * 60).await;
    }
    let rollup = "SELECT CAST(window_start AS BIGINT) AS at, service, requests, errors FROM errors_10s \
                  WHERE service <> 'later' ORDER BY 1, 2";
    let oracle = "SELECT CAST(tumble(timestamp, INTERVAL '10 seconds') AS BIGINT) AS at, service, count(*) AS requests, \
                    count(*) FILTER (WHERE level IN ('ERROR', 'CRITICAL')) AS errors \
                  FROM logs WHERE service <> 'later' GROUP BY 1, 2 ORDER BY 1, 2";
    let expected = first.server.sql(oracle).await;
    assert_eq!(expected.len(), 6 + 12 * 5);
    eventually("the rollup is what the query over the rows gives", expected, async || first.server.sql(rollup).await)
        .await;
    assert_eq!(first.server.sql(alerts).await, states(&["pending", "firing", "resolved"]));
    first.server.caught_up().await;

    // Whole, as a client of the log sees it and as the files are.
    second_server.stop().await;
    third_server.stop().await;
    second.run(&["verify", "--config", "highwater.yaml"]).await.output();
    first.server.stop().await;
    first.site.verify().await;
    assert_eq!(first.site.offline_number(&format!("SELECT count(*) {loaded}")).await, rows);

    // From here on the log is theirs.
    let data_dir = first.site.data_dir().to_str().unwrap();
    let alone = first
        .site
        .run(&[
            "serve",
            "--config",
            "highwater.yaml",
            "--roles",
            "gateway,worker,query",
            "--http-listen",
            "127.0.0.1:0",
            "--data-dir",
            data_dir,
        ])
        .await;
    assert_eq!(alone.code, Some(1), "{alone:?}");
    assert!(alone.stderr.contains("group `highwater` has their progress"), "{}", alone.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_on_a_log_that_has_one_is_refused() {
    let first = First::start("gateway, worker, query").await;
    let second = first.place("worker");
    let refused = second.run(&["serve", "--config", "highwater.yaml", "--http-listen", "127.0.0.1:0"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("runs its tasks itself") && refused.stderr.contains(&first.brokers),
        "{}",
        refused.stderr
    );

    // One that only takes in and asks is welcome, and sees what the first one does.
    let other = first.place("gateway, query");
    let server = other.start().await;
    server.accepted("/logs", r#"[{"message": "by the other door", "host": "a"}]"#).await;
    first.server.accepted("/logs", r#"[{"message": "by the first door", "host": "b"}]"#).await;
    for server in [&server, &first.server] {
        server.until("SELECT count(*) FROM logs", 2).await;
    }
    server.stop().await;
    first.server.stop().await;
    first.site.verify().await;
}

/// A page that is scraped, and how often it was.
async fn page() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, scrapes) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&scrapes);
    let answer = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        "answer 42\n"
    };
    let router = axum::Router::new().route("/metrics", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, scrapes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_share_what_is_scraped_and_take_over() {
    // So many that none of them gets nothing.
    const TARGETS: usize = 30;
    let first = First::start("query").await;
    let mut pages = Vec::new();
    for _ in 0..TARGETS {
        pages.push(page().await);
    }
    let targets = pages.iter().map(|(address, _)| format!("'{address}'")).collect::<Vec<_>>().join(", ");
    let scraped = format!(
        "scrape_configs: [{{ job_name: pages, scrape_interval: 1s, static_configs: [{{ targets: [{targets}] }}] }}]\n"
    );
    let (one, other) = (first.place_with("gateway", &scraped), first.place_with("gateway", &scraped));
    let (one_server, other_server) = tokio::join!(one.start(), other.start());
    let share = async |server: &Server| server.metric("highwater_scrape_targets", "").await as usize;
    eventually("each has some, and both have all", true, async || {
        let shares = (share(&one_server).await, share(&other_server).await);
        shares.0 > 0 && shares.1 > 0 && shares.0 + shares.1 == TARGETS
    })
    .await;
    // Then each page is asked by one of them, so no more often than its interval allows.
    eventually("each page is asked by one", true, async || {
        let before: Vec<_> = pages.iter().map(|(_, scrapes)| scrapes.load(Ordering::SeqCst)).collect();
        #[expect(clippy::disallowed_methods, reason = "how long the test itself has watched")]
        let since = std::time::Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let most = since.elapsed().as_secs() as usize + 2;
        pages.iter().zip(before).all(|((_, scrapes), before)| scrapes.load(Ordering::SeqCst) - before <= most)
    })
    .await;
    let instances = "SELECT count(DISTINCT instance) AS n FROM metrics WHERE name = 'answer' AND value = 42";
    first.server.until(instances, TARGETS as i64).await;
    // One dies, and the other has them all.
    one_server.kill().await;
    eventually("the other has all", TARGETS, async || share(&other_server).await).await;
    let newest = "SELECT CAST(max(timestamp) AS BIGINT) AS n FROM metrics WHERE name = 'up'";
    let since_us = first.server.number(newest).await;
    let alive = format!(
        "SELECT count(DISTINCT instance) AS n FROM metrics WHERE name = 'up' AND value = 1 AND CAST(timestamp AS BIGINT) > {since_us}"
    );
    first.server.until(&alive, TARGETS as i64).await;
    other_server.stop().await;
    first.server.stop().await;
}
