//! OTLP, by the OpenTelemetry SDK for Python.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{python, run};
use crate::support::{Server, Site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_sdk_sent_is_what_sql_shows() {
    let modules = "opentelemetry.sdk, opentelemetry.exporter.otlp.proto.grpc, opentelemetry.exporter.otlp.proto.http";
    let Some(python) = python("OTEL", modules).await else { return };
    let site = Site::new();
    let server = site.start().await;
    let [grpc, http] = server.otlp();
    let main = server.url("");
    let main = main.strip_prefix("http://").unwrap();
    for (protocol, address, compression) in [("grpc", grpc, "gzip"), ("http", http, "none"), ("http", main, "gzip")] {
        let sent = run(&python, "otel_sdk.py", &[protocol, address, compression]).await;
        assert_eq!((&sent["flushed"], &sent["failed"]), (&json!([true, true]), &json!(0)));
        let tenant = if protocol == "grpc" { "sdk-grpc" } else { "sdk-http" };
        spans(&server, tenant, &sent).await;
        if address != main {
            logs(&server, tenant, &sent).await;
            metrics(&server, tenant).await;
        }
    }
    server.balanced("otlp_grpc", "logs", 200).await;
    server.balanced("otlp_http", "spans", 4).await;
    server.stop().await;
    site.verify().await;
}

async fn spans(server: &Server, tenant: &str, sent: &Value) {
    for span in sent["spans"].as_array().unwrap() {
        let query = format!(
            "SELECT name, trace_id, span_id, parent_span_id, CAST(timestamp AS BIGINT) AS start_us, duration_ns \
             FROM spans WHERE span_id = {}",
            span["span_id"].to_string().replace('"', "'")
        );
        assert_eq!(server.sql_of(tenant, &query).await, std::slice::from_ref(span));
    }
    let trace = &sent["spans"][0]["trace_id"].to_string().replace('"', "'");
    let query = format!(
        "SELECT name, kind, status, status_message, service, host, attributes['zone'] AS zone, attributes['http.status'] AS http, \
         attributes['otel.scope.name'] AS scope, events FROM spans WHERE trace_id = {trace} ORDER BY name"
    );
    let rows = server.sql_of(tenant, &query).await;
    let events: Value = serde_json::from_str(rows[0]["events"].as_str().unwrap()).unwrap();
    assert_eq!((&events[0]["name"], &events[0]["attributes"]), (&json!("tried"), &json!({"attempt": "2"})));
    let common = json!({"service": "checkout", "host": "web-1", "zone": "eu", "scope": "tests"});
    let expected = [
        json!({"name": "inner", "kind": "INTERNAL", "status": "ERROR", "status_message": "declined", "http": null, "events": rows[0]["events"]}),
        json!({"name": "outer", "kind": "SERVER", "status": "UNSET", "status_message": null, "http": "200", "events": null}),
    ];
    for (row, mut expected) in rows.iter().zip(expected) {
        expected.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
        assert_eq!(*row, expected);
    }
}

async fn logs(server: &Server, tenant: &str, sent: &Value) {
    let inner = &sent["spans"][0];
    let query = "SELECT message, level, severity_text, service, host, trace_id, span_id, attributes['order'] AS \"order\" \
                 FROM logs WHERE message LIKE 'paid%'";
    let expected = json!({
        "message": "paid order 7", "level": "WARNING", "severity_text": "WARN", "service": "checkout", "host": "web-1",
        "trace_id": inner["trace_id"], "span_id": inner["span_id"], "order": "7",
    });
    assert_eq!(server.sql_of(tenant, query).await, [expected]);
    let query = "SELECT count(*) AS n, count(DISTINCT message) AS messages, count(DISTINCT level) AS levels FROM logs WHERE message LIKE 'line % äöü'";
    assert_eq!(server.sql_of(tenant, query).await, [json!({"n": 199, "messages": 199, "levels": 1})]);
}

async fn metrics(server: &Server, tenant: &str) {
    let query = "SELECT name, coalesce(labels->>'code', labels->>'le', '') AS of, value, kind, temporality, job, instance, \
                 labels->>'otel_scope_name' AS scope FROM metrics WHERE histogram IS NULL AND name <> 'target_info' ORDER BY name, of";
    let samples: BTreeMap<(String, String), (f64, String)> = server
        .sql_of(tenant, query)
        .await
        .into_iter()
        .map(|row| {
            assert_eq!(
                (&row["job"], &row["instance"], &row["scope"]),
                (&json!("checkout"), &json!("i-1"), &json!("tests"))
            );
            assert_eq!(row["temporality"], "cumulative");
            let text = |column: &str| row[column].as_str().unwrap().to_owned();
            ((text("name"), text("of")), (row["value"].as_f64().unwrap(), text("kind")))
        })
        .collect();
    let expected = [
        ("http_requests_total", "200", 5.0, "counter"),
        ("http_requests_total", "500", 2.0, "counter"),
        ("latency_seconds_bucket", "+Inf", 3.0, "histogram"),
        ("latency_seconds_bucket", "0.1", 1.0, "histogram"),
        ("latency_seconds_bucket", "1", 2.0, "histogram"),
        ("latency_seconds_count", "", 3.0, "histogram"),
        ("latency_seconds_sum", "", 5.55, "histogram"),
        ("queue_size_bytes", "", -3.0, "gauge"),
    ];
    let expected = expected.map(|(name, of, value, kind)| ((name.to_owned(), of.to_owned()), (value, kind.to_owned())));
    assert_eq!(samples, BTreeMap::from(expected));
    let query =
        "SELECT DISTINCT name, value, start_timestamp < timestamp AS started FROM metrics WHERE histogram IS NOT NULL";
    assert_eq!(server.sql_of(tenant, query).await, [json!({"name": "size", "value": null, "started": true})]);
    let query = "SELECT name, labels->>'zone' AS zone, value FROM metrics WHERE name = 'target_info' LIMIT 1";
    assert_eq!(server.sql_of(tenant, query).await, [json!({"name": "target_info", "zone": "eu", "value": 1.0})]);
    let query = "SELECT type, help, unit FROM metric_metadata WHERE name = 'http_requests_total'";
    let expected = json!({"type": "counter", "help": "Requests answered.", "unit": "{request}"});
    assert_eq!(server.sql_of(tenant, query).await, [expected]);
}
