//! Columns of metric rows.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringArray, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::{MetricRow, wire_schema};
use crate::data::time;

/// Metric rows of one record on their way into Arrow.
#[derive(Debug)]
pub(crate) struct MetricColumns {
    timestamp: TimestampMicrosecondBuilder,
    name: StringBuilder,
    kind: StringBuilder,
    value: Float64Builder,
    stale: BooleanBuilder,
    histogram: BinaryBuilder,
    labels: StringBuilder,
    job: StringBuilder,
    instance: StringBuilder,
    service: StringBuilder,
    series_id: Int64Builder,
    temporality: StringBuilder,
    start_timestamp: TimestampMicrosecondBuilder,
    rows: usize,
    size_bytes: usize,
}

/// A sample that was not read from a JSON entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetricParts<'a> {
    /// Event time, Unix microseconds.
    pub(crate) timestamp_us: Option<i64>,
    /// When the series began to count, Unix microseconds.
    pub(crate) start_timestamp_us: Option<i64>,
    /// The name, not empty.
    pub(crate) name: &'a str,
    /// Counter, gauge, histogram or summary.
    pub(crate) kind: Option<&'static str>,
    pub(crate) sample: Sample<'a>,
    /// Canonical labels without the name, in pieces.
    pub(crate) labels: [&'a str; 2],
    pub(crate) job: Option<&'a str>,
    pub(crate) instance: Option<&'a str>,
    pub(crate) service: Option<&'a str>,
    pub(crate) series_id: i64,
    pub(crate) temporality: Option<&'static str>,
}

/// What was sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sample<'a> {
    Value(f64),
    /// A native histogram, see `docs/formats/records.md`.
    Histogram(&'a [u8]),
    /// A staleness marker.
    Stale,
}

/// What a row takes beside its texts.
const ROW_SIZE_BYTES: usize = 64;

impl Default for MetricColumns {
    fn default() -> Self {
        let instants = || TimestampMicrosecondBuilder::new().with_data_type(time::data_type());
        Self {
            timestamp: instants(),
            name: StringBuilder::new(),
            kind: StringBuilder::new(),
            value: Float64Builder::new(),
            stale: BooleanBuilder::new(),
            histogram: BinaryBuilder::new(),
            labels: StringBuilder::new(),
            job: StringBuilder::new(),
            instance: StringBuilder::new(),
            service: StringBuilder::new(),
            series_id: Int64Builder::new(),
            temporality: StringBuilder::new(),
            start_timestamp: instants(),
            rows: 0,
            size_bytes: 0,
        }
    }
}

impl MetricColumns {
    /// Adds a row.
    pub(crate) fn append(&mut self, row: &MetricRow<'_>) {
        self.timestamp.append_option(row.timestamp_us);
        self.name.append_value(&row.name);
        self.kind.append_option(row.kind);
        self.value.append_option(row.value);
        self.stale.append_value(row.stale);
        self.histogram.append_option(row.histogram.as_deref());
        self.labels.append_value(&row.labels_json);
        self.job.append_option(row.label(&["job"]));
        self.instance.append_option(row.label(&["instance"]));
        let service = row.service.as_deref();
        self.service.append_option(service.or_else(|| row.label(&["service", "service.name", "service_name"])));
        self.series_id.append_value(row.series_id());
        self.temporality.append_option(row.temporality.map(|text| text.text()));
        self.start_timestamp.append_option(row.start_timestamp_us);
        self.rows += 1;
        self.size_bytes += ROW_SIZE_BYTES + row.name.len() + 2 * row.labels_json.len();
        self.size_bytes += row.histogram.as_ref().map_or(0, Vec::len);
    }

    /// Adds a row given column by column.
    pub(crate) fn append_parts(&mut self, parts: &MetricParts<'_>) {
        self.timestamp.append_option(parts.timestamp_us);
        self.name.append_value(parts.name);
        self.kind.append_option(parts.kind);
        let (value, histogram) = match parts.sample {
            Sample::Value(value) => (Some(value), None),
            Sample::Histogram(bytes) => (None, Some(bytes)),
            Sample::Stale => (None, None),
        };
        self.value.append_option(value);
        self.stale.append_value(parts.sample == Sample::Stale);
        self.histogram.append_option(histogram);
        let [first, rest] = parts.labels;
        // Writing into a builder's memory cannot fail; the append closes what was written.
        self.labels.write_str(first).unwrap_or_default();
        self.labels.append_value(rest);
        self.job.append_option(parts.job);
        self.instance.append_option(parts.instance);
        self.service.append_option(parts.service);
        self.series_id.append_value(parts.series_id);
        self.temporality.append_option(parts.temporality);
        self.start_timestamp.append_option(parts.start_timestamp_us);
        self.rows += 1;
        let texts = [parts.job, parts.instance, parts.service].into_iter().flatten().map(str::len).sum::<usize>();
        let labels_size_bytes = first.len() + rest.len();
        self.size_bytes +=
            ROW_SIZE_BYTES + parts.name.len() + labels_size_bytes + texts + histogram.map_or(0, <[u8]>::len);
    }

    /// About how large the columns are, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The rows so far, in the wire schema; empties the columns.
    pub(crate) fn finish(&mut self, tenant: &str) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.size_bytes = 0;
        RecordBatch::try_new(
            wire_schema(),
            vec![
                Arc::new(self.timestamp.finish()),
                Arc::new(self.name.finish()),
                Arc::new(self.kind.finish()),
                Arc::new(self.value.finish()),
                Arc::new(self.stale.finish()),
                Arc::new(self.histogram.finish()),
                Arc::new(self.labels.finish()),
                Arc::new(self.job.finish()),
                Arc::new(self.instance.finish()),
                Arc::new(self.service.finish()),
                Arc::new(self.series_id.finish()),
                Arc::new(self.temporality.finish()),
                Arc::new(self.start_timestamp.finish()),
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(tenant, rows))),
            ],
        )
    }
}
