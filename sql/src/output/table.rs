//! Aligned text for people.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::pretty::pretty_format_batches_with_schema;

use super::flatten::{flat_schema, flatten};

pub(super) struct TableEncoder {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl TableEncoder {
    pub(super) fn new(schema: &Schema) -> Self {
        Self { schema: flat_schema(schema), batches: Vec::new() }
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        self.batches.push(flatten(batch, &self.schema)?);
        Ok(Vec::new())
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, ArrowError> {
        let table = pretty_format_batches_with_schema(SchemaRef::clone(&self.schema), &self.batches)?;
        Ok(format!("{table}\n").into_bytes())
    }
}
