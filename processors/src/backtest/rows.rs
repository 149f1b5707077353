//! Rows of a table in the order of their event time, cut by moments and partitions.

use arrow::array::{AsArray, Int32Array, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::{identity, time};
use highwater_pipeline::runtime::ProcessorError;

use crate::rollups::Source;

/// Rows, and how many of them are used up.
pub(super) struct Timed<'a> {
    pub(super) source: Source,
    batch: &'a RecordBatch,
    times: &'a TimestampMicrosecondArray,
    partitions: &'a Int32Array,
    used: usize,
}

impl<'a> Timed<'a> {
    pub(super) fn new(source: Source, batch: &'a RecordBatch) -> Result<Self, ProcessorError> {
        Ok(Self { source, batch, times: times(batch)?, partitions: numbers(batch, identity::PARTITION)?, used: 0 })
    }

    /// The time of the next row.
    pub(super) fn next_us(&self) -> Option<i64> {
        (self.used < self.times.len()).then(|| self.times.value(self.used))
    }

    /// Uses up the rows before this moment, by partition. Those of a partition that is not there go to another.
    pub(super) fn until(&mut self, end_us: i64, partitions: i32) -> Result<Vec<(i32, RecordBatch)>, ProcessorError> {
        let left = &self.times.values()[self.used..];
        let count = left.partition_point(|at| *at < end_us);
        let from = self.used;
        self.used += count;
        let mut cut = Vec::new();
        if count == 0 {
            return Ok(cut);
        }
        for partition in 0..partitions {
            let rows: Vec<u32> = (from..self.used)
                .filter(|row| self.partitions.value(*row).rem_euclid(partitions.max(1)) == partition)
                .filter_map(|row| u32::try_from(row).ok())
                .collect();
            if rows.is_empty() {
                continue;
            }
            let part = take_record_batch(self.batch, &UInt32Array::from(rows))
                .map_err(|error| ProcessorError::caused("stored rows cannot be cut by partition", error))?;
            cut.push((partition, part));
        }
        Ok(cut)
    }
}

/// The watermark behind each row: the largest time so far that is not flagged.
pub(super) fn running_watermarks(batch: &RecordBatch, before_us: Option<i64>) -> Result<Vec<i64>, ProcessorError> {
    let flags = numbers(batch, identity::FLAGS)?;
    let mut highest_us = before_us.unwrap_or(i64::MIN);
    let running = times(batch)?.values().iter().zip(flags.values()).map(|(at, flags)| {
        if flags & identity::FLAG_FUTURE == 0 {
            highest_us = highest_us.max(*at);
        }
        highest_us
    });
    Ok(running.collect())
}

fn times(batch: &RecordBatch) -> Result<&TimestampMicrosecondArray, ProcessorError> {
    let column = batch.column_by_name(time::COLUMN).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    column.ok_or_else(|| missing(time::COLUMN))
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array, ProcessorError> {
    batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int32Type>()).ok_or_else(|| missing(name))
}

fn missing(column: &str) -> ProcessorError {
    ProcessorError::new(format!("stored rows have no column {column} of the right type"))
}
