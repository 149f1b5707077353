#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use super::*;
use crate::data::json::Limits;
use crate::data::protobuf::{Fields, zigzag};

fn read_logs(bytes: &[u8], limits: &Limits) -> Result<OtlpRows<LogColumns>, OtlpError> {
    let mut rows = OtlpRows::default();
    super::read_logs(bytes, Encoding::Protobuf, limits, &mut rows).map(|()| rows)
}

fn read_metrics(bytes: &[u8], limits: &Limits) -> Result<OtlpRows<MetricColumns>, OtlpError> {
    let mut rows = OtlpRows::default();
    super::read_metrics(bytes, Encoding::Protobuf, limits, &mut rows).map(|()| rows)
}

fn read_spans(bytes: &[u8], encoding: Encoding) -> Result<OtlpRows<SpanColumns>, OtlpError> {
    let mut rows = OtlpRows::default();
    super::read_spans(bytes, encoding, &Limits::default(), &mut rows).map(|()| rows)
}

const NANOS: u64 = 1_714_979_289_123_456_789;
const MICROS: i64 = 1_714_979_289_123_456;

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn string(text: &str) -> AnyValue {
    any(Value::StringValue(text.to_owned()))
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn resource(attributes: &[(&str, &str)]) -> Option<Resource> {
    let attributes = attributes.iter().map(|(key, text)| attribute(key, string(text))).collect();
    Some(Resource { attributes, ..Resource::default() })
}

fn logs(resource: Option<Resource>, log_records: Vec<LogRecord>) -> Vec<u8> {
    let scope = InstrumentationScope { name: "lib".to_owned(), ..InstrumentationScope::default() };
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn metrics(resource: Option<Resource>, metrics: Vec<Metric>) -> Vec<u8> {
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

fn point(value: Number) -> NumberDataPoint {
    NumberDataPoint { time_unix_nano: NANOS, value: Some(value), ..NumberDataPoint::default() }
}

fn text<'b>(batch: &'b RecordBatch, column: &str, row: usize) -> Option<&'b str> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

#[test]
fn a_log_record_fills_its_columns() {
    let record = LogRecord {
        time_unix_nano: NANOS,
        observed_time_unix_nano: NANOS + 1_000_000_000,
        severity_number: 17,
        severity_text: "Error".to_owned(),
        body: Some(string("it broke")),
        trace_id: (1..=16).collect(),
        span_id: vec![0; 8],
        attributes: vec![
            attribute("user_id", string("u7")),
            attribute("http.status", any(Value::IntValue(500))),
            attribute("zone", string("own")),
            attribute(
                "list",
                any(Value::ArrayValue(ArrayValue { values: vec![string("a"), any(Value::DoubleValue(1.5))] })),
            ),
        ],
        ..LogRecord::default()
    };
    let bytes = logs(resource(&[("service.name", "shop"), ("host.name", "h1"), ("zone", "theirs")]), vec![record]);
    let mut rows = read_logs(&bytes, &Limits::default()).unwrap();
    assert_eq!((rows.indexes.as_slice(), rows.refused.len()), (&[0][..], 0));
    let batch = rows.columns.finish("acme").unwrap();
    assert_eq!(batch.schema(), crate::data::logs::wire_schema());
    for (column, expected) in [
        ("service", Some("shop")),
        ("host", Some("h1")),
        ("message", Some("it broke")),
        ("level", Some("ERROR")),
        ("severity_text", Some("Error")),
        ("trace_id", Some("0102030405060708090a0b0c0d0e0f10")),
        ("span_id", None),
        ("user_id", Some("u7")),
        ("request_id", None),
        ("tenant", Some("acme")),
    ] {
        assert_eq!(text(&batch, column, 0), expected, "{column}");
    }
    let times =
        |column: &str| batch.column_by_name(column).unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!((times("timestamp"), times("observed_timestamp")), (MICROS, MICROS + 1_000_000));
    assert_eq!(batch.column_by_name("severity_number").unwrap().as_primitive::<Int32Type>().value(0), 17);
    let attributes = batch.column_by_name("attributes").unwrap().as_map().value(0);
    let (keys, values) = (attributes.column(0).as_string::<i32>(), attributes.column(1).as_string::<i32>());
    let attributes: BTreeMap<_, _> = keys.iter().flatten().zip(values.iter().flatten()).collect();
    let expected = [("http.status", "500"), ("list", r#"["a",1.5]"#), ("otel.scope.name", "lib"), ("zone", "own")];
    assert_eq!(attributes, expected.into());
}

#[test]
fn an_event_is_its_name_and_a_record_that_says_nothing_is_refused_alone() {
    let event =
        LogRecord { event_name: "device.boot".to_owned(), observed_time_unix_nano: NANOS, ..LogRecord::default() };
    let long = LogRecord { body: Some(string(&"x".repeat((1 << 20) + 1))), ..LogRecord::default() };
    let bytes = logs(None, vec![LogRecord::default(), event, long]);
    let mut rows = read_logs(&bytes, &Limits::default()).unwrap();
    assert_eq!(rows.indexes, [0, 1]);
    let reasons: Vec<_> = rows.refused.iter().map(|r| (r.index, r.refusal.to_string())).collect();
    let too_long = "`body` has 1048577 bytes; the limit is 1048576".to_owned();
    assert_eq!(reasons, [(2, too_long)]);
    assert!(LogRecord::decode(&rows.refused[0].bytes[..]).unwrap().body.is_some());
    let batch = rows.columns.finish("t").unwrap();
    assert_eq!((text(&batch, "message", 0), text(&batch, "message", 1)), (None, Some("device.boot")));
    let times = batch.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(1), MICROS, "when it was seen, where it does not say when it was");
}

/// Name, labels, value, kind.
type Sample = (String, String, Option<f64>, String);

/// Every sample, in order, and what was refused.
fn samples(bytes: &[u8]) -> (Vec<Sample>, Vec<(i32, String)>) {
    let mut rows = read_metrics(bytes, &Limits::default()).unwrap();
    let refused = rows.refused.iter().map(|r| (r.index, r.refusal.to_string())).collect();
    let batch = rows.columns.finish("t").unwrap();
    assert_eq!(batch.num_rows(), rows.indexes.len());
    let values = batch.column_by_name("value").unwrap().as_primitive::<Float64Type>();
    let stale = batch.column_by_name("stale").unwrap().as_boolean();
    let sample = |row: usize| {
        let histogram = batch.column_by_name("histogram").unwrap();
        assert_eq!(stale.value(row), values.is_null(row) && histogram.is_null(row));
        (
            text(&batch, "name", row).unwrap().to_owned(),
            text(&batch, "labels", row).unwrap().to_owned(),
            values.is_valid(row).then(|| values.value(row)),
            text(&batch, "kind", row).unwrap_or("-").to_owned(),
        )
    };
    ((0..batch.num_rows()).map(sample).collect(), refused)
}

fn sample(name: &str, labels: &str, value: f64, kind: &str) -> Sample {
    (name.to_owned(), labels.to_owned(), Some(value), kind.to_owned())
}

#[test]
fn sums_and_gauges_are_named_and_labelled_as_prometheus_does() {
    let mut counted = point(Number::AsInt(7));
    counted.attributes = vec![attribute("http.method", string("GET")), attribute("empty", string(""))];
    let mut stale = point(Number::AsDouble(3.0));
    stale.flags = 1;
    let sum = Sum { data_points: vec![counted], aggregation_temporality: 2, is_monotonic: true };
    let updown = Sum { data_points: vec![point(Number::AsInt(-2))], aggregation_temporality: 1, is_monotonic: false };
    let bytes = metrics(
        resource(&[
            ("service.name", "shop"),
            ("service.namespace", "eu"),
            ("service.instance.id", "i1"),
            ("k8s.pod", "p1"),
        ]),
        vec![
            metric("http.requests", "{request}", Data::Sum(sum)),
            metric("queue.size", "By", Data::Sum(updown)),
            metric("load", "1", Data::Gauge(Gauge { data_points: vec![stale] })),
        ],
    );
    let (found, refused) = samples(&bytes);
    assert_eq!(refused, []);
    let target = r#""instance":"i1","job":"eu/shop""#;
    assert_eq!(
        found,
        [
            sample("http_requests_total", &format!(r#"{{"http_method":"GET",{target}}}"#), 7.0, "counter"),
            sample("queue_size_bytes", &format!("{{{target}}}"), -2.0, "gauge"),
            ("load_ratio".to_owned(), format!("{{{target}}}"), None, "gauge".to_owned()),
            sample("target_info", &format!(r#"{{{target},"k8s_pod":"p1"}}"#), 1.0, "gauge"),
        ]
    );
    let mut rows = read_metrics(&bytes, &Limits::default()).unwrap();
    assert_eq!(rows.indexes, [0, 1, 2, 2]);
    let batch = rows.columns.finish("t").unwrap();
    assert_eq!(text(&batch, "temporality", 0), Some("cumulative"));
    assert_eq!(text(&batch, "temporality", 1), Some("delta"));
    assert_eq!((text(&batch, "service", 0), text(&batch, "job", 0)), (Some("shop"), Some("eu/shop")));
}

#[test]
fn histograms_and_summaries_are_their_series() {
    let histogram = HistogramDataPoint {
        time_unix_nano: NANOS,
        count: 6,
        sum: Some(12.5),
        explicit_bounds: vec![0.5, 1.0],
        bucket_counts: vec![1, 2, 3],
        ..HistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        time_unix_nano: NANOS,
        count: 4,
        sum: 8.0,
        quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 3.5 }],
        ..SummaryDataPoint::default()
    };
    let bytes = metrics(
        None,
        vec![
            metric(
                "latency",
                "s",
                Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 }),
            ),
            metric("size", "", Data::Summary(Summary { data_points: vec![summary] })),
        ],
    );
    let (found, refused) = samples(&bytes);
    assert_eq!(refused, []);
    assert_eq!(
        found,
        [
            sample("latency_seconds_bucket", r#"{"le":"0.5"}"#, 1.0, "histogram"),
            sample("latency_seconds_bucket", r#"{"le":"1"}"#, 3.0, "histogram"),
            sample("latency_seconds_bucket", r#"{"le":"+Inf"}"#, 6.0, "histogram"),
            sample("latency_seconds_sum", "{}", 12.5, "histogram"),
            sample("latency_seconds_count", "{}", 6.0, "histogram"),
            sample("size", r#"{"quantile":"0.99"}"#, 3.5, "summary"),
            sample("size_sum", "{}", 8.0, "summary"),
            sample("size_count", "{}", 4.0, "summary"),
        ]
    );
}

#[test]
fn what_contradicts_itself_is_refused_by_its_point_and_the_rest_goes_on() {
    let broken =
        HistogramDataPoint { bucket_counts: vec![1, 2], explicit_bounds: vec![], ..HistogramDataPoint::default() };
    let exponential = ExponentialHistogram {
        data_points: vec![
            ExponentialHistogramDataPoint { scale: -5, ..ExponentialHistogramDataPoint::default() },
            ExponentialHistogramDataPoint { count: 1, ..ExponentialHistogramDataPoint::default() },
        ],
        aggregation_temporality: 2,
    };
    let bytes = metrics(
        None,
        vec![
            metric("a", "", Data::ExponentialHistogram(exponential)),
            metric("b", "", Data::Histogram(Histogram { data_points: vec![broken], aggregation_temporality: 2 })),
            metric("c", "", Data::Gauge(Gauge { data_points: vec![point(Number::AsDouble(1.0))] })),
        ],
    );
    let (found, refused) = samples(&bytes);
    assert_eq!(found, [sample("c", "{}", 1.0, "gauge")]);
    let reasons: Vec<_> = refused.iter().map(|(index, reason)| (*index, reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (0, "a native histogram with a scale below -4, which no native histogram has"),
            (1, "a native histogram with buckets whose counts do not add up to its count"),
            (2, "`bucket_counts` is \"2 counts for 0 bounds\", which is not one count more than bounds"),
        ]
    );
}

#[test]
fn hostile_bytes_are_refused_before_they_cost_memory() {
    // A million and more log records of two bytes each.
    let records = [0x12u8, 0x00].repeat(1 << 20);
    let wrap = |tag: u8, body: &[u8]| {
        let mut message = vec![tag];
        prost::encoding::encode_varint(body.len() as u64, &mut message);
        message.extend_from_slice(body);
        message
    };
    let bomb = wrap(0x0a, &wrap(0x12, &records));
    assert_eq!(read_logs(&bomb, &Limits::default()).unwrap_err(), OtlpError::TooManyParts { limit: 1 << 20 });
    let good = logs(None, vec![LogRecord { body: Some(string("m")), ..LogRecord::default() }]);
    for cut in 1..good.len() {
        let error = read_logs(&good[..cut], &Limits::default()).unwrap_err().to_string();
        assert!(error.starts_with("not an OTLP logs request: "), "{error}");
    }
    assert!(read_logs(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &Limits::default()).is_err());
    assert_eq!(read_logs(b"", &Limits::default()).unwrap().indexes, [0; 0]);
}

/// Spans and counts of one side of a native histogram, its schema, and whether it is a gauge.
fn native(bytes: &[u8], spans_field: u32, deltas_field: u32) -> (i64, Vec<(i64, u64)>, Vec<i64>) {
    let (mut schema, mut spans, mut counts, mut count) = (0, Vec::new(), Vec::new(), 0);
    for field in Fields::of(bytes) {
        let field = field.unwrap();
        match field.number {
            4 => schema = zigzag(field.varint().unwrap()),
            number if number == spans_field => {
                let fields: Vec<_> = Fields::of(field.bytes().unwrap()).map(Result::unwrap).collect();
                spans.push((zigzag(fields[0].varint().unwrap()), fields[1].varint().unwrap()));
            }
            number if number == deltas_field => field
                .each_varint(|delta| {
                    count += zigzag(delta);
                    counts.push(count);
                })
                .unwrap(),
            _ => {}
        }
    }
    (schema, spans, counts)
}

#[test]
fn exponential_histograms_are_native_ones() {
    let buckets = |offset, bucket_counts: &[u64]| Some(Buckets { offset, bucket_counts: bucket_counts.to_vec() });
    let point = |scale, negative, positive, count| ExponentialHistogramDataPoint {
        time_unix_nano: NANOS,
        start_time_unix_nano: NANOS - 5_000_000_000,
        scale,
        negative,
        positive,
        count,
        zero_count: 2,
        sum: Some(1.5),
        ..ExponentialHistogramDataPoint::default()
    };
    let histogram = ExponentialHistogram {
        data_points: vec![
            // Two buckets, a gap that is written, one that is not.
            point(3, buckets(-2, &[1]), buckets(4, &[0, 1, 2, 0, 0, 3, 0, 0, 0, 4, 0]), 13),
            // Two steps finer than there are: four buckets become one.
            point(10, None, buckets(-3, &[1, 1, 1, 5, 6, 7, 8, 9]), 40),
        ],
        aggregation_temporality: 2,
    };
    let bytes = metrics(None, vec![metric("latency", "s", Data::ExponentialHistogram(histogram))]);
    let mut rows = read_metrics(&bytes, &Limits::default()).unwrap();
    assert_eq!(rows.refused, []);
    let batch = rows.columns.finish("t").unwrap();
    let column = batch.column_by_name("histogram").unwrap().as_binary::<i32>();
    assert_eq!(native(column.value(0), 11, 12), (3, vec![(6, 5), (3, 1)], vec![1, 2, 0, 0, 3, 4]));
    assert_eq!(native(column.value(0), 8, 9), (3, vec![(-1, 1)], vec![1]));
    // -3, -2, -1 | 0, 1, 2, 3 | 4: the buckets above 2^(-1), 1 and 2 at scale 8.
    assert_eq!(native(column.value(1), 11, 12), (8, vec![(0, 3)], vec![3, 26, 9]));
    let times = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!((times("timestamp"), times("start_timestamp")), (MICROS, MICROS - 5_000_000));
    assert_eq!((text(&batch, "name", 0), text(&batch, "kind", 0)), (Some("latency_seconds"), Some("histogram")));
}

#[test]
fn a_scope_is_in_its_labels() {
    let scope = InstrumentationScope {
        name: "lib".to_owned(),
        version: "1.2".to_owned(),
        attributes: vec![attribute("a.b", string("c"))],
        ..InstrumentationScope::default()
    };
    let gauge = metric("load", "", Data::Gauge(Gauge { data_points: vec![point(Number::AsInt(1))] }));
    let scope_metrics =
        vec![ScopeMetrics { scope: Some(scope), metrics: vec![gauge], schema_url: "https://x/1".to_owned() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let bytes = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    let labels = r#"{"otel_scope_a_b":"c","otel_scope_name":"lib","otel_scope_schema_url":"https://x/1","otel_scope_version":"1.2"}"#;
    assert_eq!(samples(&bytes).0, [sample("load", labels, 1.0, "gauge")]);
}

fn span() -> Span {
    Span {
        trace_id: (1..=16).collect(),
        span_id: (1..=8).collect(),
        parent_span_id: vec![9; 8],
        trace_state: "a=b".to_owned(),
        name: "GET /".to_owned(),
        kind: 2,
        start_time_unix_nano: NANOS,
        end_time_unix_nano: NANOS + 1_500_001,
        attributes: vec![attribute("http.status", any(Value::IntValue(500)))],
        events: vec![Event {
            time_unix_nano: NANOS,
            name: "oops".to_owned(),
            attributes: vec![attribute("k", string("v"))],
            ..Event::default()
        }],
        links: vec![Link { trace_id: vec![1; 16], span_id: vec![2; 8], ..Link::default() }],
        dropped_links_count: 3,
        status: Some(Status { message: "bad".to_owned(), code: 2 }),
        ..Span::default()
    }
}

fn traces(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource = resource(&[("service.name", "shop"), ("host.name", "h1"), ("zone", "eu")]);
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

#[test]
fn a_span_fills_its_columns_in_protobuf_and_in_json() {
    let request = traces(vec![span(), Span { trace_id: vec![0; 16], ..span() }, Span { span_id: vec![1], ..span() }]);
    let json = serde_json::to_string(&request).unwrap();
    for (bytes, encoding) in [(request.encode_to_vec(), Encoding::Protobuf), (json.into_bytes(), Encoding::Json)] {
        let mut rows = read_spans(&bytes, encoding).unwrap();
        assert_eq!(rows.indexes, [0]);
        let reasons: Vec<_> = rows.refused.iter().map(|refused| refused.refusal.to_string()).collect();
        let expected = [
            "`trace_id` is \"00000000000000000000000000000000\", which is not 16 bytes, not all of them zero",
            "`span_id` is \"01\", which is not 8 bytes, not all of them zero",
        ];
        assert_eq!(reasons, expected);
        assert_eq!(Span::decode(&rows.refused[1].bytes[..]).unwrap(), Span { span_id: vec![1], ..span() });
        let batch = rows.columns.finish("acme").unwrap();
        assert_eq!(batch.schema(), crate::data::spans::wire_schema());
        for (column, expected) in [
            ("trace_id", Some("0102030405060708090a0b0c0d0e0f10")),
            ("span_id", Some("0102030405060708")),
            ("parent_span_id", Some("0909090909090909")),
            ("trace_state", Some("a=b")),
            ("name", Some("GET /")),
            ("kind", Some("SERVER")),
            ("status", Some("ERROR")),
            ("status_message", Some("bad")),
            ("service", Some("shop")),
            ("host", Some("h1")),
            ("events", Some(r#"[{"attributes":{"k":"v"},"name":"oops","timestamp":"2024-05-06T07:08:09.123456Z"}]"#)),
            (
                "links",
                Some(r#"[{"span_id":"0202020202020202","trace_id":"01010101010101010101010101010101"},{"dropped":3}]"#),
            ),
            ("tenant", Some("acme")),
        ] {
            assert_eq!(text(&batch, column, 0), expected, "{column}");
        }
        let times =
            |column: &str| batch.column_by_name(column).unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!((times("timestamp"), times("end_timestamp")), (MICROS, MICROS + 1_500));
        let duration = batch.column_by_name("duration_ns").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
        assert_eq!(duration.value(0), 1_500_001);
    }
}

#[test]
fn json_is_bounded_as_protobuf_is() {
    let many = format!(r#"{{"resourceSpans":[{}{{}}]}}"#, "{},".repeat(1 << 20));
    assert_eq!(read_spans(many.as_bytes(), Encoding::Json).unwrap_err(), OtlpError::TooManyParts { limit: 1 << 20 });
    let deep = format!("{{\"resourceSpans\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(read_spans(deep.as_bytes(), Encoding::Json).is_err());
    // Deep protobuf: values in lists in values, far below any stack.
    let mut value = string("x");
    for _ in 0..500 {
        value = any(Value::ArrayValue(ArrayValue { values: vec![value] }));
    }
    let record = LogRecord { body: Some(value), ..LogRecord::default() };
    let error = read_logs(&logs(None, vec![record]), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
    // Attributes by the thousand, shared by thousands of records.
    let shared: Vec<_> = (0..2_000).map(|i| attribute(&format!("k{i}"), string("v"))).collect();
    let resource = Some(Resource { attributes: shared, ..Resource::default() });
    let rows = read_logs(&logs(resource, vec![LogRecord::default(); 1_000]), &Limits::default()).unwrap();
    assert_eq!((rows.indexes.len(), rows.refused.len()), (0, 1_000));
    assert_eq!(rows.refused[0].refusal.to_string(), "more than 256 attributes");
}
