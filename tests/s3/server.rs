//! A real S3 server for the tests of one process: started by `tests/s3/start` beside this file on first use, gone with the process.
//!
//! Shared by several test crates (`#[path]`), each of which uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The exit code of the script where the server cannot be had.
const CANNOT_BE_HAD: i32 = 3;

/// Where the server listens, as `http://host:port`; `None`, and a line that says so, where there is none on this machine. Set
/// `HIGHWATER_REQUIRE_S3` to make that a failure.
pub fn start() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    SERVER.get_or_init(launch).as_deref()
}

fn launch() -> Option<String> {
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|d| d.join("tests/s3/start")).find(|s| s.exists());
    let data = tempfile::tempdir().unwrap().keep();
    let output = Command::new(script.expect("tests/s3/start is in this repository"))
        .arg("--data")
        .arg(&data)
        .args(["--while", &std::process::id().to_string()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(CANNOT_BE_HAD) {
        assert!(std::env::var_os("HIGHWATER_REQUIRE_S3").is_none(), "S3 is required here: {errors}");
        eprintln!("SKIPPED: nothing was tried on S3: {errors}");
        return None;
    }
    assert!(output.status.success(), "{errors}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_string())
}

/// A place of its own in the server's bucket.
pub fn fresh_url() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("s3://highwater/test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst))
}

/// Options that reach a server at this address.
pub fn options(endpoint: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("endpoint", endpoint),
        ("allow_http", "true"),
        ("region", "us-east-1"),
        ("access_key_id", "highwater"),
        ("secret_access_key", "highwater-secret"),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}
