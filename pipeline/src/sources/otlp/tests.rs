#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use reqwest::Client;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};

use crate::data::RowKind;
use crate::data::protobuf::Fields;
use crate::server::{HttpServer, ServerLimits};
use crate::sources::IngestConfig;
use crate::sources::testing::World;

/// The doors on real sockets.
struct Server {
    world: World,
    http: std::net::SocketAddr,
    grpc: String,
    client: Client,
}

impl Server {
    async fn with(config: IngestConfig) -> Self {
        let world = World::with(config).await;
        let listen = || tokio::net::TcpListener::bind("127.0.0.1:0");
        let http = listen().await.unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let grpc = HttpServer::bind("otlp_grpc", loopback, None, ServerLimits::default()).await.unwrap();
        let addresses = (http.local_addr().unwrap(), grpc.address());
        let router = super::http::router(Arc::clone(&world.ingest));
        tokio::spawn(async move { axum::serve(http, router).await });
        tokio::spawn(grpc.serve(super::grpc::router(Arc::clone(&world.ingest)), CancellationToken::new()));
        Self { world, http: addresses.0, grpc: format!("http://{}", addresses.1), client: Client::new() }
    }

    async fn new() -> Self {
        Self::with(IngestConfig { max_value_size_bytes: 1_000, ..IngestConfig::default() }).await
    }

    async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
        let mut request = self.client.post(format!("http://{}{path}", self.http)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone(), answer.bytes().await.unwrap().to_vec())
    }
}

fn text(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) })
}

fn resource() -> Option<Resource> {
    let attributes = vec![KeyValue { key: "service.name".to_owned(), value: text("shop"), ..KeyValue::default() }];
    Some(Resource { attributes, ..Resource::default() })
}

fn logs(bodies: &[&str]) -> ExportLogsServiceRequest {
    let record =
        |body: &&str| LogRecord { time_unix_nano: 1_714_979_289_123_456_789, body: text(body), ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: bodies.iter().map(record).collect(), ..ScopeLogs::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }],
    }
}

fn metrics(names: &[&str]) -> ExportMetricsServiceRequest {
    let metric = |name: &&str| Metric {
        name: (*name).to_owned(),
        description: "What it is.".to_owned(),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint { value: Some(Number::AsInt(7)), ..NumberDataPoint::default() }],
        })),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: names.iter().map(metric).collect(), ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource: resource(), scope_metrics, ..ResourceMetrics::default() }],
    }
}

fn traces(ids: &[u8]) -> ExportTraceServiceRequest {
    let span =
        |id: &u8| Span { trace_id: vec![*id; 16], span_id: vec![*id; 8], name: format!("s{id}"), ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: ids.iter().map(span).collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }],
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn http_takes_protobuf_and_json_in_any_compression() {
    let server = Server::new().await;
    let body = logs(&["m"]).encode_to_vec();
    let zstd = zstd::encode_all(&body[..], 1).unwrap();
    let json = serde_json::to_vec(&logs(&["m"])).unwrap();
    for (headers, body, answer) in [
        (vec![PROTOBUF], body.clone(), &b""[..]),
        (vec![PROTOBUF, ("content-encoding", "gzip")], gzip(&body), b""),
        (vec![PROTOBUF, ("content-encoding", "zstd")], zstd, b""),
        (vec![JSON], json.clone(), b"{}"),
        (vec![JSON, ("content-encoding", "gzip")], gzip(&json), b"{}"),
        (vec![PROTOBUF], Vec::new(), b""),
        (vec![JSON], b"{}".to_vec(), b"{}"),
    ] {
        let (status, said, bytes) = server.post("/v1/logs", &headers, body).await;
        assert_eq!((status, &bytes[..]), (200, answer), "{headers:?}");
        assert_eq!(said["content-type"], headers[0].1);
    }
    assert_eq!(server.world.messages().await, ["m"; 5]);
    // As where exporters may have sent to before.
    for below in ["/api/v1/otlp", "/otlp", "/opentelemetry"] {
        let (status, _, _) = server.post(&format!("{below}/v1/logs"), &[JSON], json.clone()).await;
        assert_eq!(status, 200, "{below}");
    }
    assert_eq!(server.world.messages().await, ["m"; 8]);
    // As senders in other languages write it: numbers of 64 bits as text, ids in hex, enums as numbers.
    let json = json!({"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}, "scopeSpans": [{"spans": [{
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "GET", "kind": 3, "startTimeUnixNano": "1714979289123456789",
        "endTimeUnixNano": "1714979289123457789", "attributes": [{"key": "n", "value": {"intValue": "5"}}], "status": {"code": 1}, "unknown": {"x": []},
    }]}]}]});
    assert_eq!(server.post("/v1/traces", &[JSON], json.to_string().into_bytes()).await.0, 200);
    assert_eq!(server.world.texts("spans", RowKind::Spans, "trace_id").await, ["0af7651916cd43dd8448eb211c80319c"]);
    assert_eq!(server.world.texts("spans", RowKind::Spans, "kind").await, ["CLIENT"]);
    assert_eq!(server.world.texts("spans", RowKind::Spans, "status").await, ["OK"]);
    let json = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "queue.size", "unit": "By", "sum": {
        "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{"asInt": "3", "timeUnixNano": "1714979289123456789"}, {"asDouble": 1.5}]}}]}]}]});
    assert_eq!(server.post("/v1/metrics", &[JSON], json.to_string().into_bytes()).await.0, 200);
    assert_eq!(server.world.texts("metrics", RowKind::Metrics, "name").await, ["queue_size_bytes_total"; 2]);
}

