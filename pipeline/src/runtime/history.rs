//! Reads of a table by a task: slices of its rows, at a cut that the log names.
//!
//! A task is a function of its input, and a table is none of it: it grows, and it is behind the log by nobody knows how much. But the rows of one
//! partition *below an offset* are fixed for ever, wherever they lie at the moment. So a record may ask for such rows ([`SliceRequest`]), the driver
//! fetches them before it steps the record, and the step is as pure as any other: on replay the same record is given the same rows.
//!
//! A slice is a stretch of event time. One record asks for one slice; what is read next is asked for by the next record, which the task itself
//! writes, so that a long read is many short steps, each committed like any other.

use std::error::Error;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::processor::ProcessorError;
use super::retry::MayPass;
use crate::data::content_type;
use crate::log::{Record, StoredRecord};

/// The record that asks, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceRequest {
    /// The table, which is also its topic where none is named.
    pub table: String,
    /// The topic, of a table that has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Of that topic.
    pub partition: i32,
    /// Rows at this offset and beyond are not wanted.
    pub below_offset: i64,
    /// Rows at this event time and later are wanted, Unix microseconds; `None` for the first there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_us: Option<i64>,
    /// The widest stretch of event time that is wanted at once, microseconds.
    pub width_us: i64,
    /// Whom it is for.
    pub readers: Vec<SliceReader>,
    /// Of `metrics`: the series that are wanted; `None` for all. Rows of others may be in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesRequest>,
}

/// Series that rules look at, and where their samples are to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesRequest {
    /// The topic of the task that asks.
    pub to_topic: String,
    /// Its partition.
    pub to_partition: i32,
    /// 16 hex digits by which that task knows what it has asked for.
    pub fill: String,
    /// Rows at this event time and later are not wanted, Unix microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<i64>,
    /// A series is wanted that any of these finds.
    pub selectors: Vec<SeriesSelector>,
}

/// A selector, and since when its series are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesSelector {
    /// As PromQL has it.
    pub selector: String,
    /// The metrics that it may find; `None` where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Rows before this event time are not wanted, Unix microseconds.
    pub from_us: i64,
}

/// What rows are read for: a rollup, or rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceReader {
    /// Its name.
    pub name: String,
    /// 16 hex digits: the hash of its definition.
    pub definition: String,
}

/// Rows of one partition of a table, all that there are in a stretch of event time.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The rows, of the table's row schema, in the order of the log. At most about [`MAX_SLICE_ROWS`] where a narrower stretch would do.
    pub batches: Vec<RecordBatch>,
    /// Where the stretch begins, Unix microseconds; `None` where there are no rows at all.
    pub from_us: Option<i64>,
    /// Where it ends: at most the width behind its begin.
    pub until_us: i64,
    /// The event time of the first row behind it; `None` where there is none.
    pub next_us: Option<i64>,
}

/// A slice with more rows than this is made narrower, down to a second.
pub const MAX_SLICE_ROWS: usize = 200_000;

/// Where tasks read tables.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// The rows asked for. The same request has the same answer, whenever it is asked, for as long as retention leaves the rows.
    async fn slice(&self, request: &SliceRequest) -> Result<Slice, HistoryError>;
}

/// Why a table cannot be read. It is tried again: what is wrong is never the request.
#[derive(Debug, thiserror::Error)]
#[error("table {table} cannot be read")]
pub struct HistoryError {
    /// The table.
    pub table: String,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl MayPass for HistoryError {
    fn may_pass(&self) -> bool {
        true
    }
}

impl SliceRequest {
    /// The record that carries it.
    pub fn to_record(&self) -> Result<Record, ProcessorError> {
        let json = serde_json::to_vec(self).map_err(|e| ProcessorError::caused("a request cannot be written", e))?;
        let headers = vec![content_type::header(content_type::JSON)];
        Ok(Record { value: Some(Bytes::from(json)), headers, ..Record::default() })
    }

    /// Reads it back.
    pub fn parse(record: &StoredRecord) -> Result<Self, ProcessorError> {
        serde_json::from_slice(record.value.as_deref().unwrap_or_default()).map_err(|e| {
            ProcessorError::caused(format!("the request for stored rows at offset {} is unreadable", record.offset), e)
        })
    }
}
