//! A remote write request, version 1: protobuf in snappy's block format.

use highwater_promql::{BucketSpan, CounterResetHint, Histogram};

use super::super::data::TestSeries;

/// All samples of these series.
pub(super) fn request(all: &[TestSeries]) -> Vec<u8> {
    let mut request = Vec::new();
    for series in all {
        let mut message = Vec::new();
        for (name, value) in &series.labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut message, 1, &label);
        }
        for (time_ms, value) in &series.samples {
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&value.unwrap_or(highwater_promql::STALE_NAN).to_le_bytes());
            sample.push(2 << 3);
            varint(&mut sample, u64::try_from(*time_ms).unwrap());
            field(&mut message, 2, &sample);
        }
        for (_, histogram) in &series.histograms {
            field(&mut message, 4, histogram);
        }
        field(&mut request, 1, &message);
    }
    snap::raw::Encoder::new().compress_vec(&request).unwrap()
}

/// A histogram of floats at a time: `prometheus.Histogram`.
pub(super) fn histogram(h: &Histogram, time_ms: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let double = |out: &mut Vec<u8>, number: u64, value: f64| {
        varint(out, number << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
    };
    let packed = |out: &mut Vec<u8>, number: u64, values: &[f64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        if !bytes.is_empty() {
            field(out, number, &bytes);
        }
    };
    let spans = |out: &mut Vec<u8>, number: u64, spans: &[BucketSpan]| {
        for span in spans {
            let mut message = vec![1 << 3];
            varint(&mut message, zigzag(span.offset));
            message.push(2 << 3);
            varint(&mut message, u64::from(span.length));
            field(out, number, &message);
        }
    };
    double(&mut out, 2, h.count);
    double(&mut out, 3, h.sum);
    varint(&mut out, 4 << 3);
    varint(&mut out, zigzag(h.schema));
    double(&mut out, 5, h.zero_threshold);
    double(&mut out, 7, h.zero_count);
    spans(&mut out, 8, &h.negative_spans);
    packed(&mut out, 10, &h.negative_buckets);
    spans(&mut out, 11, &h.positive_spans);
    packed(&mut out, 13, &h.positive_buckets);
    if h.counter_reset_hint == CounterResetHint::Gauge {
        out.extend_from_slice(&[14 << 3, 3]);
    }
    varint(&mut out, 15 << 3);
    varint(&mut out, u64::try_from(time_ms).unwrap());
    packed(&mut out, 16, &h.custom_values);
    out
}

fn zigzag(number: i32) -> u64 {
    ((i64::from(number) << 1) ^ (i64::from(number) >> 63)) as u64
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
