//! Exponential histograms as native histograms: the same buckets, numbered from another end, in the message of `data::histogram`.

use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;

use crate::data::histogram;
use crate::data::protobuf::{put_bytes, put_double, put_varint, to_zigzag, write_varint};

/// Finest and coarsest resolution of a native histogram.
const MAX_SCHEMA: i32 = 8;
const MIN_SCHEMA: i32 = -4;
/// What counts as zero where the sender does not say, as Prometheus has it.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets between others that are written rather than skipped: a new span costs more.
const MAX_GAP: i64 = 2;
/// Resets need not be looked for in deltas: each stands for itself.
const HINT_GAUGE: u64 = 3;

/// The native histogram of a point. Finer resolutions than there are become coarser by merging buckets.
pub(super) fn native(point: &ExponentialHistogramDataPoint, is_delta: bool) -> Result<Vec<u8>, &'static str> {
    if point.scale < MIN_SCHEMA {
        return Err("a scale below -4, which no native histogram has");
    }
    // More than 31 steps leave at most one bucket on each side of 1.
    let merged = (point.scale - MAX_SCHEMA).clamp(0, 63);
    let mut message = Vec::with_capacity(64);
    put_varint(1, point.count, &mut message);
    put_double(3, point.sum.unwrap_or(0.0), &mut message);
    put_varint(4, to_zigzag(i64::from(point.scale.min(MAX_SCHEMA))), &mut message);
    let threshold = if point.zero_threshold == 0.0 { ZERO_THRESHOLD } else { point.zero_threshold };
    put_double(5, threshold, &mut message);
    put_varint(6, point.zero_count, &mut message);
    for (buckets, spans, deltas) in [(&point.negative, 8, 9), (&point.positive, 11, 12)] {
        if let Some(buckets) = buckets {
            side(buckets, merged, spans, deltas, &mut message);
        }
    }
    if is_delta {
        put_varint(14, HINT_GAUGE, &mut message);
    }
    let at_ms = |unix_nano: u64| unix_nano / 1_000_000;
    put_varint(15, at_ms(point.time_unix_nano), &mut message);
    if point.start_time_unix_nano != 0 {
        put_varint(17, at_ms(point.start_time_unix_nano), &mut message);
    }
    match histogram::check(&message) {
        Ok(Ok(_)) => Ok(message),
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err("a shape that cannot be written"),
    }
}

/// Writes spans and counts of one side. A bucket of OTLP lies above its lower bound, one of Prometheus below its upper one: the index is one more.
fn side(buckets: &Buckets, merged: i32, spans_field: u32, deltas_field: u32, message: &mut Vec<u8>) {
    let (mut spans, mut deltas): (Vec<(i64, u64)>, Vec<u8>) = (Vec::new(), Vec::new());
    let (mut count_before, mut end) = (0i64, 0i64);
    let mut put = |index: i64, count: u64| {
        let gap = index - end;
        let mut write = |count: i64| {
            write_varint(to_zigzag(count.wrapping_sub(count_before)), &mut deltas);
            count_before = count;
        };
        match spans.last_mut() {
            Some((_, length)) if gap <= MAX_GAP => {
                (0..gap).for_each(|_| write(0));
                *length += gap.unsigned_abs() + 1;
            }
            _ => spans.push((gap, 1)),
        }
        write(i64::try_from(count).unwrap_or(i64::MAX));
        end = index + 1;
    };
    let mut open: Option<(i64, u64)> = None;
    for (at, &count) in (0i64..).zip(&buckets.bucket_counts) {
        let index = ((i64::from(buckets.offset) + at) >> merged) + 1;
        match &mut open {
            Some((known, sum)) if *known == index => *sum = sum.saturating_add(count),
            _ => {
                if let Some((index, count)) = open.replace((index, count)).filter(|&(_, count)| count > 0) {
                    put(index, count);
                }
            }
        }
    }
    if let Some((index, count)) = open.filter(|&(_, count)| count > 0) {
        put(index, count);
    }
    for (offset, length) in spans {
        let mut span = Vec::with_capacity(8);
        put_varint(1, to_zigzag(offset), &mut span);
        put_varint(2, length, &mut span);
        put_bytes(spans_field, &span, message);
    }
    if !deltas.is_empty() {
        put_bytes(deltas_field, &deltas, message);
    }
}
