//! Alerts: one row is one transition of one alert. The topic holds one JSON object per record, its key the fingerprint.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};

use super::columns;

/// The topic and the table.
pub const TOPIC: &str = "alerts";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns::table_schema(vec![
        columns::required_instant("timestamp"),
        columns::required_text("fingerprint"),
        columns::text("alertname"),
        columns::text("group_name"),
        columns::required_text("state"),
        columns::text("labels"),
        columns::text("annotations"),
        columns::nullable("value", DataType::Float64),
        columns::instant("starts_at"),
        columns::instant("ends_at"),
        columns::text("rule"),
        columns::text("source"),
    ])
});

/// The table schema, identity included.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}
