//! OTLP, by the OpenTelemetry Collector.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::go::{BASE_NS, Collector, logs, program, resource};
use crate::support::{Server, Site};

/// Tries again soon, and for ever.
const RETRY: &str =
    "retry_on_failure: { initial_interval: 50ms, max_interval: 500ms, max_elapsed_time: 0 }, timeout: 120s";

fn exporter(tenant: &str, more: &str) -> String {
    format!(
        "{{ {RETRY}, sending_queue: {{ num_consumers: 4, queue_size: 100000 }}, headers: {{ x-scope-orgid: {tenant} }}, {more} }}"
    )
}

/// Metrics of every kind.
fn metrics() -> Value {
    let at = |n: u64| (BASE_NS + n * 1_000_000_000).to_string();
    let start = BASE_NS.to_string();
    let code = |code: &str| json!([{"key": "http.code", "value": {"stringValue": code}}]);
    json!({"resourceMetrics": [{"resource": resource(), "scopeMetrics": [{"scope": {"name": "tests"}, "metrics": [
        {"name": "http.requests", "unit": "{request}", "description": "Requests answered.", "sum": {
            "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
                {"attributes": code("200"), "asInt": "5", "startTimeUnixNano": start, "timeUnixNano": at(1)},
                {"attributes": code("500"), "asInt": "2", "startTimeUnixNano": start, "timeUnixNano": at(1)},
                {"attributes": code("503"), "startTimeUnixNano": start, "timeUnixNano": at(1), "flags": 1}]}},
        {"name": "errors", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [
            {"asInt": "3", "startTimeUnixNano": start, "timeUnixNano": at(2)}]}},
        {"name": "queue.size", "unit": "By", "gauge": {"dataPoints": [{"asInt": "-3", "timeUnixNano": at(1)}]}},
        {"name": "temperature", "unit": "Cel", "gauge": {"dataPoints": [{"asDouble": 36.6, "timeUnixNano": at(1)}]}},
        {"name": "latency", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [{
            "startTimeUnixNano": start, "timeUnixNano": at(1), "count": "3", "sum": 5.55, "bucketCounts": ["1", "1", "1"],
            "explicitBounds": [0.1, 1.0]}]}},
        {"name": "size", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [{
            "startTimeUnixNano": start, "timeUnixNano": at(1), "count": "3", "sum": 6.0, "scale": 1, "zeroCount": "1",
            "positive": {"offset": 0, "bucketCounts": ["1", "1"]}, "negative": {}}]}},
        {"name": "rpc", "summary": {"dataPoints": [{
            "startTimeUnixNano": start, "timeUnixNano": at(1), "count": "4", "sum": 8.0,
            "quantileValues": [{"quantile": 0.5, "value": 1.5}, {"quantile": 0.99, "value": 3.0}]}]}},
    ]}]}]})
}

