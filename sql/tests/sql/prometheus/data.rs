//! Series of tests, and the way into the log for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::SchemaRef;
use highwater_pipeline::data::{labels, metrics};
use highwater_pipeline::log::Log;
use highwater_pipeline::tables::{TableSpec, built_in_tables};

use crate::fixture::Fixture;

/// 2026-01-02T03:00:00Z, when the data of these tests begins; Unix milliseconds.
pub(super) const BEGIN_MS: i64 = 1_767_322_800_000;

/// A series: its labels, its kind, and its samples; a value that is `None` is a staleness marker.
#[derive(Debug, Clone)]
pub(super) struct TestSeries {
    /// With `__name__`.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) kind: Option<&'static str>,
    pub(super) samples: Vec<(i64, Option<f64>)>,
    /// Native histograms, as messages of remote write 1.0.
    pub(super) histograms: Vec<(i64, Vec<u8>)>,
}

impl TestSeries {
    /// Of `name` and pairs of labels, with values 15 seconds apart from the beginning on.
    pub(super) fn new(name: &str, pairs: &[(&str, &str)], values: &[f64]) -> Self {
        let labels =
            [("__name__", name)].into_iter().chain(pairs.iter().copied()).map(|(k, v)| (k.to_owned(), v.to_owned()));
        let sample = |(i, value): (usize, &f64)| (BEGIN_MS + i64::try_from(i).unwrap() * 15_000, Some(*value));
        Self {
            labels: labels.collect(),
            kind: None,
            samples: values.iter().enumerate().map(sample).collect(),
            histograms: Vec::new(),
        }
    }

    /// The partition it belongs to.
    fn partition(&self) -> i32 {
        i32::try_from(self.labels.len() + self.labels["__name__"].len()).unwrap() % 4
    }

    /// Rows of these samples, in microseconds as the table has them.
    pub(super) fn rows(&self, samples: &[(i64, Option<f64>)]) -> RecordBatch {
        let us: Vec<_> = samples.iter().map(|(time_ms, value)| (time_ms * 1000, *value)).collect();
        self.rows_us("default", &us)
    }

    /// The same of a tenant, times in microseconds.
    pub(super) fn rows_us(&self, tenant: &str, samples: &[(i64, Option<f64>)]) -> RecordBatch {
        let times_us: Vec<i64> = samples.iter().map(|s| s.0).collect();
        let values: Vec<Option<f64>> = samples.iter().map(|s| s.1).collect();
        let stale = samples.iter().map(|s| s.1.is_none()).collect();
        self.batch(tenant, &times_us, values, stale, &vec![None; samples.len()])
    }

    /// Rows of native histograms.
    pub(super) fn histogram_rows(&self, histograms: &[(i64, Vec<u8>)]) -> RecordBatch {
        let times_us: Vec<i64> = histograms.iter().map(|(time_ms, _)| time_ms * 1000).collect();
        let messages: Vec<Option<&[u8]>> = histograms.iter().map(|(_, message)| Some(message.as_slice())).collect();
        self.batch("default", &times_us, vec![None; times_us.len()], vec![false; times_us.len()], &messages)
    }

    fn batch(
        &self,
        tenant: &str,
        times_us: &[i64],
        values: Vec<Option<f64>>,
        stale: Vec<bool>,
        histograms: &[Option<&[u8]>],
    ) -> RecordBatch {
        let count = times_us.len();
        let name = self.labels["__name__"].clone();
        let others: Vec<(&str, &str)> =
            self.labels.iter().filter(|(k, _)| *k != "__name__").map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let (mut text, mut series) = (String::new(), String::new());
        labels::write_canonical(others.iter().copied(), &mut text);
        labels::write_series(&name, &others, &mut series);
        let texts = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; count])) };
        let schema = metrics::wire_schema();
        let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
            match field.name().as_str() {
                "timestamp" => Arc::new(TimestampMicrosecondArray::from(times_us.to_vec()).with_timezone("UTC")),
                "name" => texts(&name),
                "kind" => Arc::new(StringArray::from(vec![self.kind; count])),
                "value" => Arc::new(values.iter().copied().collect::<Float64Array>()),
                "stale" => Arc::new(BooleanArray::from(stale.clone())),
                "histogram" if histograms.iter().any(Option::is_some) => {
                    Arc::new(BinaryArray::from(histograms.to_vec()))
                }
                "labels" => texts(&text),
                "series_id" => Arc::new(Int64Array::from(vec![labels::series_id(&series); count])),
                "tenant" => texts(tenant),
                _ => new_null_array(field.data_type(), count),
            }
        };
        RecordBatch::try_new(SchemaRef::clone(&schema), schema.fields().iter().map(column).collect()).unwrap()
    }
}

/// The table of metrics.
pub(super) fn metrics_table() -> TableSpec {
    built_in_tables().into_iter().find(|table| table.name == "metrics").unwrap()
}

impl<L: Log> Fixture<L> {
    /// Appends samples of a series to the partition it belongs to, as one record.
    pub(super) async fn put(&self, series: &TestSeries, samples: &[(i64, Option<f64>)]) {
        self.append_rows("metrics", series.partition(), &series.rows(samples)).await;
    }

    /// All samples of these series: a third in one commit of the table, a third in another, the rest in the log.
    pub(super) async fn put_all(&self, all: &[TestSeries]) {
        let table = metrics_table();
        for part in 0..3 {
            for series in all {
                let count = series.samples.len();
                let samples = &series.samples[count * part / 3..count * (part + 1) / 3];
                if !samples.is_empty() {
                    self.put(series, samples).await;
                }
                let count = series.histograms.len();
                let histograms = &series.histograms[count * part / 3..count * (part + 1) / 3];
                if !histograms.is_empty() {
                    self.append_rows("metrics", series.partition(), &series.histogram_rows(histograms)).await;
                }
            }
            if part < 2 {
                self.commit(&table).await;
            }
        }
    }
}
