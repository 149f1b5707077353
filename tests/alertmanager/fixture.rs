//! A real Alertmanager for tests, by `tests/alertmanager/start`. Not a test target: test crates take it in with
//! `#[path = ".../tests/alertmanager/fixture.rs"] mod alertmanager;`.
//!
//! Where it cannot be had, tests say SKIPPED and return, or fail if `HIGHWATER_REQUIRE_ALERTMANAGER=1`.

#![allow(dead_code, unreachable_pub, reason = "every test crate takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// One Alertmanager on loopback, in a process of its own.
pub struct Alertmanager {
    data: PathBuf,
    address: String,
    _dir: TempDir,
}

impl Alertmanager {
    /// Starts one with this `alertmanager.yml`; `None` (and SKIPPED on stderr) where it cannot be had.
    pub fn start(config: &Path) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        // All of it, so that the script, which removes it where nobody drops this, leaves nothing.
        let data = dir.path().to_owned();
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|dir| dir.join("tests/alertmanager/start"))
            .find(|script| script.exists())
            .expect("tests/alertmanager/start");
        let mut command = Command::new(script);
        command.arg("--data").arg(&data).arg("--config").arg(config);
        let output = command.args(["--while", &std::process::id().to_string()]).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {
                let address = String::from_utf8(output.stdout).unwrap().trim().to_owned();
                Some(Self { data, address, _dir: dir })
            }
            Some(3) if std::env::var_os("HIGHWATER_REQUIRE_ALERTMANAGER").is_none_or(|v| v != "1") => {
                use std::io::Write;
                // Past the test runner, which keeps what passing tests print.
                drop(writeln!(std::io::stderr(), "\nSKIPPED: tests with a real Alertmanager: {}", why.trim()));
                None
            }
            code => panic!("no Alertmanager ({code:?}): {why}"),
        }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.data.join("pid")).unwrap();
        drop(Command::new("kill").args(["-9", pid.trim()]).stderr(Stdio::null()).status());
    }
}
