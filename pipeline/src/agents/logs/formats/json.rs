//! JSON lines: one object per line, fields named as the server's log door names them (`docs/formats/records.md`).
//!
//! The object is shipped as it is; what the agent knows is added where the object does not say it. So `msg`, `ts`,
//! `severity`, `trace_id` and the like become columns and all other members attributes, by the server's own rules,
//! which are asked here before shipping. An object the server would refuse goes as a plain line instead: its text is
//! the message, and nothing is lost.

use crate::data::Refusal;
use crate::data::json::{Limits, Reader};
use crate::data::logs::{LogRow, TOPIC};

/// How many attributes the agent may add: the file's path and labels.
const ATTRIBUTES_OF_AGENT: usize = 32;

/// What an object has and lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JsonLine {
    /// Unix microseconds.
    pub(crate) timestamp_us: Option<i64>,
    pub(crate) has_message: bool,
    pub(crate) has_service: bool,
    pub(crate) has_host: bool,
    pub(crate) has_observed_timestamp: bool,
}

/// What `line` says as a JSON object. `None` where it is not one, or not one that the server would store.
pub(crate) fn parse(line: &str) -> Option<JsonLine> {
    if !line.starts_with('{') {
        return None;
    }
    let mut row = LogRow::default();
    let mut reader = Reader::new(line);
    let limits = Limits::default();
    let limits = Limits { max_attributes: limits.max_attributes - ATTRIBUTES_OF_AGENT, ..limits };
    row.parse(&mut reader, &limits).and_then(|()| reader.end()).ok()?;
    let has_message = match &row.refusal {
        None => true,
        Some(Refusal::Missing { field: "message" }) => false,
        Some(_) => return None,
    };
    // `{"logs": [...]}` is a body of many entries to the server, not an entry.
    let wraps = row.attributes.iter().any(|(key, value)| key.text() == TOPIC && value.text().starts_with('['));
    (!wraps && (has_message || !row.attributes.is_empty())).then(|| JsonLine {
        timestamp_us: row.timestamp_us,
        has_message,
        has_service: row.service().is_some(),
        has_host: row.host().is_some(),
        has_observed_timestamp: row.observed_timestamp_us.is_some(),
    })
}
