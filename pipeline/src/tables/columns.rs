//! From decoded rows to table rows: the columns `date` and `_topic`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};

use super::{TableError, TableSpec};

/// The partition column that says whose a row is.
pub const TENANT_COLUMN: &str = "tenant";
/// The partition column that holds the UTC day of a row's time column.
pub const DATE_COLUMN: &str = "date";
/// The topic a row came from, in tables that have several.
pub const TOPIC_COLUMN: &str = "_topic";

const DAY_US: i64 = 86_400_000_000;
/// 0001-01-01, in days since 1970.
const FIRST_DATE: i32 = -719_162;
/// 9999-12-31, in days since 1970.
const LAST_DATE: i32 = 2_932_896;

/// The UTC day of a time, in days since 1970. Days outside the years 1 to 9999 become the nearest day inside: Delta
/// writes dates as `yyyy-mm-dd`, and no reader knows other years. (The time itself is stored as it is.)
pub fn date_of_us(timestamp_us: i64) -> i32 {
    let day = timestamp_us.div_euclid(DAY_US).clamp(i64::from(FIRST_DATE), i64::from(LAST_DATE));
    i32::try_from(day).unwrap_or(LAST_DATE)
}

/// A day as Delta writes it, `yyyy-mm-dd`. `date` is in days since 1970.
pub fn date_text(date: i32) -> String {
    let clamped = date.clamp(FIRST_DATE, LAST_DATE);
    match chrono::NaiveDate::from_epoch_days(clamped) {
        Some(day) => day.format("%Y-%m-%d").to_string(),
        None => "9999-12-31".to_string(),
    }
}

/// A table's columns, from those its records decode to.
pub fn stored_schema(row_schema: &SchemaRef, several_topics: bool) -> SchemaRef {
    let mut fields: Vec<_> = row_schema.fields().iter().map(Arc::clone).collect();
    if several_topics {
        fields.push(Arc::new(Field::new(TOPIC_COLUMN, DataType::Utf8, true)));
    }
    fields.push(Arc::new(Field::new(DATE_COLUMN, DataType::Date32, true)));
    Arc::new(Schema::new(fields))
}

/// Decoded rows as the table has them: with `date`, and `_topic` where the table has several topics.
///
/// # Errors
/// Where the batch lacks the time column.
pub fn stored_batch(spec: &TableSpec, topic: &str, batch: &RecordBatch) -> Result<RecordBatch, TableError> {
    let several = spec.topics.len() > 1;
    check_time_column(&spec.name, &batch.schema(), &spec.time_column)?;
    let mut columns: Vec<ArrayRef> = batch.columns().iter().map(Arc::clone).collect();
    let date = match batch.column_by_name(&spec.time_column) {
        Some(times) => {
            times.as_primitive::<TimestampMicrosecondType>().unary::<_, arrow::datatypes::Date32Type>(date_of_us)
        }
        None => Date32Array::new_null(batch.num_rows()),
    };
    if several {
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, batch.num_rows()))));
    }
    columns.push(Arc::new(date));
    RecordBatch::try_new(stored_schema(&batch.schema(), several), columns)
        .map_err(|source| TableError::Arrow { table: spec.name.clone(), source })
}

/// A time column is a UTC timestamp in microseconds.
pub(super) fn check_time_column(table: &str, schema: &SchemaRef, column: &str) -> Result<(), TableError> {
    let found = match schema.field_with_name(column) {
        Ok(field) => match field.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => return Ok(()),
            other => other.to_string(),
        },
        Err(_) => "missing".to_string(),
    };
    Err(TableError::BadColumn {
        table: table.to_string(),
        column: column.to_string(),
        expected: "a timestamp in microseconds, UTC",
        found,
    })
}
