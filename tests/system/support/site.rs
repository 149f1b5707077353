//! A place to run in: a directory with a configuration file and a data directory that outlive any one process.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::command::{Ran, highwater};
use super::ports::free_address;
use super::server::{Addresses, Server};

/// Commits often, so that tests see Parquet soon.
const QUICK: &str = "tables: { commit_interval: 500ms }\n";
/// Nothing of the machine's own telemetry, so that counts are exact.
const SILENT: &str = "self_monitoring: false\n";

/// Only the tables that a test asks for.
const NO_BUILT_INS: &str = "built_in_rollups: false\n";

/// These ports are free ones, so that tests beside each other do not meet.
const KAFKA_PORT: &str = "kafka: { listen: \"127.0.0.1:0\" }\n";
const POSTGRES_PORT: &str = "pgwire: { listen: \"127.0.0.1:0\" }\n";

/// A directory with `highwater.yaml` and `data/`. Deleted with the value.
pub struct Site {
    directory: TempDir,
    data_dir: PathBuf,
}

impl Site {
    /// With quick commits and no self-monitoring.
    pub fn new() -> Self {
        Self::with_config("")
    }

    /// The same, with more configuration (YAML, top-level keys).
    pub fn with_config(more: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("highwater-test-").tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let site = Self { directory, data_dir };
        site.configure(more);
        site
    }

    /// With its data somewhere else, e.g. on a file system of its own.
    pub fn with_data_dir(mut self, data_dir: PathBuf) -> Self {
        self.data_dir = data_dir;
        self
    }

    /// With the telemetry of the server itself, as a first start has it, and more configuration.
    pub fn with_self_monitoring(more: &str) -> Self {
        let site = Self::new();
        site.write("highwater.yaml", &format!("{QUICK}{}{}{more}", kafka_port(more), postgres_port(more)));
        site
    }

    /// Rewrites the configuration file.
    pub fn configure(&self, more: &str) {
        let built_ins = if more.contains("built_in_rollups:") { "" } else { NO_BUILT_INS };
        let quick = if more.lines().any(|line| line.starts_with("tables:")) { "" } else { QUICK };
        self.write(
            "highwater.yaml",
            &format!("{quick}{SILENT}{built_ins}{}{}{more}", kafka_port(more), postgres_port(more)),
        );
    }

    /// Writes a file beside the configuration and gives its path.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A new directory inside.
    pub fn subdirectory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory of a table: where other readers find it.
    pub fn table(&self, name: &str) -> PathBuf {
        self.data_dir.join("tables").join(name)
    }

    /// Starts the server on free ports and waits until it is ready.
    pub async fn start(&self) -> Server {
        self.spawn().ready().await
    }

    /// The same, on this address.
    pub async fn start_on(&self, listen: &str) -> Server {
        Server::spawn(self, &Addresses::of_http(listen)).ready().await
    }

    /// The same, on all addresses that a server had which is gone.
    pub async fn start_again(&self, at: &Addresses) -> Server {
        Server::spawn(self, at).ready().await
    }

    /// Starts the server and does not wait.
    pub fn spawn(&self) -> Server {
        Server::spawn(self, &Addresses::of_http(&free_address()))
    }

    /// Runs `highwater` in this directory.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        highwater(self.path(), arguments).await
    }

    /// Asserts that every table covers the log without gap or overlap. The server must be down.
    pub async fn verify(&self) {
        self.run(&["verify", "--data-dir", self.data_dir.to_str().unwrap()]).await.output();
    }

    /// One number from SQL straight at the data directory, with no server.
    pub async fn offline_number(&self, query: &str) -> i64 {
        let data_dir = self.data_dir.to_str().unwrap();
        let csv = self.run(&["sql", "--data-dir", data_dir, "-o", "csv", query]).await.output();
        let value = csv.lines().nth(1).unwrap_or_else(|| panic!("one row of CSV for {query}: {csv}"));
        value.parse().unwrap_or_else(|_| panic!("a number for {query}: {csv}"))
    }
}

/// A free Kafka port, unless the configuration says something of it, or the log is elsewhere.
fn kafka_port(config: &str) -> &'static str {
    let is_said = config.lines().any(|line| line.starts_with("kafka:")) || config.contains("kind: kafka");
    if is_said { "" } else { KAFKA_PORT }
}

fn postgres_port(config: &str) -> &'static str {
    if config.lines().any(|line| line.starts_with("pgwire:")) { "" } else { POSTGRES_PORT }
}
