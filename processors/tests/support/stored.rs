//! Stored rows, out of the topics: what a table below an offset has.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::{Decoded, Decoder, RowKind};
use highwater_pipeline::log::StoredRecord;
use highwater_pipeline::runtime::{Slice, SliceRequest};

use super::Partition;

/// No slice is wider: so that there are several.
const WIDTH_US: i64 = 7_000_000;

/// The rows asked for.
pub fn slice(topics: &BTreeMap<Partition, Vec<StoredRecord>>, request: &SliceRequest) -> Slice {
    let kind = if request.table == "logs" { RowKind::Logs } else { RowKind::Metrics };
    let decoder = Decoder::new(kind);
    let topic = request.topic.as_ref().unwrap_or(&request.table);
    let records = topics.get(&(topic.clone(), request.partition)).map_or(&[][..], Vec::as_slice);
    let below = records.iter().filter(|record| record.offset < request.below_offset);
    let batches: Vec<RecordBatch> = below
        .filter_map(|record| match decoder.decode(request.partition, record) {
            Decoded::Rows { batch, .. } => Some(batch),
            _ => None,
        })
        .collect();
    let times: Vec<i64> = batches.iter().flat_map(|batch| times(batch).to_vec()).collect();
    let first = |from_us: i64| times.iter().copied().filter(|&at| at >= from_us).min();
    let Some(from_us) = first(request.from_us.unwrap_or(i64::MIN)) else {
        return Slice { batches: Vec::new(), from_us: None, until_us: 0, next_us: None };
    };
    let until_us = from_us + WIDTH_US.min(request.width_us);
    let within = |batch: &RecordBatch| {
        let kept = times_in(batch, from_us, until_us);
        filter_record_batch(batch, &kept).expect("rows")
    };
    Slice {
        batches: batches.iter().map(within).filter(|batch| batch.num_rows() > 0).collect(),
        from_us: Some(from_us),
        until_us,
        next_us: first(until_us),
    }
}

fn times(batch: &RecordBatch) -> &[i64] {
    let column = batch.column_by_name("timestamp").expect("a timestamp");
    column.as_primitive::<TimestampMicrosecondType>().values()
}

fn times_in(batch: &RecordBatch, from_us: i64, until_us: i64) -> arrow::array::BooleanArray {
    times(batch).iter().map(|at| Some((from_us..until_us).contains(at))).collect()
}
