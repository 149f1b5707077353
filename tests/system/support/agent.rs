//! `highwater agent ...` as a process.

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::process::Child;

use super::command::{command, signal};
use super::wait::{DEADLINE, within};

/// A running agent. Killed when dropped.
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Starts `highwater agent` with these arguments in this directory.
    pub fn spawn(directory: &Path, arguments: &[&str]) -> Self {
        Self::spawn_reading(directory, arguments, Stdio::null())
    }

    /// The same, with something on standard input.
    pub fn spawn_reading(directory: &Path, arguments: &[&str], input: impl Into<Stdio>) -> Self {
        let log = File::options().create(true).append(true).open(directory.join("agent.log")).unwrap();
        let mut command = command(directory);
        command.arg("agent").args(arguments).stdin(input).stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap() }
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until the agent ends by itself.
    pub async fn ended(mut self) -> ExitStatus {
        within(DEADLINE, "the agent ends", self.child.wait()).await.unwrap()
    }

    /// SIGTERM, and waits for the agent to flush.
    pub async fn terminate(self) -> ExitStatus {
        signal(self.child.id().expect("the agent has not been waited for"), "TERM").await;
        self.ended().await
    }
}