#[tokio::test]
async fn http_says_how_many_are_refused_in_the_encoding_of_the_request() {
    let server = Server::new().await;
    let long = "x".repeat(1_001);
    let request = logs(&["good", &long, "too"]);
    let (status, _, body) = server.post("/v1/logs", &[PROTOBUF], request.encode_to_vec()).await;
    let partial = ExportLogsServiceResponse::decode(&body[..]).unwrap().partial_success.unwrap();
    let reason = "entry 1: `body` has 1001 bytes; the limit is 1000";
    assert_eq!((status, partial.rejected_log_records, partial.error_message.as_str()), (200, 1, reason));
    let (status, _, body) = server.post("/v1/logs", &[JSON], serde_json::to_vec(&request).unwrap()).await;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, answer), (200, json!({"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": reason}})));
    assert_eq!(server.world.messages().await, ["good", "good", "too", "too"]);
    let (_, _, body) = server.post("/v1/traces", &[JSON], serde_json::to_vec(&traces(&[0, 1])).unwrap()).await;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1");
    let report = server.world.ingest.doors().report();
    let of =
        |signal: &str| report.iter().find(|door| door.signal == signal).map(|door| (door.received, door.acknowledged));
    assert_eq!((of("logs"), of("spans")), (Some((6, 4)), Some((2, 1))));
}

#[tokio::test]
async fn http_says_what_is_wrong_and_whether_to_try_again() {
    let server = Server::new().await;
    let (status, headers, body) = server.post("/v1/logs", &[PROTOBUF], b"\x0a\xff".to_vec()).await;
    let fields: Vec<_> = Fields::of(&body).map(Result::unwrap).collect();
    assert_eq!((status, fields[0].varint().unwrap()), (400, 3));
    assert!(fields[1].text().unwrap().starts_with("not a readable OTLP request: not an OTLP logs request: "));
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let (status, _, body) = server.post("/v1/logs", &[JSON], b"[]".to_vec()).await;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &answer["code"]), (400, &json!(3)));
    for headers in [vec![("content-type", "text/plain")], vec![], vec![JSON, ("content-encoding", "br")]] {
        assert_eq!(server.post("/v1/logs", &headers, b"{}".to_vec()).await.0, 415, "{headers:?}");
    }
    for (encoding, body) in [("gzip", &b"{}"[..]), ("zstd", b"{}"), ("gzip", &gzip(b"{}")[..9])] {
        let (status, headers, body) =
            server.post("/v1/logs", &[JSON, ("content-encoding", encoding)], body.to_vec()).await;
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &answer["code"]), (400, &json!(3)), "{encoding} {answer}");
        assert_eq!(headers["content-type"], "application/json");
    }
    assert_eq!(server.client.get(format!("http://{}/v1/logs", server.http)).send().await.unwrap().status(), 405);
    server.world.fs.fail_next_write("topics/logs/", 10, ErrorKind::StorageFull);
    let (status, headers, _) = server.post("/v1/logs", &[PROTOBUF], logs(&["m"]).encode_to_vec()).await;
    assert_eq!((status, headers.contains_key("retry-after")), (503, true));
    assert_eq!(server.post("/v1/logs", &[PROTOBUF], logs(&["m"]).encode_to_vec()).await.0, 200);
}

#[tokio::test]
async fn grpc_takes_all_signals_in_any_compression() {
    let server = Server::new().await;
    let mut client = LogsServiceClient::connect(server.grpc.clone()).await.unwrap();
    for (body, compression) in
        [("a", None), ("b", Some(CompressionEncoding::Gzip)), ("c", Some(CompressionEncoding::Zstd))]
    {
        let mut client = client.clone();
        if let Some(compression) = compression {
            client = client.send_compressed(compression);
        }
        let mut request = Request::new(logs(&[body]));
        request.metadata_mut().insert("x-scope-orgid", "acme".parse().unwrap());
        assert_eq!(client.export(request).await.unwrap().into_inner().partial_success, None);
    }
    assert_eq!(server.world.messages().await, ["a", "b", "c"]);
    assert_eq!(server.world.texts("logs", RowKind::Logs, "tenant").await, ["acme"; 3]);
    let partial =
        client.export(logs(&["good", &"x".repeat(1_001)])).await.unwrap().into_inner().partial_success.unwrap();
    assert_eq!((partial.rejected_log_records, partial.error_message.contains("limit is 1000")), (1, true));
    let mut client = MetricsServiceClient::connect(server.grpc.clone()).await.unwrap();
    client.export(metrics(&["a.b", "c"])).await.unwrap();
    assert_eq!(server.world.texts("metrics", RowKind::Metrics, "name").await, ["a_b", "c"]);
    assert_eq!(server.world.texts("metrics", RowKind::Metrics, "job").await, ["shop", "shop"]);
    let mut client = TraceServiceClient::connect(server.grpc.clone()).await.unwrap();
    client.export(traces(&[1, 2])).await.unwrap();
    assert_eq!(server.world.texts("spans", RowKind::Spans, "name").await, ["s1", "s2"]);
    assert_eq!(server.world.texts("spans", RowKind::Spans, "service").await, ["shop", "shop"]);
}

