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

/// Sends requests of HTTP/2 that have these headers, one after the other on one connection; the statuses of the answers, 0 where there was none.
async fn over_http2(address: SocketAddr, requests: &[Vec<(String, String)>]) -> Vec<u16> {
    let (mut client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let mut statuses = Vec::new();
    for headers in requests {
        let mut request = axum::http::Request::get(format!("http://{address}/"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let Ok(mut ready) = client.clone().ready().await else {
            statuses.push(0);
            continue;
        };
        let answer = match ready.send_request(request.body(()).unwrap(), true) {
            Ok((answer, _)) => answer.await.map_or(0, |answer| answer.status().as_u16()),
            Err(_) => 0,
        };
        statuses.push(answer);
        client = ready;
    }
    statuses
}

#[tokio::test]
async fn heads_of_http2_are_bounded() {
    let running = start(ServerLimits { max_head_size_bytes: 16 << 10, ..ServerLimits::default() }, None).await;
    let header = |n: usize, size_bytes: usize| (format!("x-{n}"), "x".repeat(size_bytes));
    let requests = [
        vec![header(0, 10)],
        // One that is long, and many that are small.
        vec![header(0, 17 << 10)],
        (0..1_000).map(|n| header(n, 1)).collect(),
        (0..5_000).map(|n| header(n, 100)).collect(),
    ];
    let statuses = over_http2(running.address, &requests).await;
    assert_eq!(statuses[0], 200);
    assert!(statuses[1..].iter().all(|status| [0, 431].contains(status)), "{statuses:?}");
    // Others are served as before.
    assert_eq!(over_http2(running.address, &requests[..1]).await, [200]);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

/// A frame of HTTP/2 on stream 1, or on the connection where it is of its settings.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame_of(u32::from(kind != SETTINGS), kind, flags, payload)
}

fn frame_of(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    const MOST_BYTES: usize = 64 << 20;
    let running = start(ServerLimits::default(), None).await;
    // Empty ones, ones that repeat a header of a hundred bytes (one byte each, from the table of the compression), and long ones.
    let named = [&[0x40, 1, b'x', 100][..], &[b'v'; 100]].concat();
    let repeated = vec![0x80 | 62; 16 << 10];
    let long = [&[0x00, 1, b'y', 0x7f, 0x81, 0x7e][..], &vec![b'v'; 16_256]].concat();
    for (what, first, each) in [("empty", &named, vec![]), ("repeated", &named, repeated), ("long", &named, long)] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let begin = [&[0x82, 0x86, 0x84][..], first].concat();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, &[]), &frame(HEADERS, 0, &begin)].concat()).await.unwrap();
        let more = frame(CONTINUATION, 0, &each).repeat((64 << 10) / (each.len() + 9) + 1);
        let mut sent_bytes = 0;
        // What is read meanwhile is thrown away, so that the server can always answer.
        let (mut reader, mut writer) = stream.into_split();
        let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        while sent_bytes < MOST_BYTES && writer.write_all(&more).await.is_ok() {
            sent_bytes += more.len();
        }
        assert!(sent_bytes < MOST_BYTES, "{what}: {sent_bytes} bytes of a head were taken");
        reading.abort();
    }
    assert_eq!(over_http2(running.address, &[vec![]]).await, [200]);
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    const PAIRS: u32 = 400_000;
    let running = start(ServerLimits::default(), None).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    writer.write_all(&[PREFACE, &frame(SETTINGS, 0, &[])].concat()).await.unwrap();
    let (end, cancel) = (0x5, 8_u32);
    let mut sent = 0;
    while sent < PAIRS {
        let mut pairs = Vec::new();
        for pair in sent..sent + 1_000 {
            let stream = 2 * pair + 1;
            pairs.extend(frame_of(stream, HEADERS, end, &[0x82, 0x86, 0x84]));
            pairs.extend(frame_of(stream, RST_STREAM, 0, &cancel.to_be_bytes()));
        }
        sent += 1_000;
        if writer.write_all(&pairs).await.is_err() {
            break;
        }
    }
    assert!(sent < PAIRS, "{sent} requests that nobody wanted");
    reading.abort();
    assert_eq!(over_http2(running.address, &[vec![]]).await, [200]);
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
