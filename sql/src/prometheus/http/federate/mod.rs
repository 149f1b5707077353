//! `/federate`: the newest samples of the series selected, for a Prometheus to scrape: as text, or in protobuf, which has native histograms as well.

mod format;
mod names;
mod protobuf;
mod text;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use highwater_promql::{CounterResetHint, Histogram, Labels, METRIC_NAME, Matcher, is_stale};

use super::{Request, any_match_sets};
use crate::prometheus::Prometheus;
use crate::prometheus::error::ApiError;
use format::{Encoding, Format};

/// A label that each sample has, empty or not: or the scraper would put this server's own.
const INSTANCE: &str = "instance";

/// `GET /federate`. Without `match[]` there is nothing.
pub(super) async fn federate(State(server): State<Arc<Prometheus>>, uri: Uri, headers: HeaderMap) -> Response {
    let format = Format::wanted(&headers);
    match samples(&server, &uri, &headers).await {
        Ok(mut samples) => {
            samples.retain(|sample| format.encoding.has(sample) && !sample.labels.name().is_empty());
            let page = match format.encoding {
                Encoding::Text => text::write(&samples, format.names).into_bytes(),
                Encoding::Protobuf => protobuf::write(&samples, format.names),
            };
            ([(header::CONTENT_TYPE, format.content_type())], Bytes::from(page)).into_response()
        }
        Err(error) => (error.status(), format!("{}\n", error.message)).into_response(),
    }
}

/// A series' newest sample.
#[derive(Debug, Clone, PartialEq)]
struct Newest {
    labels: Labels,
    time_ms: i64,
    value: NewestValue,
}

#[derive(Debug, Clone, PartialEq)]
enum NewestValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// What a family is said to be. Samples of one name that differ in it are families of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FamilyKind {
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Newest {
    fn kind(&self) -> FamilyKind {
        match &self.value {
            NewestValue::Float(_) => FamilyKind::Untyped,
            NewestValue::Histogram(histogram) if histogram.counter_reset_hint == CounterResetHint::Gauge => {
                FamilyKind::GaugeHistogram
            }
            NewestValue::Histogram(_) => FamilyKind::Histogram,
        }
    }

    /// Its labels but for the name, and an empty instance where it has none.
    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let instance = self.labels.get(INSTANCE).is_none().then_some((INSTANCE, ""));
        self.labels.iter().filter(|(name, _)| *name != METRIC_NAME).chain(instance)
    }
}

impl Encoding {
    /// Whether it can say this sample. Histograms with bounds of their own are classic ones in text.
    fn has(self, sample: &Newest) -> bool {
        match &sample.value {
            NewestValue::Float(_) => true,
            NewestValue::Histogram(histogram) => self == Encoding::Protobuf || histogram.is_custom(),
        }
    }
}

/// The samples by family: neighbours of one name and kind.
fn families(samples: &[Newest]) -> impl Iterator<Item = (&str, FamilyKind, &[Newest])> {
    let parts = samples.chunk_by(|a, b| a.labels.name() == b.labels.name() && a.kind() == b.kind());
    parts.filter_map(|part| part.first().map(|first| (first.labels.name(), first.kind(), part)))
}

/// Cumulative counts of a histogram with bounds of its own, by upper bound; the last, +Inf, is its count.
fn classic(histogram: &Histogram) -> impl Iterator<Item = (f64, f64)> {
    let buckets = histogram.side(highwater_promql::Side::Positive);
    let (mut at, mut total) = (0, 0.0);
    (0_i32..).zip(&histogram.custom_values).map(move |(index, bound)| {
        while let Some((bucket, count)) = buckets.get(at)
            && *bucket <= index
        {
            total += count;
            at += 1;
        }
        (*bound, total)
    })
}

