//! Writes what the targets begin with into the directory `HIGHWATER_FUZZ_CORPUS`: small requests of each kind, with something of everything in them. It is
//! built like a target, because code that is compiled for libFuzzer does not link without it.
#![no_main]

use std::path::Path;

use highwater_broker::{Header, StoredRecord};
use highwater_pipeline::data::{Decoded, Decoder, RowKind, content_type, ipc};
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

const LOGS: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeLogs":[{"scope":{"name":"lib","version":"1"},
"logRecords":[{"timeUnixNano":"1714979289123456789","observedTimeUnixNano":"1714979289123456790","severityNumber":17,"severityText":"ERROR","body":{"stringValue":"boom"},
"attributes":[{"key":"n","value":{"intValue":"5"}},{"key":"a","value":{"arrayValue":{"values":[{"doubleValue":1.5},{"boolValue":true}]}}},{"key":"m","value":{"kvlistValue":
{"values":[{"key":"k","value":{"bytesValue":"AAE="}}]}}}],"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","flags":1,"eventName":"e"}]}]}]}"#;
const METRICS: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},{"key":"service.instance.id","value":{"stringValue":"i"}}]},
"scopeMetrics":[{"scope":{"name":"lib"},"metrics":[{"name":"queue.size","unit":"By","description":"d","gauge":{"dataPoints":[{"asInt":"3","timeUnixNano":"1714979289123456789"}]}},
{"name":"requests","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asDouble":1.5,"startTimeUnixNano":"1714979289000000000","timeUnixNano":"1714979289123456789",
"attributes":[{"key":"code","value":{"intValue":"200"}}],"exemplars":[{"asDouble":1.0,"timeUnixNano":"1"}]}]}},{"name":"duration","unit":"s","histogram":{"aggregationTemporality":2,
"dataPoints":[{"count":"3","sum":1.5,"bucketCounts":["1","2"],"explicitBounds":[0.5],"min":0.1,"max":1,"timeUnixNano":"1714979289123456789"}]}},{"name":"native","exponentialHistogram":
{"aggregationTemporality":2,"dataPoints":[{"count":"3","sum":1.5,"scale":3,"zeroCount":"1","zeroThreshold":0.001,"positive":{"offset":-2,"bucketCounts":["1","0","1"]},
"negative":{"offset":1,"bucketCounts":[]},"timeUnixNano":"1714979289123456789"}]}},{"name":"old","summary":{"dataPoints":[{"count":"2","sum":3,"quantileValues":[{"quantile":0.5,"value":1}],
"timeUnixNano":"1714979289123456789"}]}}]}]}]}"#;
const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"spans":[{"traceId":
"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"b7ad6b7169203332","traceState":"a=b","name":"GET","kind":3,"startTimeUnixNano":"1714979289123456789",
"endTimeUnixNano":"1714979289123457789","attributes":[{"key":"n","value":{"intValue":"5"}}],"events":[{"timeUnixNano":"1714979289123456799","name":"e","attributes":[]}],"links":
[{"traceId":"0af7651916cd43dd8448eb211c80319d","spanId":"b7ad6b7169203333"}],"status":{"code":2,"message":"no"}}]}]}]}"#;
const LOKI: &str = r#"{"streams":[{"stream":{"app":"web","level":"warn"},"values":[["1714979289123456789","a line",{"trace_id":"0af7651916cd43dd8448eb211c80319c"}],["1714979289123456790","b"]]}]}"#;
const JSON_LOGS: &str = r#"[{"timestamp":"2024-05-06T07:08:09.123456Z","level":"ERROR","service":"shop","host":"h","message":"boom \u00e9","trace_id":"0af7651916cd43dd8448eb211c80319c","n":1.5e3,
"nested":{"a":[1,true,null]}},{"timestamp":1714979289,"message":"x"}]"#;
const JSON_METRICS: &str = r#"{"metrics":[{"timestamp":"2024-05-06T07:08:09Z","name":"requests_total","kind":"counter","value":1e3,"labels":{"job":"j","instance":"i","code":"200"}},
{"name":"nan","value":"NaN"}]}"#;
const TEXT: &str = "# HELP a_total What \\\\ it is.\n# TYPE a_total counter\na_total{code=\"200\",path=\"C:\\\\x\\n\\\"\"} 1.5e3 1395066363000\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_sum NaN\n\
                    h_count 3\n{\"utf.8\",\"l.l\"=\"v\"} -Inf\n";
