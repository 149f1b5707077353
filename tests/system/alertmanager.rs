//! The same rule file and the same samples in a real Prometheus and in Highwater, each with a real Alertmanager behind it: the same alerts get there.
//!
//! Prometheus scrapes a target of the test and writes what it has scraped to Highwater, so both have the very same samples. Each Alertmanager tells a webhook.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::*;

#[path = "../alertmanager/fixture.rs"]
mod fixture;
#[path = "../prometheus/fixture.rs"]
pub mod prometheus;

use fixture::Alertmanager;
use prometheus::Prometheus;

/// Milliseconds between evaluations, and between scrapes.
const INTERVAL_MS: i64 = 2_000;
const SCRAPE_MS: i64 = 1_000;
const RULES: &str = r#"
groups:
  - name: temperatures
    interval: 2s
    labels: {team: boiler}
    rules:
      - record: 'site:temperature:max'
        expr: max by (site) (temperature)
      - alert: HotSite
        expr: 'site:temperature:max > 30'
        labels: {severity: page, site: '{{ $labels.site | toUpper }}'}
        annotations:
          summary: '{{ $labels.site }} has {{ $value | humanize }}, {{ $externalLabels.region }}'
          all: '{{ range query "sort_desc(temperature)" }}{{ .Labels.room }}={{ .Value }} {{ end }}'
      - alert: HotRoom
        expr: temperature > 30
        for: 6s
        labels: {severity: '{{ if gt $value 50.0 }}page{{ else }}ticket{{ end }}'}
        annotations: {summary: '{{ $labels.room }} in {{ $labels.site }}: {{ printf "%.1f" $value }}'}
      - alert: StaysHot
        expr: temperature > 30
        keep_firing_for: 8s
      - alert: TargetDown
        expr: up == 0
        for: 2s
        annotations: {summary: '{{ $labels.instance | stripPort }}'}
"#;

/// What an Alertmanager has said, in order: per alert its status, start and end.
type Told = BTreeMap<String, Vec<(String, i64, i64)>>;

#[derive(Clone, Default)]
struct World {
    /// The temperature of two rooms, and whether the target answers.
    rooms: Arc<Mutex<([f64; 2], bool)>>,
    /// For how many scrapes more the kitchen is hot whatever that says.
    flash: Arc<Mutex<usize>>,
    told: Arc<Mutex<BTreeMap<String, Told>>>,
}

