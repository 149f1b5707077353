//! OTLP: export requests of OpenTelemetry, straight into our columns.
//!
//! - [`read_logs`]: one row per log record; resource, scope and record attributes become `attributes`;
//! - [`read_metrics`]: one row per sample, named and labelled as Prometheus translates OTLP ([`names`]);
//! - [`read_spans`]: one row per span.
//!
//! Rows go to a sink, which is a record's columns ([`OtlpRows`]) or the partitions of a door.
//!
//! Invariants: a request is read whole or refused whole, but single entries may be refused with their reason; bytes of unknown
//! origin cannot make it allocate much beyond their own size ([`parts`] is counted first, because a protobuf message of two
//! bytes can become a struct of two hundred). How fields map to columns is written in `docs/formats/records.md`.

use bytes::Bytes;
use prost::Message;
use serde::de::DeserializeOwned;

use super::logs::{LogColumns, LogParts};
use super::metrics::{MetricColumns, MetricRow};
use super::refusal::Refusal;
use super::spans::{SpanColumns, SpanParts};

mod attributes;
mod exponential;
mod json;
mod logs;
mod metrics;
mod names;
mod parts;
mod spans;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use logs::read_logs;
pub(crate) use metrics::read_metrics;
pub(crate) use spans::read_spans;

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    /// Protobuf's JSON, with ids in hex, as OTLP has it.
    Json,
}

/// Why a request as a whole could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OtlpError {
    /// Not an export request.
    #[error("not an OTLP {signal} request: {reason}")]
    Malformed {
        /// `logs`, `metrics` or `traces`.
        signal: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// More messages inside than are taken.
    #[error("an OTLP request of more than {limit} parts: send less at a time")]
    TooManyParts {
        /// The limit.
        limit: usize,
    },
}

/// Takes what is refused of a request. Indexes count log records, data points or spans from 0; `bytes` makes it protobuf again.
pub(crate) trait RefusalSink {
    /// An entry that is not among the rows.
    fn refused(&mut self, index: i32, refusal: Refusal, bytes: impl FnOnce() -> Bytes);
}

/// Takes log records.
pub(crate) trait LogSink: RefusalSink {
    /// A row.
    fn log(&mut self, index: i32, parts: &LogParts<'_>);
}

/// Takes spans.
pub(crate) trait SpanSink: RefusalSink {
    /// A row.
    fn span(&mut self, index: i32, parts: &SpanParts<'_>);
}

/// Takes samples: a data point may be several.
pub(crate) trait MetricSink: RefusalSink {
    /// A row.
    fn sample(&mut self, index: i32, row: &MetricRow<'_>);
    /// What the metric of this (translated) name is. Kinds are those of [`MetricRow::kind`].
    fn described(&mut self, name: &str, kind: Option<&'static str>, help: &str, unit: &str);
    /// Exemplars of the point, which have no place in the tables.
    fn exemplars(&mut self, count: usize);
}

/// An entry that is not among the rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OtlpRefused {
    /// Its index among the request's log records, data points or spans.
    pub(crate) index: i32,
    /// Why.
    pub(crate) refusal: Refusal,
    /// The log record, metric or span alone, as protobuf.
    pub(crate) bytes: Bytes,
}

/// Rows of a request, and what is not among them.
#[derive(Debug, Default)]
pub(crate) struct OtlpRows<C> {
    /// The rows.
    pub(crate) columns: C,
    /// The index of each row among the request's entries.
    pub(crate) indexes: Vec<i32>,
    /// The others.
    pub(crate) refused: Vec<OtlpRefused>,
}

impl<C> RefusalSink for OtlpRows<C> {
    fn refused(&mut self, index: i32, refusal: Refusal, bytes: impl FnOnce() -> Bytes) {
        self.refused.push(OtlpRefused { index, refusal, bytes: bytes() });
    }
}

impl LogSink for OtlpRows<LogColumns> {
    fn log(&mut self, index: i32, parts: &LogParts<'_>) {
        self.columns.append_parts(parts);
        self.indexes.push(index);
    }
}

impl SpanSink for OtlpRows<SpanColumns> {
    fn span(&mut self, index: i32, parts: &SpanParts<'_>) {
        self.columns.append(parts);
        self.indexes.push(index);
    }
}

impl MetricSink for OtlpRows<MetricColumns> {
    fn sample(&mut self, index: i32, row: &MetricRow<'_>) {
        self.columns.append(row);
        self.indexes.push(index);
    }

    fn described(&mut self, _name: &str, _kind: Option<&'static str>, _help: &str, _unit: &str) {}

    fn exemplars(&mut self, _count: usize) {}
}

fn decode<M: Message + Default + DeserializeOwned>(
    bytes: &[u8],
    encoding: Encoding,
    signal: &'static str,
    shape: parts::Shape,
) -> Result<M, OtlpError> {
    let malformed = |reason: String| OtlpError::Malformed { signal, reason };
    match encoding {
        Encoding::Protobuf => {
            parts::check(bytes, shape)?;
            M::decode(bytes).map_err(|error| malformed(error.to_string()))
        }
        Encoding::Json => {
            parts::check_json(bytes)?;
            // A list would pass for an object whose fields come in order.
            if bytes.trim_ascii_start().first() != Some(&b'{') {
                return Err(malformed("expected a JSON object".to_owned()));
            }
            json::read(bytes).map_err(|error| malformed(error.to_string()))
        }
    }
}

/// Unix nanoseconds as microseconds; 0 says "not known".
fn instant_us(unix_nano: u64) -> Option<i64> {
    (unix_nano != 0).then(|| i64::try_from(unix_nano / 1_000).unwrap_or(i64::MAX))
}
