//! Comma-separated values (RFC 4180 quoting, `\n` line ends) with a header line.

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;

use super::flatten::{flat_schema, flatten};

pub(super) struct CsvEncoder {
    schema: SchemaRef,
    began: bool,
}

impl CsvEncoder {
    pub(super) fn new(schema: &Schema) -> Self {
        Self { schema: flat_schema(schema), began: false }
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let batch = flatten(batch, &self.schema)?;
        let mut out = Vec::new();
        let mut writer = WriterBuilder::new().with_header(!self.began).build(&mut out);
        writer.write(&batch)?;
        drop(writer);
        self.began = true;
        Ok(out)
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, ArrowError> {
        if self.began { Ok(Vec::new()) } else { self.batch(&RecordBatch::new_empty(SchemaRef::clone(&self.schema))) }
    }
}
