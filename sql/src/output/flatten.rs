//! Columns as text formats can hold them: nested values become JSON text.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};

/// The schema after [`flatten`].
pub(super) fn flat_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema
        .fields()
        .iter()
        .map(|f| {
            if f.data_type().is_nested() { Arc::new(Field::new(f.name(), DataType::Utf8, true)) } else { Arc::clone(f) }
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// The batch with maps, lists and structs as JSON text. `schema` is its [`flat_schema`].
pub(super) fn flatten(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch
        .schema_ref()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(
            |(field, column)| {
                if field.data_type().is_nested() { json_text(field, column) } else { Ok(Arc::clone(column)) }
            },
        )
        .collect::<Result<Vec<_>, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

pub(crate) fn json_text(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column, &options)?;
    let mut text = StringBuilder::with_capacity(column.len(), column.len().saturating_mul(32));
    let mut value = Vec::new();
    for row in 0..column.len() {
        if encoder.is_null(row) {
            text.append_null();
            continue;
        }
        value.clear();
        encoder.encode(row, &mut value);
        let value = std::str::from_utf8(&value).map_err(|e| ArrowError::JsonError(e.to_string()))?;
        text.append_value(value);
    }
    Ok(Arc::new(text.finish()))
}
