//! Dead letters: what could not become rows, as it was, with the reason and where it stood.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use highwater_broker::{Header, Record, StoredRecord};

use super::{Refused, Tenant, columns, time};

/// The topic. The table is [`TABLE`].
pub const TOPIC: &str = "dead-letter";
/// The table.
pub const TABLE: &str = "dead_letter";

/// Header: why.
pub const REASON: &str = "reason";
/// Header: topic it stood in.
pub const SOURCE_TOPIC: &str = "topic";
/// Header: partition it stood in, decimal.
pub const SOURCE_PARTITION: &str = "partition";
/// Header: offset it stood at, decimal.
pub const SOURCE_OFFSET: &str = "offset";
/// Header: index of the row in its record, decimal; -1 for the whole record.
pub const SOURCE_ROW: &str = "row";
/// Header: tenant it belongs to.
pub const TENANT: &str = "tenant";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns::table_schema(vec![
        columns::required_instant("timestamp"),
        columns::text("reason"),
        columns::text("topic"),
        columns::nullable("source_partition", DataType::Int32),
        columns::nullable("source_offset", DataType::Int64),
        columns::nullable("source_row", DataType::Int32),
        columns::nullable("value", DataType::Binary),
    ])
});

/// The table schema, identity included.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// The record that keeps a refused one: its bytes, and in headers the reason and the coordinate.
pub fn record(refused: &Refused, topic: &str, partition: i32, offset: i64, tenant: &str) -> Record {
    let text = |name: &str, value: String| Header::new(name, Bytes::from(value));
    Record {
        value: Some(refused.bytes.clone()),
        headers: vec![
            text(REASON, refused.reason.clone()),
            text(SOURCE_TOPIC, topic.to_owned()),
            text(SOURCE_PARTITION, partition.to_string()),
            text(SOURCE_OFFSET, offset.to_string()),
            text(SOURCE_ROW, refused.row.to_string()),
            text(TENANT, tenant.to_owned()),
        ],
        ..Record::default()
    }
}

/// The payload columns of one dead letter, in table order. Whoever wrote it, it has a row: a header that is missing or makes no sense is
/// NULL (the tenant: the default one).
pub(super) fn columns(record: &StoredRecord, append_time_us: i64) -> Vec<ArrayRef> {
    let header = |name: &str| record.header(name).and_then(|value| std::str::from_utf8(value).ok());
    let text = |value: Option<&str>| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let int32 = |name: &str| -> ArrayRef {
        Arc::new(Int32Array::from(vec![header(name).and_then(|value| value.parse().ok())]))
    };
    let offset = header(SOURCE_OFFSET).and_then(|value| value.parse().ok());
    let tenant = header(TENANT).filter(|name| Tenant::check(name).is_ok()).unwrap_or(Tenant::DEFAULT);
    vec![
        Arc::new(time::array(vec![append_time_us])),
        text(header(REASON)),
        text(header(SOURCE_TOPIC)),
        int32(SOURCE_PARTITION),
        Arc::new(Int64Array::from(vec![offset])),
        int32(SOURCE_ROW),
        Arc::new(BinaryArray::from(vec![record.value.as_deref()])),
        text(Some(tenant)),
    ]
}
