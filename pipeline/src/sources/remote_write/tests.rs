#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use reqwest::{Client, Response, StatusCode};

use super::*;
use crate::data::RowKind;
use crate::data::histogram::{self, STALE_NAN, When};
use crate::data::protobuf::{put_bytes, put_double, put_varint, to_zigzag, write_varint};
use crate::data::{labels, metric_metadata};
use crate::sources::IngestConfig;
use crate::sources::testing::World;

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const T: i64 = 1_714_979_289_123;

/// The door on a real socket.
struct Server {
    world: World,
    address: std::net::SocketAddr,
    client: Client,
}

impl Server {
    async fn new() -> Self {
        Self::with(IngestConfig::default()).await
    }

    async fn with(config: IngestConfig) -> Self {
        let world = World::with(config).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Arc::clone(&world.ingest));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { world, address, client: Client::new() }
    }

    async fn send(&self, content_type: &str, encoding: &str, body: Vec<u8>) -> Response {
        let mut request = self.client.post(format!("http://{}/api/v1/write", self.address)).body(body);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        if !encoding.is_empty() {
            request = request.header("content-encoding", encoding);
        }
        request.send().await.unwrap()
    }

    async fn write(&self, content_type: &str, message: &[u8]) -> (StatusCode, String) {
        let answer = self.send(content_type, "snappy", snappy(message)).await;
        (answer.status(), answer.text().await.unwrap())
    }

    async fn rows(&self) -> RecordBatch {
        let rows = self.world.rows("metrics", RowKind::Metrics).await;
        arrow::compute::concat_batches(&crate::data::metrics::schema(), &rows).unwrap()
    }
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

fn message(fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    fields(&mut bytes);
    bytes
}

fn label(name: &str, value: &str) -> Vec<u8> {
    message(|m| {
        put_bytes(1, name.as_bytes(), m);
        put_bytes(2, value.as_bytes(), m);
    })
}

fn sample(value: f64, at_ms: i64) -> Vec<u8> {
    message(|m| {
        put_double(1, value, m);
        put_varint(2, at_ms.cast_unsigned(), m);
    })
}

/// A series of 1.0, and a request of it.
fn series_v1(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Vec<u8> {
    message(|m| {
        labels.iter().for_each(|(name, value)| put_bytes(1, &label(name, value), m));
        samples.iter().for_each(|&(value, at)| put_bytes(2, &sample(value, at), m));
    })
}

fn request_v1(series: &[Vec<u8>]) -> Vec<u8> {
    message(|m| series.iter().for_each(|series| put_bytes(1, series, m)))
}

fn text<'b>(batch: &'b RecordBatch, column: &str, row: usize) -> Option<&'b str> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

fn values(batch: &RecordBatch) -> Vec<Option<f64>> {
    batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().iter().collect()
}

fn instants(batch: &RecordBatch, column: &str) -> Vec<Option<i64>> {
    batch.column_by_name(column).unwrap().as_primitive::<TimestampMicrosecondType>().iter().collect()
}

fn packed(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    message(|m| numbers.into_iter().for_each(|number| write_varint(number, m)))
}

/// Counts 2, 3 in buckets 1, 2 and 1 in the zero bucket.
fn histogram(count: u64, sum: f64) -> Vec<u8> {
    message(|m| {
        put_varint(1, count, m);
        put_double(3, sum, m);
        put_varint(4, to_zigzag(-2), m);
        put_double(5, 0.001, m);
        put_varint(6, 1, m);
        put_bytes(
            11,
            &message(|m| {
                put_varint(1, to_zigzag(1), m);
                put_varint(2, 2, m);
            }),
            m,
        );
        put_bytes(12, &packed([to_zigzag(2), to_zigzag(1)]), m);
        put_varint(15, T.cast_unsigned(), m);
    })
}

