//! Columns of log rows.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Builder, MapBuilder, StringArray, StringBuilder, TimestampMicrosecondBuilder};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::fields::Field;
use super::{LogRow, wire_schema};
use crate::data::json::Str;
use crate::data::{columns, level, time};

/// Log rows of one record on their way into Arrow.
#[derive(Debug)]
pub(crate) struct LogColumns {
    timestamp: TimestampMicrosecondBuilder,
    observed_timestamp: TimestampMicrosecondBuilder,
    severity_number: Int32Builder,
    level: StringBuilder,
    severity_text: StringBuilder,
    /// `service`, `host`, `message` and the ids, in the order of [`TEXT_FIELDS`].
    texts: [StringBuilder; TEXT_FIELDS.len()],
    attributes: MapBuilder<StringBuilder, StringBuilder>,
    rows: usize,
    size_bytes: usize,
}

/// A row that was not read from a JSON entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogParts<'a> {
    pub(crate) timestamp_us: Option<i64>,
    pub(crate) observed_timestamp_us: Option<i64>,
    /// OpenTelemetry's severity, 1 to 24.
    pub(crate) severity_number: Option<i32>,
    /// The level as received.
    pub(crate) severity_text: Option<&'a str>,
    /// Service, host, message, trace, span, request, correlation and user: in schema order.
    pub(crate) texts: [Option<&'a str>; TEXT_FIELDS.len()],
    /// Keys are unique.
    pub(crate) attributes: &'a [(&'a str, Cow<'a, str>)],
}

/// The text columns between `severity_text` and `attributes`, in schema order.
const TEXT_FIELDS: [Field; 8] = [
    Field::Service,
    Field::Host,
    Field::Message,
    Field::TraceId,
    Field::SpanId,
    Field::RequestId,
    Field::CorrelationId,
    Field::UserId,
];

/// What a row takes beside its texts: validity, offsets and fixed-width values.
const ROW_SIZE_BYTES: usize = 80;

impl Default for LogColumns {
    fn default() -> Self {
        let instants = || TimestampMicrosecondBuilder::new().with_data_type(time::data_type());
        Self {
            timestamp: instants(),
            observed_timestamp: instants(),
            severity_number: Int32Builder::new(),
            level: StringBuilder::new(),
            severity_text: StringBuilder::new(),
            texts: std::array::from_fn(|_| StringBuilder::new()),
            attributes: MapBuilder::new(Some(columns::map_field_names()), StringBuilder::new(), StringBuilder::new()),
            rows: 0,
            size_bytes: 0,
        }
    }
}

impl LogColumns {
    /// Adds a row.
    pub(crate) fn append(&mut self, row: &LogRow<'_>) {
        self.timestamp.append_option(row.timestamp_us);
        self.observed_timestamp.append_option(row.observed_timestamp_us);
        self.severity_number.append_option(row.severity_number);
        self.level.append_option(row.severity_number.and_then(level::name));
        let mut size_bytes = ROW_SIZE_BYTES + append(&mut self.severity_text, row.severity_text());
        for (column, field) in self.texts.iter_mut().zip(TEXT_FIELDS) {
            size_bytes += append(column, row.text(field));
        }
        for (key, value) in &row.attributes {
            size_bytes += 8 + append(self.attributes.keys(), Some(*key));
            size_bytes += append(self.attributes.values(), Some(*value));
        }
        // Keys and values grow in step, so closing the entry cannot fail.
        self.attributes.append(true).unwrap_or_default();
        self.rows += 1;
        self.size_bytes += size_bytes;
    }

    /// Adds a row given column by column.
    pub(crate) fn append_parts(&mut self, parts: &LogParts<'_>) {
        self.timestamp.append_option(parts.timestamp_us);
        self.observed_timestamp.append_option(parts.observed_timestamp_us);
        self.severity_number.append_option(parts.severity_number);
        self.level.append_option(parts.severity_number.and_then(level::name));
        let mut size_bytes = ROW_SIZE_BYTES + append(&mut self.severity_text, plain(parts.severity_text));
        for (column, text) in self.texts.iter_mut().zip(parts.texts) {
            size_bytes += append(column, plain(text));
        }
        for (key, value) in parts.attributes {
            size_bytes += 8 + append(self.attributes.keys(), Some(Str::plain(key)));
            size_bytes += append(self.attributes.values(), Some(Str::plain(value)));
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
            Arc::new(self.observed_timestamp.finish()),
            Arc::new(self.severity_number.finish()),
            Arc::new(self.level.finish()),
            Arc::new(self.severity_text.finish()),
        ];
        columns.extend(self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(self.attributes.finish()));
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(tenant, self.rows))));
        self.rows = 0;
        self.size_bytes = 0;
        RecordBatch::try_new(wire_schema(), columns)
    }
}

fn plain(text: Option<&str>) -> Option<Str<'_>> {
    text.filter(|text| !text.is_empty()).map(Str::plain)
}

/// Adds a text, unescaped on its way in; the size it counts for.
fn append(column: &mut StringBuilder, text: Option<Str<'_>>) -> usize {
    match text {
        None => {
            column.append_null();
            0
        }
        Some(text) => {
            // Writing into a builder's memory cannot fail; the empty append closes what was written.
            text.write_to(column).unwrap_or_default();
            column.append_value("");
            text.raw_size_bytes()
        }
    }
}