async fn samples(server: &Prometheus, uri: &Uri, headers: &HeaderMap) -> Result<Vec<Newest>, ApiError> {
    let request = Request::new(uri, headers, &[])?;
    let sets = any_match_sets(&request.form)?;
    let mut newest = newest(server, request.tenant.as_str(), &sets).await?;
    // By name first, that a family is in one place.
    newest.sort_by(|a, b| (a.labels.name(), &a.labels).cmp(&(b.labels.name(), &b.labels)));
    newest.dedup_by(|a, b| a.labels == b.labels);
    Ok(newest)
}

/// The newest sample of each series that is no older than the lookback and no staleness marker.
async fn newest(server: &Prometheus, tenant: &str, sets: &[Vec<Matcher>]) -> Result<Vec<Newest>, ApiError> {
    let mut newest = Vec::new();
    for mut series in server.recent(tenant, sets).await? {
        let float = series.timestamps_ms.last().copied().zip(series.values.last().copied());
        let histogram = series.histograms.pop();
        let sample = match (float, histogram) {
            (Some((float_ms, _)), Some((time_ms, histogram))) if time_ms > float_ms => {
                Some((time_ms, NewestValue::Histogram(histogram)))
            }
            (Some((time_ms, value)), _) => Some((time_ms, NewestValue::Float(value))),
            (None, histogram) => histogram.map(|(time_ms, histogram)| (time_ms, NewestValue::Histogram(histogram))),
        };
        let ended = |value: &NewestValue| match value {
            NewestValue::Float(value) => is_stale(*value),
            NewestValue::Histogram(histogram) => histogram.is_stale(),
        };
        if let Some((time_ms, value)) = sample.filter(|(_, value)| !ended(value)) {
            newest.push(Newest { labels: series.labels, time_ms, value });
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use highwater_promql::BucketSpan;

    use super::*;

    pub(super) fn sample(labels: &[(&str, &str)], value: NewestValue) -> Newest {
        Newest { labels: Labels::from_pairs(labels.iter().copied()), time_ms: 1500, value }
    }

    /// Bounds 1, 2 and 4; two observations up to 1, three beyond 4.
    pub(super) fn custom() -> NewestValue {
        NewestValue::Histogram(Arc::new(Histogram {
            schema: highwater_promql::CUSTOM_BUCKETS_SCHEMA,
            count: 5.0,
            sum: 17.5,
            positive_spans: vec![BucketSpan { offset: 0, length: 1 }, BucketSpan { offset: 2, length: 1 }],
            positive_buckets: vec![2.0, 3.0],
            custom_values: vec![1.0, 2.0, 4.0],
            ..Histogram::default()
        }))
    }

    #[test]
    fn counts_of_custom_buckets_add_up() {
        let NewestValue::Histogram(histogram) = custom() else { panic!("a histogram") };
        assert_eq!(classic(&histogram).collect::<Vec<_>>(), [(1.0, 2.0), (2.0, 2.0), (4.0, 2.0)]);
    }

    #[test]
    fn a_name_with_samples_of_two_kinds_is_two_families() {
        let gauge = Histogram { counter_reset_hint: CounterResetHint::Gauge, ..Histogram::default() };
        let samples = [
            sample(&[("__name__", "a"), ("x", "1")], NewestValue::Float(1.0)),
            sample(&[("__name__", "a"), ("x", "2")], NewestValue::Float(2.0)),
            sample(&[("__name__", "a"), ("x", "3")], custom()),
            sample(&[("__name__", "a"), ("x", "4")], NewestValue::Histogram(Arc::new(gauge))),
            sample(&[("__name__", "b")], NewestValue::Float(1.0)),
        ];
        let found: Vec<_> = families(&samples).map(|(name, kind, samples)| (name, kind, samples.len())).collect();
        assert_eq!(
            found,
            [
                ("a", FamilyKind::Untyped, 2),
                ("a", FamilyKind::Histogram, 1),
                ("a", FamilyKind::GaugeHistogram, 1),
                ("b", FamilyKind::Untyped, 1)
            ]
        );
    }
}
