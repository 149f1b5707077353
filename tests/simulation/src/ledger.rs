//! What senders sent and what they were told.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// What became of one row, as its sender knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// How often it was sent.
    pub tries: u32,
    /// Under one idempotency key each time.
    pub keyed: bool,
    /// The sender was told that it is stored.
    pub acknowledged: bool,
}

/// Every row by its name.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Mutex<BTreeMap<String, Sent>>,
    lies: Mutex<Vec<String>>,
}

impl Ledger {
    /// These are sent once more.
    pub fn sent(&self, rows: &[String], keyed: bool) {
        let mut known = self.rows.lock();
        for row in rows {
            let sent = known.entry(row.clone()).or_default();
            sent.tries += 1;
            sent.keyed = keyed;
        }
    }

    /// Their sender was told that they are stored.
    pub fn acknowledged(&self, rows: &[String]) {
        let mut known = self.rows.lock();
        for row in rows {
            known.entry(row.clone()).or_default().acknowledged = true;
        }
    }

    /// A sender was told what cannot be true.
    pub fn lie(&self, what: String) {
        self.lies.lock().push(what);
    }

    /// All rows.
    pub fn rows(&self) -> BTreeMap<String, Sent> {
        self.rows.lock().clone()
    }

    /// Every answer that cannot be true.
    pub fn lies(&self) -> Vec<String> {
        self.lies.lock().clone()
    }
}
