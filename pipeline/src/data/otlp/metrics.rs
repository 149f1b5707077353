//! Data points to samples, as Prometheus has them.
//!
//! | OTLP | becomes |
//! |---|---|
//! | sum, monotonic | a counter `<name>_total` |
//! | sum, not monotonic; gauge | a gauge |
//! | histogram | `<name>_bucket` by `le`, `<name>_sum`, `<name>_count` |
//! | summary | `<name>` by `quantile`, `<name>_sum`, `<name>_count` |
//! | exponential histogram | refused: native histograms are not stored yet |
//! | a resource's other attributes | labels of `target_info` |
//!
//! `job` is `service.namespace/service.name`, `instance` is `service.instance.id`. A point flagged "no recorded value" is a
//! staleness marker.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint};
use prost::Message;

use super::names::{self, Suffix};
use super::{OtlpError, OtlpRefused, OtlpRows, decode, instant_us, parts, value};
use crate::data::json::{Limits, Str};
use crate::data::metrics::{MetricColumns, MetricRow};
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
pub(crate) fn read_metrics(bytes: &[u8], limits: &Limits) -> Result<OtlpRows<MetricColumns>, OtlpError> {
    let request: ExportMetricsServiceRequest = decode(bytes, "metrics", parts::METRICS)?;
    let rows = OtlpRows { columns: MetricColumns::default(), indexes: Vec::new(), refused: Vec::new() };
    let mut reader = Reader { limits, rows, index: 0, latest_us: None };
    for resource_metrics in &request.resource_metrics {
        let attributes = resource_metrics.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let target = Target::of(attributes);
        reader.latest_us = None;
        for metric in resource_metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            reader.metric(&target, metric);
        }
        reader.target_info(&target, attributes);
    }
    Ok(reader.rows)
}

/// Labels, in any order, names translated.
type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

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

/// What the samples of one metric have in common.
struct Series<'a> {
    target: &'a Target<'a>,
    kind: Option<&'static str>,
    temporality: Option<&'static str>,
}

struct Reader<'l> {
    limits: &'l Limits,
    rows: OtlpRows<MetricColumns>,
    index: i32,
    /// Latest time of a point of this resource.
    latest_us: Option<i64>,
}

