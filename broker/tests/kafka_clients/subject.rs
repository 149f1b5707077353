//! The broker that clients talk to: ours in a process of its own, so that it can be killed with -9, or a real Apache Kafka.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use highwater_broker::access::{ApiKey, Principal};
use highwater_broker::kafka::{DoorSettings, KafkaServer};
use highwater_broker::tls::TlsFiles;
use highwater_broker::{Broker, BrokerConfig, GroupSettings, RealFs, SystemClock};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::fixture::Kafka;

/// So that what is done now and then is done within a test: retention, compaction.
const OFTEN: &[&str] = &["log.cleaner.backoff.ms=500", "log.retention.check.interval.ms=1000"];

/// Who may come in at a secure one.
pub const USER: &str = "highwater";
/// With this.
pub const PASSWORD: &str = "highwater-secret";

pub enum Subject {
    Ours(Ours),
    Kafka(Kafka),
}

impl Subject {
    /// The one that scenarios share which do it no harm; `None` where it is to be Kafka, and that cannot be had.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Subject>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// One of one's own, to be killed.
    pub fn start() -> Option<Self> {
        if against_kafka() {
            return Kafka::start_with(OFTEN).map(Self::Kafka);
        }
        Some(Self::Ours(Ours::start(None)))
    }

    /// One that wants a login over TLS: [`USER`], [`PASSWORD`], and the certificate that [`Self::certificate`] has.
    pub fn start_secure() -> Option<Self> {
        if against_kafka() {
            return Kafka::start_secure().map(Self::Kafka);
        }
        let dir = tempfile::tempdir().unwrap();
        make_certificate(dir.path());
        Some(Self::Ours(Ours::start(Some(dir))))
    }

    /// The certificate of a secure one.
    pub fn certificate(&self) -> PathBuf {
        match self {
            Self::Ours(ours) => ours.tls.as_ref().unwrap().path().join("ca.pem"),
            Self::Kafka(kafka) => kafka.certificate(),
        }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        match self {
            Self::Ours(ours) => ours.address.to_string(),
            Self::Kafka(kafka) => kafka.brokers(),
        }
    }

    /// `kill -9`.
    pub fn kill(&self) {
        match self {
            Self::Ours(ours) => ours.kill(),
            Self::Kafka(kafka) => kafka.kill(),
        }
    }

    /// After [`Self::kill`]: again, on the same data and port.
    pub fn restart(&self) {
        match self {
            Self::Ours(ours) => ours.restart(),
            Self::Kafka(kafka) => kafka.restart(),
        }
    }
}

fn against_kafka() -> bool {
    match std::env::var("HIGHWATER_CLIENTS_AGAINST").as_deref() {
        Ok("kafka") => true,
        Ok("ours") | Err(_) => false,
        Ok(other) => panic!("HIGHWATER_CLIENTS_AGAINST is {other:?}, but must be ours or kafka"),
    }
}

/// Our broker, in a process of its own: this very program, see `broker_process`.
pub struct Ours {
    data: PathBuf,
    address: SocketAddr,
    process: Mutex<Child>,
    tls: Option<TempDir>,
    _dir: TempDir,
}

impl Ours {
    fn start(tls: Option<TempDir>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (process, address) = spawn(dir.path(), "127.0.0.1:0", tls.as_ref());
        Self { data: dir.path().to_owned(), address, process: Mutex::new(process), tls, _dir: dir }
    }

    fn kill(&self) {
        let mut process = self.process.lock();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn restart(&self) {
        let (process, address) = spawn(&self.data, &self.address.to_string(), self.tls.as_ref());
        assert_eq!(address, self.address);
        *self.process.lock() = process;
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let mut process = self.process.lock();
        // It may have been killed already.
        drop(process.kill());
        drop(process.wait());
    }
}

/// A certificate of its own for this machine: `ca.pem` and `key.pem`.
pub fn make_certificate(dir: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("ca.pem"))
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
}

fn spawn(data: &Path, listen: &str, tls: Option<&TempDir>) -> (Child, SocketAddr) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["subject::broker_process", "--exact", "--ignored", "--nocapture"])
        .env("HIGHWATER_TEST_BROKER_DATA", data)
        .env("HIGHWATER_TEST_BROKER_LISTEN", listen);
    if let Some(tls) = tls {
        command.env("HIGHWATER_TEST_BROKER_TLS", tls.path());
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 {
        // The test runner says its own before it.
        if let Some((_, address)) = line.split_once("listening on ") {
            // The runner says more later, and ends where it cannot.
            std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
            return (child, address.trim().parse().unwrap());
        }
        line.clear();
    }
    panic!("the broker on {} did not start: {:?}", data.display(), child.wait());
}

/// Not a test, but the broker that tests start. It ends with the process that started it: a shared one is a static, which nobody drops.
#[test]
#[ignore = "the broker that other tests start"]
fn broker_process() {
    let data = PathBuf::from(std::env::var_os("HIGHWATER_TEST_BROKER_DATA").expect("a data directory"));
    let listen = std::env::var("HIGHWATER_TEST_BROKER_LISTEN").unwrap().parse().unwrap();
    let config = BrokerConfig { retention_interval_ms: 500, ..BrokerConfig::new(&data) };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
        let broker = Arc::new(Broker::open(config, Arc::new(RealFs), Arc::new(SystemClock)).unwrap());
        // Topics are made by those who want them, as with the real one.
        let groups = GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() };
        let mut settings = DoorSettings { listen, auto_create_partitions: None, groups, ..DoorSettings::default() };
        if let Some(tls) = std::env::var_os("HIGHWATER_TEST_BROKER_TLS").map(PathBuf::from) {
            settings.tls = Some(TlsFiles::new(tls.join("ca.pem"), tls.join("key.pem")));
            settings.api_keys = vec![ApiKey::of(Principal::new(USER, "default"), PASSWORD.as_bytes())].into();
        }
        let server = KafkaServer::start(Arc::clone(&broker), settings).await.unwrap();
        writeln!(std::io::stdout(), "listening on {}", server.address()).unwrap();
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
        drop(std::fs::remove_dir_all(&data));
        std::process::exit(0);
    });
}
