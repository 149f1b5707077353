//! Samples as `io.prometheus.client.MetricFamily` messages, each with its length in front.

use highwater_promql::{BucketSpan, Histogram};
use prost::Message;

use super::names::Names;
use super::{FamilyKind, Newest, NewestValue, classic, families};

/// A page.
pub(super) fn write(samples: &[Newest], names: Names) -> Vec<u8> {
    let mut page = Vec::new();
    for (name, kind, samples) in families(samples) {
        let kind = match kind {
            FamilyKind::Untyped => MetricType::Untyped,
            FamilyKind::Histogram => MetricType::Histogram,
            FamilyKind::GaugeHistogram => MetricType::GaugeHistogram,
        };
        let family = MetricFamily {
            name: names.write(name).into_owned(),
            kind: kind.into(),
            metric: samples.iter().map(|sample| metric(sample, names)).collect(),
        };
        page.extend(family.encode_length_delimited_to_vec());
    }
    page
}

fn metric(sample: &Newest, names: Names) -> Metric {
    let label = |(name, value): (&str, &str)| LabelPair {
        name: Some(names.write(name).into_owned()),
        value: Some(value.to_owned()),
    };
    let (untyped, histogram) = match &sample.value {
        NewestValue::Float(value) => (Some(Untyped { value: Some(*value) }), None),
        NewestValue::Histogram(histogram) if histogram.is_custom() => (None, Some(classic_message(histogram))),
        NewestValue::Histogram(histogram) => (None, Some(native_message(histogram))),
    };
    Metric { label: sample.labels().map(label).collect(), untyped, timestamp_ms: Some(sample.time_ms), histogram }
}

fn classic_message(histogram: &Histogram) -> HistogramMessage {
    let bucket = |(bound, count)| Bucket { upper_bound: Some(bound), cumulative_count_float: Some(count) };
    HistogramMessage {
        sample_count_float: Some(histogram.count),
        sample_sum: Some(histogram.sum),
        bucket: classic(histogram).map(bucket).collect(),
        ..HistogramMessage::default()
    }
}

fn native_message(histogram: &Histogram) -> HistogramMessage {
    let spans = |spans: &[BucketSpan]| {
        spans.iter().map(|span| Span { offset: Some(span.offset), length: Some(span.length) }).collect()
    };
    HistogramMessage {
        sample_count_float: Some(histogram.count),
        sample_sum: Some(histogram.sum),
        schema: Some(histogram.schema),
        zero_threshold: Some(histogram.zero_threshold),
        zero_count_float: Some(histogram.zero_count),
        negative_span: spans(&histogram.negative_spans),
        negative_count: histogram.negative_buckets.clone(),
        positive_span: spans(&histogram.positive_spans),
        positive_count: histogram.positive_buckets.clone(),
        bucket: Vec::new(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Untyped = 3,
    Histogram = 4,
    GaugeHistogram = 5,
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(enumeration = "MetricType", tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Untyped>,
    #[prost(int64, optional, tag = "6")]
    timestamp_ms: Option<i64>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<HistogramMessage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Untyped {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

/// Counts are not packed: the schema is one of proto2.
#[derive(Clone, PartialEq, Message)]
struct HistogramMessage {
    #[prost(double, optional, tag = "4")]
    sample_count_float: Option<f64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(double, optional, tag = "8")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    negative_span: Vec<Span>,
    #[prost(double, repeated, packed = "false", tag = "11")]
    negative_count: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(double, repeated, packed = "false", tag = "14")]
    positive_count: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(double, optional, tag = "4")]
    cumulative_count_float: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Span {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{custom, sample};
    use super::*;

    #[test]
    fn families_are_messages_with_their_length_in_front() {
        let native = Histogram {
            schema: 1,
            count: 6.0,
            sum: 3.5,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive_spans: vec![BucketSpan { offset: -2, length: 2 }],
            positive_buckets: vec![2.0, 3.0],
            ..Histogram::default()
        };
        let samples = [
            sample(&[("__name__", "a.b"), ("job", "j")], NewestValue::Float(0.0)),
            sample(&[("__name__", "c")], custom()),
            sample(&[("__name__", "d"), ("instance", "i")], NewestValue::Histogram(Arc::new(native))),
        ];
        let page = write(&samples, Names::Underscores);
        let mut rest = page.as_slice();
        let mut next = || MetricFamily::decode_length_delimited(&mut rest).unwrap();
        let (float, classic, native) = (next(), next(), next());
        assert!(rest.is_empty());
        let label = |name: &str, value: &str| LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) };
        assert_eq!((float.name.as_str(), float.kind()), ("a_b", MetricType::Untyped));
        assert_eq!(float.metric[0].label, [label("job", "j"), label("instance", "")]);
        assert_eq!((float.metric[0].untyped.unwrap().value, float.metric[0].timestamp_ms), (Some(0.0), Some(1500)));
        let classic = classic.metric[0].histogram.as_ref().unwrap();
        assert_eq!((classic.sample_count_float, classic.sample_sum, classic.schema), (Some(5.0), Some(17.5), None));
        assert_eq!(classic.bucket[2], Bucket { upper_bound: Some(4.0), cumulative_count_float: Some(2.0) });
        assert_eq!((native.kind(), &native.metric[0].label), (MetricType::Histogram, &vec![label("instance", "i")]));
        let native = native.metric[0].histogram.as_ref().unwrap();
        assert_eq!(
            (native.schema, native.zero_count_float, native.sample_count_float),
            (Some(1), Some(1.0), Some(6.0))
        );
        assert_eq!(native.positive_span, [Span { offset: Some(-2), length: Some(2) }]);
        assert_eq!(native.positive_count, [2.0, 3.0]);
    }
}
