//! Heads in a snapshot.
//!
//! ```text
//! manifest, JSON: per tenant its series: labels, partition and offset of the newest record, number of samples
//! one batch: timestamp_ms Int64, value_bits Int64, offset Int64: the samples of all series, in the order of the manifest
//! ```
//!
//! An offset is that of the sample's record, -1 where rules wrote it. Snapshots of earlier versions have none. Where there are native histograms, another
//! batch has them: series Int64 (its place in the manifest, all tenants counted through), timestamp_ms, offset, histogram Binary (the message as in
//! table `metrics`, of float counts).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::runtime::ProcessorError;
use highwater_promql::head::HistogramPoint;
use highwater_promql::{Histogram, Labels, Sample};
use serde::{Deserialize, Serialize};

use super::head::{Coordinate, Head, NO_RECORD};
use crate::frames;

/// A series; labels are a JSON object, in order.
#[derive(Serialize, Deserialize)]
struct Series<L> {
    labels: L,
    newest: Option<(i32, i64)>,
    samples: usize,
}

type Manifest<L> = Vec<(String, Vec<Series<L>>)>;

pub(super) fn encode<'a>(heads: impl Iterator<Item = (&'a str, &'a Head)>) -> Result<Bytes, ProcessorError> {
    let mut manifest: Manifest<&Labels> = Vec::new();
    let (mut times, mut bits, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut native, mut place) = (Native::default(), 0);
    for (tenant, head) in heads {
        let mut all = Vec::new();
        for series in head.series() {
            let before = times.len();
            for point in series.points() {
                times.push(point.time_ms);
                offsets.push(point.mark);
                bits.push(point.value.to_bits().cast_signed());
            }
            series.histograms().iter().for_each(|point| native.push(place, point));
            place += 1;
            all.push(Series {
                labels: series.labels,
                // Only the partition is read of it.
                newest: series.partition.map(|of| (of, offsets[before..].last().copied().unwrap_or(NO_RECORD))),
                samples: times.len() - before,
            });
        }
        manifest.push((tenant.to_owned(), all));
    }
    let field = |name: &str| Field::new(name, DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![field("timestamp_ms"), field("value_bits"), field("offset")]));
    let columns = [times, bits, offsets].map(|column| Arc::new(Int64Array::from(column)) as _);
    let batch = RecordBatch::try_new(schema, columns.to_vec())
        .map_err(|e| ProcessorError::caused("samples of rules cannot be written", e))?;
    let native =
        native.batch().map_err(|e| ProcessorError::caused("native histograms of rules cannot be written", e))?;
    frames::encode(&manifest, &[batch].into_iter().chain(native).collect::<Vec<_>>())
}

/// Native histograms of all series.
#[derive(Default)]
struct Native {
    series: Vec<i64>,
    times: Vec<i64>,
    offsets: Vec<i64>,
    messages: Vec<Vec<u8>>,
}

impl Native {
    fn push(&mut self, series: i64, point: &HistogramPoint) {
        self.series.push(series);
        self.times.push(point.time_ms);
        self.offsets.push(point.mark);
        self.messages.push(point.histogram.to_message());
    }

    /// `None` where there are none.
    fn batch(self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.series.is_empty() {
            return Ok(None);
        }
        let numbers = |numbers: Vec<i64>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
        RecordBatch::try_from_iter([
            ("series", numbers(self.series)),
            ("timestamp_ms", numbers(self.times)),
            ("offset", numbers(self.offsets)),
            ("histogram", Arc::new(BinaryArray::from_iter_values(self.messages)) as ArrayRef),
        ])
        .map(Some)
    }

    /// By series.
    fn read(batch: &RecordBatch) -> Result<BTreeMap<i64, Vec<HistogramPoint>>, ProcessorError> {
        let incomplete = || ProcessorError::new("native histograms of rules in the snapshot are incomplete");
        let column = |at: usize| batch.columns().get(at).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (Some(series), Some(times), Some(offsets)) = (column(0), column(1), column(2)) else {
            return Err(incomplete());
        };
        let messages = batch.columns().get(3).and_then(|c| c.as_binary_opt::<i32>()).ok_or_else(incomplete)?;
        let mut by_series: BTreeMap<i64, Vec<HistogramPoint>> = BTreeMap::new();
        for row in 0..batch.num_rows() {
            let histogram = Histogram::from_message(messages.value(row)).map_err(|e| {
                ProcessorError::new(format!("a native histogram of rules in the snapshot is unreadable: {e}"))
            })?;
            let (time_ms, mark) = (times.value(row), offsets.value(row));
            let one = HistogramPoint { time_ms, histogram: Arc::new(histogram), mark };
            by_series.entry(series.value(row)).or_default().push(one);
        }
        Ok(by_series)
    }
}

pub(super) fn decode(body: &Bytes) -> Result<Vec<(String, Head)>, ProcessorError> {
    let incomplete = || ProcessorError::new("samples of rules in the snapshot are incomplete");
    let (manifest, batches): (Manifest<BTreeMap<String, String>>, Vec<RecordBatch>) = frames::decode(body)?;
    let (batch, mut native) = match batches.as_slice() {
        [batch] => (batch, BTreeMap::new()),
        [batch, native] => (batch, Native::read(native)?),
        _ => return Err(incomplete()),
    };
    let mut place = 0;
    let column = |at: usize| batch.columns().get(at).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let (Some(times), Some(bits)) = (column(0), column(1)) else { return Err(incomplete()) };
    let offsets = column(2);
    let mut at = 0;
    let mut heads = Vec::with_capacity(manifest.len());
    for (tenant, all) in manifest {
        let mut head = Head::new();
        for series in all {
            let labels = Labels::from_pairs(series.labels.iter());
            let partition = series.newest.map(|(partition, _)| partition);
            if at + series.samples > times.len() {
                return Err(incomplete());
            }
            let mut slot = None;
            for row in at..at + series.samples {
                let offset = offsets.map_or(NO_RECORD, |offsets| offsets.value(row));
                let from = partition.map(|partition| Coordinate { partition, offset });
                let (at_ms, value) = (times.value(row), f64::from_bits(bits.value(row).cast_unsigned()));
                match slot {
                    Some(slot) => head.put_at(slot, at_ms, value, from),
                    None => slot = Some(head.put(&labels, at_ms, value, from).slot),
                }
            }
            for point in native.remove(&place).unwrap_or_default() {
                let from = partition.map(|partition| Coordinate { partition, offset: point.mark });
                head.put_sample(&labels, point.time_ms, Sample::Histogram(point.histogram), from);
            }
            place += 1;
            at += series.samples;
        }
        heads.push((tenant, head));
    }
    Ok(heads)
}
