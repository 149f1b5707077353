//! Scraping with the real binary: a target of ours whose page changes, and Debian's node exporter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Server, Site, eventually, free_address, skipped};

/// A target that says what its test wants it to say.
struct Target {
    address: std::net::SocketAddr,
    page: Arc<std::sync::Mutex<(u16, &'static str, String)>>,
    scrapes: Arc<AtomicUsize>,
    asked: Arc<std::sync::Mutex<HeaderMap>>,
}

impl Target {
    async fn start(content_type: &'static str, page: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let page = Arc::new(std::sync::Mutex::new((200, content_type, page.to_owned())));
        let (scrapes, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(HeaderMap::new())));
        let (shown, counted, kept) = (Arc::clone(&page), Arc::clone(&scrapes), Arc::clone(&asked));
        let answer = async move |headers: HeaderMap| {
            counted.fetch_add(1, Ordering::SeqCst);
            *kept.lock().unwrap() = headers;
            let (status, content_type, text) = shown.lock().unwrap().clone();
            (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, content_type)], text)
        };
        let router = Router::new().route("/metrics", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, page, scrapes, asked }
    }

    fn say(&self, status: u16, page: &str) {
        let mut said = self.page.lock().unwrap();
        (said.0, said.2) = (status, page.to_owned());
    }
}

/// The newest row of a metric: value (or `stale`), and labels.
async fn newest(server: &Server, name: &str) -> Value {
    let query = format!(
        "SELECT CASE WHEN stale THEN 'stale' ELSE CAST(value AS VARCHAR) END AS value, labels FROM metrics WHERE name = '{name}' ORDER BY timestamp DESC LIMIT 1"
    );
    server.sql(&query).await.first().cloned().unwrap_or(Value::Null)
}

async fn value(server: &Server, name: &str) -> Value {
    newest(server, name).await["value"].clone()
}

