//! Limits and times of transactions.

use serde::{Deserialize, Serialize};

/// Settings of the coordinator of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransactionSettings {
    /// Longest `transaction.timeout.ms` a producer may ask for, in milliseconds. Readers of committed records wait for a
    /// producer that died no longer than this.
    pub max_timeout_ms: i32,
    /// How long a transactional id that nobody uses is remembered, in milliseconds.
    pub id_expiration_ms: i64,
    /// How many transactional ids there may be.
    pub max_ids: usize,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self { max_timeout_ms: 15 * 60 * 1000, id_expiration_ms: 7 * 24 * 60 * 60 * 1000, max_ids: 100_000 }
    }
}
