//! Columns of metric rows.

use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanBuilder, Float64Builder, Int64Builder, StringArray, StringBuilder, TimestampMicrosecondBuilder,
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
    labels: StringBuilder,
    job: StringBuilder,
    instance: StringBuilder,
    service: StringBuilder,
    series_id: Int64Builder,
    temporality: StringBuilder,
    rows: usize,
    size_bytes: usize,
}

/// What a row takes beside its texts.
const ROW_SIZE_BYTES: usize = 64;

impl Default for MetricColumns {
    fn default() -> Self {
        Self {
            timestamp: TimestampMicrosecondBuilder::new().with_data_type(time::data_type()),
            name: StringBuilder::new(),
            kind: StringBuilder::new(),
            value: Float64Builder::new(),
            stale: BooleanBuilder::new(),
            labels: StringBuilder::new(),
            job: StringBuilder::new(),
            instance: StringBuilder::new(),
            service: StringBuilder::new(),
            series_id: Int64Builder::new(),
            temporality: StringBuilder::new(),
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
        self.labels.append_value(&row.labels_json);
        self.job.append_option(row.label(&["job"]));
        self.instance.append_option(row.label(&["instance"]));
        let service = row.service.as_deref();
        self.service.append_option(service.or_else(|| row.label(&["service", "service.name", "service_name"])));
        self.series_id.append_value(row.series_id());
        self.temporality.append_option(row.temporality.map(|text| text.text()));
        self.rows += 1;
        self.size_bytes += ROW_SIZE_BYTES + row.name.len() + 2 * row.labels_json.len();
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
                // Nobody writes native histograms yet.
                Arc::new(BinaryArray::new_null(rows)),
                Arc::new(self.labels.finish()),
                Arc::new(self.job.finish()),
                Arc::new(self.instance.finish()),
                Arc::new(self.service.finish()),
                Arc::new(self.series_id.finish()),
                Arc::new(self.temporality.finish()),
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(tenant, rows))),
            ],
        )
    }
}