const TEXT: &str = "text/plain; version=0.0.4";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_is_scraped_and_what_it_loses_goes_stale() {
    let target = Target::start(TEXT, "# TYPE jobs_total counter\njobs_total{queue=\"a\"} 5\ngone 1\n").await;
    let site = Site::with_config("");
    site.write("password", "hunter2\n");
    site.write(
        "targets.json",
        &json!([{"targets": [target.address.to_string()], "labels": {"env": "test"}}]).to_string(),
    );
    site.configure(
        "scrape_configs:\n  - job_name: app\n    scrape_interval: 1s\n    file_sd_configs: [{ files: ['targets.json'] }]\n    \
         basic_auth: { username: me, password_file: password }\n    \
         metric_relabel_configs: [{ source_labels: [queue], target_label: line }]\n",
    );
    let server = site.start().await;
    eventually("up", json!("1.0"), async || value(&server, "up").await).await;
    eventually("the samples", json!("5.0"), async || value(&server, "jobs_total").await).await;
    let row = newest(&server, "jobs_total").await;
    let instance = target.address.to_string();
    let labels: Value = serde_json::from_str(row["labels"].as_str().unwrap()).unwrap();
    assert_eq!(labels, json!({"env": "test", "instance": instance, "job": "app", "line": "a", "queue": "a"}));
    for name in ["scrape_samples_scraped", "scrape_samples_post_metric_relabeling"] {
        eventually(name, json!("2.0"), async || value(&server, name).await).await;
    }
    let url = server.url("/api/v1/targets/metadata?metric=jobs_total&match_target=%7Benv=%22test%22%7D");
    let told = server.send(reqwest::Client::new().get(url)).await.json()["data"].take();
    let of_target = json!({"env": "test", "instance": instance, "job": "app"});
    assert_eq!(told, json!([{"target": of_target, "type": "counter", "help": "", "unit": ""}]));
    let asked = target.asked.lock().unwrap().clone();
    assert!(asked["accept"].to_str().unwrap().starts_with("application/openmetrics-text;version=1.0.0"), "{asked:?}");
    assert_eq!(asked["authorization"], "Basic bWU6aHVudGVyMg==");
    assert_eq!(asked["x-prometheus-scrape-timeout-seconds"], "1");

    target.say(200, "jobs_total{queue=\"a\"} 6\n");
    eventually("a series that is gone", json!("stale"), async || value(&server, "gone").await).await;
    target.say(500, "");
    eventually("down", json!("0.0"), async || value(&server, "up").await).await;
    eventually("all of it is stale", json!("stale"), async || value(&server, "jobs_total").await).await;
    target.say(200, "jobs_total{queue=\"a\"} 7\n");
    eventually("up again", json!("7.0"), async || value(&server, "jobs_total").await).await;

    // Taken out of the file it is scraped no more, and its report ends too.
    site.write("targets.json", "[]");
    eventually("removed", json!("stale"), async || value(&server, "up").await).await;
    let scrapes = target.scrapes.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(target.scrapes.load(Ordering::SeqCst), scrapes);
    // A report of every scrape, those that did not get through in time, too, and none twice.
    let query = "SELECT count(*) AS n, count(DISTINCT timestamp) AS times FROM metrics WHERE name = 'up' AND NOT stale";
    let reports = server.sql(query).await.swap_remove(0);
    assert_eq!(reports["n"], reports["times"]);
    assert!(reports["n"].as_u64().unwrap() as usize >= scrapes, "{reports} of {scrapes}");
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debians_node_exporter_is_scraped_as_it_is() {
    const EXPORTER: &str = "/usr/bin/prometheus-node-exporter";
    if !std::path::Path::new(EXPORTER).exists() {
        if std::env::var_os("HIGHWATER_REQUIRE_NODE_EXPORTER").is_some() {
            panic!("{EXPORTER} is not there");
        }
        return skipped("scraping node exporter", "prometheus-node-exporter is not installed");
    }
    let address = free_address();
    let mut exporter = tokio::process::Command::new(EXPORTER)
        .arg(format!("--web.listen-address={address}"))
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let site = Site::with_config(&format!(
        "scrape_configs:\n  - job_name: node\n    scrape_interval: 1s\n    static_configs: [{{ targets: ['{address}'] }}]\n"
    ));
    let server = site.start().await;
    eventually("up", json!("1.0"), async || value(&server, "up").await).await;
    // All samples of a scrape are rows with its time.
    let query = "SELECT r.value AS told, (SELECT count(*) FROM metrics s WHERE s.timestamp = r.timestamp AND s.instance = r.instance \
                 AND s.name NOT LIKE 'scrape_%' AND s.name <> 'up' AND NOT s.stale) AS stored \
                 FROM metrics r WHERE r.name = 'scrape_samples_scraped' AND r.value > 0 ORDER BY r.timestamp LIMIT 1";
    // Partitions show what they have one after the other.
    eventually("as many as the scrape had", true, async || {
        let rows = server.sql(query).await;
        rows.first()
            .is_some_and(|row| row["told"].as_f64() > Some(200.0) && row["told"].as_f64() == row["stored"].as_f64())
    })
    .await;
    let boot = std::fs::read_to_string("/proc/stat").unwrap();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().trim().parse::<f64>().unwrap();
    let told =
        "SELECT value FROM metrics WHERE name = 'node_boot_time_seconds' AND NOT stale ORDER BY timestamp LIMIT 1";
    let told = server.value(told).await.as_f64().unwrap();
    assert!((told - boot).abs() <= 1.0, "{told} {boot}");
    let kinds = server.sql("SELECT DISTINCT kind FROM metrics WHERE name = 'node_cpu_seconds_total'").await;
    assert_eq!(kinds, [json!({"kind": "counter"})]);
    exporter.kill().await.unwrap();
    eventually("down", json!("0.0"), async || value(&server, "up").await).await;
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_are_shown_to_their_tenant_dropped_ones_too() {
    let drop =
        |word: &str| format!("relabel_configs: [{{ source_labels: [__address__], regex: '{word}.*', action: drop }}]");
    let site = Site::with_config(&format!(
        "scrape_configs:\n\
         - {{ job_name: ours, scrape_interval: 1h, keep_dropped_targets: 1, static_configs: [{{ targets: ['127.0.0.1:1', gone-1, gone-2] }}], {} }}\n\
         - {{ job_name: theirs, tenant: other, scrape_interval: 1h, static_configs: [{{ targets: ['127.0.0.1:2', left-1] }}], {} }}\n",
        drop("gone"),
        drop("left")
    ));
    let server = site.start().await;
    let targets = async |tenant: &str, state: &str| {
        let url = server.url(&format!("/api/v1/targets?state={state}"));
        let request = reqwest::Client::new().get(url).header("x-scope-orgid", tenant);
        let data = server.send(request).await.json()["data"].take();
        let of = |kind: &str, label: &str| -> Vec<String> {
            let all = data[kind].as_array().unwrap().iter();
            all.map(|target| target["discoveredLabels"][label].as_str().unwrap().to_owned()).collect()
        };
        (of("activeTargets", "__address__"), of("droppedTargets", "__address__"), data["droppedTargetCounts"].clone())
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let ours = (texts(&["127.0.0.1:1"]), texts(&["gone-1"]), json!({"ours": 2}));
    eventually("our targets", ours.clone(), async || targets("default", "").await).await;
    assert_eq!(targets("default", "dropped").await, (vec![], ours.1, ours.2));
    assert_eq!(targets("default", "active").await, (ours.0, vec![], Value::Null));
    assert_eq!(targets("other", "any").await, (texts(&["127.0.0.1:2"]), texts(&["left-1"]), json!({"theirs": 1})));
    assert_eq!(targets("nobody", "").await, (vec![], vec![], json!({})));
    server.stop().await;
}
