//! Native histograms as protobuf messages, which is how senders and stores have them.

use prost::Message;

use super::{BucketSpan, CounterResetHint, Histogram};

/// `prometheus.Histogram` of remote write 1.0.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<StoredSpan>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<StoredSpan>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

impl Histogram {
    /// From a message `prometheus.Histogram` of remote write, 1.0 or 2.0, which number its fields the same.
    ///
    /// # Errors
    /// Why it is none, or what of it does not fit together.
    pub fn from_message(message: &[u8]) -> Result<Self, String> {
        let stored = Stored::decode(message).map_err(|e| e.to_string())?;
        let whole = |count: Option<u64>| count.unwrap_or_default() as f64;
        let histogram = Histogram {
            counter_reset_hint: match stored.reset_hint {
                1 => CounterResetHint::CounterReset,
                2 => CounterResetHint::NotCounterReset,
                3 => CounterResetHint::Gauge,
                _ => CounterResetHint::Unknown,
            },
            schema: stored.schema,
            zero_threshold: stored.zero_threshold,
            zero_count: stored.zero_count_float.unwrap_or_else(|| whole(stored.zero_count_int)),
            count: stored.count_float.unwrap_or_else(|| whole(stored.count_int)),
            sum: stored.sum,
            positive_spans: spans(&stored.positive_spans),
            negative_spans: spans(&stored.negative_spans),
            positive_buckets: counts(&stored.positive_deltas, stored.positive_counts),
            negative_buckets: counts(&stored.negative_deltas, stored.negative_counts),
            custom_values: stored.custom_values,
        };
        histogram.validate()?;
        Ok(histogram)
    }

    /// As a message of float counts. It comes back bit by bit.
    #[must_use]
    pub fn to_message(&self) -> Vec<u8> {
        let spans = |spans: &[BucketSpan]| {
            spans.iter().map(|span| StoredSpan { offset: span.offset, length: span.length }).collect()
        };
        let stored = Stored {
            count_float: Some(self.count),
            sum: self.sum,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count_float: Some(self.zero_count),
            negative_spans: spans(&self.negative_spans),
            negative_counts: self.negative_buckets.clone(),
            positive_spans: spans(&self.positive_spans),
            positive_counts: self.positive_buckets.clone(),
            reset_hint: match self.counter_reset_hint {
                CounterResetHint::Unknown => 0,
                CounterResetHint::CounterReset => 1,
                CounterResetHint::NotCounterReset => 2,
                CounterResetHint::Gauge => 3,
            },
            custom_values: self.custom_values.clone(),
            ..Stored::default()
        };
        stored.encode_to_vec()
    }
}

fn spans(stored: &[StoredSpan]) -> Vec<BucketSpan> {
    stored.iter().map(|span| BucketSpan { offset: span.offset, length: span.length }).collect()
}

/// Counts of buckets: as they are, or as sums of differences.
fn counts(deltas: &[i64], counts: Vec<f64>) -> Vec<f64> {
    if !counts.is_empty() {
        return counts;
    }
    let mut count = 0_i64;
    let next = |delta: &i64| {
        count = count.saturating_add(*delta);
        count as f64
    };
    deltas.iter().map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_sums_of_differences() {
        let stored = Stored {
            count_int: Some(12),
            sum: 18.4,
            zero_threshold: 0.001,
            zero_count_int: Some(2),
            positive_spans: vec![StoredSpan { offset: 0, length: 2 }, StoredSpan { offset: 1, length: 2 }],
            positive_deltas: vec![1, 1, -1, 0],
            negative_spans: vec![StoredSpan { offset: -3, length: 1 }],
            negative_deltas: vec![5],
            reset_hint: 3,
            ..Stored::default()
        };
        let histogram = Histogram::from_message(&stored.encode_to_vec()).unwrap();
        assert_eq!(histogram.positive_buckets, [1.0, 2.0, 1.0, 1.0]);
        assert_eq!(histogram.negative_buckets, [5.0]);
        assert_eq!((histogram.count, histogram.zero_count, histogram.sum), (12.0, 2.0, 18.4));
        assert_eq!(histogram.positive_spans[1], BucketSpan { offset: 1, length: 2 });
        assert_eq!(histogram.counter_reset_hint, CounterResetHint::Gauge);
        assert_eq!(Histogram::from_message(&histogram.to_message()).unwrap(), histogram);
    }

    #[test]
    fn floats_and_custom_bounds_are_as_they_are() {
        let stored = Stored {
            schema: -53,
            count_float: Some(2.5),
            sum: 1.0,
            positive_spans: vec![StoredSpan { offset: 0, length: 2 }],
            positive_counts: vec![1.5, 1.0],
            custom_values: vec![0.5],
            ..Stored::default()
        };
        let histogram = Histogram::from_message(&stored.encode_to_vec()).unwrap();
        assert!(histogram.is_custom());
        assert_eq!(Histogram::from_message(&histogram.to_message()).unwrap(), histogram);
        assert_eq!((histogram.positive_buckets, histogram.custom_values), (vec![1.5, 1.0], vec![0.5]));
    }

    #[test]
    fn what_is_no_histogram_is_an_error() {
        assert!(Histogram::from_message(b"\xff").is_err());
        let spans_without_buckets =
            Stored { positive_spans: vec![StoredSpan { offset: 0, length: 5 }], ..Stored::default() };
        assert!(Histogram::from_message(&spans_without_buckets.encode_to_vec()).is_err());
    }
}
