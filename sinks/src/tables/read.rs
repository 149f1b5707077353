//! A data file's rows, as the table has them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use bytes::Bytes;
use highwater_pipeline::tables::{DATE_COLUMN, TENANT_COLUMN, TableSpec};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::SinkError;

/// The rows of the file with these bytes, with all columns of the table: the partition columns as the Delta log has them, columns added since as
/// NULL.
pub(crate) fn read_file(
    spec: &TableSpec,
    tenant: Option<&str>,
    date: Option<&str>,
    bytes: Bytes,
) -> Result<Vec<RecordBatch>, SinkError> {
    let parquet = |source| SinkError::Parquet { table: spec.name.clone(), source };
    let arrow = |source| SinkError::Arrow { table: spec.name.clone(), source };
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(parquet)?.build().map_err(parquet)?;
    let schema = spec.table_schema();
    let mut batches = Vec::new();
    for batch in reader {
        let batch = batch.map_err(arrow)?;
        let count = batch.num_rows();
        let columns: Result<Vec<ArrayRef>, ArrowError> = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                TENANT_COLUMN => {
                    let repeated = std::iter::repeat_n(tenant.unwrap_or_default(), count);
                    let repeated: ArrayRef = Arc::new(StringArray::from_iter_values(repeated));
                    Ok(repeated)
                }
                DATE_COLUMN => dates(date, count),
                name => match batch.column_by_name(name) {
                    Some(column) => as_type(column, field.data_type()),
                    None => Ok(new_null_array(field.data_type(), count)),
                },
            })
            .collect();
        batches.push(RecordBatch::try_new(Arc::clone(&schema), columns.map_err(arrow)?).map_err(arrow)?);
    }
    Ok(batches)
}

fn dates(date: Option<&str>, count: usize) -> Result<ArrayRef, ArrowError> {
    let Some(date) = date else { return Ok(Arc::new(Date32Array::new_null(count))) };
    let one = cast(&StringArray::from(vec![date]), &DataType::Date32)?;
    arrow::compute::take(&one, &UInt32Array::from(vec![0; count]), None)
}

fn as_type(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == wanted { Ok(Arc::clone(column)) } else { cast(column, wanted) }
}