#[tokio::test]
async fn samples_are_rows_whatever_their_order() {
    let server = Server::new().await;
    let request = request_v1(&[
        series_v1(
            &[
                ("__name__", "http_requests_total"),
                ("code", "200"),
                ("instance", "a:1"),
                ("job", "web"),
                ("service", "sh\"op"),
            ],
            &[(2.0, T), (1.0, T - 60_000), (f64::from_bits(STALE_NAN), T + 1), (f64::NAN, T + 2)],
        ),
        // Not sorted, an empty value, a name behind others.
        series_v1(&[("Zone", "eu"), ("b", ""), ("a", "1"), ("__name__", "up")], &[(f64::INFINITY, T)]),
        series_v1(&[("__name__", "alone")], &[(-0.0, T)]),
        series_v1(&[("__name__", "nothing")], &[]),
    ]);
    assert_eq!(server.write(V1, &request).await, (StatusCode::NO_CONTENT, String::new()));
    let rows = server.rows().await;
    assert_eq!(rows.num_rows(), 6);
    let of = |name: &str| -> Vec<usize> { (0..6).filter(|&row| text(&rows, "name", row) == Some(name)).collect() };
    let requests = of("http_requests_total");
    let labels = r#"{"code":"200","instance":"a:1","job":"web","service":"sh\"op"}"#;
    for &row in &requests {
        assert_eq!(text(&rows, "labels", row), Some(labels));
        assert_eq!(text(&rows, "job", row), Some("web"));
        assert_eq!(text(&rows, "instance", row), Some("a:1"));
        assert_eq!(text(&rows, "service", row), Some("sh\"op"));
        assert_eq!((text(&rows, "kind", row), text(&rows, "temporality", row)), (None, None));
    }
    let at = |row: usize| instants(&rows, "timestamp")[row].unwrap();
    assert_eq!(requests.iter().map(|&row| at(row) - T * 1_000).collect::<Vec<_>>(), [0, -60_000_000, 1_000, 2_000]);
    let stale = rows.column_by_name("stale").unwrap().as_boolean();
    assert_eq!(requests.iter().map(|&row| stale.value(row)).collect::<Vec<_>>(), [false, false, true, false]);
    assert_eq!((values(&rows)[requests[0]], values(&rows)[requests[1]]), (Some(2.0), Some(1.0)));
    assert_eq!(values(&rows)[requests[2]], None);
    assert!(values(&rows)[requests[3]].unwrap().is_nan());
    let up = of("up")[0];
    assert_eq!(text(&rows, "labels", up), Some(r#"{"Zone":"eu","a":"1"}"#));
    assert_eq!(values(&rows)[up], Some(f64::INFINITY));
    let id = rows.column_by_name("series_id").unwrap().as_primitive::<arrow::datatypes::Int64Type>().value(up);
    assert_eq!(id, labels::series_id(r#"{"Zone":"eu","__name__":"up","a":"1"}"#));
    assert_eq!(text(&rows, "labels", of("alone")[0]), Some("{}"));
    assert!(values(&rows)[of("alone")[0]].unwrap().is_sign_negative());
    // Where JSON puts a series, remote write puts it, too.
    let partitions = rows.column_by_name("_partition").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
    let key = format!("default\0{}", r#"{"Zone":"eu","__name__":"up","a":"1"}"#);
    assert_eq!(partitions.value(up), crate::data::partitioner::partition(key.as_bytes(), 4));
}

#[tokio::test]
async fn what_is_bad_is_named_and_the_rest_is_stored() {
    let server = Server::new().await;
    let request = request_v1(&[
        series_v1(&[("job", "a")], &[(1.0, T), (2.0, T)]),
        series_v1(&[("__name__", "good")], &[(1.0, T)]),
        series_v1(&[("__name__", "twice"), ("a", "1"), ("a", "2")], &[(1.0, T)]),
        series_v1(&[("__name__", "when")], &[(1.0, i64::MAX), (2.0, T)]),
        message(|m| {
            put_bytes(
                1,
                &message(|m| {
                    put_bytes(1, b"__name__", m);
                    put_bytes(2, b"bad\xff", m);
                }),
                m,
            );
            put_bytes(2, &sample(1.0, T), m);
        }),
        series_v1(&[("__name__", "nameless"), ("", "x")], &[(1.0, T)]),
    ]);
    let (status, said) = server.write(V1, &request).await;
    let expected = [
        "6 of 8 samples are refused for good, the others are stored",
        "series 0: `__name__` is missing",
        "series 2: label `a` is there twice",
        "series 3: `timestamp` is \"9223372036854775807\", which is not a time (RFC 3339, or a Unix number in s, ms, µs or ns) in the years 1 to 9999",
        "series 4: `labels` is not UTF-8",
        "series 5: `label name` is empty",
    ];
    assert_eq!((status, said.lines().collect::<Vec<_>>()), (StatusCode::BAD_REQUEST, expected.to_vec()));
    assert_eq!(server.world.texts("metrics", RowKind::Metrics, "name").await, ["good", "when"]);
    let report = server.world.ingest.doors().report();
    let door = report.iter().find(|door| door.source == "remote_write").unwrap();
    assert_eq!((door.received, door.acknowledged, door.rejected.values().sum::<u64>()), (8, 2, 6));
}

/// A request of 2.0 about one series, with these symbols and fields.
fn request_v2(symbols: &[&str], series: &[Vec<u8>]) -> Vec<u8> {
    message(|m| {
        // Series may come before the texts they refer to.
        series.iter().for_each(|series| put_bytes(5, series, m));
        symbols.iter().for_each(|symbol| put_bytes(4, symbol.as_bytes(), m));
    })
}

fn written(answer: &Response) -> [String; 3] {
    ["samples", "histograms", "exemplars"].map(|what| {
        let header = answer.headers().get(format!("x-prometheus-remote-write-{what}-written"));
        header.map_or("none", |value| value.to_str().unwrap()).to_owned()
    })
}

#[tokio::test]
async fn version_two_refers_to_its_texts() {
    let server = Server::new().await;
    let symbols =
        ["", "__name__", "latency_seconds", "job", "web", "How long.", "seconds", "latency_seconds_bucket", "le", "1"];
    let metadata = |kind: u64| {
        message(|m| {
            put_varint(1, kind, m);
            put_varint(3, 5, m);
            put_varint(4, 6, m);
        })
    };
    let native = message(|m| {
        put_bytes(1, &packed([1, 2, 3, 4]), m);
        put_bytes(3, &histogram(6, 3.5), m);
        put_bytes(4, &message(|m| put_double(2, 1.0, m)), m);
        put_bytes(5, &metadata(3), m);
    });
    let classic = message(|m| {
        // Not packed.
        [1, 7, 8, 9].into_iter().for_each(|reference| put_varint(1, reference, m));
        put_bytes(
            2,
            &message(|m| {
                put_double(1, 5.0, m);
                put_varint(2, T.cast_unsigned(), m);
                put_varint(3, (T - 5_000).cast_unsigned(), m);
            }),
            m,
        );
        put_bytes(2, &sample(6.0, T + 1), m);
        put_bytes(5, &metadata(3), m);
        put_varint(6, (T - 9_000).cast_unsigned(), m);
    });
    let body = snappy(&request_v2(&symbols, &[native, classic]));
    let answer = server.send(V2, "snappy", body.clone()).await;
    assert_eq!((answer.status(), written(&answer)), (StatusCode::NO_CONTENT, ["2".into(), "1".into(), "0".into()]));
    let rows = server.rows().await;
    assert_eq!(rows.num_rows(), 3);
    let native = (0..3).find(|&row| text(&rows, "name", row) == Some("latency_seconds")).unwrap();
    assert_eq!(text(&rows, "labels", native), Some(r#"{"job":"web"}"#));
    assert_eq!(text(&rows, "kind", native), Some("histogram"));
    assert_eq!(values(&rows)[native], None);
    let bytes = rows.column_by_name("histogram").unwrap().as_binary::<i32>();
    assert_eq!(bytes.value(native), histogram(6, 3.5));
    let mut starts = instants(&rows, "start_timestamp");
    starts.sort();
    assert_eq!(starts, [None, Some((T - 9_000) * 1_000), Some((T - 5_000) * 1_000)]);
    // One family, described once however often it is sent.
    server.send(V2, "snappy", body).await;
    let kind = RowKind::Arrow(metric_metadata::schema());
    let mut described = Vec::new();
    for column in ["name", "type", "help", "unit", "tenant"] {
        described.push(metadata_texts(&server, kind.clone(), column).await);
    }
    assert_eq!(described, [["latency_seconds"], ["histogram"], ["How long."], ["seconds"], ["default"]]);
    let report = server.world.ingest.doors().report();
    let door = report.iter().find(|door| door.signal == "metrics").unwrap();
    assert_eq!((door.received, door.acknowledged, door.rejected["exemplar"]), (8, 6, 2));
}

async fn metadata_texts(server: &Server, kind: RowKind, column: &str) -> Vec<String> {
    let log = &server.world.log;
    use crate::log::Log;
    let fetched = log.read(metric_metadata::TOPIC, 0, 0, 64 << 20, std::time::Duration::ZERO).await.unwrap();
    let decoder = crate::data::Decoder::new(kind);
    let mut texts = Vec::new();
    for record in fetched.records {
        let crate::data::Decoded::Rows { batch, .. } = decoder.decode(0, &record) else { panic!() };
        texts.extend((0..batch.num_rows()).map(|row| text(&batch, column, row).unwrap_or("NULL").to_owned()));
    }
    texts
}

#[tokio::test]
async fn version_two_says_what_was_written_in_errors_too() {
    let server = Server::new().await;
    let symbols = ["", "__name__", "up", "a"];
    let series = |references: &[u64], samples: &[(f64, i64)]| {
        message(|m| {
            put_bytes(1, &packed(references.iter().copied()), m);
            samples.iter().for_each(|&(value, at)| put_bytes(2, &sample(value, at), m));
        })
    };
    let request = request_v2(
        &symbols,
        &[
            series(&[1, 2], &[(1.0, T)]),
            series(&[1, 9], &[(1.0, T)]),
            series(&[1, 2, 3], &[(1.0, T)]),
            series(&[1, 3], &[]),
        ],
    );
    let answer = server.send(V2, "snappy", snappy(&request)).await;
    assert_eq!((answer.status(), written(&answer)), (StatusCode::BAD_REQUEST, ["1".into(), "0".into(), "0".into()]));
    let said = answer.text().await.unwrap();
    assert!(said.contains("series 1: `labels_refs` is \"9\", which is not an index of a symbol"), "{said}");
    assert!(said.contains("series 2: `labels_refs` is \"an odd number"), "{said}");
    assert!(said.contains("series 3: `samples or histograms` is missing"), "{said}");
    let answer = server.send(V2, "snappy", b"\xff\xff".to_vec()).await;
    assert_eq!((answer.status(), written(&answer)), (StatusCode::BAD_REQUEST, ["0", "0", "0"].map(str::to_owned)));
    // As Prometheus sends exemplars: in a series of their own.
    let alone = message(|m| {
        put_bytes(1, &packed([1, 2]), m);
        put_bytes(4, &message(|m| put_double(2, 1.0, m)), m);
    });
    let answer = server.send(V2, "snappy", snappy(&request_v2(&symbols, &[series(&[1, 2], &[(2.0, T)]), alone]))).await;
    assert_eq!((answer.status(), written(&answer)), (StatusCode::NO_CONTENT, ["1", "0", "0"].map(str::to_owned)));
}

#[tokio::test]
async fn metadata_of_version_one_is_kept() {
    let server = Server::new().await;
    let metadata = |name: &str, help: &str| {
        message(|m| {
            put_varint(1, 1, m);
            put_bytes(2, name.as_bytes(), m);
            put_bytes(4, help.as_bytes(), m);
        })
    };
    let request = |entries: &[Vec<u8>]| message(|m| entries.iter().for_each(|entry| put_bytes(3, entry, m)));
    let first = request(&[metadata("a_total", "As."), metadata("b_total", "")]);
    assert_eq!(server.write(V1, &first).await.0, StatusCode::NO_CONTENT);
    let second = request(&[metadata("a_total", "As, anew."), metadata("b_total", "")]);
    assert_eq!(server.write(V1, &second).await.0, StatusCode::NO_CONTENT);
    let kind = RowKind::Arrow(metric_metadata::schema());
    assert_eq!(metadata_texts(&server, kind.clone(), "name").await, ["a_total", "b_total", "a_total"]);
    assert_eq!(metadata_texts(&server, kind.clone(), "help").await, ["As.", "NULL", "As, anew."]);
    assert_eq!(metadata_texts(&server, kind, "type").await, ["counter"; 3]);
    assert_eq!(server.rows().await.num_rows(), 0);
}

#[tokio::test]
async fn other_content_is_told_what_is_wanted() {
    let server = Server::new().await;
    let body = snappy(&request_v1(&[series_v1(&[("__name__", "up")], &[(1.0, T)])]));
    for (content_type, encoding, expected) in [
        ("", "", 204),
        ("application/x-protobuf; proto=prometheus.WriteRequest", "Snappy", 204),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", 415),
        ("application/x-protobuf;proto", "snappy", 415),
        ("application/json", "snappy", 415),
        ("text/plain", "snappy", 415),
        (V1, "gzip", 415),
        (V1, "zstd", 415),
    ] {
        let answer = server.send(content_type, encoding, body.clone()).await;
        assert_eq!(answer.status().as_u16(), expected, "{content_type:?} {encoding:?}");
    }
    let get = server.client.get(format!("http://{}/api/v1/write", server.address)).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    for (body, expected) in [
        (Vec::new(), "the body does not decompress as snappy"),
        (b"hello".to_vec(), "the body does not decompress as snappy"),
        (snappy(b"\x0a\xff\xff\xff\xff\x0f"), "not a readable prometheus.WriteRequest: a field is cut short"),
        (snappy(&[0x0b]), "not a readable prometheus.WriteRequest: field number or wire type of a tag is invalid"),
    ] {
        let answer = server.send(V1, "snappy", body).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let said = answer.text().await.unwrap();
        assert!(said.starts_with(expected), "{said}");
    }
    assert_eq!(server.rows().await.num_rows(), 2);
}

#[tokio::test]
async fn a_sender_is_told_when_to_come_again() {
    let server = Server::new().await;
    server.world.fs.fail_next_write("topics/metrics/", 10, ErrorKind::StorageFull);
    let body = snappy(&request_v1(&[series_v1(&[("__name__", "up")], &[(1.0, T)])]));
    let answer = server.send(V1, "snappy", body.clone()).await;
    assert!(answer.status().is_server_error(), "{answer:?}");
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(server.send(V1, "snappy", body).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn nothing_grows_without_bounds() {
    let config =
        IngestConfig { max_body_size_bytes: 1 << 20, max_in_flight_size_bytes: 8 << 20, ..IngestConfig::default() };
    let server = Server::with(config).await;
    // Announces 4 GiB.
    let answer = server.send(V1, "snappy", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // A bomb.
    let answer = server.send(V1, "snappy", snappy(&vec![0; 2 << 20])).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // One long label, once on the wire and in 60,000 rows.
    let long = "x".repeat(200_000);
    let samples: Vec<_> = (0..60_000).map(|i| (1.0, T + i)).collect();
    let (status, said) =
        server.write(V1, &request_v1(&[series_v1(&[("__name__", "up"), ("l", &long)], &samples)])).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{said}");
    assert!(said.contains("send less at a time"), "{said}");
    let many: Vec<(String, String)> = (0..300).map(|i| (format!("l{i:03}"), "v".to_owned())).collect();
    let mut labels: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    labels.insert(0, ("__name__", "up"));
    let (status, said) = server.write(V1, &request_v1(&[series_v1(&labels, &[(1.0, T)])])).await;
    assert_eq!((status, said.contains("more than 256 labels")), (StatusCode::BAD_REQUEST, true), "{said}");
    assert_eq!(server.rows().await.num_rows(), 0);
    assert_eq!(server.world.ingest.in_flight_size_bytes(), 0);
}

#[test]
fn histograms_are_looked_through() {
    let fault = |message: &[u8]| match histogram::check(message).unwrap() {
        Ok(checked) => format!("{checked:?}"),
        Err(reason) => reason.to_owned(),
    };
    let at = When { timestamp_ms: T, start_timestamp_ms: 0 };
    let check = |message: &[u8]| histogram::check(message).unwrap().unwrap();
    assert_eq!(check(&histogram(6, 1.0)), histogram::Checked { at, stale: false });
    // NaN was observed once, and is in no bucket.
    assert!(!check(&histogram(7, f64::NAN)).stale);
    assert!(check(&histogram(0, f64::from_bits(STALE_NAN))).stale);
    let wrong = "buckets whose counts do not add up to its count";
    assert_eq!(fault(&histogram(7, 1.0)), wrong);
    let with = |fields: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = histogram(6, 1.0);
        fields(&mut bytes);
        fault(&bytes)
    };
    assert_eq!(with(&|m| put_varint(4, to_zigzag(9), m)), "a schema that is neither -4 to 8 nor -53");
    let span = |offset: i64, length: u64| {
        message(|m| {
            put_varint(1, to_zigzag(offset), m);
            put_varint(2, length, m);
        })
    };
    assert_eq!(with(&|m| put_bytes(11, &span(1, 1), m)), "spans and buckets of different number");
    assert_eq!(with(&|m| put_bytes(11, &span(1, u64::MAX), m)), "a bucket whose index does not fit 32 bits");
    let early = "a span that begins before the one before it ends";
    assert_eq!(with(&|m| put_bytes(11, &span(-1, 0), m)), early);
    assert_eq!(with(&|m| put_bytes(12, &packed([to_zigzag(-9)]), m)), "a bucket with a count below zero");
    assert_eq!(with(&|m| put_double(13, 1.0, m)), "buckets of another kind than its count");
    assert_eq!(with(&|m| put_double(16, 1.0, m)), "custom bounds beside exponential buckets");
    let custom = |bounds: &[f64]| {
        fault(&message(|m| {
            put_varint(1, 3, m);
            put_varint(4, to_zigzag(-53), m);
            put_bytes(11, &span(0, 2), m);
            put_bytes(12, &packed([to_zigzag(2), to_zigzag(-1)]), m);
            bounds.iter().for_each(|&bound| put_double(16, bound, m));
        }))
    };
    assert!(custom(&[1.0]).starts_with("Checked"), "{}", custom(&[1.0]));
    assert_eq!(custom(&[]), "buckets beyond its custom bounds");
    assert_eq!(custom(&[2.0, 1.0]), "custom bounds that do not rise");
    let float = message(|m| {
        put_double(2, 2.5, m);
        put_bytes(8, &span(3, 1), m);
        put_bytes(10, &2.5f64.to_le_bytes(), m);
    });
    assert!(fault(&float).starts_with("Checked"));
}

fn dealt(version: Version, body: &[u8]) -> Option<(u64, u64)> {
    let tenant = crate::data::Tenant::default();
    let limits = crate::data::json::Limits::default();
    let mut dealer = crate::sources::batcher::Dealer::new(&tenant, 4, limits, 1 << 20);
    let body = bytes::Bytes::copy_from_slice(body);
    let read = match version {
        Version::V1 => v1::read(&body, &mut dealer),
        Version::V2 => v2::read(&body, &mut dealer),
    };
    let batch = read.and_then(|_| dealer.finish()).ok()?;
    Some((batch.report.accepted, batch.report.rejected))
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..400, at in 0usize..400, flip: u8) {
        dealt(Version::V1, &bytes);
        dealt(Version::V2, &bytes);
        let mut request = request_v1(&[series_v1(&[("__name__", "up"), ("job", "a\n")], &[(1.0, T), (2.0, T)])]);
        prop_assert_eq!(dealt(Version::V1, &request), Some((2, 0)));
        let at = at % request.len();
        request[at] ^= flip;
        request.truncate(request.len() - cut % request.len());
        dealt(Version::V1, &request);
        dealt(Version::V2, &request);
    }

    #[test]
    fn series_are_those_of_the_plain_way(labels in prop::collection::btree_map("[a-zA-Z_]{1,4}|\\PC{1,3}", any::<String>(), 0..6), name in "[a-z\"\\\\]{1,4}") {
        let mut pairs: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.push(("__name__", &name));
        let tenant = crate::data::Tenant::default();
        let dealer = crate::sources::batcher::Dealer::new(&tenant, 1, crate::data::json::Limits::default(), 1 << 20);
        let mut read = series::Labels::default();
        pairs.iter().for_each(|(name, value)| read.push(name.as_bytes(), value.as_bytes()));
        let series = read.series(&dealer).unwrap();
        let mut expected = labels.clone();
        expected.retain(|_, value| !value.is_empty());
        prop_assert_eq!(series.labels_text(), serde_json::to_string(&expected).unwrap());
        expected.insert("__name__".into(), name.clone());
        prop_assert_eq!(series.text(), serde_json::to_string(&expected).unwrap());
        prop_assert_eq!(series.name, &name);
    }
}
