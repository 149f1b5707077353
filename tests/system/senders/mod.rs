//! Senders that none of us wrote, each with its own protocol: what they sent is what SQL shows.

use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;

use crate::support::{DEADLINE, Server, eventually, skipped, within};

mod collector;
mod go;
mod hostile;
mod loki;
mod opentelemetry;
mod prometheus;

/// `$HIGHWATER_PYTHON`, or the interpreter that `.ci/run` sets up, or `python3`: the first one that has these modules. None: says so loudly, or fails
/// where `HIGHWATER_REQUIRE_<require>` says that they are there.
pub async fn python(require: &str, modules: &str) -> Option<PathBuf> {
    let candidates = [
        std::env::var_os("HIGHWATER_PYTHON").map(PathBuf::from),
        cache().map(|cache| cache.join("python/bin/python")),
        Some(PathBuf::from("python3")),
    ];
    for python in candidates.into_iter().flatten() {
        let imports = Command::new(&python).args(["-c", &format!("import {modules}")]).output().await;
        if imports.is_ok_and(|output| output.status.success()) {
            return Some(python);
        }
    }
    absent(require, &format!("no Python with {modules} (see .ci/prepare)"));
    None
}

/// Where tests keep what they have fetched.
fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    Some(cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?.join("highwater"))
}

/// Says that a sender or subscriber is not there, or fails where it has to be.
pub fn absent(require: &str, why: &str) {
    let variable = format!("HIGHWATER_REQUIRE_{require}");
    assert!(std::env::var_os(&variable).is_none(), "{variable} is set, and {why}");
    skipped(&format!("tests with {}", require.to_lowercase()), why);
}

/// Runs a script beside this file and reads the JSON that it prints last.
async fn run(python: &PathBuf, script: &str, arguments: &[&str]) -> Value {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/system/senders").join(script);
    let running = Command::new(python).arg(&script).args(arguments).kill_on_drop(true).output();
    let output = within(DEADLINE, &format!("{} ends", script.display()), running).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"))
}

impl Server {
    /// The rows of a query of this tenant.
    pub async fn sql_of(&self, tenant: &str, query: &str) -> Vec<Value> {
        let body = serde_json::json!({"query": query, "format": "json"}).to_string();
        let request = self.request("/api/v1/sql").header("content-type", "application/json");
        let reply = self.send(request.header("x-scope-orgid", tenant).body(body)).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
        serde_json::from_str(&reply.text).unwrap_or_else(|error| panic!("{query}: {error}: {}", reply.text))
    }

    /// Waits until a door's ledger balances: received = stored + rejected, nothing lost.
    async fn balanced(&self, source: &str, signal: &str, received: i64) {
        let query = format!(
            "SELECT received, stored + rejected AS known, balance FROM loss_ledger WHERE source = '{source}' AND signal = '{signal}'"
        );
        let expected = vec![serde_json::json!({"received": received, "known": received, "balance": 0})];
        eventually(&query, expected, async || self.sql(&query).await).await;
    }
}
