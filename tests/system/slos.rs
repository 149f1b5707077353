//! Service level objectives, from a few lines of configuration to alerts: an availability and a latency, under requests that go wrong for a while.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::end_to_end::START_S;
use crate::support::{EventStream, Server, Site, eventually};

/// One partition of samples: a minute is one record, whatever the machine is at.
const SLOS: &str = r#"
log: { partitions: 1 }
slos:
  - name: shop-availability
    objective: 99.9
    errors: sum(rate(http_requests_total{job="shop", code=~"5.."}[$window]))
    total: sum(rate(http_requests_total{job="shop"}[$window]))
    labels: {team: web}
  - name: shop-latency
    objective: 95
    window: 7d
    good: sum(rate(http_request_duration_seconds_bucket{job="shop", le="0.5"}[$window]))
    total: sum(rate(http_request_duration_seconds_count{job="shop"}[$window]))
"#;

/// Counters of a shop, which go on from call to call.
#[derive(Default)]
struct Shop {
    second: i64,
    counted: BTreeMap<(&'static str, &'static str), f64>,
}

impl Shop {
    /// A minute of 100 requests each 10 s, of which these many fail, and these many take less than half a second.
    async fn minute(&mut self, server: &Server, failed: f64, quick: f64) {
        let mut samples: Vec<Value> = Vec::new();
        for _ in 0..6 {
            for (name, label, value, more) in [
                ("http_requests_total", "code", "200", 100.0 - failed),
                ("http_requests_total", "code", "500", failed),
                ("http_request_duration_seconds_bucket", "le", "0.5", quick),
                ("http_request_duration_seconds_bucket", "le", "+Inf", 100.0),
                ("http_request_duration_seconds_count", "", "", 100.0),
            ] {
                let count = self.counted.entry((name, value)).or_default();
                *count += more;
                let mut labels = json!({"job": "shop", "instance": "a"});
                if !label.is_empty() {
                    labels[label] = value.into();
                }
                samples
                    .push(json!({"name": name, "value": *count, "timestamp": START_S + self.second, "labels": labels}));
            }
            self.second += 10;
        }
        server.accepted("/metrics", json!({"metrics": samples}).to_string()).await;
    }
}

