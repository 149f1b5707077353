//! Metrics: one row is one sample of one series.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};

use super::columns;

/// The topic and the table.
pub const TOPIC: &str = "metrics";

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