fn spans() -> Value {
    let (trace, outer, inner) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7");
    let at = |n: u64| (BASE_NS + n).to_string();
    json!({"resourceSpans": [{"resource": resource(), "scopeSpans": [{"scope": {"name": "tests"}, "spans": [
        {"traceId": trace, "spanId": outer, "name": "outer", "kind": 2, "startTimeUnixNano": at(0), "endTimeUnixNano": at(9_000_001),
         "traceState": "a=b", "attributes": [{"key": "http.status", "value": {"intValue": "200"}}], "status": {"code": 1}},
        {"traceId": trace, "spanId": inner, "parentSpanId": outer, "name": "inner", "kind": 3, "startTimeUnixNano": at(1_000), "endTimeUnixNano": at(2_000),
         "events": [{"timeUnixNano": at(1_500), "name": "tried", "attributes": [{"key": "attempt", "value": {"intValue": "2"}}]}],
         "links": [{"traceId": "1af7651916cd43dd8448eb211c80319c", "spanId": outer}],
         "status": {"code": 2, "message": "declined"}},
    ]}]}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_passes_on_is_what_sql_shows_however_it_does() {
    let Some(program) = program("collector").await else { return };
    let site = Site::new();
    let server = site.start().await;
    let [grpc, http] = server.otlp();
    let main = server.url("");
    let ways = [
        ("grpc", grpc.to_owned(), ["none", "gzip", "zstd", "snappy"].as_slice(), ""),
        ("proto", format!("http://{http}"), &["none", "gzip", "zstd", "snappy", "deflate", "lz4"], "encoding: proto, "),
        ("json", main, &["none", "gzip", "zstd"], "encoding: json, "),
    ];
    let mut exporters = Vec::new();
    for (way, endpoint, compressions, more) in ways {
        for compression in compressions {
            let tenant = format!("{way}-{compression}");
            let name = format!("{}/{tenant}", if way == "grpc" { "otlp_grpc" } else { "otlp_http" });
            let more = format!("{more}endpoint: '{endpoint}', compression: {compression}, tls: {{ insecure: true }}");
            exporters.push((name, exporter(&tenant, &more)));
        }
    }
    let tenants: Vec<_> = exporters.iter().map(|(name, _)| name.split_once('/').unwrap().1).collect();
    let collector = Collector::start(&program, &site, &exporters).await;
    collector.take("logs", &logs(0, 100)).await;
    collector.take("logs", &logs(100, 150)).await;
    collector.take("metrics", &metrics()).await;
    collector.take("traces", &spans()).await;
    for (source, ways) in [("otlp_grpc", 4), ("otlp_http", 9)] {
        server.balanced(source, "logs", 150 * ways).await;
        server.balanced(source, "metrics", 17 * ways).await;
        server.balanced(source, "spans", 2 * ways).await;
    }
    let first = everything(&server, tenants[0]).await;
    expected_logs(&first["logs"]);
    expected_metrics(&server, tenants[0]).await;
    expected_spans(&first["spans"]);
    for tenant in &tenants[1..] {
        assert_eq!(everything(&server, tenant).await, first, "{tenant}");
    }
    drop(collector);
    server.stop().await;
    site.verify().await;
}

/// All rows of a tenant, without what tells tenants and records apart.
async fn everything(server: &Server, tenant: &str) -> BTreeMap<&'static str, Vec<Value>> {
    let mut all = BTreeMap::new();
    for (table, times, order) in [
        ("logs", "timestamp observed_timestamp", "timestamp"),
        ("metrics", "timestamp start_timestamp", "name, labels"),
        ("spans", "timestamp end_timestamp", "name"),
        ("metric_metadata", "", "name"),
    ] {
        // To the microsecond.
        let times: String =
            times.split_whitespace().map(|time| format!(", CAST({time} AS BIGINT) AS {time}_us")).collect();
        let mut rows = server.sql_of(tenant, &format!("SELECT *{times} FROM {table} ORDER BY {order}")).await;
        for row in &mut rows {
            let row = row.as_object_mut().unwrap();
            assert_eq!(row.remove("tenant"), Some(json!(tenant)));
            row.retain(|name, _| !name.starts_with('_') && !name.ends_with("timestamp") && name != "date");
        }
        all.insert(table, rows);
    }
    all
}

fn expected_logs(rows: &[Value]) {
    assert_eq!(rows.len(), 150);
    let levels = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
    for (n, row) in rows.iter().enumerate() {
        let order = n.to_string();
        assert_eq!(
            *row,
            json!({
                "timestamp_us": (BASE_NS + n as u64 * 1_001_003) / 1000, "observed_timestamp_us": (BASE_NS + n as u64) / 1000,
                "severity_number": n % 24 + 1, "level": levels[n % 24 / 4], "severity_text": format!("level {n}"),
                "service": "checkout", "host": "web-1", "message": format!("line {n} äöü \"quoted\""),
                "trace_id": format!("{:032x}", n + 1), "span_id": format!("{:016x}", n + 1),
                "request_id": null, "correlation_id": null, "user_id": null,
                "attributes": {
                    "order": order, "share": "0.5", "paid": "true", "raw": "AQL/", "items": "[\"a\",2]", "of": "{\"x\":\"y\"}", "zone": "eu",
                    "service.instance.id": "i-1", "otel.scope.name": "tests", "otel.scope.version": "1.2",
                },
            })
        );
    }
}

async fn expected_metrics(server: &Server, tenant: &str) {
    let query = "SELECT name, coalesce(labels->>'http_code', labels->>'le', labels->>'quantile', '') AS of, value, stale, kind, temporality, \
                 CAST(timestamp AS BIGINT) AS at_us, CAST(start_timestamp AS BIGINT) AS start_us, job, instance, service, \
                 histogram IS NOT NULL AS native FROM metrics ORDER BY name, of";
    let base_us = BASE_NS / 1000;
    let sample = |name: &str, of: &str, value: Value, kind: Value, temporality: Value| {
        let (after_s, started) = match name {
            "errors_total" => (2, true),
            "target_info" => (2, false),
            name => (1, !name.starts_with("queue") && !name.starts_with("temperature")),
        };
        json!({
            "name": name, "of": of, "value": value, "stale": of == "503", "kind": kind, "temporality": temporality, "at_us": base_us + after_s * 1_000_000,
            "start_us": started.then_some(base_us), "job": "checkout", "instance": "i-1", "service": "checkout", "native": name == "size",
        })
    };
    let cumulative = || json!("cumulative");
    let expected = [
        sample("errors_total", "", json!(3.0), json!("counter"), json!("delta")),
        sample("http_requests_total", "200", json!(5.0), json!("counter"), cumulative()),
        sample("http_requests_total", "500", json!(2.0), json!("counter"), cumulative()),
        sample("http_requests_total", "503", Value::Null, json!("counter"), cumulative()),
        sample("latency_seconds_bucket", "+Inf", json!(3.0), json!("histogram"), cumulative()),
        sample("latency_seconds_bucket", "0.1", json!(1.0), json!("histogram"), cumulative()),
        sample("latency_seconds_bucket", "1", json!(2.0), json!("histogram"), cumulative()),
        sample("latency_seconds_count", "", json!(3.0), json!("histogram"), cumulative()),
        sample("latency_seconds_sum", "", json!(5.55), json!("histogram"), cumulative()),
        sample("queue_size_bytes", "", json!(-3.0), json!("gauge"), Value::Null),
        sample("rpc", "0.5", json!(1.5), json!("summary"), Value::Null),
        sample("rpc", "0.99", json!(3.0), json!("summary"), Value::Null),
        sample("rpc_count", "", json!(4.0), json!("summary"), Value::Null),
        sample("rpc_sum", "", json!(8.0), json!("summary"), Value::Null),
        sample("size", "", Value::Null, json!("histogram"), cumulative()),
        sample("target_info", "", json!(1.0), json!("gauge"), Value::Null),
        sample("temperature_celsius", "", json!(36.6), json!("gauge"), Value::Null),
    ];
    assert_eq!(server.sql_of(tenant, query).await, expected);
}

fn expected_spans(rows: &[Value]) {
    let (trace, outer) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let parsed =
        |row: &Value, column: &str| row[column].as_str().map(|text| serde_json::from_str::<Value>(text).unwrap());
    let [inner_row, outer_row] = rows else { panic!("two spans, not {rows:?}") };
    let base_us = BASE_NS / 1000;
    assert_eq!(
        (&outer_row["timestamp_us"], &outer_row["end_timestamp_us"]),
        (&json!(base_us), &json!(base_us + 9_000))
    );
    for (row, expected) in [
        (
            outer_row,
            json!({"trace_id": trace, "span_id": outer, "parent_span_id": null, "name": "outer", "kind": "SERVER", "status": "OK",
            "status_message": null, "duration_ns": 9_000_001, "trace_state": "a=b", "service": "checkout", "host": "web-1", "events": null, "links": null}),
        ),
        (
            inner_row,
            json!({"trace_id": trace, "span_id": "00f067aa0ba902b7", "parent_span_id": outer, "name": "inner", "kind": "CLIENT", "status": "ERROR",
            "status_message": "declined", "duration_ns": 1_000, "trace_state": null, "service": "checkout", "host": "web-1"}),
        ),
    ] {
        for (column, value) in expected.as_object().unwrap() {
            assert_eq!(row[column], *value, "{column}: {row}");
        }
    }
    assert_eq!(outer_row["attributes"]["http.status"], "200");
    let event = json!({"timestamp": "2026-03-01T00:00:00.000002Z", "name": "tried", "attributes": {"attempt": "2"}});
    assert_eq!(parsed(inner_row, "events"), Some(json!([event])));
    assert_eq!(
        parsed(inner_row, "links"),
        Some(json!([{"trace_id": "1af7651916cd43dd8448eb211c80319c", "span_id": outer}]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_has_to_wait_and_meets_a_kill_loses_nothing() {
    const REQUESTS: u64 = 40;
    const ROWS: u64 = 250;
    let Some(program) = program("collector").await else { return };
    // Slower than it sends.
    let site = Site::with_config(
        "limits: { tenants: { slow-grpc: { rows_per_s: 4000, burst_s: 0.1 }, slow-http: { rows_per_s: 4000, burst_s: 0.1 } } }\n",
    );
    let mut server = site.start().await;
    let at = server.addresses();
    let exporters = [
        (
            "otlp_grpc".to_owned(),
            exporter("slow-grpc", &format!("endpoint: '{}', tls: {{ insecure: true }}", at.otlp_grpc)),
        ),
        ("otlp_http".to_owned(), exporter("slow-http", &format!("endpoint: 'http://{}'", at.otlp_http))),
    ];
    let collector = Collector::start(&program, &site, &exporters).await;
    for request in 0..REQUESTS {
        collector.take("logs", &logs(request * ROWS, (request + 1) * ROWS)).await;
    }
    let of = |tenant: &'static str, what: &'static str| (tenant, format!("SELECT {what} AS n FROM logs"));
    let number = async |server: &Server, (tenant, query): (&str, String)| {
        server.sql_of(tenant, &query).await[0]["n"].as_u64().unwrap()
    };
    let all = REQUESTS * ROWS;
    while number(&server, of("slow-grpc", "count(*)")).await < all / 4 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(server.metric("highwater_limited_requests_total", "rate_rows").await > 0.0, "nobody had to wait");
    server.kill_in_place().await;
    server = site.start_again(&at).await;
    for tenant in ["slow-grpc", "slow-http"] {
        crate::support::eventually(&format!("all rows of {tenant}"), all, async || {
            number(&server, of(tenant, "count(DISTINCT message)")).await
        })
        .await;
        // What was under way when the server died may be there twice: a request for each of four consumers, and no more.
        let twice = number(&server, of(tenant, "count(*)")).await - all;
        assert!(twice <= 4 * ROWS && twice.is_multiple_of(ROWS), "{twice} rows of {tenant} are there twice");
    }
    drop(collector);
    server.stop().await;
    site.verify().await;
}
