#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use highwater_broker::SystemClock;
use tokio::net::TcpListener;

use super::config::{GlobalConfig, ScrapeConfigs};
use super::*;
use crate::data::RowKind;
use crate::sources::testing::World;

async fn target(page: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = get(async move || ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", answer)).await });
    address.to_string()
}

fn config(yaml: &str) -> ScrapeConfig {
    let written: ScrapeConfigs = serde_saphyr::from_str(yaml).unwrap();
    written.resolve(&GlobalConfig::default(), Path::new("/")).unwrap()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("not so: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_are_scraped_and_told() {
    let world = World::new().await;
    let address = target("# HELP a What it is.\n# TYPE a counter\na 1\nb{x=\"y\"} 2\n").await;
    let job = format!(
        "[{{ job_name: j, scrape_interval: 200ms, keep_dropped_targets: 1, static_configs: [{{ targets: ['{address}', '127.0.0.1:1', drop-1, drop-2] }}], \
           relabel_configs: [{{ source_labels: [__address__], regex: 'drop-.*', action: drop }}] }}]"
    );
    let shutdown = CancellationToken::new();
    let (scraper, scraping) = Scraper::start(
        config(&job),
        Arc::clone(&world.ingest),
        Arc::new(SystemClock),
        Arc::new(Everything),
        shutdown.clone(),
    );
    until("both were scraped", || {
        let active = scraper.active();
        active.len() == 2 && active.iter().all(|target| target.health != TargetHealth::Unknown)
    })
    .await;
    let active = scraper.active();
    let up = active.iter().find(|target| target.health == TargetHealth::Up).unwrap();
    assert_eq!(up.scrape_url, format!("http://{address}/metrics"));
    assert_eq!((up.labels["instance"].as_str(), up.labels["job"].as_str()), (address.as_str(), "j"));
    let down = active.iter().find(|target| target.health == TargetHealth::Down).unwrap();
    assert!(down.last_error.contains("refused"), "{}", down.last_error);
    assert_eq!((scraper.dropped().len(), scraper.dropped_counts("default")["j"]), (1, 2));
    let described = scraper.metadata();
    assert_eq!(
        (described[0].metric.as_str(), described[0].kind, described[0].help.as_str()),
        ("a", "counter", "What it is.")
    );

    // A job that is taken away ends its targets; others begin.
    scraper.apply(config("[{ job_name: other }]"));
    until("the job is gone", || scraper.active().is_empty() && scraper.scrape_pools() == ["other"]).await;
    shutdown.cancel();
    scraping.await.unwrap();
    let names = world.texts("metrics", RowKind::Metrics, "name").await;
    for name in ["a", "b", "up", "scrape_samples_scraped"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_are_scraped_under_tls_by_the_name_of_their_certificate() {
    let world = World::new().await;
    let fixture = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/src/kafka/tests/tls").join(name);
        path.display().to_string()
    };
    let files = highwater_broker::tls::TlsFiles::new(fixture("cert.pem"), fixture("key.pem"));
    let listen = "127.0.0.1:0".parse().unwrap();
    let limits = crate::server::ServerLimits::default();
    let server = crate::server::HttpServer::bind("test", listen, Some(files), limits).await.unwrap();
    let port = server.address().port();
    let shutdown = CancellationToken::new();
    let answer = get(async || ([(header::CONTENT_TYPE, "application/openmetrics-text")], "a 1\n# EOF\n"));
    tokio::spawn(server.serve(Router::new().route("/metrics", answer), shutdown.clone()));
    let ca = fixture("cert.pem");
    let job = |name: &str, tls: &str| {
        format!(
            "{{ job_name: {name}, scheme: https, scrape_interval: 300ms, tls_config: {{ {tls} }}, static_configs: [{{ targets: ['127.0.0.1:{port}'] }}] }}"
        )
    };
    let jobs = [
        job("named", &format!("ca_file: {ca}, server_name: localhost")),
        job("believing", "insecure_skip_verify: true"),
        job("strange", &format!("ca_file: {ca}, server_name: elsewhere.example")),
        job("unknown", ""),
    ];
    let (scraper, scraping) = Scraper::start(
        config(&format!("[{}]", jobs.join(", "))),
        Arc::clone(&world.ingest),
        Arc::new(SystemClock),
        Arc::new(Everything),
        shutdown.clone(),
    );
    until("all were scraped", || {
        let active = scraper.active();
        active.len() == 4 && active.iter().all(|target| target.health != TargetHealth::Unknown)
    })
    .await;
    let health: BTreeMap<_, _> =
        scraper.active().into_iter().map(|target| (target.scrape_pool, target.health.name())).collect();
    let expected = [("believing", "up"), ("named", "up"), ("strange", "down"), ("unknown", "down")];
    assert_eq!(health, expected.map(|(job, health)| (job.to_owned(), health)).into());
    shutdown.cancel();
    scraping.await.unwrap();
}
