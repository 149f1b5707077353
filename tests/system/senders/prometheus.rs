//! Remote write, by Prometheus.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{absent, cache};
use crate::support::{Site, eventually, free_address};

/// `$HIGHWATER_PROMETHEUS`, one that tests have fetched, or the one on the path.
async fn binary() -> Option<PathBuf> {
    let fetched = cache().and_then(|cache| {
        let versions = std::fs::read_dir(cache.join("prometheus")).ok()?;
        let mut found: Vec<_> = versions.flatten().map(|version| version.path().join("prometheus")).collect();
        found.retain(|path| path.is_file());
        found.sort();
        found.pop()
    });
    let candidates = [std::env::var_os("HIGHWATER_PROMETHEUS").map(PathBuf::from), fetched, Some("prometheus".into())];
    for binary in candidates.into_iter().flatten() {
        if Command::new(&binary).arg("--version").output().await.is_ok_and(|output| output.status.success()) {
            return Some(binary);
        }
    }
    absent("PROMETHEUS", "there is none (see .ci/prepare)");
    None
}

/// A Prometheus that scrapes itself.
struct Prometheus {
    _child: Child,
    address: String,
}

impl Prometheus {
    /// Starts it with these remotes, and waits until it answers.
    async fn start(binary: &PathBuf, site: &Site, remote_write: &str) -> Self {
        let address = free_address();
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs: [{{ job_name: self, static_configs: [{{ targets: ['{address}'] }}] }}]\n{remote_write}"
        );
        let config = site.write("prometheus.yml", &config);
        let child = Command::new(binary)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", site.subdirectory("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=metadata-wal-records", "--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(site.path().join("prometheus.log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let prometheus = Self { _child: child, address };
        eventually("Prometheus is ready", true, async || {
            let answer = reqwest::get(format!("http://{}/-/ready", prometheus.address)).await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        prometheus
    }

    async fn query(&self, query: &str) -> Vec<Value> {
        let url = format!("http://{}/api/v1/query", self.address);
        let answer = reqwest::Client::new().get(url).query(&[("query", query)]).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        serde_json::from_value(answer["data"]["result"].take()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_prometheus_has_is_what_sql_shows() {
    let Some(binary) = binary().await else { return };
    let site = Site::new();
    let server = site.start().await;
    let remote = |tenant: &str, message: &str| {
        format!(
            "  - {{ url: '{}', protobuf_message: {message}, headers: {{ X-Scope-OrgID: {tenant} }}, send_exemplars: true, \
             metadata_config: {{ send_interval: 1s }} }}\n",
            server.url("/api/v1/write")
        )
    };
    let remotes = [remote("v1", "prometheus.WriteRequest"), remote("v2", "io.prometheus.write.v2.Request")].concat();
    let prometheus = Prometheus::start(&binary, &site, &format!("remote_write:\n{remotes}")).await;
    let scrapes = "count_over_time(up{job='self'}[10m])";
    eventually("Prometheus has scraped five times", true, async || {
        let found = prometheus.query(scrapes).await;
        found.first().is_some_and(|series| series["value"][1].as_str().unwrap().parse::<u64>().unwrap() >= 5)
    })
    .await;
    // What is there of a few metrics up to a moment that lies behind: every sample, by time and value.
    let all = "{job='self', __name__=~'up|go_goroutines|go_gc_duration_seconds.*|prometheus_http_requests_total|prometheus_tsdb_head_series'}[10m]";
    let cut_ms = prometheus.query("max(timestamp(up{job='self'})) * 1000").await[0]["value"][1]
        .as_str()
        .unwrap()
        .parse::<f64>()
        .unwrap() as i64;
    let mut expected = Vec::new();
    for series in prometheus.query(all).await {
        let mut labels = series["metric"].as_object().unwrap().clone();
        let name = labels.remove("__name__").unwrap();
        let labels = serde_json::to_string(&labels).unwrap();
        for sample in series["values"].as_array().unwrap() {
            let at_ms = (sample[0].as_f64().unwrap() * 1000.0).round() as i64;
            if at_ms <= cut_ms {
                let value = sample[1].as_str().unwrap().parse::<f64>().unwrap();
                expected.push((name.as_str().unwrap().to_owned(), labels.clone(), at_ms, value.to_string()));
            }
        }
    }
    expected.sort();
    assert!(expected.len() > 50, "{}", expected.len());
    for tenant in ["v1", "v2"] {
        let query = format!(
            "SELECT name, labels, CAST(timestamp AS BIGINT) / 1000 AS at_ms, CAST(value AS VARCHAR) AS value, value AS number FROM metrics \
             WHERE NOT stale AND (name IN ('up', 'go_goroutines', 'prometheus_http_requests_total', 'prometheus_tsdb_head_series') \
               OR name LIKE 'go_gc_duration_seconds%') AND CAST(timestamp AS BIGINT) / 1000 <= {cut_ms}"
        );
        let found = async || {
            let rows = server.sql_of(tenant, &query).await;
            let text = |row: &Value, column: &str| row[column].as_str().unwrap().to_owned();
            let number =
                |row: &Value| row["number"].as_f64().map_or_else(|| text(row, "value"), |number| number.to_string());
            let sample =
                |row: &Value| (text(row, "name"), text(row, "labels"), row["at_ms"].as_i64().unwrap(), number(row));
            let mut found: Vec<_> = rows.iter().map(sample).collect();
            found.sort();
            found
        };
        eventually(&format!("everything of {tenant} has come"), expected.clone(), found).await;
        let query = "SELECT DISTINCT type, help FROM metric_metadata WHERE name = 'go_goroutines'";
        let expected = vec![json!({"type": "gauge", "help": "Number of goroutines that currently exist."})];
        eventually(&format!("metadata of {tenant}"), expected, async || server.sql_of(tenant, query).await).await;
    }
    // 2.0 says of each series what it is.
    let query = "SELECT DISTINCT kind FROM metrics WHERE name = 'prometheus_http_requests_total'";
    assert_eq!(server.sql_of("v2", query).await, [json!({"kind": "counter"})]);
    drop(prometheus);
    // Nothing comes in any more: what did is stored, or rejected for a reason that shows.
    server.until("SELECT count(*) FROM loss_ledger WHERE balance <> 0 OR in_flight <> 0", 0).await;
    let query = "SELECT DISTINCT signal FROM loss_ledger WHERE source = 'remote_write' AND stored > 0 ORDER BY signal";
    assert_eq!(server.sql(query).await, [json!({"signal": "metric-metadata"}), json!({"signal": "metrics"})]);
    server.stop().await;
    site.verify().await;
}
