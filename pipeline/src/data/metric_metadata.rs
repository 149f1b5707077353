//! What metrics are: type, help and unit, as their senders say. One row each time a sender said something new, and again about every hour, so that
//! what is still in use is never the oldest.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, StringArray, StringBuilder, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::signal::Columnar;
use super::{columns, time};

/// The topic.
pub const TOPIC: &str = "metric-metadata";
/// The table.
pub const TABLE: &str = "metric_metadata";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns::table_schema(vec![
        columns::required_instant("timestamp"),
        columns::required_text("name"),
        columns::required_text("type"),
        columns::text("help"),
        columns::text("unit"),
    ])
});
static WIRE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| columns::wire_schema(&SCHEMA));

/// The table schema, identity included.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Metadata as records hold it. Its topic has one partition.
#[derive(Debug)]
pub(crate) struct MetricMetadata;

/// Rows of one record.
#[derive(Debug, Default)]
pub(crate) struct MetadataColumns {
    name: StringBuilder,
    kind: StringBuilder,
    help: StringBuilder,
    unit: StringBuilder,
    rows: usize,
    size_bytes: usize,
}

impl MetadataColumns {
    /// Adds a row; its time is that of its append.
    pub(crate) fn append(&mut self, name: &str, kind: &str, help: &str, unit: &str) {
        self.name.append_value(name);
        self.kind.append_value(kind);
        self.help.append_option(Some(help).filter(|text| !text.is_empty()));
        self.unit.append_option(Some(unit).filter(|text| !text.is_empty()));
        self.rows += 1;
        self.size_bytes += 32 + name.len() + kind.len() + help.len() + unit.len();
    }
}

impl Columnar for MetricMetadata {
    const TOPIC: &'static str = TOPIC;
    type Columns = MetadataColumns;

    fn size_bytes(columns: &MetadataColumns) -> usize {
        columns.size_bytes
    }

    fn finish(columns: &mut MetadataColumns, tenant: &str) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut columns.rows);
        columns.size_bytes = 0;
        let tenants: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(tenant, rows)));
        let texts = [&mut columns.name, &mut columns.kind, &mut columns.help, &mut columns.unit];
        let mut arrays = vec![new_null_array(&time::data_type(), rows)];
        arrays.extend(texts.map(|column| Arc::new(column.finish()) as ArrayRef));
        arrays.push(tenants);
        RecordBatch::try_new(Arc::clone(&WIRE_SCHEMA), arrays)
    }
}
