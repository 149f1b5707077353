//! Samples that rules write, on their way to topic `metrics-recorded`: rows of the table `metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::{content_type, ipc, labels as series_labels, metrics, partitioner, time};
use highwater_pipeline::log::Record;
use highwater_pipeline::runtime::{Effects, ProcessorError};
use highwater_promql::{Labels, METRIC_NAME, is_stale};

/// Most rows of one record.
const MAX_ROWS: usize = 8_192;

/// Samples not written yet.
pub(super) struct Recorded {
    topic: Arc<str>,
    partitions: i32,
    /// Per partition and tenant.
    rows: BTreeMap<(i32, String), Rows>,
}

#[derive(Default)]
struct Rows {
    timestamps_us: Vec<i64>,
    names: Vec<String>,
    values: Vec<Option<f64>>,
    stale: Vec<bool>,
    labels: Vec<String>,
    job: Vec<Option<String>>,
    instance: Vec<Option<String>>,
    service: Vec<Option<String>>,
    series: Vec<i64>,
}

impl Recorded {
    pub(super) fn new(partitions: i32) -> Self {
        Self { topic: metrics::RECORDED_TOPIC.into(), partitions, rows: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, tenant: &str, labels: &Labels, timestamp_ms: i64, value: f64) {
        let name = labels.name().to_owned();
        let others: Vec<(&str, &str)> = labels.iter().filter(|(key, _)| *key != METRIC_NAME).collect();
        let (mut series, mut canonical) = (String::new(), String::new());
        series_labels::write_series(&name, &others, &mut series);
        series_labels::write_canonical(others.iter().copied(), &mut canonical);
        let partition = partitioner::partition(series.as_bytes(), self.partitions);
        let rows = self.rows.entry((partition, tenant.to_owned())).or_default();
        let label = |name: &str| labels.get(name).map(str::to_owned);
        rows.timestamps_us.push(timestamp_ms.saturating_mul(1_000));
        rows.names.push(name);
        rows.values.push((!is_stale(value)).then_some(value));
        rows.stale.push(is_stale(value));
        rows.labels.push(canonical);
        rows.job.push(label("job"));
        rows.instance.push(label("instance"));
        rows.service.push(label("service").or_else(|| label("service_name")));
        rows.series.push(series_labels::series_id(&series));
    }

    /// Writes all of them.
    pub(super) fn flush(&mut self, effects: &mut Effects) -> Result<(), ProcessorError> {
        for ((partition, tenant), rows) in std::mem::take(&mut self.rows) {
            let batch = rows.batch(&tenant)?;
            let mut from = 0;
            while from < batch.num_rows() {
                let size = MAX_ROWS.min(batch.num_rows() - from);
                let value = ipc::encode(&batch.slice(from, size))
                    .map_err(|e| ProcessorError::caused("recorded samples cannot be encoded", e))?;
                let record = Record {
                    key: None,
                    value: Some(value),
                    headers: vec![content_type::header(content_type::ARROW)],
                    timestamp_ms: None,
                };
                effects.push(&self.topic, partition, record);
                from += size;
            }
        }
        Ok(())
    }
}

impl Rows {
    fn batch(self, tenant: &str) -> Result<RecordBatch, ProcessorError> {
        let schema = metrics::wire_schema();
        let count = self.names.len();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        let text = |texts: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
        let (mut job, mut instance, mut service) = (Some(self.job), Some(self.instance), Some(self.service));
        for field in schema.fields() {
            let column: ArrayRef = match field.name().as_str() {
                "timestamp" => {
                    Arc::new(TimestampMicrosecondArray::from(self.timestamps_us.clone()).with_timezone(time::ZONE))
                }
                "name" => Arc::new(StringArray::from(self.names.clone())),
                "value" => Arc::new(Float64Array::from(self.values.clone())),
                "stale" => Arc::new(BooleanArray::from(self.stale.clone())),
                "histogram" => Arc::new(BinaryArray::from(vec![None::<&[u8]>; count])),
                "labels" => Arc::new(StringArray::from(self.labels.clone())),
                "job" => text(job.take().unwrap_or_default()),
                "instance" => text(instance.take().unwrap_or_default()),
                "service" => text(service.take().unwrap_or_default()),
                "series_id" => Arc::new(Int64Array::from(self.series.clone())),
                "tenant" => Arc::new(StringArray::from(vec![tenant; count])),
                _ => new_null_array(field.data_type(), count),
            };
            let column = arrow::compute::cast(&column, field.data_type())
                .map_err(|e| ProcessorError::caused("recorded samples cannot be written", e))?;
            columns.push(column);
        }
        RecordBatch::try_new(schema, columns)
            .map_err(|e| ProcessorError::caused("recorded samples cannot be written", e))
    }
}
