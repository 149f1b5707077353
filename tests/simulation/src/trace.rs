//! What happened, as one number: two runs of a seed must have the same.

use std::fmt::Display;
use std::hash::Hasher;
use std::sync::Arc;

use parking_lot::Mutex;
use twox_hash::XxHash64;

use crate::time::Time;

/// Prints every step to stderr where it is set: for looking into one seed.
const SHOW: &str = "HIGHWATER_SIM_TRACE";

/// Every step of a history, hashed. Clones share it.
#[derive(Clone)]
pub struct Trace {
    time: Time,
    hash: Arc<Mutex<XxHash64>>,
    show: bool,
}

impl Trace {
    /// An empty one.
    pub fn new(time: Time) -> Self {
        Self { time, hash: Arc::new(Mutex::new(XxHash64::with_seed(0))), show: std::env::var_os(SHOW).is_some() }
    }

    /// Notes a step.
    pub fn note(&self, step: impl Display) {
        let line = format!("{:>8} {step}", self.time.elapsed_ms());
        if self.show {
            eprintln!("{line}");
        }
        self.hash.lock().write(line.as_bytes());
    }

    /// Notes bytes that are not worth showing.
    pub fn note_bytes(&self, bytes: &[u8]) {
        self.hash.lock().write(bytes);
    }

    /// All of it so far.
    pub fn hash(&self) -> u64 {
        self.hash.lock().finish()
    }
}