impl Reader<'_> {
    fn metric(&mut self, target: &Target<'_>, metric: &Metric) {
        let (unit, name) = (metric.unit.as_str(), metric.name.as_str());
        match &metric.data {
            Some(Data::Gauge(gauge)) => {
                let series = Series { target, kind: Some("gauge"), temporality: None };
                self.numbers(&series, &names::metric(name, unit, Suffix::Gauge), metric, &gauge.data_points);
            }
            Some(Data::Sum(sum)) => {
                let (kind, suffix) =
                    if sum.is_monotonic { ("counter", Suffix::Total) } else { ("gauge", Suffix::None) };
                let temporality = temporality(sum.aggregation_temporality);
                let series = Series { target, kind: Some(kind), temporality };
                self.numbers(&series, &names::metric(name, unit, suffix), metric, &sum.data_points);
            }
            Some(Data::Histogram(histogram)) => {
                let temporality = temporality(histogram.aggregation_temporality);
                let series = Series { target, kind: Some("histogram"), temporality };
                let name = names::metric(name, unit, Suffix::None);
                for point in &histogram.data_points {
                    let taken = self.histogram(&series, &name, point);
                    self.point(metric, taken);
                }
            }
            Some(Data::Summary(summary)) => {
                let series = Series { target, kind: Some("summary"), temporality: None };
                let name = names::metric(name, unit, Suffix::None);
                for point in &summary.data_points {
                    let taken = self.summary(&series, &name, point);
                    self.point(metric, taken);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                for _ in &histogram.data_points {
                    self.point(metric, Err(Refusal::Unsupported { what: "exponential histograms" }));
                }
            }
            None => self.point(metric, Err(Refusal::Missing { field: "data" })),
        }
    }

    /// Counts a data point, and notes why it is refused, if so. Its metric is kept whole: a point says nothing without it.
    fn point(&mut self, metric: &Metric, taken: Result<(), Refusal>) {
        if let Err(refusal) = taken {
            // Once per metric is enough to keep it; its other points are named by their own index with no bytes.
            let repeated = self.rows.refused.last().is_some_and(|last| last.index + 1 == self.index);
            let bytes = if repeated { bytes::Bytes::new() } else { metric.encode_to_vec().into() };
            self.rows.refused.push(OtlpRefused { index: self.index, refusal, bytes });
        }
        self.index = self.index.saturating_add(1);
    }

    fn numbers(&mut self, series: &Series<'_>, name: &str, metric: &Metric, points: &[NumberDataPoint]) {
        for point in points {
            let number = match point.value {
                _ if point.flags & NO_RECORDED_VALUE != 0 => Ok(None),
                Some(Number::AsDouble(number)) => Ok(Some(number)),
                Some(Number::AsInt(number)) => Ok(Some(number as f64)),
                None => Err(Refusal::Missing { field: "value" }),
            };
            let taken = number.and_then(|number| {
                let labels = self.labels(series, &point.attributes, None)?;
                self.samples(series, point.time_unix_nano, vec![(Cow::Borrowed(name), labels, number)])
            });
            self.point(metric, taken);
        }
    }

    fn histogram(&mut self, series: &Series<'_>, name: &str, point: &HistogramDataPoint) -> Result<(), Refusal> {
        let recorded = point.flags & NO_RECORDED_VALUE == 0;
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
            samples.push((Cow::Borrowed(bucket.as_str()), labels, recorded.then_some(cumulative as f64)));
        }
        let count = recorded.then_some(point.count as f64);
        let all = self.labels(series, &point.attributes, Some(("le", "+Inf".to_owned())))?;
        samples.push((Cow::Borrowed(bucket.as_str()), all, count));
        if let Some(sum) = point.sum {
            let labels = self.labels(series, &point.attributes, None)?;
            samples.push((Cow::Owned(format!("{name}_sum")), labels, recorded.then_some(sum)));
        }
        samples.push((Cow::Owned(format!("{name}_count")), self.labels(series, &point.attributes, None)?, count));
        self.samples(series, point.time_unix_nano, samples)
    }

    fn summary(&mut self, series: &Series<'_>, name: &str, point: &SummaryDataPoint) -> Result<(), Refusal> {
        let recorded = point.flags & NO_RECORDED_VALUE == 0;
        let mut samples = Vec::with_capacity(point.quantile_values.len() + 2);
        for value in &point.quantile_values {
            let labels = self.labels(series, &point.attributes, Some(("quantile", value.quantile.to_string())))?;
            samples.push((Cow::Borrowed(name), labels, recorded.then_some(value.value)));
        }
        for (suffix, value) in [("sum", point.sum), ("count", point.count as f64)] {
            let labels = self.labels(series, &point.attributes, None)?;
            samples.push((Cow::Owned(format!("{name}_{suffix}")), labels, recorded.then_some(value)));
        }
        self.samples(series, point.time_unix_nano, samples)
    }

    /// The labels of a point: its own, one more, and its target's, which stand against all others.
    fn labels<'a>(
        &self,
        series: &Series<'a>,
        attributes: &'a [KeyValue],
        more: Option<(&'static str, String)>,
    ) -> Result<Labels<'a>, Refusal> {
        let mut labels = translated(attributes, self.limits)?;
        labels.extend(more.map(|(name, text)| (Cow::Borrowed(name), Cow::Owned(text))));
        labels.extend(series.target.labels.iter().cloned());
        if labels.len() > self.limits.max_attributes {
            return Err(Refusal::TooMany { what: "labels", limit: self.limits.max_attributes });
        }
        Ok(labels)
    }

    /// Adds all samples of a point, or none. A value that is `None` is a staleness marker.
    fn samples(
        &mut self,
        series: &Series<'_>,
        time_unix_nano: u64,
        samples: Vec<(Cow<'_, str>, Labels<'_>, Option<f64>)>,
    ) -> Result<(), Refusal> {
        let timestamp_us = instant_us(time_unix_nano);
        let mut rows = Vec::with_capacity(samples.len());
        for (name, labels, value) in samples {
            let mut row = MetricRow {
                timestamp_us,
                kind: series.kind,
                value,
                stale: value.is_none(),
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
            self.rows.columns.append(&row);
            self.rows.indexes.push(self.index);
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
        // More attributes than labels are allowed cannot be kept; the samples themselves are.
        let Ok(mut labels) = translated(&others, self.limits) else { return };
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
        self.rows.columns.append(&row);
        // It belongs to the last point of its resource.
        self.rows.indexes.push(self.index.saturating_sub(1).max(0));
    }
}

/// Attributes as labels. Of attributes whose translated names are the same, the values are joined by `;`, in the order of their keys.
fn translated<'a>(attributes: &'a [KeyValue], limits: &Limits) -> Result<Labels<'a>, Refusal> {
    let mut sorted: Vec<&KeyValue> = attributes.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels: Labels<'_> = Vec::with_capacity(sorted.len());
    for KeyValue { key, value, .. } in sorted {
        let Some(text) = value::text(value.as_ref()).filter(|text| !text.is_empty()) else { continue };
        let (size_bytes, limit_bytes) = (key.len().max(text.len()), limits.max_value_size_bytes);
        if size_bytes > limit_bytes {
            return Err(Refusal::TooLong { field: Refusal::excerpt(key), size_bytes, limit_bytes });
        }
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
