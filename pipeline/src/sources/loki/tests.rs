#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::io::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use reqwest::Client;
use serde_json::json;

use super::*;
use crate::data::RowKind;
use crate::data::protobuf::{put_bytes, put_varint};
use crate::sources::IngestConfig;
use crate::sources::testing::World;

const NS: i64 = 1_714_979_289_123_456_789;

/// The door on a real socket.
struct Server {
    world: World,
    address: std::net::SocketAddr,
    client: Client,
}

impl Server {
    async fn new() -> Self {
        let world = World::with(IngestConfig { max_value_size_bytes: 100, ..IngestConfig::default() }).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Arc::clone(&world.ingest));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { world, address, client: Client::new() }
    }

    async fn push(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, String) {
        let mut request = self.client.post(format!("http://{}/loki/api/v1/push", self.address)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// All rows, sorted by message.
    async fn rows(&self) -> RecordBatch {
        let rows = self.world.rows("logs", RowKind::Logs).await;
        let all = arrow::compute::concat_batches(&crate::data::logs::schema(), &rows).unwrap();
        let order = arrow::compute::sort_to_indices(all.column_by_name("message").unwrap(), None, None).unwrap();
        arrow::compute::take_record_batch(&all, &order).unwrap()
    }
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn attributes(batch: &RecordBatch, row: usize) -> BTreeMap<String, String> {
    let entries = batch.column_by_name("attributes").unwrap().as_map().value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    keys.iter().flatten().map(str::to_owned).zip(values.iter().flatten().map(str::to_owned)).collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn message(fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    fields(&mut bytes);
    bytes
}

fn entry(unix_ns: i64, line: &[u8], metadata: &[(&str, &str)]) -> Vec<u8> {
    message(|m| {
        let timestamp = message(|m| {
            put_varint(1, unix_ns.div_euclid(1_000_000_000).cast_unsigned(), m);
            put_varint(2, unix_ns.rem_euclid(1_000_000_000).cast_unsigned(), m);
        });
        put_bytes(1, &timestamp, m);
        put_bytes(2, line, m);
        for (name, value) in metadata {
            let pair = message(|m| {
                put_bytes(1, name.as_bytes(), m);
                put_bytes(2, value.as_bytes(), m);
            });
            put_bytes(3, &pair, m);
        }
    })
}

fn request(streams: &[(&str, Vec<Vec<u8>>)]) -> Vec<u8> {
    message(|m| {
        for (labels, entries) in streams {
            let stream = message(|m| {
                put_bytes(1, labels.as_bytes(), m);
                entries.iter().for_each(|entry| put_bytes(2, entry, m));
            });
            put_bytes(1, &stream, m);
        }
    })
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

#[tokio::test]
async fn labels_and_metadata_are_columns_and_attributes() {
    let server = Server::new().await;
    let labels = r#"{job="nginx", service_name="shop", instance="h1:9", level="warn", env="prod"}"#;
    let first = entry(NS, b"a", &[("trace_id", "t1"), ("env", "own"), ("detected_level", "error")]);
    let bodies = [request(&[(labels, vec![first, entry(NS + 1_000, b"b", &[])])])];
    assert_eq!(server.push(&[PROTOBUF], snappy(&bodies[0])).await, (204, String::new()));
    let json = json!({"streams": [
        {"values": [[(NS + 2_000).to_string(), "c \"quoted\"", {"traceID": "t2"}]], "stream": {"job": "nginx", "detected_level": "error", "node": "n1"}},
    ]});
    assert_eq!(
        server
            .push(&[JSON, ("content-encoding", "gzip"), ("x-scope-orgid", "acme")], gzip(json.to_string().as_bytes()))
            .await,
        (204, String::new())
    );
    let rows = server.rows().await;
    let of = |column: &str| [0, 1, 2].map(|row| text(&rows, column, row));
    let some = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned()).filter(|text| text != "-"));
    assert_eq!(of("message"), some(["a", "b", "c \"quoted\""]));
    assert_eq!(of("service"), some(["shop", "shop", "nginx"]));
    assert_eq!(of("host"), some(["h1:9", "h1:9", "n1"]));
    assert_eq!(of("level"), some(["WARNING", "WARNING", "ERROR"]));
    assert_eq!(of("severity_text"), some(["warn", "warn", "error"]));
    assert_eq!(of("trace_id"), some(["t1", "-", "t2"]));
    assert_eq!(of("tenant"), some(["default", "default", "acme"]));
    let common = [("job", "nginx"), ("instance", "h1:9")];
    assert_eq!(attributes(&rows, 0), map(&[common[0], common[1], ("env", "own"), ("detected_level", "error")]));
    assert_eq!(attributes(&rows, 1), map(&[common[0], common[1], ("env", "prod")]));
    assert_eq!(attributes(&rows, 2), map(&[("job", "nginx"), ("detected_level", "error"), ("node", "n1")]));
    let times = rows.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[NS / 1_000, NS / 1_000 + 1, NS / 1_000 + 2]);
}

#[tokio::test]
async fn json_of_before_loki_1_is_understood() {
    let server = Server::new().await;
    let body = json!({"streams": [{
        "entries": [
            {"ts": "2024-05-06T07:08:09.123456789Z", "line": "a"},
            {"line": "b", "ts": "2024-05-06T09:08:10+02:00"},
            {"ts": "yesterday", "line": "c"},
        ],
        "labels": "{job=\"nginx\", env=\"a \\\"b\\\"\"}",
    }]});
    let (status, said) = server.push(&[JSON], body.to_string()).await;
    assert_eq!(status, 400);
    assert!(said.contains("1 of 3 lines are refused") && said.contains("line 2: `timestamp`"), "{said}");
    let rows = server.rows().await;
    let times = rows.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[1_714_979_289_123_456, 1_714_979_290_000_000]);
    assert_eq!(attributes(&rows, 1), map(&[("job", "nginx"), ("env", "a \"b\"")]));
    let (status, said) = server
        .push(&[JSON], r#"{"streams":[{"labels":"{a=","entries":[{"ts":"2024-05-06T07:08:09Z","line":"d"}]}]}"#)
        .await;
    assert!(status == 400 && said.contains("line 0: stream labels are not written as"), "{said}");
}

#[tokio::test]
async fn what_is_bad_is_named_and_the_rest_is_stored() {
    let server = Server::new().await;
    let long = "x".repeat(101);
    let body = request(&[
        ("{}", vec![entry(NS, b"no labels", &[])]),
        ("{app=", vec![entry(NS, b"bad labels", &[])]),
        (
            r#"{app="web"}"#,
            vec![
                entry(NS, long.as_bytes(), &[]),
                entry(NS, b"bad \xff", &[]),
                entry(NS, b"good", &[]),
                entry(i64::MIN, b"", &[("a", "b")]),
                entry(NS, b"", &[("a", "b")]),
            ],
        ),
    ]);
    let (status, said) = server.push(&[PROTOBUF], snappy(&body)).await;
    let expected = [
        "4 of 7 lines are refused for good, the others are stored",
        "line 0: at least one label is required per stream",
        "line 1: stream labels are not written as {name=\"value\", ...}",
        "line 2: `line` has 101 bytes; the limit is 100",
        "line 3: `line` is not UTF-8",
    ];
    assert_eq!((status, said.lines().collect::<Vec<_>>()), (400, expected.to_vec()));
    // An empty line has its metadata.
    let messages = server.world.texts("logs", RowKind::Logs, "message").await;
    assert_eq!(messages, ["NULL", "NULL", "good"]);
    let report = server.world.ingest.doors().report();
    let door = report.iter().find(|door| door.source == "loki").unwrap();
    assert_eq!((door.received, door.acknowledged, door.rejected.values().sum::<u64>()), (7, 3, 4));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_stores_nothing() {
    let server = Server::new().await;
    let good = r#"{"stream":{"app":"web"},"values":[["1714979289123456789","m"]]}"#;
    for (headers, body, expected) in [
        (vec![JSON], format!(r#"{{"streams":[{good}"#).into_bytes(), "malformed JSON at line 1, column "),
        (
            vec![JSON],
            format!(r#"{{"streams":[{good},{{"stream":{{"a":1}}}}]}}"#).into_bytes(),
            "malformed JSON at line 1, column ",
        ),
        (
            vec![JSON],
            br#"{"streams":{}}"#.to_vec(),
            "malformed JSON at line 1, column 12 (byte 11): expected `streams` to be an array",
        ),
        (vec![JSON], br#"{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}"#.to_vec(), "malformed JSON"),
        (vec![JSON], b"\xff".to_vec(), "the body is not UTF-8"),
        (vec![PROTOBUF], b"hello".to_vec(), "the body does not decompress as snappy"),
        (
            vec![PROTOBUF],
            snappy(b"\x0a\xff\xff\xff\xff\x0f"),
            "not a readable logproto.PushRequest: a field is cut short",
        ),
        (vec![PROTOBUF, ("content-encoding", "br")], snappy(b""), "content encoding \"br\" is not supported"),
        (
            vec![JSON, ("x-scope-orgid", "../x")],
            format!(r#"{{"streams":[{good}]}}"#).into_bytes(),
            "tenant \"../x\" is not allowed",
        ),
    ] {
        let (status, said) = server.push(&headers, body).await;
        assert!(status == 400 && said.starts_with(expected), "{status} {said}");
    }
    assert_eq!(server.world.messages().await, [""; 0]);
    // Without a content type, and gzip around the block; nothing in it is nothing.
    let body = request(&[(r#"{app="web"}"#, vec![entry(NS, b"m", &[])])]);
    assert_eq!(server.push(&[("content-encoding", "gzip")], gzip(&snappy(&body))).await.0, 204);
    assert_eq!(server.push(&[("content-encoding", "snappy")], snappy(&body)).await.0, 204);
    assert_eq!(server.push(&[JSON], r#"{"streams":[]}"#).await.0, 204);
    assert_eq!(server.world.messages().await, ["m", "m"]);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), labels in ".{0,40}", text in "[\\[\\]{}\":,a-z0-9]{0,60}") {
        let tenant = crate::data::Tenant::default();
        let limits = crate::data::json::Limits::default();
        let read = |read: &dyn Fn(&mut crate::sources::batcher::Dealer<'_, Logs>)| {
            let mut dealer = crate::sources::batcher::Dealer::new(&tenant, 2, limits, 1 << 20);
            read(&mut dealer);
            dealer.finish().map(|batch| batch.report).unwrap()
        };
        read(&|dealer| drop(protobuf::read(&bytes, dealer)));
        read(&|dealer| drop(json::read(&bytes, dealer)));
        read(&|dealer| drop(json::read(text.as_bytes(), dealer)));
        let report = read(&|dealer| protobuf::read(&request(&[(&labels, vec![entry(NS, &bytes, &[])])]), dealer).unwrap());
        prop_assert_eq!(report.accepted + report.rejected, 1);
    }
}
