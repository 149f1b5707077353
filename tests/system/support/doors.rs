//! Every door that senders push through: how numbered rows go in, what the answer says, and how they are found again.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use serde_json::{Value, json};

use super::server::Addresses;
use super::wire;

/// A door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    JsonLogs,
    JsonMetrics,
    RemoteWrite1,
    RemoteWrite2,
    LokiProtobuf,
    LokiJson,
    OtlpHttpLogs,
    OtlpHttpMetrics,
    OtlpHttpTraces,
    OtlpGrpcLogs,
    OtlpGrpcMetrics,
    OtlpGrpcTraces,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Everything is stored.
    Acknowledged,
    /// Not now: what the protocol calls it (an HTTP status, a gRPC code), and whether it said when.
    Later { code: i32, says_when: bool },
    /// No answer.
    Silence,
}

/// Some rows: numbers `from..to`, each with so many bytes of text that does not compress.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    pub from: u64,
    pub to: u64,
    pub padding_size_bytes: usize,
}

/// Midnight of 2026-03-01, UTC.
const START_MS: u64 = 1_772_323_200_000;
/// gRPC's code for "try again".
pub const UNAVAILABLE: i32 = 14;

impl Door {
    pub const ALL: [Self; 12] = [
        Self::JsonLogs,
        Self::JsonMetrics,
        Self::RemoteWrite1,
        Self::RemoteWrite2,
        Self::LokiProtobuf,
        Self::LokiJson,
        Self::OtlpHttpLogs,
        Self::OtlpHttpMetrics,
        Self::OtlpHttpTraces,
        Self::OtlpGrpcLogs,
        Self::OtlpGrpcMetrics,
        Self::OtlpGrpcTraces,
    ];

    /// An expression over its table that is the row's number, and the table.
    pub fn found(self) -> (&'static str, &'static str) {
        match self {
            Self::JsonMetrics
            | Self::RemoteWrite1
            | Self::RemoteWrite2
            | Self::OtlpHttpMetrics
            | Self::OtlpGrpcMetrics => ("CAST(value AS BIGINT)", "metrics WHERE name = 'ledger'"),
            Self::OtlpHttpTraces | Self::OtlpGrpcTraces => ("duration_ns", "spans"),
            _ => ("CAST(split_part(message, ' ', 2) AS BIGINT)", "logs"),
        }
    }

    /// What it says to a request that it cannot store because the disk is full.
    pub fn when_the_disk_is_full(self) -> i32 {
        match self {
            Self::OtlpHttpLogs | Self::OtlpHttpMetrics | Self::OtlpHttpTraces => 503,
            Self::OtlpGrpcLogs | Self::OtlpGrpcMetrics | Self::OtlpGrpcTraces => UNAVAILABLE,
            _ => 507,
        }
    }

