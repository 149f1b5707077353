#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Write;
use std::time::Duration;

use futures::stream;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::data::RowKind;
use crate::sources::IngestConfig;
use crate::sources::testing::World;

/// The doors on a real socket.
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Arc::clone(&world.ingest));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { world, address, client: Client::new() }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address))
    }

    async fn logs(&self, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        answer(self.post("/logs").body(body)).await
    }
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

fn error((status, answer): (StatusCode, Value)) -> (u16, String) {
    (status.as_u16(), answer["error"].as_str().unwrap().to_owned())
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

const ONE: &str = r#"{"message":"one","service":"web"}"#;

#[tokio::test]
async fn stores_and_says_so() {
    let server = Server::new().await;
    let expected = json!({"accepted": 1, "rejected": 0, "errors": [], "duplicate": false});
    assert_eq!(server.logs(ONE).await, (StatusCode::OK, expected.clone()));
    assert_eq!(answer(server.post("/metrics").body(r#"{"name":"up","value":1}"#)).await, (StatusCode::OK, expected));
    assert_eq!(server.world.messages().await, ["one"]);
    assert_eq!(server.world.texts("metrics", RowKind::Metrics, "name").await, ["up"]);
}

#[tokio::test]
async fn partial_success_names_what_was_refused() {
    let server = Server::new().await;
    let (status, answer) = server.logs(format!(r#"{{"logs":[{ONE},{{"message":""}},7]}}"#)).await;
    let errors = json!([
        {"index": 1, "reason": "`message` is empty"},
        {"index": 2, "reason": "an entry must be a JSON object, not a number"},
    ]);
    assert_eq!(
        (status, answer),
        (StatusCode::OK, json!({"accepted": 1, "rejected": 2, "errors": errors, "duplicate": false}))
    );
    let (status, answer) = server.logs(r#"{"message":""}"#).await;
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (StatusCode::BAD_REQUEST, &json!(0), &json!(1)));
    assert_eq!(server.logs("[]").await.0, StatusCode::OK);
    assert_eq!(server.world.messages().await, ["one"]);
}

#[tokio::test]
async fn says_what_cannot_be_read() {
    let server = Server::new().await;
    assert_eq!(
        error(server.logs("[{]").await),
        (400, "malformed JSON at line 1, column 3 (byte 2): expected a key in quotes".into())
    );
    let empty = "the body is empty: send a JSON object, an array of them, or one per line";
    assert_eq!(error(server.logs("").await), (400, empty.into()));
    let utf8 = "the body is not UTF-8 at line 1, column 13 (byte 12): send JSON in UTF-8";
    assert_eq!(error(server.logs(&b"{\"message\":\"\xff\"}"[..]).await), (400, utf8.into()));
    assert_eq!(server.world.messages().await, [""; 0]);
}

#[tokio::test]
async fn the_content_type_may_declare_lines() {
    let server = Server::new().await;
    let request =
        server.post("/logs").header("content-type", "application/x-ndjson; charset=utf-8").body("oops\nagain");
    let (status, answer) = answer(request).await;
    assert_eq!((status, &answer["rejected"]), (StatusCode::BAD_REQUEST, &json!(2)));
}

#[tokio::test]
async fn the_tenant_is_the_trusted_header_and_nothing_else() {
    let server = Server::new().await;
    let body = r#"{"message":"m","tenant":"evil"}"#;
    let as_tenant = |tenant: &str| answer(server.post("/logs").header("X-Scope-OrgID", tenant.to_owned()).body(body));
    assert_eq!(as_tenant("acme").await.0, StatusCode::OK);
    assert_eq!(server.logs(body).await.0, StatusCode::OK);
    for bad in ["../etc", "..", "a|b", ""] {
        let (status, message) = error(as_tenant(bad).await);
        assert!(status == 400 && message.starts_with(&format!("tenant {bad:?} is not allowed")), "{message}");
    }
    assert_eq!(server.world.texts("logs", RowKind::Logs, "tenant").await, ["acme", "default"]);
}

#[tokio::test]
async fn a_retry_with_its_key_is_harmless() {
    let server = Server::new().await;
    let send = || answer(server.post("/logs").header("Idempotency-Key", "k-1").body(ONE));
    assert_eq!(send().await.1["duplicate"], json!(false));
    assert_eq!(send().await, (StatusCode::OK, json!({"accepted": 1, "rejected": 0, "errors": [], "duplicate": true})));
    assert_eq!(server.world.messages().await, ["one"]);
    let bad = answer(server.post("/logs").header("Idempotency-Key", "a b").body(ONE)).await;
    assert_eq!(error(bad), (400, "an idempotency key has 1 to 256 visible ASCII characters".into()));
}

#[tokio::test]
async fn bodies_may_be_compressed() {
    let server = Server::new().await;
    let snappy = snap::raw::Encoder::new().compress_vec(ONE.as_bytes()).unwrap();
    for (encoding, body) in
        [("gzip", gzip(ONE.as_bytes())), ("zstd", zstd::encode_all(ONE.as_bytes(), 0).unwrap()), ("snappy", snappy)]
    {
        let request = server.post("/logs").header("content-encoding", encoding).body(body);
        assert_eq!(answer(request).await.0, StatusCode::OK, "{encoding}");
    }
    assert_eq!(server.world.messages().await, ["one"; 3]);
    let unknown = error(answer(server.post("/logs").header("content-encoding", "br").body("x")).await);
    assert_eq!(unknown.0, 415);
    let garbage = error(answer(server.post("/logs").header("content-encoding", "gzip").body("garbage")).await);
    assert!(garbage.0 == 400 && garbage.1.starts_with("the body does not decompress as gzip"), "{}", garbage.1);
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_doors_stay_open() {
    let config =
        IngestConfig { max_body_size_bytes: 1 << 20, max_in_flight_size_bytes: 2 << 20, ..IngestConfig::default() };
    let server = Server::with(config).await;
    // A 16 MiB line, announced; the same, not announced; and a bomb of 64 MiB in 64 KiB.
    let line = format!(r#"{{"message":"{}"}}"#, "x".repeat(16 << 20));
    assert_eq!(
        error(server.logs(line.clone()).await),
        (413, "the body has more than 1048576 bytes: send less at a time".into())
    );
    let pieces =
        line.into_bytes().chunks(100_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
    assert_eq!(error(server.logs(reqwest::Body::wrap_stream(stream::iter(pieces))).await).0, 413);
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let request = server.post("/logs").header("content-encoding", "gzip").body(bomb);
    let expected = "the body has more than 1048576 bytes once decompressed: send less at a time";
    assert_eq!(error(answer(request).await), (413, expected.into()));
    assert_eq!(server.logs(ONE).await.0, StatusCode::OK);
    assert_eq!(server.world.messages().await, ["one"]);
}

#[tokio::test]
async fn too_much_at_once_is_told_to_come_back() {
    let config =
        IngestConfig { max_body_size_bytes: 1_000, max_in_flight_size_bytes: 2_000, ..IngestConfig::default() };
    let server = Server::with(config).await;
    // Three senders that have sent 900 bytes each and pause.
    let mut paused = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = "POST /logs HTTP/1.1\r\nhost: x\r\ncontent-length: 901\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&[b' '; 900]).await.unwrap();
        paused.push(socket);
    }
    let body = format!("{ONE}{}", " ".repeat(500));
    let response = loop {
        let response = server.post("/logs").body(body.clone()).send().await.unwrap();
        if response.status() != StatusCode::OK {
            break response;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(
        (response.status(), response.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::TOO_MANY_REQUESTS, "1")
    );
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"], json!("requests of more than 2000 bytes are in flight: try again"));
    drop(paused);
    while server.post("/logs").body(body.clone()).send().await.unwrap().status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_sender_that_stops_is_given_up() {
    let server = Server::with(IngestConfig { body_timeout_ms: 50, ..IngestConfig::default() }).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = "POST /logs HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    assert!(response.ends_with(r#"{"error":"no byte of the body came for 50 ms"}"#), "{response}");
}

#[tokio::test]
async fn a_full_disk_is_507_and_passes() {
    let server = Server::new().await;
    server.world.fs.set_capacity(Some(server.world.fs.used_bytes()));
    let response = server.post("/logs").body(ONE).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (507, "10"));
    let answer: Value = response.json().await.unwrap();
    assert!(answer["error"].as_str().unwrap().starts_with("disk full: "), "{answer}");
    server.world.fs.set_capacity(None);
    assert_eq!(server.logs(ONE).await.0, StatusCode::OK);
}

#[tokio::test]
async fn other_methods_are_405() {
    let server = Server::new().await;
    for method in [reqwest::Method::GET, reqwest::Method::HEAD, reqwest::Method::PUT] {
        let response = server.client.request(method, format!("http://{}/logs", server.address)).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
    }
}

#[tokio::test]
async fn another_router_may_take_get_on_the_same_path() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let merged = router(Arc::clone(&world.ingest))
        .merge(Router::new().route("/metrics", axum::routing::get(|| async { "up 1" })));
    tokio::spawn(async move { axum::serve(listener, merged).await });
    assert_eq!(reqwest::get(&url).await.unwrap().text().await.unwrap(), "up 1");
    let posted = Client::new().post(&url).body(r#"{"name":"up","value":1}"#).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_sender_that_asks_first_is_told_not_to_begin() {
    let server = Server::new().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /logs HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\nexpect: 100-continue\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut response = [0; 12];
    socket.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 413");
}
