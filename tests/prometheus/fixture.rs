//! A real Prometheus for tests, by `tests/prometheus/start`. Not a test target: test crates take it in with
//! `#[path = ".../tests/prometheus/fixture.rs"] mod prometheus;`.
//!
//! Where it cannot be had, tests say SKIPPED and return, or fail if `HIGHWATER_REQUIRE_PROMETHEUS=1`.

#![allow(dead_code, unreachable_pub, reason = "every test crate takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// One Prometheus on loopback, in a process of its own; it scrapes nothing and takes samples of any age by remote write.
pub struct Prometheus {
    data: PathBuf,
    address: String,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one; `None` (and SKIPPED on stderr) where it cannot be had. `flags` are more of its command line.
    pub fn start(flags: &[&str]) -> Option<Self> {
        Self::begin(None, flags)
    }

    /// With a `prometheus.yml` of one's own.
    pub fn start_with(config: &Path, flags: &[&str]) -> Option<Self> {
        Self::begin(Some(config), flags)
    }

    fn begin(config: Option<&Path>, flags: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        // All of it, so that the script, which removes it where nobody drops this, leaves nothing.
        let data = dir.path().to_owned();
        let mut command = Command::new(script());
        command.arg("--data").arg(&data).args(["--while", &std::process::id().to_string()]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.args(flags.iter().flat_map(|flag| ["--flag", flag]));
        let address = said(&mut command)?;
        Some(Self { data, address, _dir: dir })
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.data.join("pid")).unwrap();
        drop(Command::new("kill").args(["-9", pid.trim()]).stderr(Stdio::null()).status());
    }
}

/// `promtool` of the same version; `None` (and SKIPPED on stderr) where it cannot be had.
pub fn promtool() -> Option<Command> {
    let directory = said(Command::new(script()).arg("--fetch"))?;
    Some(Command::new(Path::new(&directory).join("promtool")))
}

/// What the script prints; `None` where it says that Prometheus cannot be had here.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        Some(3) if std::env::var_os("HIGHWATER_REQUIRE_PROMETHEUS").is_none_or(|v| v != "1") => {
            use std::io::Write;
            // Past the test runner, which keeps what passing tests print.
            drop(writeln!(std::io::stderr(), "\nSKIPPED: tests with a real Prometheus: {}", why.trim()));
            None
        }
        code => panic!("no Prometheus ({code:?}): {why}"),
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("tests/prometheus/start"))
        .find(|script| script.exists())
        .expect("tests/prometheus/start")
}
