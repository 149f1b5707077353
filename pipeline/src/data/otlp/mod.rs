//! OTLP: protobuf export requests of OpenTelemetry, straight into our columns.
//!
//! - [`read_logs`]: one row per log record; resource and record attributes become `attributes`;
//! - [`read_metrics`]: one row per sample, named and labelled as Prometheus translates OTLP ([`names`]).
//!
//! Invariants: a request is read whole or refused whole, but single entries may be refused with their reason; bytes of unknown
//! origin cannot make it allocate much beyond their own size ([`parts`] is counted first, because a protobuf message of two
//! bytes can become a struct of two hundred). How fields map to columns is written in `docs/formats/records.md`.

use bytes::Bytes;
use prost::Message;

use super::refusal::Refusal;

mod logs;
mod metrics;
mod names;
mod parts;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use logs::read_logs;
pub(crate) use metrics::read_metrics;

/// Why a request as a whole could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OtlpError {
    /// Not an export request.
    #[error("not an OTLP {signal} request: {reason}")]
    Malformed {
        /// `logs` or `metrics`.
        signal: &'static str,
        /// What the protobuf decoder says.
        reason: String,
    },
    /// More messages inside than are taken.
    #[error("an OTLP request of more than {limit} parts: send less at a time")]
    TooManyParts {
        /// The limit.
        limit: usize,
    },
}

/// An entry that is not among the rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OtlpRefused {
    /// Its index among the request's log records, or data points.
    pub(crate) index: i32,
    /// Why.
    pub(crate) refusal: Refusal,
    /// The log record or metric alone, as protobuf.
    pub(crate) bytes: Bytes,
}

/// Rows of a request, and what is not among them.
#[derive(Debug)]
pub(crate) struct OtlpRows<C> {
    /// The rows.
    pub(crate) columns: C,
    /// The index of each row among the request's entries.
    pub(crate) indexes: Vec<i32>,
    /// The others.
    pub(crate) refused: Vec<OtlpRefused>,
}

fn decode<M: Message + Default>(bytes: &[u8], signal: &'static str, shape: parts::Shape) -> Result<M, OtlpError> {
    parts::check(bytes, shape)?;
    M::decode(bytes).map_err(|error| OtlpError::Malformed { signal, reason: error.to_string() })
}

/// Unix nanoseconds as microseconds; 0 says "not known".
fn instant_us(unix_nano: u64) -> Option<i64> {
    (unix_nano != 0).then(|| i64::try_from(unix_nano / 1_000).unwrap_or(i64::MAX))
}
