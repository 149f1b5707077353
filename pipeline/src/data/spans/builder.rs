//! Columns of spans.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, MapBuilder, StringArray, StringBuilder, TimestampMicrosecondBuilder};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::wire_schema;
use crate::data::{columns, time};

/// Spans of one record on their way into Arrow.
#[derive(Debug)]
pub(crate) struct SpanColumns {
    timestamp: TimestampMicrosecondBuilder,
    end_timestamp: TimestampMicrosecondBuilder,
    duration_ns: Int64Builder,
    /// From `trace_id` to `host`, in schema order.
    texts: [StringBuilder; TEXTS],
    attributes: MapBuilder<StringBuilder, StringBuilder>,
    events: StringBuilder,
    links: StringBuilder,
    rows: usize,
    size_bytes: usize,
}

/// How many text columns there are before `attributes`.
const TEXTS: usize = 10;
/// What a row takes beside its texts.
const ROW_SIZE_BYTES: usize = 90;

/// One span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanParts<'a> {
    /// Its start, Unix microseconds.
    pub(crate) timestamp_us: Option<i64>,
    pub(crate) end_timestamp_us: Option<i64>,
    pub(crate) duration_ns: Option<i64>,
    /// Trace, span, parent, trace state, name, kind, status, status message, service, host: in schema order.
    pub(crate) texts: [Option<&'a str>; TEXTS],
    /// Keys are unique.
    pub(crate) attributes: &'a [(&'a str, Cow<'a, str>)],
    /// JSON.
    pub(crate) events: Option<&'a str>,
    /// JSON.
    pub(crate) links: Option<&'a str>,
}

impl Default for SpanColumns {
    fn default() -> Self {
        let instants = || TimestampMicrosecondBuilder::new().with_data_type(time::data_type());
        Self {
            timestamp: instants(),
            end_timestamp: instants(),
            duration_ns: Int64Builder::new(),
            texts: std::array::from_fn(|_| StringBuilder::new()),
            attributes: MapBuilder::new(Some(columns::map_field_names()), StringBuilder::new(), StringBuilder::new()),
            events: StringBuilder::new(),
            links: StringBuilder::new(),
            rows: 0,
            size_bytes: 0,
        }
    }
}

impl SpanColumns {
    /// Adds a row.
    pub(crate) fn append(&mut self, parts: &SpanParts<'_>) {
        self.timestamp.append_option(parts.timestamp_us);
        self.end_timestamp.append_option(parts.end_timestamp_us);
        self.duration_ns.append_option(parts.duration_ns);
        let mut size_bytes = ROW_SIZE_BYTES;
        let mut put = |column: &mut StringBuilder, text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty());
            size_bytes += text.map_or(0, str::len);
            column.append_option(text);
        };
        for (column, text) in self.texts.iter_mut().zip(parts.texts) {
            put(column, text);
        }
        put(&mut self.events, parts.events);
        put(&mut self.links, parts.links);
        for (key, value) in parts.attributes {
            self.attributes.keys().append_value(key);
            self.attributes.values().append_value(value);
            size_bytes += 8 + key.len() + value.len();
        }
        // Keys and values grow in step, so closing the entry cannot fail.
        self.attributes.append(true).unwrap_or_default();
        self.rows += 1;
        self.size_bytes += size_bytes;
    }

    /// About how large the columns are, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The rows so far, in the wire schema; empties the columns.
    pub(crate) fn finish(&mut self, tenant: &str) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.timestamp.finish()),
            Arc::new(self.end_timestamp.finish()),
            Arc::new(self.duration_ns.finish()),
        ];
        columns.extend(self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(self.attributes.finish()));
        columns.push(Arc::new(self.events.finish()));
        columns.push(Arc::new(self.links.finish()));
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(tenant, self.rows))));
        self.rows = 0;
        self.size_bytes = 0;
        RecordBatch::try_new(wire_schema(), columns)
    }
}
