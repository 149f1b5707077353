//! Data points to samples, as Prometheus has them.
//!
//! | OTLP | becomes |
//! |---|---|
//! | sum, monotonic | a counter `<name>_total` |
//! | sum, not monotonic; gauge | a gauge |
//! | histogram | `<name>_bucket` by `le`, `<name>_sum`, `<name>_count` |
//! | exponential histogram | `<name>` with a native histogram ([`exponential`](super::exponential)) |
//! | summary | `<name>` by `quantile`, `<name>_sum`, `<name>_count` |
//! | a resource's other attributes | labels of `target_info` |
//! | a scope's name, version, schema URL and attributes | labels `otel_scope_name`, `otel_scope_version`, `otel_scope_schema_url`, `otel_scope_<key>` |
//!
//! `job` is `service.namespace/service.name`, `instance` is `service.instance.id`. A point flagged "no recorded value" is a
//! staleness marker. Exemplars have no place in the tables; the sink is told how many there were.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::names::{self, Suffix};
use super::{Encoding, MetricSink, OtlpError, decode, exponential, instant_us, parts, value};
use crate::data::json::{Limits, Str};
use crate::data::metrics::MetricRow;
use crate::data::refusal::Refusal;

const NAMESPACE: &str = "service.namespace";
const SERVICE: &str = "service.name";
const INSTANCE: &str = "service.instance.id";
/// Bit of a point's flags: it says that there is no value.
const NO_RECORDED_VALUE: u32 = 1;
/// `AGGREGATION_TEMPORALITY_DELTA` and `_CUMULATIVE`.
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// Reads an `ExportMetricsServiceRequest`.
pub(crate) fn read_metrics(
    bytes: &[u8],
    encoding: Encoding,
    limits: &Limits,
    sink: &mut impl MetricSink,
) -> Result<(), OtlpError> {
    let request: ExportMetricsServiceRequest = decode(bytes, encoding, "metrics", parts::METRICS)?;
    let mut reader = Reader { limits, sink, index: 0, latest_us: None, refused_before: None };
    for resource_metrics in &request.resource_metrics {
        let attributes = resource_metrics.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let target = Target::of(attributes);
        reader.latest_us = None;
        for scope_metrics in &resource_metrics.scope_metrics {
            let scope = scope_labels(scope_metrics.scope.as_ref(), &scope_metrics.schema_url, limits);
            for metric in &scope_metrics.metrics {
                reader.metric(&target, scope.as_deref(), metric);
            }
        }
        reader.target_info(&target, attributes);
    }
    Ok(())
}

/// A label, its name translated.
type Label<'a> = (Cow<'a, str>, Cow<'a, str>);
/// Labels, in any order.
type Labels<'a> = Vec<Label<'a>>;

/// Who is measured.
struct Target<'a> {
    service: Option<Cow<'a, str>>,
    labels: Labels<'a>,
}

impl<'a> Target<'a> {
    fn of(attributes: &'a [KeyValue]) -> Self {
        let service = value::attribute(attributes, SERVICE);
        let job = service.clone().map(|name| match value::attribute(attributes, NAMESPACE) {
            Some(namespace) => Cow::Owned(format!("{namespace}/{name}")),
            None => name,
        });
        let instance = value::attribute(attributes, INSTANCE);
        let known = [("job", job), ("instance", instance)];
        let labels = known.into_iter().filter_map(|(name, text)| Some((Cow::Borrowed(name), text?))).collect();
        Self { service, labels }
    }
}

/// What the labels of a scope are; an error refuses all that was measured in it.
fn scope_labels<'a>(
    scope: Option<&'a InstrumentationScope>,
    schema_url: &'a str,
    limits: &Limits,
) -> Result<Labels<'a>, Refusal> {
    let Some(scope) = scope else { return Ok(Vec::new()) };
    let mut labels: Labels<'_> = Vec::new();
    for (name, text) in translated(&scope.attributes, limits)? {
        labels.push((Cow::Owned(format!("otel_scope_{name}")), text));
    }
    let own = [
        ("otel_scope_name", &*scope.name),
        ("otel_scope_version", &scope.version),
        ("otel_scope_schema_url", schema_url),
    ];
    for (name, text) in own {
        if !text.is_empty() {
            labels.retain(|(known, _)| known != name);
            labels.push((Cow::Borrowed(name), Cow::Borrowed(text)));
        }
    }
    Ok(labels)
}