impl World {
    async fn open(&self) -> String {
        let router = Router::new()
            .route("/metrics", get(Self::metrics))
            .route("/hook/{side}", post(Self::hook))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    async fn metrics(State(world): State<Self>) -> Result<String, axum::http::StatusCode> {
        let ([mut kitchen, cellar], answers) = *world.rooms.lock();
        let mut flash = world.flash.lock();
        if *flash > 0 {
            (*flash, kitchen) = (*flash - 1, 40.0);
        }
        let line = |room: &str, value: f64| format!("temperature{{site=\"home\",room=\"{room}\"}} {value}\n");
        let text = format!("# TYPE temperature gauge\n{}{}", line("kitchen", kitchen), line("cellar", cellar));
        if answers { Ok(text) } else { Err(axum::http::StatusCode::SERVICE_UNAVAILABLE) }
    }

    async fn hook(State(world): State<Self>, Path(side): Path<String>, Json(body): Json<Value>) {
        let mut told = world.told.lock();
        for alert in body["alerts"].as_array().unwrap() {
            let ms = |key: &str| {
                let text = alert[key].as_str().unwrap();
                chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
            };
            let status = alert["status"].as_str().unwrap().to_owned();
            // What it is, and all that is said of it.
            let name = json!([alert["labels"], alert["annotations"]]).to_string();
            let firing = told.entry(side.clone()).or_default().entry(name).or_default();
            let ends_ms = if status == "resolved" { ms("endsAt") } else { 0 };
            // Told again: nothing new.
            if firing.last().is_none_or(|(last, starts_ms, _)| (last, *starts_ms) != (&status, ms("startsAt"))) {
                firing.push((status, ms("startsAt"), ends_ms));
            }
        }
    }

    fn set(&self, rooms: [f64; 2], answers: bool) {
        *self.rooms.lock() = (rooms, answers);
    }

    /// Waits until both sides have told at least so often that an alert of this name has come to this.
    async fn until(&self, alertname: &str, status: &str, count: usize) {
        let label = format!("\"alertname\":\"{alertname}\"");
        let what = format!("{count} of {alertname} are {status} on both sides");
        eventually(&what, vec![("highwater", count), ("prometheus", count)], async || {
            let told = self.told.lock();
            let count = |side: &str| {
                let alerts = told.get(side).into_iter().flatten().filter(|(name, _)| name.contains(&label));
                alerts.flat_map(|(_, events)| events).filter(|(said, ..)| said == status).count().min(count)
            };
            vec![("highwater", count("highwater")), ("prometheus", count("prometheus"))]
        })
        .await;
    }
}

fn alertmanager(site: &Site, side: &str, world: &str) -> Option<Alertmanager> {
    let config = json!({
        "route": {
            "receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h",
        },
        "receivers": [{"name": "hook", "webhook_configs": [{"url": format!("http://{world}/hook/{side}")}]}],
    });
    Alertmanager::start(&site.write(&format!("alertmanager-{side}.yml"), &config.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_and_highwater_tell_alertmanager_the_same() {
    let world = World::default();
    world.set([20.0, 10.0], true);
    let address = world.open().await;
    let site = Site::new();
    let (Some(ours), Some(theirs)) =
        (alertmanager(&site, "highwater", &address), alertmanager(&site, "prometheus", &address))
    else {
        return;
    };
    let rules = site.write("rules.yaml", RULES);
    site.configure(&format!(
        "rule_files: [rules.yaml]\nexternal_labels: {{ region: eu }}\n\
         notify: {{ alertmanager: [{{ url: '{}', resend_delay: 1s }}] }}\n",
        ours.url()
    ));
    let server = site.start().await;
    let config = json!({
        "global": {
            "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "2s",
            "external_labels": {"region": "eu"},
        },
        "rule_files": [rules],
        "scrape_configs": [{"job_name": "rooms", "static_configs": [{"targets": [address]}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [theirs.address()]}]}]},
        "remote_write": [{
            "url": server.url("/api/v1/write"),
            "queue_config": {"batch_send_deadline": "100ms", "min_shards": 1, "max_shards": 1},
            // What it has scraped, as it has it: not what its rules make, and without the labels that are for others.
            "write_relabel_configs": [
                {"source_labels": ["__name__"], "regex": "temperature|up", "action": "keep"},
                {"regex": "region", "action": "labeldrop"},
            ],
        }],
    });
    let config = site.write("prometheus.yml", &config.to_string());
    let Some(prometheus) = Prometheus::start_with(&config, &["--rules.alert.resend-delay=1s"]) else { return };

    let scraped = json!(["20", "10"]);
    eventually("Highwater has what Prometheus has scraped", scraped, async || {
        let rows = server.sql("SELECT CAST(max(value) AS BIGINT) AS hot, CAST(min(value) AS BIGINT) AS cold FROM metrics WHERE name = 'temperature'").await;
        json!([rows[0]["hot"].to_string(), rows[0]["cold"].to_string()])
    })
    .await;
    // One room is hot for a moment: where `for` is not over, nobody is told.
    *world.flash.lock() = 3;
    world.until("HotSite", "firing", 1).await;
    world.until("HotSite", "resolved", 1).await;
    world.until("StaysHot", "resolved", 1).await;
    // Both are hot, until all is told.
    world.set([40.0, 60.0], true);
    world.until("HotRoom", "firing", 2).await;
    world.until("StaysHot", "firing", 3).await;
    world.until("HotSite", "firing", 2).await;
    // One cools down; the other is gone with its target.
    world.set([20.0, 60.0], true);
    world.until("HotRoom", "resolved", 1).await;
    world.until("StaysHot", "resolved", 2).await;
    world.set([20.0, 60.0], false);
    world.until("TargetDown", "firing", 1).await;
    world.until("StaysHot", "resolved", 3).await;
    world.until("HotRoom", "resolved", 2).await;
    world.until("HotSite", "resolved", 2).await;
    world.set([20.0, 10.0], true);
    world.until("TargetDown", "resolved", 1).await;

    let told = world.told.lock().clone();
    let (ours, theirs) = (&told["highwater"], &told["prometheus"]);
    let names = |told: &Told| told.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs), "alerts, with labels and annotations");
    // An evaluation may run while the scrape of that second is not appended yet: it sees it an interval later. On a busy machine Prometheus leaves some out.
    let metrics = reqwest::get(format!("{}/metrics", prometheus.url())).await.unwrap().text().await.unwrap();
    let missed = metrics.lines().filter(|line| line.starts_with("prometheus_rule_group_iterations_missed_total"));
    let missed: f64 = missed.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    let near = |a: i64, b: i64| (a - b).abs() <= INTERVAL_MS * (1 + missed as i64) + SCRAPE_MS;
    for (name, events) in ours {
        let expected = &theirs[name];
        let statuses = |events: &[(String, i64, i64)]| events.iter().map(|event| event.0.clone()).collect::<Vec<_>>();
        assert_eq!(statuses(events), statuses(expected), "{name}");
        for (event, expected) in events.iter().zip(expected) {
            assert!(near(event.1, expected.1) && near(event.2, expected.2), "{name}: {events:?}, not {expected:?}");
        }
    }
    drop(prometheus);
    server.stop().await;
}