#[tokio::test]
async fn grpc_says_what_is_wrong_and_whether_to_try_again() {
    let config =
        IngestConfig { max_body_size_bytes: 10_000, max_in_flight_size_bytes: 20_000, ..IngestConfig::default() };
    let server = Server::with(config).await;
    let mut client = LogsServiceClient::connect(server.grpc.clone()).await.unwrap();
    let big = client.export(logs(&[&"x".repeat(20_000)])).await.unwrap_err();
    assert_eq!((big.code(), big.message().contains("10000 bytes")), (Code::ResourceExhausted, true), "{big:?}");
    // A bomb: small on the wire.
    let bomb = client
        .clone()
        .send_compressed(CompressionEncoding::Gzip)
        .export(logs(&[&"x".repeat(1 << 20)]))
        .await
        .unwrap_err();
    assert_eq!(
        (bomb.code(), bomb.message().contains("once decompressed")),
        (Code::ResourceExhausted, true),
        "{bomb:?}"
    );
    let mut request = Request::new(logs(&["m"]));
    request.metadata_mut().insert("x-scope-orgid", "../x".parse().unwrap());
    assert_eq!(client.export(request).await.unwrap_err().code(), Code::InvalidArgument);
    server.world.fs.fail_next_write("topics/logs/", 10, ErrorKind::StorageFull);
    let full = client.export(logs(&["m"])).await.unwrap_err();
    assert_eq!(full.code(), Code::Unavailable, "{full:?}");
    let details: Vec<_> = Fields::of(full.details()).map(Result::unwrap).collect();
    let any: Vec<_> = Fields::of(details[2].bytes().unwrap()).map(Result::unwrap).collect();
    assert_eq!(any[0].text().unwrap(), "type.googleapis.com/google.rpc.RetryInfo");
    client.export(logs(&["m"])).await.unwrap();
    assert_eq!(server.world.messages().await, ["m"]);
    assert_eq!(server.world.ingest.in_flight_size_bytes(), 0);
}

#[tokio::test]
async fn frames_are_looked_at_before_they_are_believed() {
    use tower::ServiceExt;
    let server = Server::new().await;
    let router = super::grpc::router(Arc::clone(&server.world.ingest));
    let send = |path: &'static str, content_type: &'static str, encoding: &'static str, body: Vec<u8>| {
        let request =
            axum::http::Request::post(path).header("content-type", content_type).header("grpc-encoding", encoding);
        let request = request.body(axum::body::Body::from(body)).unwrap();
        let router = router.clone();
        async move {
            let answer = router.oneshot(request).await.unwrap();
            let status = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
            (answer.status().as_u16(), status)
        }
    };
    const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let message = logs(&["m"]).encode_to_vec();
    let frame = |flag: u8, length: usize, message: &[u8]| {
        let mut frame = vec![flag];
        frame.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        frame.extend_from_slice(message);
        frame
    };
    let whole = frame(0, message.len(), &message);
    for (content_type, encoding, body, expected) in [
        ("application/grpc", "identity", vec![], "3"),
        ("application/grpc", "identity", whole[..3].to_vec(), "3"),
        ("application/grpc", "identity", frame(0, 0x7fff_ffff, &message), "3"),
        ("application/grpc", "identity", frame(7, message.len(), &message), "3"),
        ("application/grpc", "identity", frame(1, message.len(), &message), "3"),
        ("application/grpc", "gzip", frame(1, message.len(), &message), "3"),
        ("application/grpc", "br", whole.clone(), "12"),
        ("application/json", "identity", whole.clone(), "12"),
    ] {
        let answer = send(PATH, content_type, encoding, body).await;
        // Who does not say gRPC may not know of its statuses.
        let status = if content_type == "application/json" { 415 } else { 200 };
        assert_eq!(answer, (status, Some(expected.to_owned())), "{content_type} {encoding}");
    }
    let unknown =
        send("/opentelemetry.proto.collector.logs.v1.LogsService/Other", "application/grpc", "identity", whole.clone())
            .await;
    assert_eq!(unknown, (200, Some("12".to_owned())));
    assert_eq!(server.world.messages().await, [""; 0]);
    // Its status is in the trailers.
    assert_eq!(send(PATH, "application/grpc+proto", "gzip", whole).await, (200, None));
    assert_eq!(server.world.messages().await, ["m"]);
}
