#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::PathBuf;

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

async fn start(limits: ServerLimits, tls: Option<TlsFiles>) -> Running {
    let server = HttpServer::bind("test", "127.0.0.1:0".parse().unwrap(), tls, limits).await.unwrap();
    let (address, shutdown) = (server.address(), CancellationToken::new());
    let router = Router::new().route("/", get(async || "hello")).route("/echo", post(async |body: String| body));
    let serving = tokio::spawn(server.serve(router, shutdown.clone()));
    Running { address, shutdown, serving }
}

/// Everything a connection says after this was sent to it.
async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    // A connection that is reset has said what it had to say.
    drop(stream.read_to_end(&mut said).await);
    String::from_utf8_lossy(&said).into_owned()
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../broker/src/kafka/tests/tls").join(name)
}

#[tokio::test]
async fn requests_are_answered_and_a_shutdown_ends_in_order() {
    let running = start(ServerLimits::default(), None).await;
    let client = reqwest::Client::new();
    let url = format!("http://{}/echo", running.address);
    let large = "x".repeat(1 << 20);
    assert_eq!(client.post(&url).body(large.clone()).send().await.unwrap().text().await.unwrap(), large);
    running.shutdown.cancel();
    running.serving.await.unwrap();
    assert!(client.post(&url).body("x").send().await.is_err());
}

#[tokio::test]
async fn heads_are_bounded() {
    let limits = ServerLimits { max_headers: 20, max_head_size_bytes: 8 << 10, ..ServerLimits::default() };
    let running = start(limits, None).await;
    let many: String = (0..21).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = say(running.address, format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let long = "x".repeat(9 << 10);
    let answer = say(running.address, format!("GET / HTTP/1.1\r\nhost: {long}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let few = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert!(say(running.address, few.as_bytes()).await.ends_with("hello"));
}

#[tokio::test]
async fn slow_senders_are_closed() {
    let running = start(ServerLimits { head_timeout_ms: 100, ..ServerLimits::default() }, None).await;
    assert_eq!(say(running.address, b"").await, "", "silence");
    assert_eq!(say(running.address, b"PRI * HT").await, "", "half a protocol");
    let answer = say(running.address, b"GET / HTTP/1.1\r\nhost: ").await;
    assert!(!answer.contains("200 OK"), "half a head: {answer}");
}

#[tokio::test]
async fn connections_are_counted() {
    let running = start(ServerLimits { max_connections: 2, ..ServerLimits::default() }, None).await;
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut buffer = vec![0; 1024];
        stream.read(&mut buffer).await.unwrap_or_default()
    };
    let mut first = TcpStream::connect(running.address).await.unwrap();
    let mut second = TcpStream::connect(running.address).await.unwrap();
    assert!(ask(&mut first).await > 0 && ask(&mut second).await > 0);
    assert_eq!(say(running.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    drop(first);
    // Its place is free once its end has been seen.
    let again = async {
        while say(running.address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.unwrap();
}

#[tokio::test]
async fn under_tls_both_versions_of_http_are_spoken() {
    let files = TlsFiles::new(fixture("cert.pem"), fixture("key.pem"));
    let running = start(ServerLimits::default(), Some(files)).await;
    let pem = std::fs::read(fixture("cert.pem")).unwrap();
    let client = |builder: reqwest::ClientBuilder| {
        let authority = reqwest::Certificate::from_pem(&pem).unwrap();
        builder.add_root_certificate(authority).resolve("localhost", running.address).build().unwrap()
    };
    let url = format!("https://localhost:{}/", running.address.port());
    let first = client(reqwest::Client::builder().http1_only()).get(&url).send().await.unwrap();
    assert_eq!((first.version(), first.text().await.unwrap().as_str()), (reqwest::Version::HTTP_11, "hello"));
    assert!(reqwest::Client::new().get(&url).send().await.is_err(), "nobody vouches for it");
    assert!(!say(running.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.contains("200"), "without TLS");
}

#[tokio::test]
async fn with_authorities_clients_show_a_certificate() {
    let files =
        TlsFiles { client_ca: Some(fixture("cert.pem")), ..TlsFiles::new(fixture("cert.pem"), fixture("key.pem")) };
    let running = start(ServerLimits::default(), Some(files)).await;
    let pem = std::fs::read(fixture("cert.pem")).unwrap();
    let url = format!("https://localhost:{}/", running.address.port());
    let client = |identity: Option<(&str, &str)>| {
        let mut builder = reqwest::Client::builder()
            .add_root_certificate(reqwest::Certificate::from_pem(&pem).unwrap())
            .resolve("localhost", running.address);
        if let Some((cert, key)) = identity {
            let mut both = std::fs::read(fixture(cert)).unwrap();
            both.extend(std::fs::read(fixture(key)).unwrap());
            builder = builder.identity(reqwest::Identity::from_pem(&both).unwrap());
        }
        builder.build().unwrap()
    };
    let known = client(Some(("cert.pem", "key.pem"))).get(&url).send().await.unwrap();
    assert_eq!(known.text().await.unwrap(), "hello");
    assert!(client(Some(("other-cert.pem", "other-key.pem"))).get(&url).send().await.is_err());
    assert!(client(None).get(&url).send().await.is_err());
}
