//! Where a record's entries came from, in a header.
//!
//! ```text
//! highwater-origin: source NUL run NUL signal NUL entries (decimal)
//! ```

use std::sync::Arc;

use crate::log::{Header, StoredRecord};

const HEADER: &str = "highwater-origin";

/// A source, and the run of a process that took it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    source: Arc<str>,
    run: Arc<str>,
}

/// What a record says of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Originated<'r> {
    /// The source, e.g. `http`.
    pub source: &'r str,
    /// The run that took it in; empty for sources that keep their counts with the log.
    pub run: &'r str,
    /// `logs` or `metrics`.
    pub signal: &'r str,
    /// How many entries the record holds.
    pub entries: u64,
}

impl Origin {
    /// A source as this run sees it.
    pub fn new(source: &str, run: &Arc<str>) -> Self {
        Self { source: Arc::from(source), run: Arc::clone(run) }
    }

    /// A source whose counts outlive any run.
    pub fn lasting(source: &str) -> Self {
        Self { source: Arc::from(source), run: Arc::from("") }
    }

    /// The header of a record with this many entries of a signal.
    pub fn header(&self, signal: &str, entries: u64) -> Header {
        Header::new(HEADER, format!("{}\0{}\0{signal}\0{entries}", self.source, self.run))
    }
}

impl<'r> Originated<'r> {
    /// Reads a record's header, if it has one that makes sense.
    pub fn of(record: &'r StoredRecord) -> Option<Self> {
        let text = std::str::from_utf8(record.header(HEADER)?).ok()?;
        let mut parts = text.split('\0');
        let origin = Self {
            source: parts.next()?,
            run: parts.next()?,
            signal: parts.next()?,
            entries: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(origin)
    }
}
