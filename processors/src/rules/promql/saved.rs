//! Heads in a snapshot.
//!
//! ```text
//! manifest, JSON: per tenant its series: labels, partition and offset of the newest record, number of samples
//! one batch: timestamp_ms Int64, value_bits Int64: the samples of all series, in the order of the manifest
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::runtime::ProcessorError;
use highwater_promql::Labels;
use serde::{Deserialize, Serialize};

use super::head::{Coordinate, Head};
use crate::frames;

#[derive(Serialize, Deserialize)]
struct Series {
    labels: BTreeMap<String, String>,
    newest: Option<(i32, i64)>,
    samples: usize,
}

type Manifest = Vec<(String, Vec<Series>)>;

pub(super) fn encode<'a>(heads: impl Iterator<Item = (&'a str, &'a Head)>) -> Result<Bytes, ProcessorError> {
    let mut manifest: Manifest = Vec::new();
    let (mut times, mut bits) = (Vec::new(), Vec::new());
    for (tenant, head) in heads {
        let mut all = Vec::new();
        for series in head.series() {
            times.extend_from_slice(series.timestamps_ms);
            bits.extend(series.values.iter().map(|value| value.to_bits().cast_signed()));
            all.push(Series {
                labels: series.labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
                newest: series.newest.map(|at| (at.partition, at.offset)),
                samples: series.timestamps_ms.len(),
            });
        }
        manifest.push((tenant.to_owned(), all));
    }
    let field = |name: &str| Field::new(name, DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![field("timestamp_ms"), field("value_bits")]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(times)), Arc::new(Int64Array::from(bits))])
        .map_err(|e| ProcessorError::caused("samples of rules cannot be written", e))?;
    frames::encode(&manifest, &[batch])
}

pub(super) fn decode(body: &Bytes) -> Result<Vec<(String, Head)>, ProcessorError> {
    let incomplete = || ProcessorError::new("samples of rules in the snapshot are incomplete");
    let (manifest, batches): (Manifest, Vec<RecordBatch>) = frames::decode(body)?;
    let [batch] = batches.as_slice() else { return Err(incomplete()) };
    let column = |at: usize| batch.columns().get(at).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let (Some(times), Some(bits)) = (column(0), column(1)) else { return Err(incomplete()) };
    let mut at = 0;
    let mut heads = Vec::with_capacity(manifest.len());
    for (tenant, all) in manifest {
        let mut head = Head::new();
        for series in all {
            let labels = Labels::from_pairs(series.labels.iter());
            let newest = series.newest.map(|(partition, offset)| Coordinate { partition, offset });
            if at + series.samples > times.len() {
                return Err(incomplete());
            }
            for row in at..at + series.samples {
                head.push(&labels, times.value(row), f64::from_bits(bits.value(row).cast_unsigned()), newest);
            }
            at += series.samples;
        }
        heads.push((tenant, head));
    }
    Ok(heads)
}