/// What the samples of one metric have in common.
struct Series<'a> {
    target: &'a Target<'a>,
    scope: &'a [Label<'a>],
    kind: Option<&'static str>,
    temporality: Option<&'static str>,
}

/// When a point was taken, and since when it counts.
#[derive(Clone, Copy)]
struct Times {
    time_unix_nano: u64,
    start_time_unix_nano: u64,
}

/// What is sampled; `None` is a staleness marker.
enum Measured {
    Value(Option<f64>),
    Histogram(Vec<u8>),
}

struct Reader<'l, K> {
    limits: &'l Limits,
    sink: &'l mut K,
    index: i32,
    /// Latest time of a point of this resource.
    latest_us: Option<i64>,
    /// The index of the last point that was refused.
    refused_before: Option<i32>,
}

impl<K: MetricSink> Reader<'_, K> {
    fn metric(&mut self, target: &Target<'_>, scope: Result<&[Label<'_>], &Refusal>, metric: &Metric) {
        let (unit, name) = (metric.unit.as_str(), metric.name.as_str());
        let scope = match scope {
            Ok(scope) => scope,
            Err(refusal) => {
                for _ in 0..points(metric) {
                    self.point(metric, Err(refusal.clone()));
                }
                return;
            }
        };
        let series = |kind, temporality| Series { target, scope, kind: Some(kind), temporality };
        let (kind, name) = match &metric.data {
            Some(Data::Gauge(gauge)) => {
                let name = names::metric(name, unit, Suffix::Gauge);
                self.numbers(&series("gauge", None), &name, metric, &gauge.data_points);
                ("gauge", name)
            }
            Some(Data::Sum(sum)) => {
                let (kind, suffix) =
                    if sum.is_monotonic { ("counter", Suffix::Total) } else { ("gauge", Suffix::None) };
                let name = names::metric(name, unit, suffix);
                let series = series(kind, temporality(sum.aggregation_temporality));
                self.numbers(&series, &name, metric, &sum.data_points);
                (kind, name)
            }
            Some(Data::Histogram(histogram)) => {
                let series = series("histogram", temporality(histogram.aggregation_temporality));
                let name = names::metric(name, unit, Suffix::None);
                for point in &histogram.data_points {
                    self.sink.exemplars(point.exemplars.len());
                    let taken = self.histogram(&series, &name, point);
                    self.point(metric, taken);
                }
                ("histogram", name)
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let series = series("histogram", temporality(histogram.aggregation_temporality));
                let name = names::metric(name, unit, Suffix::None);
                for point in &histogram.data_points {
                    self.sink.exemplars(point.exemplars.len());
                    let taken = self.exponential(&series, &name, point);
                    self.point(metric, taken);
                }
                ("histogram", name)
            }
            Some(Data::Summary(summary)) => {
                let name = names::metric(name, unit, Suffix::None);
                for point in &summary.data_points {
                    let taken = self.summary(&series("summary", None), &name, point);
                    self.point(metric, taken);
                }
                ("summary", name)
            }
            None => return self.point(metric, Err(Refusal::Missing { field: "data" })),
        };
        if points(metric) > 0 && !name.is_empty() {
            self.sink.described(&name, Some(kind), &metric.description, unit);
        }
    }

    /// Counts a data point, and notes why it is refused, if so. Its metric is kept whole: a point says nothing without it.
    fn point(&mut self, metric: &Metric, taken: Result<(), Refusal>) {
        if let Err(refusal) = taken {
            // Once per metric is enough to keep it; its other points are named by their own index with no bytes.
            let repeated = self.refused_before.is_some_and(|before| before + 1 == self.index);
            let bytes = || if repeated { bytes::Bytes::new() } else { metric.encode_to_vec().into() };
            self.sink.refused(self.index, refusal, bytes);
            self.refused_before = Some(self.index);
        }
        self.index = self.index.saturating_add(1);
    }

    fn numbers(&mut self, series: &Series<'_>, name: &str, metric: &Metric, points: &[NumberDataPoint]) {
        for point in points {
            self.sink.exemplars(point.exemplars.len());
            let number = match point.value {
                _ if point.flags & NO_RECORDED_VALUE != 0 => Ok(None),
                Some(Number::AsDouble(number)) => Ok(Some(number)),
                Some(Number::AsInt(number)) => Ok(Some(number as f64)),
                None => Err(Refusal::Missing { field: "value" }),
            };
            let times =
                Times { time_unix_nano: point.time_unix_nano, start_time_unix_nano: point.start_time_unix_nano };
            let taken = number.and_then(|number| {
                let labels = self.labels(series, &point.attributes, None)?;
                self.samples(series, times, vec![(Cow::Borrowed(name), labels, Measured::Value(number))])
            });
            self.point(metric, taken);
        }
    }

    fn histogram(&mut self, series: &Series<'_>, name: &str, point: &HistogramDataPoint) -> Result<(), Refusal> {
        let recorded = point.flags & NO_RECORDED_VALUE == 0;
        let measured = |number: f64| Measured::Value(recorded.then_some(number));
        let counts = point.bucket_counts.len();
        if counts != 0 && counts != point.explicit_bounds.len() + 1 {
            return Err(Refusal::BadValue {
                field: "bucket_counts",
                value: format!("{counts} counts for {} bounds", point.explicit_bounds.len()),
                wanted: "one count more than bounds",
            });
        }
        let mut samples = Vec::with_capacity(counts + 3);
        let bucket = format!("{name}_bucket");
        let mut cumulative = 0u64;
        // The last bucket has no bound: `+Inf` is the count of all.
        for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            cumulative = cumulative.saturating_add(*count);
            let labels = self.labels(series, &point.attributes, Some(("le", bound.to_string())))?;
            samples.push((Cow::Borrowed(bucket.as_str()), labels, measured(cumulative as f64)));
        }
        let all = self.labels(series, &point.attributes, Some(("le", "+Inf".to_owned())))?;
        samples.push((Cow::Borrowed(bucket.as_str()), all, measured(point.count as f64)));
        if let Some(sum) = point.sum {
            let labels = self.labels(series, &point.attributes, None)?;
            samples.push((Cow::Owned(format!("{name}_sum")), labels, measured(sum)));
        }
        let labels = self.labels(series, &point.attributes, None)?;
        samples.push((Cow::Owned(format!("{name}_count")), labels, measured(point.count as f64)));
        let times = Times { time_unix_nano: point.time_unix_nano, start_time_unix_nano: point.start_time_unix_nano };
        self.samples(series, times, samples)
    }

    fn exponential(
        &mut self,
        series: &Series<'_>,
        name: &str,
        point: &ExponentialHistogramDataPoint,
    ) -> Result<(), Refusal> {
        let measured = if point.flags & NO_RECORDED_VALUE != 0 {
            Measured::Value(None)
        } else {
            let native = exponential::native(point, series.temporality == Some("delta"));
            Measured::Histogram(native.map_err(|reason| Refusal::Histogram { reason })?)
        };
        let labels = self.labels(series, &point.attributes, None)?;
        let times = Times { time_unix_nano: point.time_unix_nano, start_time_unix_nano: point.start_time_unix_nano };
        self.samples(series, times, vec![(Cow::Borrowed(name), labels, measured)])
    }

    fn summary(&mut self, series: &Series<'_>, name: &str, point: &SummaryDataPoint) -> Result<(), Refusal> {
        let recorded = point.flags & NO_RECORDED_VALUE == 0;
        let measured = |number: f64| Measured::Value(recorded.then_some(number));
        let mut samples = Vec::with_capacity(point.quantile_values.len() + 2);
        for value in &point.quantile_values {
            let labels = self.labels(series, &point.attributes, Some(("quantile", value.quantile.to_string())))?;
            samples.push((Cow::Borrowed(name), labels, measured(value.value)));
        }
        for (suffix, value) in [("sum", point.sum), ("count", point.count as f64)] {
            let labels = self.labels(series, &point.attributes, None)?;
            samples.push((Cow::Owned(format!("{name}_{suffix}")), labels, measured(value)));
        }
        let times = Times { time_unix_nano: point.time_unix_nano, start_time_unix_nano: point.start_time_unix_nano };
        self.samples(series, times, samples)
    }

    /// The labels of a point: its own, one more, and its scope's and target's, which stand against all others.
    fn labels<'a>(
        &self,
        series: &Series<'a>,
        attributes: &'a [KeyValue],
        more: Option<(&'static str, String)>,
    ) -> Result<Labels<'a>, Refusal> {
        let mut labels = translated(attributes, self.limits)?;
        labels.extend(more.map(|(name, text)| (Cow::Borrowed(name), Cow::Owned(text))));
        labels.extend(series.scope.iter().cloned());
        labels.extend(series.target.labels.iter().cloned());
        if labels.len() > self.limits.max_attributes {
            return Err(Refusal::TooMany { what: "labels", limit: self.limits.max_attributes });
        }
        // Those of scope and target, and values that were joined, too.
        for (name, text) in &labels {
            self.limits.label(name.len(), text.len(), || Refusal::excerpt(name))?;
        }
        Ok(labels)
    }

    /// Adds all samples of a point, or none.
    fn samples(
        &mut self,
        series: &Series<'_>,
        times: Times,
        samples: Vec<(Cow<'_, str>, Labels<'_>, Measured)>,
    ) -> Result<(), Refusal> {
        let timestamp_us = instant_us(times.time_unix_nano);
        let mut rows = Vec::with_capacity(samples.len());
        for (name, labels, measured) in samples {
            let (value, histogram) = match measured {
                Measured::Value(value) => (value, None),
                Measured::Histogram(bytes) => (None, Some(bytes)),
            };
            let mut row = MetricRow {
                timestamp_us,
                start_timestamp_us: instant_us(times.start_time_unix_nano),
                kind: series.kind,
                value,
                stale: value.is_none() && histogram.is_none(),
                histogram,
                temporality: series.temporality.map(Str::plain),
                service: series.target.service.clone(),
                name,
                labels,
                ..MetricRow::default()
            };
            row.seal();
            match row.refusal.take() {
                Some(refusal) => return Err(refusal),
                None => rows.push(row),
            }
        }
        for row in rows {
            self.sink.sample(self.index, &row);
        }
        self.latest_us = self.latest_us.max(timestamp_us);
        Ok(())
    }

    /// What else is known of a target, as Prometheus keeps it: a sample that is always 1.
    fn target_info(&mut self, target: &Target<'_>, attributes: &[KeyValue]) {
        let identifies = |key: &str| [NAMESPACE, SERVICE, INSTANCE].contains(&key);
        let others: Vec<_> = attributes.iter().filter(|attribute| !identifies(&attribute.key)).cloned().collect();
        let Some(latest_us) = self.latest_us.filter(|_| !others.is_empty() && !target.labels.is_empty()) else {
            return;
        };
        // It belongs to the last point of its resource.
        let index = self.index.saturating_sub(1).max(0);
        // What is more, or longer, than labels may be cannot be kept; the samples themselves are.
        let mut labels = match translated(&others, self.limits) {
            Ok(labels) => labels,
            Err(refusal) => {
                let resource = || Resource { attributes: others.clone(), ..Resource::default() };
                return self.sink.refused(index, refusal, || resource().encode_to_vec().into());
            }
        };
        labels.extend(target.labels.iter().cloned());
        let mut row = MetricRow {
            timestamp_us: Some(latest_us),
            kind: Some("gauge"),
            value: Some(1.0),
            service: target.service.clone(),
            name: Cow::Borrowed("target_info"),
            labels,
            ..MetricRow::default()
        };
        row.seal();
        self.sink.sample(index, &row);
    }
}

/// How many data points a metric has.
fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 1,
    }
}

/// Attributes as labels. Of attributes whose translated names are the same, the values are joined by `;`, in the order of their keys.
fn translated<'a>(attributes: &'a [KeyValue], limits: &Limits) -> Result<Labels<'a>, Refusal> {
    if attributes.len() > limits.max_attributes {
        return Err(Refusal::TooMany { what: "labels", limit: limits.max_attributes });
    }
    let mut sorted: Vec<&KeyValue> = attributes.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels: Labels<'_> = Vec::with_capacity(sorted.len());
    for KeyValue { key, value, .. } in sorted {
        let Some(text) = value::text(value.as_ref()).filter(|text| !text.is_empty()) else { continue };
        limits.label(key.len(), text.len(), || Refusal::excerpt(key))?;
        let name = names::label(key);
        match labels.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = Cow::Owned(format!("{known};{text}")),
            None => labels.push((Cow::Owned(name), text)),
        }
    }
    Ok(labels)
}

fn temporality(number: i32) -> Option<&'static str> {
    match number {
        DELTA => Some("delta"),
        CUMULATIVE => Some("cumulative"),
        _ => None,
    }
}
