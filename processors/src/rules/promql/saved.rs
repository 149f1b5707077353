//! Heads in a snapshot.
//!
//! ```text
//! manifest, JSON: per tenant its series: labels, partition and offset of the newest record, number of samples
//! one batch: timestamp_ms Int64, value_bits Int64, offset Int64: the samples of all series, in the order of the manifest
//! ```
//!
//! An offset is that of the sample's record, -1 where rules wrote it. Snapshots of earlier versions have none.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::runtime::ProcessorError;
use highwater_promql::Labels;
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
    for (tenant, head) in heads {
        let mut all = Vec::new();
        for series in head.series() {
            let before = times.len();
            for point in series.points() {
                times.push(point.time_ms);
                offsets.push(point.mark);
                bits.push(point.value.to_bits().cast_signed());
            }
            all.push(Series {
                labels: series.labels,
                newest: series.partition.zip(offsets[before..].last().copied()),
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
    frames::encode(&manifest, &[batch])
}

pub(super) fn decode(body: &Bytes) -> Result<Vec<(String, Head)>, ProcessorError> {
    let incomplete = || ProcessorError::new("samples of rules in the snapshot are incomplete");
    let (manifest, batches): (Manifest<BTreeMap<String, String>>, Vec<RecordBatch>) = frames::decode(body)?;
    let [batch] = batches.as_slice() else { return Err(incomplete()) };
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
            at += series.samples;
        }
        heads.push((tenant, head));
    }
    Ok(heads)
}
