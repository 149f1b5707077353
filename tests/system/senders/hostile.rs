//! Bad input at the doors of the push protocols: refused in each protocol's own words, within bounds, and the server goes on.

use serde_json::{Value, json};

use crate::support::wire::{bytes as field, snappy};
use crate::support::{DEADLINE, Site, bombs, within};

/// What a call of `Export` with this compressed message is told: the status, and whether to try again.
async fn grpc_status(address: &str, service: &str, encoding: &str, message: &[u8]) -> (tonic::Code, bool) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let path = format!("http://{address}/opentelemetry.proto.collector.{service}/Export");
    let request =
        axum::http::Request::post(path).header("content-type", "application/grpc").header("grpc-encoding", encoding);
    let (answer, mut body) = client.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    let mut frame = vec![1];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    body.send_data(frame.into(), true).unwrap();
    let answer = within(DEADLINE, "an answer over gRPC", answer).await.unwrap();
    connection.abort();
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    (status.code(), status.details().windows(9).any(|part| part == b"RetryInfo"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_pushed_takes_more_than_its_share() {
    let site = Site::with_config("ingest: { max_body_size_bytes: 8388608, max_in_flight_size_bytes: 67108864 }\n");
    let server = site.start().await;
    let before_bytes = server.peak_memory_bytes();
    let (remote_write, loki, logs) = ("/api/v1/write", "/loki/api/v1/push", "/v1/logs");
    let protobuf = "application/x-protobuf";
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    for (name, encoding, bomb) in bombs::bombs() {
        for (path, kind) in [
            (remote_write, protobuf),
            (remote_write, v2),
            (loki, protobuf),
            (loki, "application/json"),
            (logs, protobuf),
            (logs, "application/json"),
        ] {
            let request = server.request(path).header("content-type", kind).header("content-encoding", encoding);
            let reply = server.send(request.body(bomb.clone())).await;
            let expected = if path == remote_write && encoding != "snappy" { 415 } else { 413 };
            assert_eq!(reply.status, expected, "{name} to {path} as {kind}: {}", reply.text);
        }
    }
    // gRPC has its compressions inside its own frames.
    let [grpc, _] = server.otlp();
    for (name, encoding, bomb) in bombs::bombs().into_iter().filter(|(_, encoding, _)| *encoding != "lz4") {
        for path in ["logs.v1.LogsService", "metrics.v1.MetricsService", "trace.v1.TraceService"] {
            let status = grpc_status(grpc, path, encoding, &bomb).await;
            assert_eq!(status, (tonic::Code::ResourceExhausted, false), "{name} to {path}");
        }
    }
    // Lengths of 2 GiB, messages of nothing by the million, values in values, a label of 16 KiB beside 100,000 samples.
    let length = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x07];
    let empty = |number: u8| field(number, &[]).repeat(2 << 20);
    let mut deep = field(1, b"x");
    for _ in 0..2_000 {
        deep = field(5, &field(1, &deep));
    }
    let deep = field(1, &field(2, &field(2, &field(5, &deep))));
    let label = |name: &[u8], value: &[u8]| field(1, &[field(1, name), field(2, value)].concat());
    let sample = field(2, &[0x10, 0x01]);
    let long = [label(b"__name__", b"m"), label(b"l", &vec![b'x'; 16 << 10]), sample.repeat(100_000)].concat();
    let sets: Vec<u8> = (0..200_000u32)
        .flat_map(|i| field(1, &[label(b"__name__", format!("m{i}").as_bytes()), sample.clone()].concat()))
        .collect();
    for (what, path, kind, body, allowed) in [
        ("a length of 2 GiB", remote_write, protobuf, snappy(&length), vec![400]),
        ("a length of 2 GiB", loki, protobuf, snappy(&length), vec![400]),
        ("a length of 2 GiB", logs, protobuf, length.to_vec(), vec![400]),
        ("series of nothing", remote_write, protobuf, snappy(&empty(1)), vec![204]),
        ("series of nothing", remote_write, v2, snappy(&empty(5)), vec![400]),
        ("symbols of nothing", remote_write, v2, snappy(&empty(4)), vec![400]),
        ("streams of nothing", loki, protobuf, snappy(&empty(1)), vec![204]),
        ("records of nothing", logs, protobuf, field(1, &field(2, &empty(2))), vec![400]),
        ("deep values", logs, protobuf, deep, vec![400]),
        ("a long label", remote_write, protobuf, snappy(&field(1, &long)), vec![413]),
        ("200,000 label sets", remote_write, protobuf, snappy(&sets), vec![204]),
        ("deep JSON", logs, "application/json", "[".repeat(1 << 20).into_bytes(), vec![400]),
        (
            "deep JSON",
            loki,
            "application/json",
            format!("{{\"streams\":{}", "[".repeat(1 << 20)).into_bytes(),
            vec![400],
        ),
    ] {
        let request = server.request(path).header("content-type", kind);
        let reply = server.send(request.body(body)).await;
        assert!(allowed.contains(&reply.status), "{what} to {path}: {} {}", reply.status, reply.text);
    }
    assert_eq!(server.number("SELECT count(DISTINCT name) FROM metrics").await, 200_000);
    let grown_mib = (server.peak_memory_bytes() - before_bytes) >> 20;
    assert!(grown_mib < 1024, "{grown_mib} MiB more than before");
    server.accepted("/logs", json!({"message": "after all that"}).to_string()).await;
    assert_eq!(server.number("SELECT count(*) FROM logs").await, 1);
    server.stop().await;
    site.verify().await;
}

/// Labels of an entry.
type Labels<'a> = [(&'a str, &'a str)];

/// An attribute of OTLP in JSON.
fn attribute(name: &str, value: &str) -> Value {
    json!({"key": name, "value": {"stringValue": value}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_labels_that_are_too_long_are_refused_and_counted_at_every_door() {
    let site = Site::with_config(
        "ingest: { max_name_size_bytes: 20, max_label_size_bytes: 50, max_value_size_bytes: 200, max_attributes: 8 }\n",
    );
    let server = site.start().await;
    let (long_name, label, value) = ("n".repeat(21), "l".repeat(51), "v".repeat(201));
    let many: Vec<String> = (0..9).map(|n| format!("a{n}")).collect();
    // Each entry is refused for its own reason, but for the first.
    let labels: Vec<Vec<(&str, &str)>> = vec![
        vec![("ok", "1")],
        vec![(&long_name, "1")],
        vec![("long", &label)],
        vec![("longer", &value)],
        many.iter().map(|name| (name.as_str(), "1")).collect(),
    ];
    let object = |labels: &Labels<'_>| {
        Value::Object(labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
    };
    let attributes =
        |labels: &Labels<'_>| labels.iter().map(|(name, value)| attribute(name, value)).collect::<Vec<_>>();
    let pair = |name: &str, value: &str| [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
    let sample = field(2, &[&[0x09][..], &1.0_f64.to_le_bytes(), &[0x10, 0x01]].concat());
    let series = |labels: &Labels<'_>| {
        let labels = [("__name__", "m")].iter().chain(labels).flat_map(|(name, value)| field(1, &pair(name, value)));
        field(1, &[labels.collect::<Vec<u8>>(), sample.clone()].concat())
    };
    let stream = |labels: &Labels<'_>| {
        let text = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect::<Vec<_>>().join(",");
        field(
            1,
            &[
                field(1, format!("{{{text}}}").as_bytes()),
                field(2, &[field(1, &[0x08, 0x01]), field(2, b"line")].concat()),
            ]
            .concat(),
        )
    };
    let each = |of: &dyn Fn(&Labels<'_>) -> Value| labels.iter().map(|labels| of(labels)).collect::<Vec<_>>();
    let all = |of: &dyn Fn(&Labels<'_>) -> Vec<u8>| labels.iter().flat_map(|labels| of(labels)).collect::<Vec<u8>>();
    let json_kind = "application/json";
    let protobuf = "application/x-protobuf";
    let logs = json!(each(&|labels| json!({"message": "m", "attributes": object(labels)})));
    let metrics = json!(each(&|labels| json!({"name": "m", "value": 1, "labels": object(labels)})));
    let loki = json!({"streams": each(&|labels| json!({"stream": object(labels), "values": [["1", "line"]]}))});
    let otlp_logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords":
        each(&|labels| json!({"body": {"stringValue": "m"}, "attributes": attributes(labels)}))}]}]});
    let otlp_metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints":
        each(&|labels| json!({"asInt": "1", "timeUnixNano": "1000000", "attributes": attributes(labels)}))}}]}]}]});
    let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": each(&|labels| json!({"name": "s",
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "attributes": attributes(labels)}))}]}]});
    for (path, kind, body, status) in [
        ("/logs", json_kind, logs.to_string().into_bytes(), 200),
        ("/metrics", json_kind, metrics.to_string().into_bytes(), 200),
        ("/api/v1/write", protobuf, snappy(&all(&series)), 400),
        ("/loki/api/v1/push", json_kind, loki.to_string().into_bytes(), 400),
        ("/loki/api/v1/push", protobuf, snappy(&all(&stream)), 400),
        ("/v1/logs", json_kind, otlp_logs.to_string().into_bytes(), 200),
        ("/v1/metrics", json_kind, otlp_metrics.to_string().into_bytes(), 200),
        ("/v1/traces", json_kind, spans.to_string().into_bytes(), 200),
    ] {
        let reply = server.send(server.request(path).header("content-type", kind).body(body)).await;
        assert_eq!(reply.status, status, "{path} {kind}: {}", reply.text);
    }
    // Values of labels of logs and spans are attributes' values: 51 bytes are no harm to them.
    for (door, signal, requests, reasons) in [
        ("http", "logs", 1, ["name_too_long", "too_long", "too_many"].as_slice()),
        ("http", "metrics", 1, &["name_too_long", "label_too_long", "too_many"]),
        ("remote_write", "metrics", 1, &["name_too_long", "label_too_long", "too_many"]),
        ("loki", "logs", 2, &["name_too_long", "too_long", "too_many"]),
        ("otlp_http", "logs", 1, &["name_too_long", "too_long", "too_many"]),
        ("otlp_http", "metrics", 1, &["name_too_long", "label_too_long", "too_many"]),
        ("otlp_http", "spans", 1, &["name_too_long", "too_long", "too_many"]),
    ] {
        for reason in reasons {
            let labels = format!("{{door=\"{door}\",signal=\"{signal}\",reason=\"{reason}\"}}");
            let expected = if *reason == "label_too_long" { 2.0 } else { 1.0 } * f64::from(requests);
            let counted = server.metric("highwater_ingest_rejected_total", &labels).await;
            assert_eq!(counted, expected, "{labels}: {}", server.get("/metrics").await.text);
        }
        let stored = if signal == "metrics" { 1 } else { 2 } * i64::from(requests);
        let query = format!("SELECT stored AS n FROM loss_ledger WHERE source = '{door}' AND signal = '{signal}'");
        server.until(&query, stored).await;
    }

    // Texts that are not UTF-8: what has them is refused, and nothing of it is stored.
    let bad = b"\xff\xfe";
    let bad_label = field(1, &[field(1, b"__name__"), field(2, bad)].concat());
    let bad_line = [field(1, b"{a=\"b\"}"), field(2, &[field(1, &[0x08, 0x01]), field(2, bad)].concat())].concat();
    let body = |text: &[u8]| field(1, &field(2, &field(2, &field(5, &field(1, text)))));
    for (path, kind, body, said) in [
        ("/logs", json_kind, b"{\"message\": \"\xff\"}".to_vec(), "utf-8"),
        ("/metrics", json_kind, b"{\"name\": \"\xff\", \"value\": 1}".to_vec(), "utf-8"),
        ("/api/v1/write", protobuf, snappy(&field(1, &[bad_label, sample.clone()].concat())), "utf-8"),
        ("/loki/api/v1/push", protobuf, snappy(&field(1, &bad_line)), "utf-8"),
        (
            "/loki/api/v1/push",
            json_kind,
            b"{\"streams\": [{\"stream\": {\"a\": \"\xff\"}, \"values\": [[\"1\", \"x\"]]}]}".to_vec(),
            "utf-8",
        ),
        ("/v1/logs", protobuf, body(bad), "utf-8"),
    ] {
        let reply = server.send(server.request(path).header("content-type", kind).body(body)).await;
        assert_eq!(reply.status, 400, "{path} {kind}: {}", reply.text);
        assert!(reply.text.to_lowercase().contains(said), "{path} {kind} names {said}: {}", reply.text);
    }
    let rows = "SELECT (SELECT count(*) FROM logs) + (SELECT count(*) FROM metrics) + (SELECT count(*) FROM spans)";
    assert_eq!(server.number(rows).await, 2 + 1 + 1 + 4 + 2 + 1 + 2);
    server.stop().await;
    site.verify().await;
}
