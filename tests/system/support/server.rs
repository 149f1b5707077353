//! The server as a process: started, asked, killed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::process::Child;

use super::command::{command, signal};
use super::ports::free_address;
use super::site::Site;
use super::wait::{DEADLINE, eventually, within};

/// A running (or starting) server. Killed when dropped.
pub struct Server {
    child: Child,
    announcement: PathBuf,
    log: PathBuf,
    address: String,
    kafka: Option<String>,
    otlp: [Option<String>; 2],
    client: reqwest::Client,
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub http: String,
    pub otlp_grpc: String,
    pub otlp_http: String,
}

impl Addresses {
    /// Its own HTTP port, free ones for the others.
    pub fn of_http(http: &str) -> Self {
        Self { http: http.to_owned(), otlp_grpc: free_address(), otlp_http: free_address() }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

impl Server {
    /// Starts `highwater serve`.
    pub fn spawn(site: &Site, listen: &Addresses) -> Self {
        // Left over from a killed server; the new one says so only once it is ready.
        let announcement = site.data_dir().join("server.json");
        drop(std::fs::remove_file(&announcement));
        let log = site.path().join("server.log");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let child = command(site.path())
            .args(["serve", "--config", "highwater.yaml", "--http-listen", &listen.http])
            .args(["--otlp-grpc-listen", &listen.otlp_grpc, "--otlp-http-listen", &listen.otlp_http, "--data-dir"])
            .arg(site.data_dir())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self {
            child,
            announcement,
            log,
            address: String::new(),
            kafka: None,
            otlp: [None, None],
            client: reqwest::Client::new(),
        }
    }

    /// Waits until the server has announced its address and says it is ready.
    pub async fn ready(self) -> Self {
        let server = self.announced().await;
        eventually("GET /health/ready", 200, async || server.get("/health/ready").await.status).await;
        server
    }

    /// Waits until the server has announced its address; it may not be ready yet.
    pub async fn announced(mut self) -> Self {
        let pid = self.pid();
        let waiting = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return Err(status);
                }
                let announced = std::fs::read(&self.announcement).ok();
                let announced = announced.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
                if let Some(announced) = announced.filter(|announced| announced["pid"] == pid) {
                    let address = |of: &str| announced[of].as_str().map(str::to_owned);
                    let otlp = [address("otlp_grpc"), address("otlp_http")];
                    return Ok((address("http").unwrap(), address("kafka"), otlp));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(Ok(addresses)) => (self.address, self.kafka, self.otlp) = addresses,
            Ok(Err(status)) => panic!("the server stopped while starting ({status})\n{}", self.log_tail()),
            Err(_) => panic!("the server announced no address\n{}", self.log_tail()),
        }
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("the server has not been waited for")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where Kafka clients find it.
    pub fn kafka(&self) -> &str {
        self.kafka.as_deref().expect("the server has a Kafka port")
    }

    /// Where OTLP comes in, by gRPC and by HTTP.
    pub fn otlp(&self) -> [&str; 2] {
        self.otlp.each_ref().map(|address| address.as_deref().expect("the server has its OTLP ports"))
    }

    /// Where it listens, to start another in its place.
    pub fn addresses(&self) -> Addresses {
        let [otlp_grpc, otlp_http] = self.otlp().map(str::to_owned);
        Addresses { http: self.address.clone(), otlp_grpc, otlp_http }
    }

    /// The server's own log, its last part.
    pub fn log_tail(&self) -> String {
        let mut file = File::open(&self.log).unwrap();
        let size = file.metadata().unwrap().len();
        file.seek(SeekFrom::Start(size.saturating_sub(8_000))).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let asking = async {
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok::<_, reqwest::Error>(Reply { status, headers, text: response.text().await? })
        };
        match within(DEADLINE, "an answer over HTTP", asking).await {
            Ok(reply) => reply,
            Err(error) => panic!("no answer over HTTP: {error:?}\n{}", self.log_tail()),
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.client.get(self.url(path))).await
    }

    /// A POST to fill in: headers, body.
    pub fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(self.url(path))
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(self.request(path).header("content-type", "application/json").body(body)).await
    }

    /// Posts and asserts success; answers the body.
    pub async fn accepted(&self, path: &str, body: impl Into<reqwest::Body>) -> Value {
        let reply = self.post(path, body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Asks SQL, whatever the answer.
    pub async fn try_sql(&self, query: &str) -> Reply {
        self.post("/api/v1/sql", json!({"query": query, "format": "json"}).to_string()).await
    }

    /// The rows of a query, as objects.
    pub async fn sql(&self, query: &str) -> Vec<Value> {
        let reply = self.try_sql(query).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
        serde_json::from_str(&reply.text).unwrap_or_else(|error| panic!("{query}: {error}: {}", reply.text))
    }

    /// The only value of a query with one row and one column.
    pub async fn value(&self, query: &str) -> Value {
        let rows = self.sql(query).await;
        match rows.as_slice() {
            [Value::Object(row)] if row.len() == 1 => row.values().next().cloned().unwrap(),
            _ => panic!("one row with one column for {query}, not {rows:?}"),
        }
    }

    pub async fn number(&self, query: &str) -> i64 {
        let value = self.value(query).await;
        value.as_i64().unwrap_or_else(|| panic!("a whole number for {query}, not {value}"))
    }

    /// The most memory the process ever held, in bytes.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM in /proc/PID/status");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// `kill -9`, and waits for the corpse.
    pub async fn kill(mut self) {
        self.kill_in_place().await;
    }

    /// The same, for a server that is started again in the same place.
    pub async fn kill_in_place(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and asserts that the server drains and ends with success.
    pub async fn stop(self) {
        signal(self.pid(), "TERM").await;
        self.ended().await;
    }

    /// Waits until the server has ended, and asserts that it did so with success.
    pub async fn ended(mut self) {
        match tokio::time::timeout(DEADLINE, self.child.wait()).await {
            Ok(status) => {
                let status = status.unwrap();
                assert!(status.success(), "{status}\n{}", self.log_tail());
            }
            Err(_) => panic!("the server did not end\n{}", self.log_tail()),
        }
    }

    /// Waits until a query gives this number.
    pub async fn until(&self, query: &str, expected: i64) {
        eventually(query, expected, async || self.number(query).await).await;
    }

    /// Sends a log of every host at `at_s` (Unix seconds), which carries every partition's event time there.
    pub async fn pass_time(&self, service: &str, at_s: i64) {
        let log = |host: i64| json!({"timestamp": at_s, "service": service, "host": format!("host-{host}"), "message": "later"});
        self.accepted("/logs", json!((0..40).map(log).collect::<Vec<_>>()).to_string()).await;
    }
}
