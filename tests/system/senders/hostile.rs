//! Bad input at the doors of the push protocols: refused in each protocol's own words, within bounds, and the server goes on.

use serde_json::json;

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
