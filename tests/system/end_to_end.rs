//! The whole way: logs and metrics in, SQL at once, rollups, alerts on their topic, and all of it again after a restart.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{DEADLINE, EventStream, Server, Site, command, eventually, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_in_every_json_form_are_there_at_once() {
    let site = Site::new();
    let server = site.start().await;
    server.accepted("/logs", r#"{"message": "one object", "service": "a"}"#).await;
    server.accepted("/logs", r#"[{"message": "array 1"}, {"message": "array 2"}]"#).await;
    server.accepted("/logs", r#"{"logs": [{"message": "wrapped 1"}, {"message": "wrapped 2"}]}"#).await;
    let ndjson = "{\"message\": \"line 1\"}\n{\"message\": \"line 2\"}\r\n\n{\"message\": \"line 3, no newline\"}";
    let request = server.request("/logs").header("content-type", "application/x-ndjson").body(ndjson);
    assert_eq!(server.send(request).await.status, 200);

    // An answer means stored, and stored means visible: no waiting here.
    let messages = server.sql("SELECT message FROM logs ORDER BY message").await;
    let expected =
        ["array 1", "array 2", "line 1", "line 2", "line 3, no newline", "one object", "wrapped 1", "wrapped 2"];
    assert_eq!(messages, expected.map(|message| json!({"message": message})));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_keeps_every_field() {
    let site = Site::new();
    let server = site.start().await;
    let log = json!({
        "timestamp": "2026-03-01T12:00:00.123456+01:00", "level": "warn", "service": "checkout", "host": "web-1",
        "message": "card declined", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7",
        "request_id": "r-1", "correlation_id": "c-1", "user_id": "u-1",
        "labels": {"region": "eu", "attempt": 3}, "amount": 12.5, "card": {"brand": "visa"},
    });
    server.accepted("/logs", log.to_string()).await;
    let rows = server
        .sql(
            "SELECT CAST(timestamp AS BIGINT) AS us, level, severity_number, severity_text, service, host, message, \
               trace_id, span_id, request_id, correlation_id, user_id, tenant, attributes['region'] AS region, \
               attributes['attempt'] AS attempt, attributes['amount'] AS amount, attributes['card'] AS card, \
               _append_time IS NOT NULL AS appended, _flags FROM logs",
        )
        .await;
    let expected = json!({
        "us": 1_772_362_800_123_456_i64, "level": "WARNING", "severity_number": 13, "severity_text": "warn",
        "service": "checkout", "host": "web-1", "message": "card declined",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7",
        "request_id": "r-1", "correlation_id": "c-1", "user_id": "u-1", "tenant": "default",
        "region": "eu", "attempt": "3", "amount": "12.5", "card": "{\"brand\":\"visa\"}", "appended": true, "_flags": 0,
    });
    assert_eq!(rows, [expected]);

    // Unix times by magnitude: s, ms, µs, ns are the same instant.
    for (unit, timestamp) in [
        ("s", 1_772_362_800_i64),
        ("ms", 1_772_362_800_000),
        ("us", 1_772_362_800_000_000),
        ("ns", 1_772_362_800_000_000_000),
    ] {
        server.accepted("/logs", json!({"message": "unix", "service": unit, "timestamp": timestamp}).to_string()).await;
    }
    let instants = server.sql("SELECT DISTINCT CAST(timestamp AS BIGINT) AS us FROM logs WHERE message = 'unix'").await;
    assert_eq!(instants, [json!({"us": 1_772_362_800_000_000_i64})]);
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE message = 'unix'").await, 4);

    // No timestamp: the moment it was appended.
    server.accepted("/logs", r#"{"message": "now"}"#).await;
    let now = "SELECT timestamp = _append_time AND timestamp <= now() AND timestamp > now() - INTERVAL '10 minutes' AS ok FROM logs WHERE message = 'now'";
    assert_eq!(server.value(now).await, json!(true));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_in_every_json_form_are_there_at_once() {
    let site = Site::new();
    let server = site.start().await;
    server
        .accepted(
            "/metrics",
            r#"{"name": "one", "value": 1.5, "type": "gauge", "labels": {"zone": "b", "job": "api"}}"#,
        )
        .await;
    server.accepted("/metrics", r#"[{"name": "two", "value": 2}, {"name": "two", "value": 3}]"#).await;
    server
        .accepted(
            "/metrics",
            r#"{"metrics": [{"name": "three", "value": -0.25, "type": "counter", "timestamp": 1772362800}]}"#,
        )
        .await;
    let ndjson = "{\"name\": \"four\", \"value\": 4e3}\n{\"name\": \"five\", \"value\": 5}\n";
    let request = server.request("/metrics").header("content-type", "application/x-ndjson").body(ndjson);
    assert_eq!(server.send(request).await.status, 200);

    let rows = server.sql("SELECT name, kind, value, labels, job FROM metrics ORDER BY name, value").await;
    let expected = [
        json!({"name": "five", "kind": null, "value": 5.0, "labels": "{}", "job": null}),
        json!({"name": "four", "kind": null, "value": 4000.0, "labels": "{}", "job": null}),
        json!({"name": "one", "kind": "gauge", "value": 1.5, "labels": r#"{"job":"api","zone":"b"}"#, "job": "api"}),
        json!({"name": "three", "kind": "counter", "value": -0.25, "labels": "{}", "job": null}),
        json!({"name": "two", "kind": null, "value": 2.0, "labels": "{}", "job": null}),
        json!({"name": "two", "kind": null, "value": 3.0, "labels": "{}", "job": null}),
    ];
    assert_eq!(without_nulls(&rows), without_nulls(&expected));
    assert_eq!(server.number("SELECT count(DISTINCT series_id) FROM metrics").await, 5);
    assert_eq!(server.value("SELECT labels->>'zone' AS zone FROM metrics WHERE name = 'one'").await, json!("b"));
    server.stop().await;
}

/// A NULL may be written or left out.
fn without_nulls(rows: &[Value]) -> Vec<Value> {
    let kept =
        |row: &Value| row.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
    rows.iter().map(|row| Value::Object(kept(row))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_under_the_same_key_stores_nothing_twice() {
    let site = Site::new();
    let server = site.start().await;
    let rows: Vec<_> = (0..100).map(|i| json!({"message": format!("m{i}"), "host": format!("h{i}")})).collect();
    let send = async |server: &Server, tenant: &str| {
        let request = server.request("/logs").header("content-type", "application/json");
        let request = request.header("idempotency-key", "order-17").header("x-scope-orgid", tenant);
        assert_eq!(server.send(request.body(json!(rows).to_string())).await.status, 200);
    };
    send(&server, "default").await;
    send(&server, "default").await;
    assert_eq!(server.number("SELECT count(*) FROM logs").await, 100);
    // The key is remembered across a restart, even one that nobody prepared.
    server.kill().await;
    let server = site.start().await;
    send(&server, "default").await;
    assert_eq!(server.number("SELECT count(*) FROM logs").await, 100);
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_a_restart() {
    let site = Site::new();
    for round in 1..=3 {
        let server = site.start().await;
        let rows: Vec<_> =
            (0..40).map(|i| json!({"message": format!("round {round}"), "host": format!("h{i}")})).collect();
        server.accepted("/logs", json!(rows).to_string()).await;
        let counts = server.sql("SELECT message, count(*) AS rows FROM logs GROUP BY message ORDER BY message").await;
        let expected: Vec<_> =
            (1..=round).map(|round| json!({"message": format!("round {round}"), "rows": 40})).collect();
        assert_eq!(counts, expected);
        server.stop().await;
        site.verify().await;
        assert_eq!(site.offline_number("SELECT count(*) FROM logs").await, 40 * round);
    }
}

/// A rollup over ten seconds, and the rules over it.
pub const ALERTING: &str = "
rollups:
  - name: errors_10s
    lateness: 2s
    sql: |
      SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service,
             count(*) AS requests, count(*) FILTER (WHERE level IN ('ERROR', 'CRITICAL')) AS errors
      FROM logs GROUP BY 1, 2
rule_files: [rules.yaml]
";

pub const RULES: &str = "
groups:
  - name: errors
    rules:
      - alert: TooManyErrors
        sql: SELECT service, errors FROM errors_10s WHERE errors > 5
        for: 10s
        labels: { severity: page }
        annotations: { summary: 'errors on {{ $labels.service }}' }
";

/// 2026-03-01T00:00:00Z.
pub const START_S: i64 = 1_772_323_200;

/// One window of traffic: 40 requests of one service on one host, the first `errors` of them errors. One host, so one partition: a rule evaluates a
/// window as it is first closed, and a partition that wakes up beside others that are silent closes it whole.
async fn window(server: &Server, index: i64, errors: usize) {
    let rows: Vec<_> = (0..40)
        .map(|request| {
            let level = if request < errors { "error" } else { "info" };
            let at = START_S + index * 10 + (request % 10) as i64;
            json!({"timestamp": at, "service": "shop", "host": "shop-1", "level": level, "message": "GET /"})
        })
        .collect();
    server.accepted("/logs", json!(rows).to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollup_fills_a_rule_fires_and_a_restart_goes_on() {
    let site = Site::with_config(ALERTING);
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=earliest", None).await;
    let url = server.url("");
    let mut tail = command(site.path())
        .args(["alerts", "tail", "--from", "earliest", "-n", "3", "--server", &url])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    for (index, errors) in [0, 7, 8, 0, 0, 0].into_iter().enumerate() {
        window(&server, index as i64, errors).await;
    }

    // The stream: pending in the window that crosses, firing `for` later, resolved by the window that no longer does.
    let mut transitions = Vec::new();
    for _ in 0..3 {
        let event = stream.next().await;
        transitions.push((event.id, serde_json::from_str::<Value>(&event.data).unwrap()));
    }
    let states: Vec<_> = transitions.iter().map(|(_, alert)| alert["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["pending", "firing", "resolved"]);
    for (id, alert) in &transitions {
        assert_eq!(alert["alertname"], "TooManyErrors", "{alert}");
        assert_eq!(alert["group_name"], "errors", "{alert}");
        assert_eq!(alert["tenant"], "default", "{alert}");
        assert_eq!(alert["fingerprint"], transitions[0].1["fingerprint"]);
        assert_eq!(alert["fingerprint"].as_str().unwrap().len(), 16);
        let labels = object(&alert["labels"]);
        assert_eq!(labels["service"], "shop", "{alert}");
        assert_eq!(labels["severity"], "page", "{alert}");
        assert_eq!(object(&alert["annotations"])["summary"], "errors on shop", "{alert}");
        assert!(object(&alert["rule"]).is_object(), "{alert}");
        assert!(object(&alert["source"])["offset"].is_i64(), "the coordinate that caused it: {alert}");
        assert!(id.starts_with("0:"), "SSE ids are partition:offset, not {id}");
        assert_eq!(object(&alert["rule"])["hash"].as_str().map(str::len), Some(16), "{alert}");
    }
    // Its evidence: the row, and statements that run as they stand.
    let evidence = |alert: &Value| object(&alert["source"]);
    let fired = evidence(&transitions[1].1);
    assert_eq!(fired["row"], json!({"service": "shop", "errors": 8}), "{fired}");
    assert_eq!(
        (&fired["evaluated_at"], &fired["window_start"]),
        (&json!("2026-03-01T00:00:30.000000Z"), &json!("2026-03-01T00:00:20.000000Z"))
    );
    assert!(fired["watermark"].as_str().unwrap() >= "2026-03-01T00:00:30", "{fired}");
    assert_eq!(server.sql(fired["sql"].as_str().unwrap()).await, [json!({"service": "shop", "errors": 8})]);
    let lines = server.sql(fired["input_sql"].as_str().unwrap()).await;
    assert_eq!(lines.len(), 8, "{lines:?}");
    assert!(lines.iter().all(|line| line["level"] == "ERROR" && line["service"] == "shop"), "{lines:?}");
    let resolved = evidence(&transitions[2].1);
    assert_eq!((&resolved["row"], &resolved["last_row"]), (&Value::Null, &fired["row"]), "{resolved}");
    assert!(server.sql(resolved["sql"].as_str().unwrap()).await.is_empty(), "the row is gone");
    let fingerprint = transitions[0].1["fingerprint"].as_str().unwrap();
    let at = ["--server", &url];
    let page = site.run(&[&["alerts", "show", &fingerprint[..6]], &at[..]].concat()).await.output();
    for part in [
        "TooManyErrors is resolved",
        fingerprint,
        "severity   page",
        "errors on shop",
        "hash ",
        "Evidence that it was firing",
        "row              errors=8  service=shop",
        "Evidence that it was resolved",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let shown = site.run(&[&["alerts", "show", fingerprint, "-o", "json"], &at[..]].concat()).await.output();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let states: Vec<_> = shown["transitions"].as_array().unwrap().iter().map(|t| t["state"].clone()).collect();
    assert_eq!(states, ["pending", "firing", "resolved"]);
    assert_eq!(
        (&shown["state"], &shown["labels"]["service"], &shown["input"].as_array().unwrap().len()),
        (&json!("resolved"), &json!("shop"), &8)
    );
    for (wrong, code) in [("0000000000000000", 1), ("x", 2)] {
        let refused = site.run(&[&["alerts", "show", wrong], &at[..]].concat()).await;
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.stderr.contains(wrong) && refused.stdout.is_empty(), "{refused:?}");
    }
    assert_eq!(transitions[0].1["value"], 7.0);
    assert_eq!(transitions[1].1["value"], 8.0);

    // The command prints the same, one JSON object a line, and stops after the three it was asked for.
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut tailed = Vec::new();
    while let Some(line) = within(DEADLINE, "alerts tail prints", lines.next_line()).await.unwrap() {
        tailed.push(serde_json::from_str::<Value>(&line).unwrap());
    }
    let streamed: Vec<_> = transitions.iter().map(|(_, alert)| alert.clone()).collect();
    assert_eq!(tailed, streamed);
    assert!(within(DEADLINE, "alerts tail ends", tail.wait()).await.unwrap().success());

    // A subscriber that comes back names the last event it saw, and gets what follows.
    let mut resumed = EventStream::open(&server, "/api/v1/alerts/stream", Some(&transitions[0].0)).await;
    let next = resumed.next().await;
    assert_eq!(
        (next.id.as_str(), serde_json::from_str::<Value>(&next.data).unwrap()),
        (transitions[1].0.as_str(), transitions[1].1.clone())
    );

    // The rollup's table, against the same SQL over the stored rows.
    let rollup = "SELECT CAST(window_start AS BIGINT) / 1000000 AS at, service, requests, errors FROM errors_10s WHERE service = 'shop' ORDER BY 1";
    let expected: Vec<_> = [0, 7, 8, 0]
        .into_iter()
        .enumerate()
        .map(|(i, errors)| json!({"at": START_S + i as i64 * 10, "service": "shop", "requests": 40, "errors": errors}))
        .collect();
    eventually("closed windows", expected.clone(), async || {
        server.sql(rollup).await.into_iter().take(4).collect::<Vec<_>>()
    })
    .await;
    let oracle = server
        .sql(
            "SELECT CAST(tumble(timestamp, INTERVAL '10 seconds') AS BIGINT) / 1000000 AS at, service, count(*) AS requests, \
               count(*) FILTER (WHERE level IN ('ERROR', 'CRITICAL')) AS errors FROM logs WHERE service = 'shop' GROUP BY 1, 2 ORDER BY 1 LIMIT 4",
        )
        .await;
    assert_eq!(oracle, expected);

    // A restart nobody prepared: nothing is said twice, and what follows is numbered on.
    server.kill().await;
    let server = site.start().await;
    for (index, errors) in [(25, 9), (26, 9), (27, 0), (28, 0), (29, 0)] {
        window(&server, index, errors).await;
    }
    let states = "SELECT state, value FROM alerts ORDER BY _offset";
    eventually("six transitions", 6, async || server.sql(states).await.len()).await;
    let states: Vec<_> = server.sql(states).await.iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["pending", "firing", "resolved", "pending", "firing", "resolved"]);
    let windows = "SELECT count(*) AS windows, count(DISTINCT window_start) AS starts FROM errors_10s WHERE service = 'shop' AND window_start < TIMESTAMP '2026-03-01T00:04:40Z'";
    eventually("every window once", vec![json!({"windows": 9, "starts": 9})], async || server.sql(windows).await).await;

    let list = site.run(&["alerts", "list", "--all", "-o", "json", "--server", &server.url("")]).await.output();
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    assert_eq!(list.len(), 1, "one alert, its newest state: {list:?}");
    assert_eq!(list[0]["state"], "resolved");
    server.stop().await;
    site.verify().await;
}

/// JSON, or JSON within a JSON string.
fn object(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.clone(), |text| serde_json::from_str(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_configuration_there_is_something_to_query() {
    let site = Site::with_self_monitoring("");
    let server = site.start().await;
    eventually("this host's metrics", true, async || server.number("SELECT count(*) FROM metrics").await > 0).await;
    let before = server.number("SELECT count(*) FROM metrics").await;
    eventually("more of them", true, async || server.number("SELECT count(*) FROM metrics").await > before).await;
    let cpu = "SELECT count(*) FROM metrics WHERE name LIKE 'system.cpu%'";
    assert!(server.number(cpu).await > 0);
    eventually("its own logs", true, async || server.number("SELECT count(*) FROM logs").await > 0).await;

    let health = server.get("/health").await.json();
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"), "{health}");
    for path in ["/health/live", "/health/ready", "/-/healthy", "/-/ready"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let metrics = server.get("/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"), "{:?}", metrics.headers);
    assert!(
        metrics.text.lines().any(|line| line.starts_with("highwater_") && !line.ends_with(" 0")),
        "{}",
        metrics.text
    );
    for line in metrics.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (_, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not Prometheus text: {line}"));
        assert!(value.parse::<f64>().is_ok(), "not a number: {line}");
    }
    server.stop().await;
    site.verify().await;
}
