//! What the agents' tests share: a real HTTP server that keeps what it is sent the way Highwater's door does, and fails
//! on demand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::ShippingOptions;
use super::shipping::RetryOptions;

/// A server with one door. Rows are kept once per idempotency key.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stored: Mutex<Stored>,
    script: Mutex<VecDeque<Act>>,
}

#[derive(Default)]
struct Stored {
    keys: HashSet<String>,
    rows: Vec<Value>,
    requests: u64,
    duplicates: u64,
    headers: Vec<HeaderMap>,
    paths: HashSet<String>,
}

/// What the server does with a request, instead of storing it and saying so.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Answers with this status and stores nothing.
    Fail(u16),
    /// 429 with `Retry-After` in seconds.
    Busy(u64),
    /// Stores the rows, but the sender never hears of it.
    LoseReply,
    /// Refuses the rows with these indexes, stores the others.
    RefuseRows(&'static [usize]),
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Nobody::new().appear()
    }

    fn serve(listener: tokio::net::TcpListener) -> Self {
        let shared = Arc::<Shared>::default();
        let app = Router::new().route("/{door}", axum::routing::post(take)).with_state(Arc::clone(&shared));
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests are treated so, each act once.
    pub(crate) fn will(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.script.lock().extend(acts);
    }

    /// No more acts.
    pub(crate) fn recover(&self) {
        self.shared.script.lock().clear();
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        self.shared.stored.lock().rows.clone()
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        self.rows().iter().map(|row| row["message"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.shared.stored.lock().requests
    }

    pub(crate) fn duplicates(&self) -> u64 {
        self.shared.stored.lock().duplicates
    }

    pub(crate) fn last_headers(&self) -> HeaderMap {
        self.shared.stored.lock().headers.last().unwrap().clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.shared.stored.lock().paths.iter().cloned().collect()
    }

    /// Waits until so many rows are stored; more is a failure too.
    pub(crate) async fn wait_for_rows(&self, count: usize) {
        eventually(&format!("{count} rows"), || self.shared.stored.lock().rows.len() >= count).await;
        let rows = self.rows();
        assert_eq!(rows.len(), count, "first {}, last {}", rows[0], rows[rows.len() - 1]);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    UrlPath(door): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let act = shared.script.lock().pop_front();
    let mut stored = shared.stored.lock();
    stored.requests += 1;
    stored.headers.push(headers.clone());
    stored.paths.insert(door);
    let mut refused: &[usize] = &[];
    match act {
        Some(Act::Fail(status)) => return StatusCode::from_u16(status).unwrap().into_response(),
        Some(Act::Busy(seconds)) => {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response();
        }
        Some(Act::RefuseRows(indexes)) => refused = indexes,
        Some(Act::LoseReply) | None => {}
    }
    let text = zstd::decode_all(&body[..]).unwrap();
    let rows: Vec<Value> =
        std::str::from_utf8(&text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let accepted = rows.len() - refused.len();
    if stored.keys.insert(key) {
        let kept = rows.into_iter().enumerate().filter(|(index, _)| !refused.contains(index));
        stored.rows.extend(kept.map(|(_, row)| row));
    } else {
        stored.duplicates += 1;
    }
    if matches!(act, Some(Act::LoseReply)) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let errors: Vec<Value> =
        refused.iter().map(|index| json!({"index": index, "reason": "`message` is empty"})).collect();
    let status = if accepted == 0 { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let report = json!({"accepted": accepted, "rejected": refused.len(), "errors": errors, "duplicate": false});
    (status, axum::Json(report)).into_response()
}

/// Options for tests: small delays, state in `directory`.
pub(crate) fn shipping(server: &str, directory: &Path) -> ShippingOptions {
    ShippingOptions {
        batch_wait: Duration::from_millis(50),
        drain_timeout: Duration::from_secs(20),
        shutdown_timeout: Duration::from_secs(20),
        retry: RetryOptions {
            min_delay: Duration::from_millis(2),
            max_delay: Duration::from_millis(20),
            breaker_requests: 6,
            breaker_wait: Duration::from_millis(20),
        },
        ..ShippingOptions::new(server, directory.join("state"))
    }
}

/// Waits until `is_so`, at most half a minute.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 30 s in vain for {what}");
}

/// An address that is taken but where nobody listens yet: connections are refused.
pub(crate) struct Nobody {
    socket: tokio::net::TcpSocket,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { socket }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.socket.local_addr().unwrap())
    }

    /// Now somebody listens.
    pub(crate) fn appear(self) -> TestServer {
        TestServer::serve(self.socket.listen(64).unwrap())
    }
}