    /// Sends rows once, for this tenant, with a name for the request or without.
    pub async fn send(
        self,
        client: &reqwest::Client,
        at: &Addresses,
        tenant: &str,
        key: Option<&str>,
        rows: Rows,
    ) -> Sent {
        let protobuf = "application/x-protobuf";
        let (url, kind, encoding, body) = match self {
            Self::OtlpGrpcLogs | Self::OtlpGrpcMetrics | Self::OtlpGrpcTraces => {
                return self.send_by_grpc(at, tenant, key, rows).await;
            }
            Self::JsonLogs => ("/logs", "application/x-ndjson", "", rows.lines(Rows::json_log)),
            Self::JsonMetrics => ("/metrics", "application/x-ndjson", "", rows.lines(Rows::json_metric)),
            Self::RemoteWrite1 => ("/api/v1/write", protobuf, "snappy", wire::snappy(&rows.write_1())),
            Self::RemoteWrite2 => (
                "/api/v1/write",
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                "snappy",
                wire::snappy(&rows.write_2()),
            ),
            Self::LokiProtobuf => ("/loki/api/v1/push", protobuf, "", wire::snappy(&rows.loki_protobuf())),
            Self::LokiJson => ("/loki/api/v1/push", "application/json", "", rows.loki_json()),
            Self::OtlpHttpLogs => ("/v1/logs", "application/json", "", rows.otlp_logs().to_string().into_bytes()),
            Self::OtlpHttpMetrics => ("/v1/metrics", protobuf, "", rows.metrics_request().encode_to_vec()),
            Self::OtlpHttpTraces => ("/v1/traces", "application/json", "", rows.otlp_traces().to_string().into_bytes()),
        };
        let mut request = client
            .post(format!("http://{}{url}", at.http))
            .header("content-type", kind)
            .header("x-scope-orgid", tenant);
        if !encoding.is_empty() {
            request = request.header("content-encoding", encoding);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let Ok(answer) = request.body(body).timeout(Duration::from_secs(20)).send().await else { return Sent::Silence };
        let (status, says_when) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
        let Ok(text) = answer.text().await else { return Sent::Silence };
        match status {
            200 | 204 => Sent::Acknowledged,
            429 | 503 | 507 => Sent::Later { code: status.into(), says_when },
            _ => panic!("{self:?} refused {rows:?} for good: {status} {text}"),
        }
    }

    async fn send_by_grpc(self, at: &Addresses, tenant: &str, key: Option<&str>, rows: Rows) -> Sent {
        let url = format!("http://{}", at.otlp_grpc);
        let endpoint = tonic::transport::Endpoint::from_shared(url).unwrap().timeout(Duration::from_secs(20));
        let Ok(channel) = endpoint.connect().await else { return Sent::Silence };
        let limit_bytes = 64 << 20;
        let answer = match self {
            Self::OtlpGrpcLogs => {
                let request: ExportLogsServiceRequest = serde_json::from_value(rows.otlp_logs()).unwrap();
                let mut client = LogsServiceClient::new(channel).max_encoding_message_size(limit_bytes);
                client
                    .export(with_names(request, tenant, key))
                    .await
                    .map(|answer| answer.into_inner().partial_success.is_none())
            }
            Self::OtlpGrpcMetrics => {
                let mut client = MetricsServiceClient::new(channel).max_encoding_message_size(limit_bytes);
                let request = with_names(rows.metrics_request(), tenant, key);
                client.export(request).await.map(|answer| answer.into_inner().partial_success.is_none())
            }
            _ => {
                let request: ExportTraceServiceRequest = serde_json::from_value(rows.otlp_traces()).unwrap();
                let mut client = TraceServiceClient::new(channel).max_encoding_message_size(limit_bytes);
                client
                    .export(with_names(request, tenant, key))
                    .await
                    .map(|answer| answer.into_inner().partial_success.is_none())
            }
        };
        match answer {
            Ok(all) => {
                assert!(all, "{self:?} refused some of {rows:?} for good");
                Sent::Acknowledged
            }
            // With its details, or it did not come from the server.
            Err(status) if status.details().is_empty() => Sent::Silence,
            Err(status) => {
                let says_when = status.details().windows(9).any(|part| part == b"RetryInfo");
                assert!(says_when, "{self:?} refused {rows:?} for good: {status:?}");
                Sent::Later { code: status.code().into(), says_when }
            }
        }
    }
}

fn with_names<T>(request: T, tenant: &str, key: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("x-scope-orgid", tenant.parse().unwrap());
    if let Some(key) = key {
        request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    }
    request
}

impl Rows {
    fn numbers(self) -> std::ops::Range<u64> {
        self.from..self.to
    }

    /// Hex that looks like chance, the same for the same row.
    fn padding(self, row: u64) -> String {
        let mut state = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut text = String::with_capacity(self.padding_size_bytes + 16);
        while text.len() < self.padding_size_bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(&format!("{state:016x}"));
        }
        text.truncate(self.padding_size_bytes);
        text
    }

    fn message(self, row: u64) -> String {
        format!("row {row} {}", self.padding(row))
    }

    /// 40 of them, so that every partition has some.
    fn host(row: u64) -> String {
        format!("host-{}", row % 40)
    }

    fn at_ns(row: u64) -> String {
        ((START_MS + row) * 1_000_000).to_string()
    }

    fn lines(self, line: impl Fn(Self, u64) -> Value) -> Vec<u8> {
        self.numbers().map(|row| format!("{}\n", line(self, row))).collect::<String>().into_bytes()
    }

    fn json_log(self, row: u64) -> Value {
        json!({"timestamp": START_MS + row, "service": "shop", "host": Self::host(row), "message": self.message(row)})
    }

    fn json_metric(self, row: u64) -> Value {
        let labels = json!({"host": Self::host(row), "pad": self.padding(row)});
        json!({"timestamp": START_MS + row, "name": "ledger", "value": row, "labels": labels})
    }