const OPEN_METRICS: &str = "# TYPE a counter\n# UNIT a_seconds seconds\n# HELP a What it is.\na_total{code=\"200\"} 1.5 1395066363.123 # {trace_id=\"x\"} 0.67 1395066363.1\na_created 1395066363.0\n\
                            # TYPE s stateset\ns{s=\"on\"} 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n";

/// Fields of protobuf, one behind the other.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn number(mut self, field: u32, value: u64) -> Self {
        prost::encoding::uint64::encode(field, &value, &mut self.0);
        self
    }

    fn double(mut self, field: u32, value: f64) -> Self {
        prost::encoding::double::encode(field, &value, &mut self.0);
        self
    }

    fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        prost::encoding::bytes::encode(field, &value.as_ref().to_vec(), &mut self.0);
        self
    }

    fn message(self, field: u32, message: Fields) -> Self {
        self.bytes(field, message.0)
    }
}

fn new() -> Fields {
    Fields::default()
}

const AT: u64 = 1_714_979_289_123;

/// A native histogram, as remote write has it.
fn histogram() -> Fields {
    let spans = |field| new().message(field, new().number(1, 2).number(2, 2));
    let mut histogram = new().number(1, 6).double(3, 7.5).number(4, 1).double(5, 0.001).number(6, 1);
    histogram.0.extend(spans(11).0);
    histogram.bytes(12, [2, 1]).number(14, 1).number(15, AT)
}

fn remote_write() -> [Vec<u8>; 2] {
    let label = |name: &str, value: &str| new().bytes(1, name).bytes(2, value);
    let sample = || new().double(1, 1.5).number(2, AT);
    let exemplar = || new().message(1, label("trace_id", "x")).double(2, 1.0).number(3, AT);
    let series = new()
        .message(1, label("__name__", "requests_total"))
        .message(1, label("job", "j"))
        .message(2, sample())
        .message(2, sample())
        .message(3, exemplar())
        .message(4, histogram());
    let metadata = new().number(1, 1).bytes(2, "requests_total").bytes(4, "What it is.").bytes(5, "s");
    let v1 = new().message(1, series).message(3, metadata);
    let mut v2 = new();
    for symbol in ["", "__name__", "requests_total", "job", "j", "What it is.", "s"] {
        v2 = v2.bytes(4, symbol);
    }
    let series = new()
        .bytes(1, [1, 2, 3, 4])
        .message(2, sample())
        .message(3, histogram())
        .message(5, new().number(1, 1).number(3, 5).number(4, 6))
        .number(6, AT - 1_000);
    [v1.0, v2.message(5, series).0]
}

