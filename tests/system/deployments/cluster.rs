//! Several processes on one Kafka.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use super::kafka::Kafka;
use super::s3;
use super::s3_proxy::{FaultProxy, Faults};
use crate::support::{Server, Site};

/// How many workers there are to begin with.
pub const WORKERS: usize = 3;

/// A gateway, workers and a query node.
pub struct Cluster {
    pub kafka: Arc<Kafka>,
    config: String,
    files: Vec<(String, String)>,
    gateway: Process,
    query: Process,
    pub workers: Vec<Process>,
    _storage: TempDir,
    proxy: Option<FaultProxy>,
}

/// A process and the place it runs in.
pub struct Process {
    pub site: Site,
    pub server: Server,
}

impl Cluster {
    /// Starts Kafka, the storage, and all processes. `None` where something of it cannot be had here (said by then).
    pub async fn start(config: &str, files: &[(&str, &str)], on_s3: bool) -> Option<Self> {
        let proxy = if on_s3 { Some(FaultProxy::start(s3::start()?, 1).await) } else { None };
        let kafka = Arc::new(Kafka::start()?);
        let storage = tempfile::Builder::new().prefix("highwater-storage-").tempdir().unwrap();
        let root = match &proxy {
            Some(proxy) => {
                format!("storage: {}\n", json!({"url": s3::fresh_url(), "options": s3::options(proxy.url())}))
            }
            None => format!("storage: {{ url: \"file://{}\" }}\n", storage.path().display()),
        };
        let config = format!(
            "log:\n  kind: kafka\n  kafka:\n    brokers: \"{}\"\n    options: {{ session.timeout.ms: 6000, heartbeat.interval.ms: 1000 }}\n{root}{config}",
            kafka.brokers()
        );
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let gateway = start(&config, &files, "gateway").await;
        let query = start(&config, &files, "query").await;
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(start(&config, &files, "worker").await);
        }
        let cluster = Self { kafka, config, files, gateway, query, workers, _storage: storage, proxy };
        cluster.settled().await;
        Some(cluster)
    }

    /// On S3: from now on this share of requests to the store goes wrong.
    pub fn spoil_storage(&self, faults: Faults) {
        if let Some(proxy) = &self.proxy {
            proxy.set(faults);
        }
    }

    pub fn gateway(&self) -> &Server {
        &self.gateway.server
    }

    pub fn query(&self) -> &Server {
        &self.query.server
    }

    /// Starts one more worker.
    pub async fn add_worker(&mut self) {
        let worker = start(&self.config, &self.files, "worker").await;
        self.workers.push(worker);
    }

    /// Kills every process with -9 and starts it again.
    pub async fn crash(&mut self) {
        let all = [&mut self.gateway, &mut self.query].into_iter().chain(&mut self.workers);
        for process in all {
            process.server.kill_in_place().await;
            process.server = process.site.start().await;
        }
        self.settled().await;
    }

    /// Waits until the workers share all partitions, each owned once.
    pub async fn settled(&self) {
        self.query().settled(self.workers.len()).await;
    }

    /// Waits until every task and every table has read all there is.
    pub async fn caught_up(&self) {
        self.query().caught_up().await;
    }

    /// SIGTERM for every process, workers first; each ends well; then every table is checked against the log.
    pub async fn finish(self) {
        for worker in self.workers {
            worker.server.stop().await;
        }
        self.query.server.stop().await;
        self.gateway.server.stop().await;
        let config = self.gateway.site.path().join("highwater.yaml");
        self.gateway.site.run(&["verify", "--config", config.to_str().unwrap()]).await.output();
    }
}

async fn start(config: &str, files: &[(String, String)], role: &str) -> Process {
    let site = Site::with_config(&format!("roles: [{role}]\n{config}"));
    for (name, content) in files {
        site.write(name, content);
    }
    let server = site.start().await;
    Process { site, server }
}
