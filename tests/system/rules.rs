//! Rules in PromQL, in the real binary: by event time, over a kill, told to a webhook; and the tools beside promtool.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::end_to_end::START_S;
use crate::support::*;

const RULES: &str = "
groups:
  - name: load
    rules:
      - record: job:load:sum
        expr: sum by (job) (load)
      - alert: Loaded
        expr: job:load:sum > 10
        for: 20s
        labels: {severity: page}
        annotations: {summary: '{{ $labels.job }} has {{ $value | printf \"%.1f\" }}'}
";

async fn webhook() -> (String, Arc<Mutex<Vec<Value>>>) {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let take = |State(told): State<Arc<Mutex<Vec<Value>>>>, Json(body): Json<Value>| async move {
        told.lock().push(body);
    };
    let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, told)
}

async fn load(server: &Server, seconds: std::ops::Range<i64>, value: f64) {
    for second in seconds {
        let sample = |instance: &str| json!({"name": "load", "value": value, "timestamp": START_S + second, "labels": {"job": "web", "instance": instance}});
        server.accepted("/metrics", json!({"metrics": [sample("a"), sample("b")]}).to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promql_rule_fires_over_a_kill_and_a_webhook_is_told() {
    let (url, told) = webhook().await;
    let site = Site::with_config(&format!("rule_files: [rules.yaml]\nnotify: {{ webhook: [{{ url: \"{url}\" }}] }}\n"));
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=earliest", None).await;
    load(&server, 0..12, 8.0).await;
    let pending: Value = serde_json::from_str(&stream.next().await.data).unwrap();
    assert_eq!((&pending["state"], &pending["value"]), (&json!("pending"), &json!(16.0)));
    assert_eq!(pending["starts_at"], "2026-03-01T00:00:00.000000Z", "{pending}");
    // As Grafana asks for them.
    let shown = json!(["load", "recording", "ok", "alerting", "pending", "16"]);
    eventually("the Prometheus API shows the rules and the alert", shown, async || {
        let told = server.get("/api/v1/rules").await.json();
        let group = &told["data"]["groups"][0];
        let (recording, alerting) = (&group["rules"][0], &group["rules"][1]);
        let value = alerting["alerts"][0]["value"].as_str().and_then(|text| text.parse::<f64>().ok());
        let value = value.map(|value| value.to_string());
        json!([group["name"], recording["type"], recording["health"], alerting["type"], alerting["state"], value])
    })
    .await;
    let active = server.get("/api/v1/alerts").await.json();
    assert_eq!(active["data"]["alerts"][0]["labels"], json!({"alertname": "Loaded", "job": "web", "severity": "page"}));
    assert_eq!(active["data"]["alerts"].as_array().map(Vec::len), Some(1), "{active}");
    server.kill().await;

    let server = site.start().await;
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=0:0", None).await;
    load(&server, 12..40, 8.0).await;
    load(&server, 40..60, 1.0).await;
    let firing: Value = serde_json::from_str(&stream.next().await.data).unwrap();
    // Twenty seconds after it was pending: the kill has reset nothing.
    assert_eq!(
        (&firing["state"], &firing["timestamp"]),
        (&json!("firing"), &json!("2026-03-01T00:00:20.000000Z")),
        "{firing}"
    );
    assert_eq!(firing["annotations"]["summary"], "web has 16.0");
    assert_eq!(firing["labels"], json!({"alertname": "Loaded", "job": "web", "severity": "page"}));
    let evidence = &firing["source"]["series"][0];
    assert_eq!(evidence["labels"]["__name__"], "job:load:sum", "{firing}");
    let resolved: Value = serde_json::from_str(&stream.next().await.data).unwrap();
    assert_eq!(
        (&resolved["state"], &resolved["timestamp"]),
        (&json!("resolved"), &json!("2026-03-01T00:00:40.000000Z")),
        "{resolved}"
    );

    eventually("both are told", vec!["firing".to_owned(), "resolved".to_owned()], async || {
        told.lock().iter().map(|message| message["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    })
    .await;
    let first = told.lock()[0].clone();
    assert_eq!(first["alerts"][0]["startsAt"], "2026-03-01T00:00:20.000000Z", "{first}");

    // What was recorded is beside what came in, and so is the alert.
    let recorded = "SELECT count(*) FROM metrics WHERE name = 'job:load:sum' AND value = 16";
    assert_eq!(server.number(recorded).await, 40);
    let alerts =
        "SELECT count(*) FROM metrics WHERE name = 'ALERTS' AND labels->>'alertstate' = 'pending' AND value = 1";
    assert_eq!(server.number(alerts).await, 20);
    server.stop().await;
    site.verify().await;
}

/// The shipped rules and their tests, as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_rules_are_fine_and_their_tests_pass_here_and_in_promtool() {
    let site = Site::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["services", "hosts", "jobs", "highwater"] {
        let (rules, tests) = (path(&format!("{name}.yaml")), path(&format!("{name}_test.yaml")));
        let checked = site.run(&["rules", "check", &rules]).await;
        assert!(checked.code == Some(0) && checked.stdout.contains("SUCCESS"), "{checked:?}");
        let tested = site.run(&["rules", "test", &tests]).await;
        assert!(tested.code == Some(0) && tested.stdout.contains("SUCCESS"), "{tested:?}");
    }
    let wrong = site.write(
        "wrong_test.yaml",
        &format!("rule_files: [{:?}]\ntests:\n  - input_series: [{{series: 'up{{job=\"a\"}}', values: '0x10'}}]\n    alert_rule_test: [{{eval_time: 5m, alertname: ServiceDown}}]\n", path("services.yaml")),
    );
    let failed = site.run(&["rules", "test", &wrong.display().to_string()]).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stdout.contains("FAILED") && failed.stdout.contains("got:["), "{failed:?}");
    let broken = site.write("broken.yaml", "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: sum(\n");
    let failed = site.run(&["rules", "check", &broken.display().to_string()]).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stdout.contains("broken.yaml:5:"), "{failed:?}");
}
