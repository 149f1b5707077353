//! Logs: one row is one log record.

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

pub(crate) use builder::{LogColumns, LogParts};
pub(crate) use fields::{Field, Key, key};
pub(crate) use row::LogRow;

/// The topic and the table.
pub const TOPIC: &str = "logs";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns::table_schema(vec![
        columns::required_instant("timestamp"),
        columns::instant("observed_timestamp"),
        columns::nullable("severity_number", DataType::Int32),
        columns::text("level"),
        columns::text("severity_text"),
        columns::text("service"),
        columns::text("host"),
        columns::text("message"),
        columns::text("trace_id"),
        columns::text("span_id"),
        columns::text("request_id"),
        columns::text("correlation_id"),
        columns::text("user_id"),
        columns::string_map("attributes"),
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

/// Logs as a [`Signal`]. Partition key: service NUL host.
#[derive(Debug)]
pub(crate) struct Logs;

impl Columnar for Logs {
    const TOPIC: &'static str = TOPIC;
    type Columns = LogColumns;

    fn size_bytes(columns: &LogColumns) -> usize {
        columns.size_bytes()
    }

    fn finish(columns: &mut LogColumns, tenant: &str) -> Result<RecordBatch, ArrowError> {
        columns.finish(tenant)
    }
}

impl Signal for Logs {
    type Row<'a> = LogRow<'a>;

    fn clear(row: &mut LogRow<'_>) {
        row.clear();
    }

    fn parse<'a>(reader: &mut Reader<'a>, limits: &Limits, row: &mut LogRow<'a>) -> Result<(), SyntaxError> {
        row.parse(reader, limits)
    }

    fn refuse(row: &mut LogRow<'_>, refusal: Refusal) {
        row.refusal.get_or_insert(refusal);
    }

    fn take_refusal(row: &mut LogRow<'_>) -> Option<Refusal> {
        row.refusal.take()
    }

    fn partition_key(row: &LogRow<'_>, key: &mut Vec<u8>) {
        key.extend_from_slice(row.service().map(|text| text.text()).unwrap_or_default().as_bytes());
        key.push(0);
        key.extend_from_slice(row.host().map(|text| text.text()).unwrap_or_default().as_bytes());
    }

    fn append(columns: &mut LogColumns, row: &LogRow<'_>) {
        columns.append(row);
    }
}
