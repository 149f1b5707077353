//! What a query answers.

use std::sync::Arc;

use crate::annotations::Annotations;
use crate::histogram::Histogram;
use crate::labels::Labels;
use crate::source::Series;

/// The bits of the NaN that says "this series has ended".
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
/// The NaN that says "this series has ended". Compare its bits: as a float it equals nothing.
pub const STALE_NAN: f64 = f64::from_bits(STALE_NAN_BITS);

/// Whether a value is the staleness marker.
#[must_use]
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A value at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// When, Unix milliseconds.
    pub timestamp_ms: i64,
    /// What.
    pub sample: Sample,
}

/// The value of a query. An instant query has any of them, a range query a matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Scalar {
        /// When, Unix milliseconds.
        timestamp_ms: i64,
        /// The number.
        value: f64,
    },
    /// A string.
    String {
        /// When, Unix milliseconds.
        timestamp_ms: i64,
        /// The string.
        value: String,
    },
    /// Series with one sample each; ordered only where the query sorts.
    Vector(Vec<VectorSample>),
    /// Series with samples, sorted by labels (an instant query of a range selector: likewise).
    Matrix(Vec<Series>),
}

impl Value {
    /// The value of `resultType` in an answer of the HTTP API.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Scalar { .. } => "scalar",
            Value::String { .. } => "string",
            Value::Vector(_) => "vector",
            Value::Matrix(_) => "matrix",
        }
    }
}

/// What a query answers, and what there is to say about it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// How much work it was.
    pub stats: Stats,
}

impl Answer {
    /// Samples in the value.
    #[must_use]
    pub fn samples(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } | Value::String { .. } => 1,
            Value::Vector(samples) => samples.len(),
            Value::Matrix(series) => series.iter().map(Series::len).sum(),
        }
    }

    /// Adds the answer of the steps behind those of this one: of the same query over a range.
    pub fn append(&mut self, next: Answer) {
        self.annotations.merge(next.annotations);
        self.stats.total_samples += next.stats.total_samples;
        self.stats.peak_samples = self.stats.peak_samples.max(next.stats.peak_samples);
        self.stats.series = self.stats.series.max(next.stats.series);
        let (Value::Matrix(known), Value::Matrix(next)) = (&mut self.value, next.value) else { return };
        let mut all = Vec::with_capacity(known.len().max(next.len()));
        let mut next = next.into_iter().peekable();
        // Both are sorted by labels.
        for mut series in std::mem::take(known) {
            while let Some(new) = next.next_if(|new| new.labels < series.labels) {
                all.push(new);
            }
            if let Some(more) = next.next_if(|new| new.labels == series.labels) {
                series.timestamps_ms.extend(more.timestamps_ms);
                series.values.extend(more.values);
                series.histograms.extend(more.histograms);
            }
            all.push(series);
        }
        all.extend(next);
        *known = all;
    }
}

/// How much work a query was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples that selectors and range selectors handed over, each as often as a step used it (Prometheus's
    /// `totalQueryableSamples`).
    pub total_samples: u64,
    /// Most samples held at once (Prometheus's `peakSamples`).
    pub peak_samples: u64,
    /// Series that selectors found.
    pub series: u64,
}

/// Writes a float as Prometheus's HTTP API and `count_values` do: shortest digits that read back as the same number, no
/// exponent, `+Inf`, `-Inf`, `NaN`.
#[must_use]
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{value}")
    }
}

/// Writes a float as Go's `%g` and `%v` do: an exponent below 1e-4 and from 1e21 (`%v`) on.
#[must_use]
pub fn format_float_g(value: f64) -> String {
    if value.is_nan() || value.is_infinite() {
        return format_float(value);
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific.clone() };
    if !(-4..21).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_prometheus_does() {
        assert_eq!(format_float(1e21), "1000000000000000000000");
        assert_eq!(format_float(0.000_001), "0.000001");
        assert_eq!(format_float(f64::NEG_INFINITY), "-Inf");
        assert_eq!(format_float(-0.0), "-0");
        assert_eq!(format_float_g(1e21), "1e+21");
        assert_eq!(format_float_g(1.5e-7), "1.5e-07");
        assert_eq!(format_float_g(123.25), "123.25");
        assert_eq!(format_float_g(f64::NAN), "NaN");
    }
}
