//! JSON of an application's own shape, made logs and metrics by a mapping.

use serde_json::json;

use crate::support::Site;

const MAPPING: &str = r#"
mappings:
  telemetry:
    log:
      timestamp: "{ts}"
      message: "{action} {error}"
      level: { of: "{success}", when: { "true": INFO, "false": ERROR } }
      service: checkout
    metrics:
      - { name: action_latency_ms, value: "{latency_ms}", labels: { action: "{action}", success: "{success}" } }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_becomes_logs_and_metrics_at_once() {
    let site = Site::with_config(MAPPING);
    let server = site.start().await;
    let body = concat!(
        r#"{"ts": 1700000000.25, "action": "pay", "success": true, "latency_ms": 12.5, "payload": {"user": 7}, "error": null}"#,
        "\n",
        r#"{"ts": 1700000001, "action": "pay", "success": false, "latency_ms": 900, "payload": {}, "error": "no funds"}"#,
        "\nnonsense\n",
    );
    let send = async || {
        let request = server.request("/api/v1/json/telemetry").header("idempotency-key", "once").body(body);
        server.send(request).await
    };
    let reply = send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    assert_eq!((answer["accepted"].clone(), answer["rejected"].clone()), (json!(2), json!(1)), "{answer}");
    assert_eq!(answer["errors"][0]["index"], json!(2), "{answer}");
    assert_eq!(answer["metrics"]["accepted"], json!(2), "{answer}");
    // A retry adds nothing.
    assert_eq!(send().await.json()["duplicate"], json!(true));
    let logs = server
        .sql("SELECT message, level, service, CAST(timestamp AS VARCHAR) AS at, attributes['action'] AS action FROM logs ORDER BY timestamp")
        .await;
    assert_eq!(
        logs,
        [
            json!({"message": "pay", "level": "INFO", "service": "checkout", "at": "2023-11-14T22:13:20.250Z", "action": "pay"}),
            json!({"message": "pay no funds", "level": "ERROR", "service": "checkout", "at": "2023-11-14T22:13:21Z", "action": "pay"}),
        ]
    );
    let metrics =
        server.sql("SELECT value, kind, labels FROM metrics WHERE name = 'action_latency_ms' ORDER BY timestamp").await;
    assert_eq!(metrics[1], json!({"value": 900.0, "kind": "gauge", "labels": r#"{"action":"pay","success":"false"}"#}));
    assert_eq!(server.request("/api/v1/json/nobody").body("{}").send().await.unwrap().status(), 404);
    server.stop().await;
    site.verify().await;
}
