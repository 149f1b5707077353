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

/// Scrapes these jobs into this world.
fn scrape(world: &World, jobs: &str, shutdown: &CancellationToken) -> (Scraper, JoinHandle<()>) {
    let ingest = Arc::clone(&world.ingest);
    Scraper::start(config(jobs), ingest, Arc::new(SystemClock), Arc::new(Everything), shutdown.clone())
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
    let (scraper, scraping) = scrape(&world, &job, &shutdown);
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
    let (scraper, scraping) = scrape(&world, &format!("[{}]", jobs.join(", ")), &shutdown);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_and_servers_that_list_them_are_asked_with_tokens() {
    use axum::http::{HeaderMap, StatusCode};
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Tokens are good for ever, until they are taken back.
    let given = Arc::new(Mutex::new(0));
    let give = Arc::clone(&given);
    let token = axum::routing::post(async move |body: String| {
        assert_eq!(body, "grant_type=client_credentials&scope=metrics");
        let mut given = give.lock();
        *given += 1;
        (
            [(header::CONTENT_TYPE, "application/json")],
            format!(r#"{{"access_token":"t{given}","token_type":"Bearer"}}"#),
        )
    });
    let good = Arc::new(Mutex::new(vec!["Bearer t1".to_owned(), "Bearer t2".to_owned()]));
    let check = {
        let good = Arc::clone(&good);
        move |headers: &HeaderMap, body: String| {
            let login = headers.get(header::AUTHORIZATION).map(|login| login.to_str().unwrap().to_owned());
            match good.lock().iter().any(|good| Some(good) == login.as_ref()) {
                true => (StatusCode::OK, body),
                false => (StatusCode::UNAUTHORIZED, String::new()),
            }
        }
    };
    let (page, list) = (check.clone(), check);
    let listed = format!(r#"[{{"targets": ["{address}"]}}]"#);
    let router = Router::new()
        .route("/token", token)
        .route(
            "/metrics",
            get(async move |headers: HeaderMap| {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page(&headers, "a 1\n".into()))
            }),
        )
        .route(
            "/targets",
            get(async move |headers: HeaderMap| {
                ([(header::CONTENT_TYPE, "application/json")], list(&headers, listed.clone()))
            }),
        );
    tokio::spawn(async move { axum::serve(listener, router).await });
    let oauth2 = format!(
        "oauth2: {{ client_id: me, client_secret: s, scopes: [metrics], token_url: 'http://{address}/token' }}"
    );
    let job = format!(
        "[{{ job_name: j, scrape_interval: 200ms, {oauth2}, \
           http_sd_configs: [{{ url: 'http://{address}/targets', refresh_interval: 200ms, {oauth2} }}] }}]"
    );
    let shutdown = CancellationToken::new();
    let (scraper, scraping) = scrape(&world, &job, &shutdown);
    let health = || scraper.active().first().map(|target| target.health);
    until("the target is up", || health() == Some(TargetHealth::Up)).await;
    assert_eq!(*given.lock(), 2, "one for the list and one for the target");
    // Both are taken back: one scrape fails, and the next one has another token.
    good.lock().clear();
    until("the target is down", || health() == Some(TargetHealth::Down)).await;
    good.lock().extend((1..1_000).map(|number| format!("Bearer t{number}")));
    until("the target is up again", || health() == Some(TargetHealth::Up)).await;
    shutdown.cancel();
    scraping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_come_from_servers_that_list_them() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let said = Arc::new(Mutex::new((200, "application/json; charset=utf-8", String::new())));
    let asked = Arc::new(Mutex::new(axum::http::HeaderMap::new()));
    let (saying, asking) = (Arc::clone(&said), Arc::clone(&asked));
    let answer = get(async move |headers: axum::http::HeaderMap| {
        *asking.lock() = headers;
        let (status, content_type, text) = saying.lock().clone();
        (axum::http::StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, content_type)], text)
    });
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/targets", answer)).await });
    let say = |status, content_type, text: &str| *said.lock() = (status, content_type, text.to_owned());
    say(200, "application/json", r#"[{"targets": ["127.0.0.1:1", "127.0.0.1:2"], "labels": {"env": "a"}}]"#);

    let shutdown = CancellationToken::new();
    let job = |more: &str| {
        format!(
            "[{{ job_name: j, scrape_interval: 1h, static_configs: [{{ targets: ['127.0.0.1:9'] }}], http_sd_configs: [{{ url: 'http://{address}/targets', \
               refresh_interval: 250ms, authorization: {{ credentials: secret }} }}]{more} }}]"
        )
    };
    let (scraper, scraping) = scrape(&world, &job(""), &shutdown);
    let urls = || scraper.active().into_iter().map(|target| target.scrape_url).collect::<Vec<_>>();
    let of = |ports: &[u16]| ports.iter().map(|port| format!("http://127.0.0.1:{port}/metrics")).collect::<Vec<_>>();
    until("the targets are there", || urls() == of(&[1, 2, 9])).await;
    let target = scraper.active().swap_remove(0);
    assert_eq!(target.discovered_labels["__meta_url"], format!("http://{address}/targets"));
    assert_eq!(target.labels["env"], "a");
    let headers = asked.lock().clone();
    assert_eq!(headers["x-prometheus-refresh-interval-seconds"], "0.25");
    assert_eq!(
        (&headers["accept"], &headers["authorization"]),
        (&"application/json".parse().unwrap(), &"Bearer secret".parse().unwrap())
    );

    // What is no list says nothing; a list says what is there.
    let errors = |status, content_type, text: &str| {
        say(status, content_type, text);
        asked.lock().clear();
    };
    for (status, content_type, text) in
        [(500, "application/json", "[]"), (200, "text/html", "[]"), (200, "application/json", "[{]")]
    {
        errors(status, content_type, text);
        until("it was asked", || !asked.lock().is_empty()).await;
        assert_eq!(urls(), of(&[1, 2, 9]), "{status} {content_type} {text}");
    }
    say(200, "application/json", r#"[{"targets": ["127.0.0.1:3"]}]"#);
    until("another target", || urls() == of(&[3, 9])).await;
    // A change of the job that leaves the server alone leaves its targets alone.
    say(500, "application/json", "");
    scraper.apply(config(&job(", params: { a: [b] }")));
    until("the job has changed", || urls().iter().all(|url| url.ends_with("?a=b"))).await;
    assert_eq!(urls().len(), 2);
    scraper.apply(config("[{ job_name: j, scrape_interval: 1h }]"));
    until("the server is gone", || urls().is_empty()).await;
    shutdown.cancel();
    scraping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_beyond_limits_fail_the_scrape_or_are_left_out() {
    let world = World::new().await;
    let labels: Vec<String> = (0..300).map(|n| format!("l{n}=\"v\"")).collect();
    let page = format!("good 1\nmany{{{}}} 1\nlong{{{}=\"v\"}} 1\n", labels.join(","), "n".repeat(2_000));
    let address = target(Box::leak(page.into_boxed_str())).await;
    let job = |name: &str, more: &str| {
        format!(
            "{{ job_name: {name}, scrape_interval: 300ms, static_configs: [{{ targets: ['{address}'] }}], {more} }}"
        )
    };
    // What holds for a job fails the whole scrape, as in Prometheus; where it has no limits, ours leave samples out.
    let jobs = [
        job("many", "label_limit: 299"),
        job("long", "label_name_length_limit: 100"),
        job("short", "label_value_length_limit: 9"),
        job("open", ""),
    ];
    let shutdown = CancellationToken::new();
    let (scraper, scraping) = scrape(&world, &format!("[{}]", jobs.join(", ")), &shutdown);
    until("all were scraped", || {
        let active = scraper.active();
        active.len() == 4 && active.iter().all(|target| target.health != TargetHealth::Unknown)
    })
    .await;
    let mut errors: BTreeMap<_, _> =
        scraper.active().into_iter().map(|target| (target.scrape_pool, target.last_error)).collect();
    let many = "label_limit exceeded (metric: many, number of labels: 303, limit: 299)";
    assert_eq!(errors.remove("many").unwrap(), many);
    let long = errors.remove("long").unwrap();
    assert!(long.starts_with("label_name_length_limit exceeded (metric: long, label name: nnn"), "{long}");
    let short = errors.remove("short").unwrap();
    assert!(
        short.starts_with("label_value_length_limit exceeded (metric: good, label name: instance, value: \"127.0"),
        "{short}"
    );
    assert_eq!(errors.into_iter().collect::<Vec<_>>(), [("open".to_owned(), String::new())]);
    until("what is left out is told", || {
        scraper.0.pools.lock()["open"].running.values().map(|running| running.last.lock().refused).eq([2])
    })
    .await;
    shutdown.cancel();
    scraping.await.unwrap();
    let names = world.texts("metrics", RowKind::Metrics, "name").await;
    let stored = |name: &str| names.iter().filter(|known| *known == name).count();
    assert!(stored("good") > 0 && stored("many") == 0 && stored("long") == 0, "{names:?}");
}