/// The newest value of a series of an objective.
async fn newest(server: &Server, slo: &str, series: &str) -> Option<f64> {
    let query = format!("SELECT value FROM slo_status WHERE slo = '{slo}' AND series = '{series}'");
    server.sql(&query).await.first().and_then(|row| row["value"].as_f64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_availability_and_a_latency_burn_their_budgets_and_are_well_again() {
    let site = Site::with_config(SLOS);
    let checked = site.run(&["validate", "--config", "highwater.yaml"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let server = site.start().await;
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=earliest", None).await;
    let mut shop = Shop::default();
    // A tenth of requests fails, and nine tenths are slow: 100 and 18 times what may be.
    for _ in 0..6 {
        shop.minute(&server, 10.0, 10.0).await;
    }
    // What is told of the hour and its last five minutes.
    let mut told: Vec<(String, String)> = Vec::new();
    let mut hear = async |told: &mut Vec<(String, String)>, count: usize| {
        while told.len() < count {
            let one: Value = serde_json::from_str(&stream.next().await.data).unwrap();
            assert_eq!(one["alertname"], "ErrorBudgetBurn", "{one}");
            let labels = &one["labels"];
            if labels["long_window"] == "1h" {
                assert_eq!((&labels["severity"], &labels["short_window"]), (&json!("critical"), &json!("5m")), "{one}");
                let team = if labels["slo"] == "shop-availability" { json!("web") } else { Value::Null };
                assert_eq!(labels["team"], team, "{one}");
                let summary = one["annotations"]["summary"].as_str().unwrap();
                assert!(summary.contains("% went wrong over 1h"), "{one}");
                told.push((labels["slo"].as_str().unwrap().to_owned(), one["state"].as_str().unwrap().to_owned()));
            }
        }
        told.sort();
    };
    let both =
        |state: &str| ["shop-availability", "shop-latency"].map(|slo| (slo.to_owned(), state.to_owned())).to_vec();
    hear(&mut told, 2).await;
    assert_eq!(told, both("firing"));
    let rules = server.get("/api/v1/rules?type=alert").await.json();
    let groups: Vec<&Value> = rules["data"]["groups"].as_array().unwrap().iter().collect();
    let names: Vec<&str> = groups.iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["slo:shop-availability", "slo:shop-latency"]);
    assert!(groups.iter().all(|group| group["rules"][0]["state"] == "firing"), "{rules}");

    // All is well again, for longer than the short window.
    for _ in 0..9 {
        shop.minute(&server, 0.0, 100.0).await;
    }
    told.clear();
    hear(&mut told, 2).await;
    assert_eq!(told, both("resolved"));

    // Every series is there, for both.
    let expected = [
        "slo:burn_rate:1h",
        "slo:error_budget_remaining:ratio",
        "slo:error_ratio:1h",
        "slo:error_ratio:30m",
        "slo:error_ratio:3d",
        "slo:error_ratio:5m",
        "slo:error_ratio:6h",
        "slo:error_ratio:window",
        "slo:errors:rate5m",
        "slo:events:rate5m",
        "slo:objective:ratio",
    ];
    for slo in ["shop-availability", "shop-latency"] {
        let query = format!("SELECT series FROM slo_status WHERE slo = '{slo}' ORDER BY series");
        let series = server.sql(&query).await;
        let series: Vec<&str> = series.iter().map(|row| row["series"].as_str().unwrap()).collect();
        assert_eq!(series, expected, "{slo}");
    }
    assert_eq!(newest(&server, "shop-availability", "slo:objective:ratio").await, Some(0.999));
    eventually("the last five minutes are well", Some(0.0), async || {
        newest(&server, "shop-availability", "slo:error_ratio:5m").await
    })
    .await;
    // What is left is what the recorded rates say, and far less than nothing: the budget of a month, burnt in six minutes.
    for (slo, budget, at_least, at_most) in
        [("shop-availability", 0.001, 0.02, 0.06), ("shop-latency", 0.05, 0.18, 0.54)]
    {
        let ratio = newest(&server, slo, "slo:error_ratio:window").await.unwrap();
        assert!((at_least..at_most).contains(&ratio), "two fifths of the time: {slo} {ratio}");
        let sums = format!(
            "SELECT sum(value) FILTER (WHERE name = 'slo:errors:rate5m') / sum(value) FILTER (WHERE name = 'slo:events:rate5m') AS ratio, \
               max(timestamp) = (SELECT max(timestamp) FROM slo_status WHERE slo = '{slo}' AND series = 'slo:error_ratio:window') AS same \
             FROM metrics WHERE labels ->> 'slo' = '{slo}' AND name IN ('slo:errors:rate5m', 'slo:events:rate5m')"
        );
        eventually("the ratio is that of the recorded rates", true, async || {
            let row = server.sql(&sums).await.remove(0);
            let ratio = newest(&server, slo, "slo:error_ratio:window").await.unwrap();
            row["same"] == true && (row["ratio"].as_f64().unwrap() - ratio).abs() < 1e-9
        })
        .await;
        eventually("what is left follows from it", true, async || {
            let query = format!("SELECT series, value, timestamp FROM slo_status WHERE slo = '{slo}'");
            let rows = server.sql(&query).await;
            let of = |series: &str| rows.iter().find(|row| row["series"] == series).unwrap();
            let (ratio, left) = (of("slo:error_ratio:window"), of("slo:error_budget_remaining:ratio"));
            let expected = 1.0 - ratio["value"].as_f64().unwrap() / budget;
            ratio["timestamp"] == left["timestamp"] && (left["value"].as_f64().unwrap() - expected).abs() < 1e-6
        })
        .await;
    }
    // As Grafana would ask for it.
    let at = START_S + shop.second - 70;
    let asked = server.get(&format!("/api/v1/query?query=slo:error_budget_remaining:ratio&time={at}")).await.json();
    let found = asked["data"]["result"].as_array().unwrap();
    let slos: Vec<&Value> = found.iter().map(|one| &one["metric"]["slo"]).collect();
    assert_eq!(slos, ["shop-availability", "shop-latency"], "{asked}");
    server.stop().await;
    site.verify().await;
}
