//! Rows between tasks: records of the stage topics (`__highwater.partials`, `__highwater.rules`).
//!
//! A stage topic carries rows of several kinds, so its records say in headers whose they are:
//!
//! | header | value |
//! |---|---|
//! | `content-type` | `application/vnd.apache.arrow.stream` |
//! | `highwater-rows` | name of what the rows belong to, e.g. the rollup |
//! | `highwater-definition` | 16 hex digits: hash of the definition that made them |
//! | `highwater-source` | the task that wrote them, e.g. `logs/2` |

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::processor::ProcessorError;
use crate::data::{content_type, ipc};
use crate::log::{Header, Record, StoredRecord};

const NAME: &str = "highwater-rows";
const DEFINITION: &str = "highwater-definition";
const SOURCE: &str = "highwater-source";

/// Rows that one task writes for another.
#[derive(Debug, Clone, PartialEq)]
pub struct StageRows {
    /// What they belong to.
    pub name: Arc<str>,
    /// Hash of the definition that made them; a reader with another definition leaves them alone.
    pub definition: u64,
    /// The task that wrote them.
    pub source: Arc<str>,
    /// The rows.
    pub batch: RecordBatch,
}

impl StageRows {
    /// The record that carries them.
    pub fn to_record(&self) -> Result<Record, ProcessorError> {
        let value = ipc::encode(&self.batch)
            .map_err(|e| ProcessorError::caused(format!("rows of {} cannot be encoded", self.name), e))?;
        Ok(Record {
            key: None,
            value: Some(value),
            headers: vec![
                content_type::header(content_type::ARROW),
                Header::new(NAME, self.name.as_bytes().to_vec()),
                Header::new(DEFINITION, format!("{:016x}", self.definition)),
                Header::new(SOURCE, self.source.as_bytes().to_vec()),
            ],
            timestamp_ms: None,
        })
    }

    /// Reads them back.
    pub fn parse(record: &StoredRecord) -> Result<Self, ProcessorError> {
        let bad = |what: &str| ProcessorError::new(format!("stage record at offset {}: {what}", record.offset));
        let text = |name: &str| {
            let value = record.header(name).ok_or_else(|| bad(&format!("header {name} is missing")))?;
            std::str::from_utf8(value).map_err(|_| bad(&format!("header {name} is not UTF-8")))
        };
        let definition = u64::from_str_radix(text(DEFINITION)?, 16)
            .map_err(|_| bad(&format!("header {DEFINITION} is not 16 hex digits")))?;
        let value = record.value.as_ref().ok_or_else(|| bad("it has no value"))?;
        let mut batches =
            ipc::decode(value).map_err(|e| ProcessorError::caused(bad("its rows are unreadable").to_string(), e))?;
        let (Some(batch), true) = (batches.pop(), batches.is_empty()) else {
            return Err(bad("it must hold exactly one batch"));
        };
        Ok(Self { name: text(NAME)?.into(), definition, source: text(SOURCE)?.into(), batch })
    }
}
