//! What the doors of this process count.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::report::DoorReport;

/// Counts of one run, by source and signal.
#[derive(Debug)]
pub struct Doors {
    run: Arc<str>,
    counts: Mutex<BTreeMap<(&'static str, &'static str), DoorReport>>,
}

impl Doors {
    /// All zero. `run` names this run of the process and no other.
    pub fn new(run: &str) -> Self {
        Self { run: Arc::from(run), counts: Mutex::default() }
    }

    /// The run.
    pub fn run(&self) -> &Arc<str> {
        &self.run
    }

    /// Entries came in; `rejected` of them, by reason, are refused already.
    pub fn received(&self, source: &'static str, signal: &'static str, entries: u64, rejected: &[(&'static str, u64)]) {
        self.change(source, signal, |counts| {
            counts.received += entries;
            for (reason, count) in rejected {
                *counts.rejected.entry((*reason).to_owned()).or_default() += count;
            }
        });
    }

    /// Entries are durable, as the log says; or were before, where it had their idempotency key.
    pub fn appended(&self, source: &'static str, signal: &'static str, entries: u64, duplicate: bool) {
        self.change(source, signal, |counts| {
            let count = if duplicate { &mut counts.duplicate } else { &mut counts.acknowledged };
            *count += entries;
        });
    }

    /// Entries were refused.
    pub fn rejected(&self, source: &'static str, signal: &'static str, reason: &'static str, entries: u64) {
        self.change(source, signal, |counts| *counts.rejected.entry(reason.to_owned()).or_default() += entries);
    }

    /// All counts, as of one moment.
    pub fn report(&self) -> Vec<DoorReport> {
        self.counts.lock().values().cloned().collect()
    }

    fn change(&self, source: &'static str, signal: &'static str, change: impl FnOnce(&mut DoorReport)) {
        let mut counts = self.counts.lock();
        change(counts.entry((source, signal)).or_insert_with(|| DoorReport::new(source, signal)));
    }
}
