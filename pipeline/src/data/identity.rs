//! Row identity: the coordinate of the record a row came from, its place in it, and when it was appended.
//!
//! `(topic, _partition, _offset, _row)` names a row for ever. A table of one topic needs no `_topic`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, FieldRef};
use arrow::record_batch::RecordBatch;

use highwater_broker::StoredRecord;

use super::{columns, time};

/// Partition of the record, Int32.
pub const PARTITION: &str = "_partition";
/// Offset of the record, Int64.
pub const OFFSET: &str = "_offset";
/// Index of the row in its record, Int32.
pub const ROW: &str = "_row";
/// Append time of the record, Timestamp(µs, UTC).
pub const APPEND_TIME: &str = "_append_time";
/// Bits about the row, Int32: see [`FLAG_FUTURE`].
pub const FLAGS: &str = "_flags";

/// The identity columns, in table order.
pub const COLUMNS: [&str; 5] = [PARTITION, OFFSET, ROW, APPEND_TIME, FLAGS];

/// Bit of [`FLAGS`]: the event time is more than [`MAX_AHEAD_US`] ahead of the append time. Such a row is stored and
/// moves no watermark.
pub const FLAG_FUTURE: i32 = 1;
/// How far ahead of its append time an event time may be before it is flagged, in microseconds.
pub const MAX_AHEAD_US: i64 = 60_000_000;

/// True for the name of an identity column.
pub fn is_identity(name: &str) -> bool {
    COLUMNS.contains(&name)
}

/// The identity columns as fields; none is nullable.
pub fn fields() -> [FieldRef; 5] {
    [
        columns::required(PARTITION, DataType::Int32),
        columns::required(OFFSET, DataType::Int64),
        columns::required(ROW, DataType::Int32),
        columns::required_instant(APPEND_TIME),
        columns::required(FLAGS, DataType::Int32),
    ]
}

/// Where a record stands in its topic, and when it got there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinate {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Append time, Unix microseconds.
    pub append_time_us: i64,
}

impl Coordinate {
    /// Of this record of a partition.
    pub fn of(partition: i32, record: &StoredRecord) -> Self {
        Self { partition, offset: record.offset, append_time_us: record.timestamp_ms.saturating_mul(1_000) }
    }

    /// The identity columns of rows `rows` (their indexes in the record), in table order. `event_times` are the rows'
    /// event times, or `None` for data that has none to flag.
    pub fn columns(self, rows: Int32Array, event_times: Option<&TimestampMicrosecondArray>) -> [ArrayRef; 5] {
        let count = rows.len();
        let limit_us = self.append_time_us.saturating_add(MAX_AHEAD_US);
        let flags = match event_times {
            Some(times) => times.values().iter().map(|&t| if t > limit_us { FLAG_FUTURE } else { 0 }).collect(),
            None => vec![0; count],
        };
        [
            Arc::new(Int32Array::from(vec![self.partition; count])),
            Arc::new(Int64Array::from(vec![self.offset; count])),
            Arc::new(rows),
            Arc::new(time::array(vec![self.append_time_us; count])),
            Arc::new(Int32Array::from(flags)),
        ]
    }
}

/// The rows without their identity columns.
pub fn strip(batch: &RecordBatch) -> RecordBatch {
    let keep: Vec<usize> =
        (0..batch.num_columns()).filter(|&i| !is_identity(batch.schema_ref().field(i).name())).collect();
    // The indexes are the batch's own, so the projection cannot fail; an empty one would lose the row count.
    batch.project(&keep).unwrap_or_else(|_| batch.clone())
}
