#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Clock, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::run::{Environment, run_in};
use super::*;
use crate::agents::testing::shipping;
use crate::agents::{AgentError, Report};

mod delivering;
mod files;
mod following;
mod killed;
mod rotated;
mod stored;

fn options(server: &str, directory: &Path, input: Input) -> LogsOptions {
    LogsOptions {
        partial_wait: Duration::from_millis(100),
        poll_every: Duration::from_millis(5),
        discover_every: Duration::from_millis(20),
        rotated_wait: Duration::from_millis(200),
        ..LogsOptions::new(shipping(server, directory), "svc", "h1", input)
    }
}

fn files(pattern: &Path, follow: bool) -> Input {
    Input::Files {
        patterns: vec![pattern.display().to_string()],
        exclude: Vec::new(),
        start: StartAt::Beginning,
        follow,
    }
}

fn environment(stdin: &'static [u8]) -> Environment {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Environment { clock, jitter_seed: 7, stdin: Box::new(stdin) }
}

/// Runs an agent to the end of its input.
async fn ship(options: LogsOptions) -> Result<Report, AgentError> {
    run_in(options, environment(b""), CancellationToken::new()).await
}

/// An agent that runs until it is told to stop.
struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<Report, AgentError>>,
}

impl Running {
    fn start(options: LogsOptions) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run_in(options, environment(b""), shutdown.clone()));
        Self { shutdown, task }
    }

    async fn stop(self) -> Report {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap()
    }
}

fn append(path: &Path, text: &str) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn numbered(lines: std::ops::Range<usize>) -> Vec<String> {
    lines.map(|line| format!("2026-03-01T00:00:00Z INFO line {line}")).collect()
}

fn text_of(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Every file in `directory`, its name and bytes. One that is removed meanwhile is left out.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter_map(|path| Some((path.clone(), fs::read(path).ok()?))).collect();
    files.sort();
    files
}
