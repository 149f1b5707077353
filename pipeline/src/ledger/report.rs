//! The records of `__highwater.ledger`: JSON, each whole for its key.
//!
//! ```json
//! {"type":"run","run":"3f2a9c01","sequence":7,"at_ms":1714996800000,"ended":false,"doors":[
//!   {"source":"http","signal":"logs","received":120,"acknowledged":110,"duplicate":0,"rejected":{"missing_field":10}}]}
//! {"type":"counted","topic":"logs","partition":0,"cut":57,"lost":0,"counts":[
//!   {"source":"http","run":"3f2a9c01","signal":"logs","entries":110,"refused":0}]}
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::data::content_type;
use crate::log::Record;

/// What one door of a run has counted since the run began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorReport {
    /// The source, e.g. `http`.
    pub source: String,
    /// `logs` or `metrics`.
    pub signal: String,
    /// Entries received.
    pub received: u64,
    /// Entries the log said are durable.
    pub acknowledged: u64,
    /// Entries the log had already.
    pub duplicate: u64,
    /// Entries refused, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// How many entries of an origin a partition holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The source.
    pub source: String,
    /// The run.
    pub run: String,
    /// `logs` or `metrics`.
    pub signal: String,
    /// Entries that are rows; in `dead-letter`, entries kept there.
    pub entries: u64,
    /// Entries that cannot become rows and go to `dead-letter`; of records that name no origin.
    pub refused: u64,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LedgerEntry {
    /// What a run's doors have counted. The highest `sequence` of a run counts.
    Run {
        /// The run.
        run: String,
        /// Reports of this run so far.
        sequence: u64,
        /// When, Unix milliseconds.
        at_ms: i64,
        /// True for its last one, at a clean stop.
        ended: bool,
        /// Its doors.
        doors: Vec<DoorReport>,
    },
    /// What a partition holds below `cut`. The highest `cut` of a partition counts.
    Counted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// One past the last offset counted.
        cut: i64,
        /// Offsets that were gone before they were counted.
        lost: u64,
        /// By origin.
        counts: Vec<Counted>,
    },
}

impl DoorReport {
    pub(super) fn new(source: &str, signal: &str) -> Self {
        Self { source: source.to_owned(), signal: signal.to_owned(), ..Self::default() }
    }

    /// Entries refused, whatever the reason.
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Entries received of which nothing else is known yet.
    pub fn in_flight(&self) -> u64 {
        self.received.saturating_sub(self.acknowledged + self.duplicate + self.rejected())
    }
}

impl LedgerEntry {
    /// What it is about, as the record's key.
    fn key(&self) -> String {
        match self {
            Self::Run { run, .. } => format!("run/{run}"),
            Self::Counted { topic, partition, .. } => format!("counted/{topic}/{partition}"),
        }
    }

    /// The record that carries it.
    pub fn to_record(&self) -> Record {
        Record {
            key: Some(Bytes::from(self.key())),
            // Numbers and texts always serialise.
            value: Some(Bytes::from(serde_json::to_vec(self).unwrap_or_default())),
            headers: vec![content_type::header(content_type::JSON)],
            ..Record::default()
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not a ledger entry: {error}"))
    }
}
