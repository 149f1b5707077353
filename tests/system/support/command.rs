//! Running the binary to its end, and signals.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::wait::{DEADLINE, within};

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output, after checking that the command succeeded.
    #[track_caller]
    pub fn output(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// The binary under test (`$HIGHWATER_BIN` in place of the one just built), cut off from the environment's own settings and
/// from standard input.
pub fn command(directory: &Path) -> Command {
    let binary = std::env::var_os("HIGHWATER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_highwater").into());
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HIGHWATER_") {
            command.env_remove(&name);
        }
    }
    // Free ports, so that servers beside each other do not meet.
    for name in ["HIGHWATER_OTLP_GRPC_LISTEN", "HIGHWATER_OTLP_HTTP_LISTEN"] {
        command.env(name, "127.0.0.1:0");
    }
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs `highwater` with these arguments, in this directory, to its end.
pub async fn highwater(directory: &Path, arguments: &[&str]) -> Ran {
    let running = command(directory).args(arguments).output();
    let output = within(DEADLINE, &format!("highwater {} ends", arguments.join(" ")), running).await.unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal (`TERM`, `HUP`, `STOP`...) to a process.
pub async fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().await.unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}
