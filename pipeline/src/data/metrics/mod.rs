//! Metrics: one row is one sample of one series.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::columns;
use super::json::{Limits, Reader, SyntaxError};
use super::refusal::Refusal;
use super::signal::{Columnar, Signal};

mod builder;
mod fields;
mod row;
#[cfg(test)]
mod tests;

pub(crate) use builder::{MetricColumns, MetricParts, Sample};
pub(crate) use fields::special_value;
pub(crate) use row::MetricRow;

/// The topic and the table.
pub const TOPIC: &str = "metrics";

/// The topic of what recording rules make. Its rows are in the same table; they have no part in the watermark.
pub const RECORDED_TOPIC: &str = "metrics-recorded";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns::table_schema(vec![
        columns::required_instant("timestamp"),
        columns::required_text("name"),
        columns::text("kind"),
        columns::nullable("value", DataType::Float64),
        columns::required("stale", DataType::Boolean),
        columns::nullable("histogram", DataType::Binary),
        columns::required_text("labels"),
        columns::text("job"),
        columns::text("instance"),
        columns::text("service"),
        columns::required("series_id", DataType::Int64),
        columns::text("temporality"),
        columns::instant("start_timestamp"),
    ])
});
static WIRE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| columns::wire_schema(&SCHEMA));

/// The table schema, identity included.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// The schema of a record's Arrow value: no identity, `timestamp` may be NULL.
pub fn wire_schema() -> SchemaRef {
    Arc::clone(&WIRE_SCHEMA)
}

/// Metrics as a [`Signal`]. Partition key: the canonical series.
#[derive(Debug)]
pub(crate) struct Metrics;

impl Columnar for Metrics {
    const TOPIC: &'static str = TOPIC;
    type Columns = MetricColumns;

    fn size_bytes(columns: &MetricColumns) -> usize {
        columns.size_bytes()
    }

    fn finish(columns: &mut MetricColumns, tenant: &str) -> Result<RecordBatch, ArrowError> {
        columns.finish(tenant)
    }
}

impl Signal for Metrics {
    type Row<'a> = MetricRow<'a>;

    fn clear(row: &mut MetricRow<'_>) {
        row.clear();
    }

    fn parse<'a>(reader: &mut Reader<'a>, limits: &Limits, row: &mut MetricRow<'a>) -> Result<(), SyntaxError> {
        row.parse(reader, limits)
    }

    fn refuse(row: &mut MetricRow<'_>, refusal: Refusal) {
        row.refusal.get_or_insert(refusal);
    }

    fn take_refusal(row: &mut MetricRow<'_>) -> Option<Refusal> {
        row.refusal.take()
    }

    fn partition_key(row: &MetricRow<'_>, key: &mut Vec<u8>) {
        key.extend_from_slice(row.series.as_bytes());
    }

    fn append(columns: &mut MetricColumns, row: &MetricRow<'_>) {
        columns.append(row);
    }
}
