//! What histories came upon, so that a gate that meets none of the faults it is there for does not pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Coverage {
    /// It happened.
    pub fn met(&self, what: &'static str) {
        self.met_times(what, 1);
    }

    /// It happened so many times.
    pub fn met_times(&self, what: &'static str, times: u64) {
        if times > 0 {
            *self.counts.lock().entry(what).or_default() += times;
        }
    }

    /// Adds what another history came upon.
    pub fn add(&self, other: &Self) {
        for (what, times) in other.counts() {
            self.met_times(what, times);
        }
    }

    /// All counts.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().clone()
    }
}
