//! Control records: time and progress as data. JSON, told apart by a field `type`.
//!
//! ```json
//! {"type":"clock","base_offset":41,"event_time_us":1700000000000000,"idle":false}
//! {"type":"progress","source":"logs/2","position":42,"watermark_us":1700000000000000,"idle":false}
//! {"type":"superseded","source":"requests_1m/2","window_start_us":1700000000000000,"revision":1}
//! {"type":"filled","rollup":"requests_1m","definition":"00f1e2d3c4b5a697","source":"logs/2","from_us":1600000000000000,"until_us":1600003600000000,"done":false}
//! ```

use bytes::Bytes;
use highwater_broker::Record;
use serde::{Deserialize, Serialize};

use super::content_type;

#[cfg(test)]
mod tests;

/// What a control record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Control {
    /// Silence in an input partition, written into it by its owner. It counts only while `base_offset` is still the last row's offset.
    Clock {
        /// Offset of the last record with rows; -1 where there was none.
        base_offset: i64,
        /// The event time that the partition has reached, Unix microseconds: the last one plus the append time elapsed.
        event_time_us: Option<i64>,
        /// True once the partition has been silent for 30 s.
        idle: bool,
    },
    /// How far a source task has come, written into stage topics by the task.
    Progress {
        /// The task, e.g. `logs/2`.
        source: String,
        /// Offset of the input record that this progress follows.
        position: i64,
        /// The source's watermark, Unix microseconds; `None` before its first row.
        watermark_us: Option<i64>,
        /// True while the source's input is idle.
        idle: bool,
        /// 16 hex digits, of a source that passes samples on to rules: the hash of the rules whose samples it passes on from this record on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rules: Option<String>,
    },
    /// How far a rollup has been filled with the stored rows of one partition of its topic, those below the offset where its task begins; or rules
    /// with the stored samples that they look back to.
    Filled {
        /// The rollup; `__metrics` for rules.
        rollup: String,
        /// 16 hex digits: the hash of its definition; what rules have asked for.
        definition: String,
        /// The partition, e.g. `logs/2`.
        source: String,
        /// Event time of the first of those rows, Unix microseconds; `None` before any was read, and where there is none.
        from_us: Option<i64>,
        /// All rows of earlier event times have been passed on; `None` before any was.
        until_us: Option<i64>,
        /// True once that is all.
        done: bool,
    },
    /// A window of a rollup is closed again: what its task wrote of it before this record no longer holds. The rows of the new revision follow;
    /// there may be none. Written by the task into the rollup's topic, and into the rules' topic.
    Superseded {
        /// The rollup and the partition of its topic, e.g. `requests_1m/2`.
        source: String,
        /// Start of the window, Unix microseconds.
        window_start_us: i64,
        /// The revision that follows; 1 is the first correction.
        revision: i32,
    },
}

impl Control {
    /// The record that carries it.
    pub fn to_record(&self) -> Record {
        Record {
            value: Some(self.to_bytes()),
            headers: vec![content_type::header(content_type::CONTROL)],
            ..Record::default()
        }
    }

    /// Its JSON text.
    pub fn to_bytes(&self) -> Bytes {
        // Integers, booleans and a string always serialise.
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads it back; the error says what is wrong with the text.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not a control record: {error}"))
    }
}