fn loki() -> Vec<u8> {
    let time = new().number(1, AT / 1_000).number(2, 123_456_789);
    let entry = new().message(1, time).bytes(2, "a line").message(3, new().bytes(1, "trace_id").bytes(2, "x"));
    new().message(1, new().bytes(1, r#"{app="web", level="a \"quoted\" one"}"#).message(2, entry)).0
}

/// A page of protobuf: messages with their sizes.
fn families() -> Vec<u8> {
    let label = new().bytes(1, "code").bytes(2, "200");
    let counter = new().message(1, label).message(3, new().double(1, 1.5)).number(6, AT);
    let buckets = new().number(1, 2).double(2, 0.5);
    let histogram = new()
        .number(1, 6)
        .double(2, 7.5)
        .message(3, buckets)
        .number(5, 1)
        .double(6, 0.001)
        .number(7, 1)
        .message(12, new().number(1, 2).number(2, 2))
        .bytes(13, [2, 1]);
    let mut page = Vec::new();
    for (name, kind, metric) in [("a_total", 0, counter), ("h", 4, new().message(7, histogram))] {
        let family = new().bytes(1, name).bytes(2, "What it is.").number(3, kind).message(4, metric).bytes(5, "s");
        prost::encoding::encode_varint(family.0.len() as u64, &mut page);
        page.extend(family.0);
    }
    page
}

/// Rows of JSON, as the Arrow stream that we write.
fn arrow(kind: RowKind, json: &str) -> Vec<u8> {
    let value = Some(bytes::Bytes::copy_from_slice(json.as_bytes()));
    let headers = vec![Header::new(content_type::HEADER, content_type::JSON.as_bytes())];
    let record = StoredRecord { offset: 0, timestamp_ms: 0, key: None, value, headers };
    match Decoder::new(kind).decode(0, &record) {
        Decoded::Rows { batch, .. } => ipc::encode(&batch).expect("rows can be written").to_vec(),
        other => panic!("{other:?}"),
    }
}

fn write_seeds() -> std::io::Result<()> {
    let corpus = std::env::var("HIGHWATER_FUZZ_CORPUS").expect("the corpus directory");
    let write = |target: &str, name: &str, first: Option<u8>, bytes: &[u8]| {
        let directory = Path::new(&corpus).join(target);
        std::fs::create_dir_all(&directory)?;
        let bytes: Vec<u8> = first.into_iter().chain(bytes.iter().copied()).collect();
        std::fs::write(directory.join(format!("seed-{name}")), bytes)
    };
    let [v1, v2] = remote_write();
    write("remote_write", "1", Some(0), &v1)?;
    write("remote_write", "2", Some(1), &v2)?;
    write("loki", "protobuf", Some(0), &loki())?;
    write("loki", "json", Some(1), LOKI.as_bytes())?;
    write("json", "logs", Some(0), JSON_LOGS.as_bytes())?;
    write("json", "metrics", Some(1), JSON_METRICS.as_bytes())?;
    write("json", "lines", Some(2), b"{\"message\":\"a\"}\n\n{\"message\":\"b\"}")?;
    for (name, page) in [("text", TEXT.as_bytes()), ("openmetrics", OPEN_METRICS.as_bytes()), ("protobuf", &families())]
    {
        write("expositions", name, None, page)?;
    }
    let logs = serde_json::from_str::<ExportLogsServiceRequest>(LOGS).expect("logs").encode_to_vec();
    let metrics = serde_json::from_str::<ExportMetricsServiceRequest>(METRICS).expect("metrics").encode_to_vec();
    let traces = serde_json::from_str::<ExportTraceServiceRequest>(TRACES).expect("traces").encode_to_vec();
    for (first, name, protobuf, json) in
        [(0, "logs", &logs, LOGS), (1, "metrics", &metrics, METRICS), (2, "traces", &traces, TRACES)]
    {
        write("otlp", &format!("{name}-protobuf"), Some(first), protobuf)?;
        write("otlp", &format!("{name}-json"), Some(first | 4), json.as_bytes())?;
        write("records", &format!("{name}-otlp"), Some(first | 5 << 2), protobuf)?;
    }
    for (first, name, kind, json) in [
        (0, "logs", RowKind::Logs, JSON_LOGS),
        (1, "metrics", RowKind::Metrics, &JSON_METRICS[11..JSON_METRICS.len() - 1]),
    ] {
        write("records", &format!("{name}-arrow"), Some(first), &arrow(kind, json))?;
        write("records", &format!("{name}-json"), Some(first | 1 << 2), json.as_bytes())?;
    }
    write("records", "text", Some(3 << 2), b"a line")?;
    write(
        "records",
        "clock",
        Some(4 << 2),
        br#"{"clock":{"base_offset":1,"event_time":"2024-05-06T07:08:09Z","idle":false}}"#,
    )?;
    // Nothing compresses here: what a compressor makes of `hello hello hello` is known.
    write(
        "encodings",
        "gzip",
        Some(0),
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9W\xc8@'\x00\xd1\xa8\xb2\x8f\x11\0\0\0",
    )?;
    write("encodings", "zlib", Some(1), b"x\x9c\xcbH\xcd\xc9\xc9W\xc8@'\x00:\xc2\x06\x5d")?;
    write("encodings", "zstd", Some(2), b"(\xb5/\xfd\x20\x11m\0\0@hello \x68\x65llo\x01\0\x1d\xc4\xc3")?;
    write("encodings", "lz4", Some(3), b"\x04\"M\x18@@\xc0\x11\0\0\x80hello hello hello\0\0\0\0")?;
    write("encodings", "snappy", Some(4), b"\x11\x14hello \x2a\x06\0")?;
    Ok(())
}

/// A target's program would begin to fuzz now.
fn write_and_leave() {
    write_seeds().expect("the corpus can be written");
    std::process::exit(0);
}

fuzz_target!(init: write_and_leave(), |_bytes: &[u8]| {});
