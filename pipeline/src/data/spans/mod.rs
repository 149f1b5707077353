//! Spans: one row is one span of a trace.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::columns;
use super::signal::Columnar;

mod builder;

pub(crate) use builder::{SpanColumns, SpanParts};

/// The topic and the table.
pub const TOPIC: &str = "spans";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns::table_schema(vec![
        columns::required_instant("timestamp"),
        columns::instant("end_timestamp"),
        columns::nullable("duration_ns", DataType::Int64),
        columns::required_text("trace_id"),
        columns::required_text("span_id"),
        columns::text("parent_span_id"),
        columns::text("trace_state"),
        columns::text("name"),
        columns::text("kind"),
        columns::text("status"),
        columns::text("status_message"),
        columns::text("service"),
        columns::text("host"),
        columns::string_map("attributes"),
        columns::text("events"),
        columns::text("links"),
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

/// Spans as records hold them. Partition key: the trace's id, so that a trace is read from one place.
#[derive(Debug)]
pub(crate) struct Spans;

impl Columnar for Spans {
    const TOPIC: &'static str = TOPIC;
    type Columns = SpanColumns;

    fn size_bytes(columns: &SpanColumns) -> usize {
        columns.size_bytes()
    }

    fn finish(columns: &mut SpanColumns, tenant: &str) -> Result<RecordBatch, ArrowError> {
        columns.finish(tenant)
    }
}
