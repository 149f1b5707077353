//! From decoded rows to table rows: the columns `date` and `_topic`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};

use super::promoted::{ATTRIBUTES_COLUMN, attribute_column, with_columns};
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

/// A table's columns, from those its records decode to: each of its [`stored_type`], then `_topic` and
/// `date`. `tenant` may be NULL there.
pub fn stored_schema(row_schema: &SchemaRef, several_topics: bool) -> SchemaRef {
    let mut fields: Vec<FieldRef> = row_schema
        .fields()
        .iter()
        .map(|field| {
            let stored = stored_type(field.data_type());
            // Delta reads an empty partition value back as NULL: a column that forbids it would make the table unreadable.
            let nullable = field.is_nullable() || field.name() == TENANT_COLUMN;
            if stored == *field.data_type() && nullable == field.is_nullable() {
                Arc::clone(field)
            } else {
                Arc::new(field.as_ref().clone().with_data_type(stored).with_nullable(nullable))
            }
        })
        .collect();
    if several_topics {
        fields.push(Arc::new(Field::new(TOPIC_COLUMN, DataType::Utf8, true)));
    }
    fields.push(Arc::new(Field::new(DATE_COLUMN, DataType::Date32, true)));
    Arc::new(Schema::new(fields))
}

/// The type a column has in a table. Delta knows fewer types than Arrow: no unsigned integers, one string, one
/// binary, timestamps in microseconds. A query engine's results (rollups) may come in the others.
pub fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Dictionary(_, values) => stored_type(values),
        other => other.clone(),
    }
}

/// Decoded rows as the table has them: every column of its [`stored_type`], with `date`, `_topic` where the table
/// has several topics, and the promoted attributes.
///
/// # Errors
/// Where the batch lacks the time column, or a value does not fit the stored type.
pub fn stored_batch(spec: &TableSpec, topic: &str, batch: &RecordBatch) -> Result<RecordBatch, TableError> {
    let several = spec.topics.len() > 1;
    let schema = stored_schema(&batch.schema(), several);
    check_time_column(&spec.name, &schema, &spec.time_column)?;
    let arrow = |source| TableError::Arrow { table: spec.name.clone(), source };
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        if column.data_type() == field.data_type() {
            columns.push(Arc::clone(column));
        } else {
            columns.push(cast_with_options(column, field.data_type(), &exact).map_err(arrow)?);
        }
    }
    let times = schema.index_of(&spec.time_column).map_err(arrow)?;
    let date: Date32Array = columns[times].as_primitive::<TimestampMicrosecondType>().unary(date_of_us);
    if several {
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, batch.num_rows()))));
    }
    columns.push(Arc::new(date));
    if !spec.promoted.is_empty() {
        let map = Arc::clone(&columns[schema.index_of(ATTRIBUTES_COLUMN).map_err(arrow)?]);
        for attribute in &spec.promoted {
            columns.push(attribute_column(&map, attribute).map_err(arrow)?);
        }
    }
    RecordBatch::try_new(with_columns(schema, &spec.promoted), columns).map_err(arrow)
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