    /// Labels of a sample, sorted.
    fn labels(self, row: u64) -> [(&'static str, String); 3] {
        [("__name__", "ledger".to_owned()), ("host", Self::host(row)), ("pad", self.padding(row))]
    }

    fn write_1(self) -> Vec<u8> {
        let series = |row: u64| {
            let label = |(name, value): &(&str, String)| {
                wire::bytes(1, &[wire::bytes(1, name.as_bytes()), wire::bytes(2, value.as_bytes())].concat())
            };
            let labels =
                self.labels(row).iter().filter(|(_, value)| !value.is_empty()).flat_map(label).collect::<Vec<u8>>();
            let sample = [wire::double(1, row as f64), wire::varint(2, START_MS + row)].concat();
            wire::bytes(1, &[labels, wire::bytes(2, &sample)].concat())
        };
        self.numbers().flat_map(series).collect()
    }

    fn write_2(self) -> Vec<u8> {
        let mut symbols = vec![String::new()];
        let mut series = Vec::new();
        for row in self.numbers() {
            let mut references = Vec::new();
            for (name, value) in self.labels(row).into_iter().filter(|(_, value)| !value.is_empty()) {
                for symbol in [name.to_owned(), value] {
                    references.extend(wire::varint_of(symbols.len() as u64));
                    symbols.push(symbol);
                }
            }
            let sample = [wire::double(1, row as f64), wire::varint(2, START_MS + row)].concat();
            series.extend(wire::bytes(5, &[wire::bytes(1, &references), wire::bytes(2, &sample)].concat()));
        }
        let symbols = symbols.iter().flat_map(|symbol| wire::bytes(4, symbol.as_bytes()));
        symbols.chain(series).collect()
    }

    fn loki_protobuf(self) -> Vec<u8> {
        let stream = |row: u64| {
            let at = [wire::varint(1, (START_MS + row) / 1000), wire::varint(2, (START_MS + row) % 1000 * 1_000_000)]
                .concat();
            let entry = [wire::bytes(1, &at), wire::bytes(2, self.message(row).as_bytes())].concat();
            let labels = format!("{{host=\"{}\", service=\"shop\"}}", Self::host(row));
            wire::bytes(1, &[wire::bytes(1, labels.as_bytes()), wire::bytes(2, &entry)].concat())
        };
        self.numbers().flat_map(stream).collect()
    }

    fn loki_json(self) -> Vec<u8> {
        let stream = |row: u64| json!({"stream": {"service": "shop", "host": Self::host(row)}, "values": [[Self::at_ns(row), self.message(row)]]});
        json!({"streams": self.numbers().map(stream).collect::<Vec<_>>()}).to_string().into_bytes()
    }

    fn resource(row: u64) -> Value {
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        json!({"attributes": [text("service.name", "shop"), text("host.name", &Self::host(row))]})
    }

    fn otlp_logs(self) -> Value {
        let of = |row: u64| {
            let record = json!({"timeUnixNano": Self::at_ns(row), "body": {"stringValue": self.message(row)}});
            json!({"resource": Self::resource(row), "scopeLogs": [{"logRecords": [record]}]})
        };
        json!({"resourceLogs": self.numbers().map(of).collect::<Vec<_>>()})
    }

    fn metrics_request(self) -> ExportMetricsServiceRequest {
        let point = |row: u64| {
            let text = |key: &str, value: String| json!({"key": key, "value": {"stringValue": value}});
            let attributes = [text("host", Self::host(row)), text("pad", self.padding(row))];
            json!({"attributes": attributes, "timeUnixNano": Self::at_ns(row), "asInt": row.to_string()})
        };
        let metric = json!({"name": "ledger", "gauge": {"dataPoints": self.numbers().map(point).collect::<Vec<_>>()}});
        serde_json::from_value(json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})).unwrap()
    }

    fn otlp_traces(self) -> Value {
        let span = |row: u64| {
            let attributes = json!([{"key": "pad", "value": {"stringValue": self.padding(row)}}]);
            json!({"traceId": format!("{:032x}", row + 1), "spanId": format!("{:016x}", row + 1), "name": "row", "attributes": attributes,
                "startTimeUnixNano": Self::at_ns(row), "endTimeUnixNano": ((START_MS + row) * 1_000_000 + row).to_string()})
        };
        json!({"resourceSpans": [{"scopeSpans": [{"spans": self.numbers().map(span).collect::<Vec<_>>()}]}]})
    }
}
