//! A real Kafka for tests, by `tests/kafka/start`. Not a test target: test crates take it in with
//! `#[path = ".../tests/kafka/fixture.rs"] mod kafka;`.
//!
//! Where it cannot be had, tests say SKIPPED and return, or fail if `HIGHWATER_REQUIRE_KAFKA=1`.

#![allow(dead_code, reason = "every test crate takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// One broker on loopback, in a process of its own.
pub struct Kafka {
    data: PathBuf,
    port: String,
    secure: bool,
    settings: &'static [&'static str],
    _dir: TempDir,
}

impl Kafka {
    /// The broker that the tests of this binary share; `None` (and SKIPPED on stderr) where Kafka cannot be had.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Kafka>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// A broker of one's own, to be killed.
    pub fn start() -> Option<Self> {
        Self::begin(false, &[])
    }

    /// A broker with lines of one's own in its settings.
    pub fn start_with(settings: &'static [&'static str]) -> Option<Self> {
        Self::begin(false, settings)
    }

    /// A broker that wants SASL over TLS, see `tests/kafka/start --secure`.
    pub fn start_secure() -> Option<Self> {
        Self::begin(true, &[])
    }

    fn begin(secure: bool, settings: &'static [&'static str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        // All of it, so that the script, which removes it where nobody drops this, leaves nothing.
        let data = dir.path().to_owned();
        match run(&data, None, secure, settings) {
            Ok(address) => {
                let port = address.rsplit(':').next().unwrap().to_owned();
                Some(Self { data, port, secure, settings, _dir: dir })
            }
            Err((Some(3), why)) if std::env::var_os("HIGHWATER_REQUIRE_KAFKA").is_none_or(|v| v != "1") => {
                use std::io::Write;
                // Past the test runner, which keeps what passing tests print.
                drop(writeln!(std::io::stderr(), "\nSKIPPED: tests on a real Kafka: {}", why.trim()));
                None
            }
            Err((code, why)) => panic!("no Kafka ({code:?}): {why}"),
        }
    }

    /// `host:port`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate of a secure broker.
    pub fn certificate(&self) -> PathBuf {
        self.data.join("ca.pem")
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.signal("KILL");
        while Path::new("/proc").join(self.pid()).join("exe").exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// `kill -STOP`: it holds its connections and answers nobody.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// `kill -CONT`.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// After [`Self::kill`]: starts again, on the same data and port.
    pub fn restart(&self) {
        run(&self.data, Some(&self.port), self.secure, self.settings).unwrap();
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.pid()]).status().unwrap().success());
    }

    fn pid(&self) -> String {
        std::fs::read_to_string(self.data.join("pid")).unwrap().trim().to_owned()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(Command::new("kill").args(["-9", &self.pid()]).stderr(Stdio::null()).status());
    }
}

/// A name nobody else has: all tests of a binary share a broker.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

/// The address, or the exit code and what was said.
fn run(data: &Path, port: Option<&str>, secure: bool, settings: &[&str]) -> Result<String, (Option<i32>, String)> {
    let mut command = Command::new(script());
    // The shared broker is a static, which nobody drops: the script watches this process instead.
    command.arg("--data").arg(data).args(["--while", &std::process::id().to_string()]);
    command.args(port.map(|port| ["--port", port]).into_iter().flatten());
    command.args(secure.then_some("--secure"));
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned());
    }
    Err((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The directory of Kafka's jars, or the exit code and why there is none.
pub fn jars() -> Result<PathBuf, (Option<i32>, String)> {
    let output = Command::new(script()).arg("--fetch").output().unwrap();
    if output.status.success() {
        return Ok(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    Err((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("tests/kafka/start"))
        .find(|script| script.exists())
        .expect("tests/kafka/start")
}
