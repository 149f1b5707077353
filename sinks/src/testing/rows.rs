//! Rows and records to put into a log.

use std::sync::Arc;

use arrow::array::{ArrayRef, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, new_null_array};
use highwater_pipeline::data::{Control, content_type, ipc, logs, time};
use highwater_pipeline::log::Record;

/// A log line, as far as these tests care.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) timestamp_us: i64,
    pub(crate) tenant: String,
    pub(crate) service: Option<String>,
    pub(crate) message: String,
    /// `None`: the map itself is NULL.
    pub(crate) attributes: Option<Vec<(String, Option<String>)>>,
}

/// One record as Highwater's own ingest writes it.
pub(crate) fn log_record(rows: &[Log]) -> Record {
    let schema = logs::wire_schema();
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut attributes = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for (key, value) in row.attributes.iter().flatten() {
            attributes.keys().append_value(key);
            attributes.values().append_option(value.as_ref());
        }
        attributes.append(row.attributes.is_some()).unwrap();
    }
    let attributes: ArrayRef = Arc::new(attributes.finish());
    let columns = schema
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "timestamp" => Arc::new(time::array(rows.iter().map(|r| r.timestamp_us).collect())),
                "service" => Arc::new(rows.iter().map(|r| r.service.clone()).collect::<StringArray>()),
                "message" => Arc::new(rows.iter().map(|r| Some(r.message.clone())).collect::<StringArray>()),
                "tenant" => Arc::new(rows.iter().map(|r| Some(r.tenant.clone())).collect::<StringArray>()),
                "attributes" => Arc::clone(&attributes),
                _ => new_null_array(field.data_type(), rows.len()),
            }
        })
        .collect();
    let batch = RecordBatch::try_new(schema, columns).unwrap();
    Record {
        value: Some(ipc::encode(&batch).unwrap()),
        headers: vec![content_type::header(content_type::ARROW)],
        ..Record::default()
    }
}

/// A record as a foreign producer writes it.
pub(crate) fn json_record(value: &serde_json::Value) -> Record {
    Record { value: Some(value.to_string().into()), ..Record::default() }
}

/// A control record: no row, but an offset.
pub(crate) fn clock_record() -> Record {
    Control::Clock { base_offset: 0, event_time_us: None, idle: true }.to_record()
}
