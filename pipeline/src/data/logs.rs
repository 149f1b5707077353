//! Logs: one row is one log record.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};

use super::columns;

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
