//! Rows of `metrics` that go to a rules task: the columns that rules read, in records of bounded size.

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_pipeline::runtime::{Effects, ProcessorError, StageRows};

use super::ticks::READ;

/// Most rows of one record.
const MAX_ROWS: usize = 8_192;

/// The task, and what it is to take the rows for.
pub(super) struct Addressed<'a> {
    pub(super) topic: &'a Arc<str>,
    pub(super) partition: i32,
    /// Name and definition of the rows in the rules topic.
    pub(super) name: &'a str,
    pub(super) definition: u64,
    /// Where the rows come from, e.g. `metrics/2`.
    pub(super) source: &'a Arc<str>,
}

/// Rows, of which some are sent.
pub(super) struct Taken(RecordBatch);

impl Taken {
    /// Of rows as `metrics` has them.
    pub(super) fn of(batch: &RecordBatch) -> Result<Self, ProcessorError> {
        let read: Vec<usize> = READ.iter().filter_map(|name| batch.schema_ref().index_of(name).ok()).collect();
        batch.project(&read).map(Self).map_err(cannot)
    }

    /// Sends these of them.
    pub(super) fn send(&self, rows: &[u32], to: &Addressed<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        for chunk in rows.chunks(MAX_ROWS) {
            let batch = take_record_batch(&self.0, &UInt32Array::from(chunk.to_vec())).map_err(cannot)?;
            let (name, source) = (to.name.into(), Arc::clone(to.source));
            let rows = StageRows { name, definition: to.definition, source, batch };
            effects.push(to.topic, to.partition, rows.to_record()?);
        }
        Ok(())
    }
}

fn cannot(error: ArrowError) -> ProcessorError {
    ProcessorError::caused("samples for rules cannot be taken", error)
}
