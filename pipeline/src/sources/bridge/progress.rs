//! What is kept with C: how much came in up to there. Committed with the offset, so both always speak of the same records.

use serde::{Deserialize, Serialize};

/// Counts over all records of a foreign partition below C, and for which line of the ledger they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The source's name in the ledger.
    pub source: String,
    /// `logs` or `metrics`.
    pub signal: String,
    /// Entries received: rows and refused ones.
    pub received: u64,
    /// Of these, rows.
    pub rows: u64,
    /// Offsets that the foreign log had removed before they were read.
    pub lost: u64,
}

impl Progress {
    /// As the text that is kept with the offset.
    pub fn to_text(&self) -> String {
        // Texts and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads it back; an empty text is none.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(text).map(Some).map_err(|error| error.to_string())
    }
}
