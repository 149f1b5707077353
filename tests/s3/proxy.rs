//! An HTTP proxy that fails on purpose: it stands before an S3 server and, with probabilities the test sets and from a seed, refuses a request
//! (429, 500 or 503) or passes it on and drops the reply. One request per connection. Signatures stay good, because the `Host` that was
//! signed is passed on.
//!
//! Shared by several test crates (`#[path]`), each of which uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How often what goes wrong: each a share of all requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Answered with 429, 500 or 503, and not passed on.
    pub refused: f64,
    /// Passed on, but the reply is dropped and the connection closed.
    pub lost_replies: f64,
}

/// A running proxy; stops when dropped.
pub struct FaultProxy {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    random: std::sync::Mutex<(StdRng, Faults)>,
    passed: AtomicUsize,
    refused: AtomicUsize,
    lost: AtomicUsize,
}

enum Fate {
    Pass,
    Refuse(&'static str),
    LoseReply,
}

impl FaultProxy {
    /// Before the server at `upstream` (`http://host:port`). Nothing fails yet.
    pub async fn start(upstream: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            upstream: upstream.strip_prefix("http://").unwrap().to_string(),
            random: std::sync::Mutex::new((StdRng::seed_from_u64(seed), Faults::default())),
            passed: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A broken connection is what this is about.
                tokio::spawn(async move { drop(serve(client, &shared).await) });
            }
        });
        Self { url, shared, task }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on this goes wrong.
    pub fn set(&self, faults: Faults) {
        self.shared.random.lock().unwrap().1 = faults;
    }

    /// Requests so far: answered, refused, and answered into the void.
    pub fn counts(&self) -> (usize, usize, usize) {
        let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (of(&self.shared.passed), of(&self.shared.refused), of(&self.shared.lost))
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn fate(&self) -> Fate {
        const REFUSALS: [&str; 3] = ["429 Too Many Requests", "500 Internal Server Error", "503 Slow Down"];
        let (random, faults) = &mut *self.random.lock().unwrap();
        let drawn: f64 = random.random();
        if drawn < faults.refused {
            Fate::Refuse(REFUSALS[random.random_range(0..REFUSALS.len())])
        } else if drawn < faults.refused + faults.lost_replies {
            Fate::LoseReply
        } else {
            Fate::Pass
        }
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some(request) = read_request(&mut client).await? else { return Ok(()) };
    match shared.fate() {
        Fate::Refuse(status) => {
            shared.refused.fetch_add(1, Ordering::SeqCst);
            let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            client.write_all(reply.as_bytes()).await?;
        }
        fate => {
            let mut server = TcpStream::connect(&shared.upstream).await?;
            server.write_all(&request).await?;
            let mut reply = Vec::new();
            server.read_to_end(&mut reply).await?;
            if matches!(fate, Fate::LoseReply) {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            shared.passed.fetch_add(1, Ordering::SeqCst);
            client.write_all(&reply).await?;
        }
    }
    client.shutdown().await
}

/// One request, head and body, told to close the connection after the reply. `None` where the client sent nothing.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    assert!(!text.contains("\r\ntransfer-encoding:"), "S3 clients say how long a body is");
    let length = text.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |value| value.trim().parse().unwrap());
    while bytes.len() < head + length {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let mut request = bytes[..head - 2].to_vec();
    request.extend_from_slice(b"connection: close\r\n\r\n");
    request.extend_from_slice(&bytes[head..head + length]);
    Ok(Some(request))
}
