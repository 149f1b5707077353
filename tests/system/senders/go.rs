//! Senders written in Go, which `tests/senders/build` builds: the OpenTelemetry Collector, and promtail's client.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::absent;
use crate::support::{Reply, Server, Site, eventually, free_address};

/// The program of this name; `None` where it cannot be had, which is said.
pub async fn program(name: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders/build");
    let output = Command::new(script).kill_on_drop(true).output().await.unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Some(Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(name)),
        Some(3) => {
            absent("GO_SENDERS", why.trim());
            None
        }
        code => panic!("{name} ({code:?}): {why}"),
    }
}

/// A running Collector. Killed when dropped.
pub struct Collector {
    child: Child,
    address: String,
    client: reqwest::Client,
    log: PathBuf,
}

impl Collector {
    /// Starts it: what it receives goes out by all of these exporters, each a name and its settings in YAML (flow style).
    pub async fn start(program: &Path, site: &Site, exporters: &[(String, String)]) -> Self {
        let address = free_address();
        let names = exporters.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let settings: String = exporters.iter().map(|(name, settings)| format!("  {name}: {settings}\n")).collect();
        let pipeline = format!("{{ receivers: [otlp], exporters: [{names}] }}");
        let config = format!(
            "receivers: {{ otlp: {{ protocols: {{ http: {{ endpoint: '{address}' }} }} }} }}\n\
             exporters:\n{settings}\
             service:\n  telemetry: {{ metrics: {{ level: none }}, logs: {{ level: warn }} }}\n\
             \x20 pipelines: {{ logs: {pipeline}, metrics: {pipeline}, traces: {pipeline} }}\n"
        );
        let config = site.write("collector.yaml", &config);
        let log = site.path().join("collector.log");
        let child = Command::new(program)
            .arg(format!("--config=file:{}", config.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut collector = Self { child, address, client: reqwest::Client::new(), log };
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let ended = collector.child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", std::fs::read_to_string(&collector.log).unwrap());
        eventually("the Collector takes what it is sent", true, async || {
            let url = format!("http://{}/v1/logs", collector.address);
            let sent = collector.client.post(url).header("content-type", "application/json").body("{}").send();
            sent.await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        collector
    }

    /// Hands it a request in JSON.
    pub async fn take(&self, signal: &str, request: &Value) {
        let url = format!("http://{}/v1/{signal}", self.address);
        let request = self.client.post(url).header("content-type", "application/json").body(request.to_string());
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}\n{}", std::fs::read_to_string(&self.log).unwrap());
    }
}

/// Logs of a shop, numbered `from..to`, as OTLP has them in JSON.
pub fn logs(from: u64, to: u64) -> Value {
    let record = |n: u64| {
        json!({
            "timeUnixNano": (BASE_NS + n * 1_001_003).to_string(), "observedTimeUnixNano": (BASE_NS + n).to_string(),
            "severityNumber": n % 24 + 1, "severityText": format!("level {n}"),
            "body": {"stringValue": format!("line {n} äöü \"quoted\"")},
            "attributes": [
                {"key": "order", "value": {"intValue": n.to_string()}}, {"key": "share", "value": {"doubleValue": 0.5}},
                {"key": "paid", "value": {"boolValue": true}}, {"key": "raw", "value": {"bytesValue": "AQL/"}},
                {"key": "items", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "2"}]}}},
                {"key": "of", "value": {"kvlistValue": {"values": [{"key": "x", "value": {"stringValue": "y"}}]}}},
            ],
            "traceId": format!("{:032x}", n + 1), "spanId": format!("{:016x}", n + 1), "flags": 1,
        })
    };
    let records: Vec<_> = (from..to).map(record).collect();
    json!({"resourceLogs": [{"resource": resource(), "scopeLogs": [{"scope": {"name": "tests", "version": "1.2"}, "logRecords": records}]}]})
}

/// 2026-03-01, in nanoseconds, and some that are cut off.
pub const BASE_NS: u64 = 1_772_323_200_000_000_789;

/// The shop.
pub fn resource() -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({"attributes": [text("service.name", "checkout"), text("service.instance.id", "i-1"), text("host.name", "web-1"), text("zone", "eu")]})
}

impl Server {
    /// A number that `GET /metrics` says, summed over its labels; 0 where it says nothing.
    pub async fn metric(&self, name: &str, of: &str) -> f64 {
        let page: Reply = self.get("/metrics").await;
        let lines = page.text.lines().filter(|line| line.starts_with(name) && line.contains(of));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
