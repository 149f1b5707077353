//! Bodies of strangers through the decoders of the doors, for fuzzing.

use bytes::Bytes;

use super::batcher::{Dealer, read_json};
use super::budget::Budget;
use super::encoding::Encoding;
use super::{loki, otlp, remote_write};
use crate::data::Tenant;
use crate::data::json::Limits;

/// Largest body, so that a fuzzer meets the limits that depend on it.
const MAX_BODY_SIZE_BYTES: usize = 1 << 20;

/// A decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// `POST /logs`; true for one entry per line.
    JsonLogs(bool),
    /// `POST /metrics`; true for one entry per line.
    JsonMetrics(bool),
    /// Remote write; true for 2.0.
    RemoteWrite(bool),
    /// Loki push; true for JSON.
    Loki(bool),
    /// OTLP logs; true for JSON.
    OtlpLogs(bool),
    /// OTLP metrics; true for JSON.
    OtlpMetrics(bool),
    /// OTLP traces; true for JSON.
    OtlpTraces(bool),
}

/// Reads a decompressed body as a door does, up to the encoded records, and says how many rows became of it and how many were refused; `None` where
/// it cannot be read. Whatever the bytes: no panic, and no more memory than the limits say.
pub fn probe(probe: Probe, body: &[u8]) -> Option<(u64, u64)> {
    let (tenant, body) = (Tenant::default(), Bytes::copy_from_slice(body));
    let batch = match probe {
        Probe::JsonLogs(lines) => {
            let mut dealer = dealer(&tenant);
            read_json::<crate::data::logs::Logs>(&body, lines, &mut dealer).ok()?;
            dealer.finish()
        }
        Probe::JsonMetrics(lines) => {
            let mut dealer = dealer(&tenant);
            read_json::<crate::data::metrics::Metrics>(&body, lines, &mut dealer).ok()?;
            dealer.finish()
        }
        Probe::RemoteWrite(v2) => {
            let mut dealer = dealer(&tenant);
            remote_write::probe(v2, &body, &mut dealer).ok()?;
            dealer.finish()
        }
        Probe::Loki(json) => {
            let mut dealer = dealer(&tenant);
            loki::probe(json, &body, &mut dealer).ok()?;
            dealer.finish()
        }
        Probe::OtlpLogs(json) => {
            let mut dealer = dealer(&tenant);
            otlp::probe::<crate::data::logs::Logs>(json, &body, &mut dealer).ok()?;
            dealer.finish()
        }
        Probe::OtlpMetrics(json) => {
            let mut dealer = dealer(&tenant);
            otlp::probe::<crate::data::metrics::Metrics>(json, &body, &mut dealer).ok()?;
            dealer.finish()
        }
        Probe::OtlpTraces(json) => {
            let mut dealer = dealer(&tenant);
            otlp::probe::<crate::data::spans::Spans>(json, &body, &mut dealer).ok()?;
            dealer.finish()
        }
    };
    batch.ok().map(|batch| (batch.report.accepted, batch.report.rejected))
}

/// Decompresses a body as a door does, and says to how much; `None` where it is refused. Whatever the bytes: no panic, and never more than the limit.
pub fn probe_encoding(name: &str, body: &[u8]) -> Option<usize> {
    let mut reservation = Budget::new(2 * MAX_BODY_SIZE_BYTES).reservation();
    let decoded =
        Encoding::named(name).ok()?.decode(Bytes::copy_from_slice(body), MAX_BODY_SIZE_BYTES, &mut reservation);
    decoded.ok().map(|decoded| decoded.len())
}

fn dealer<S: crate::data::signal::Columnar>(tenant: &Tenant) -> Dealer<'_, S> {
    Dealer::new(tenant, 4, Limits::default(), MAX_BODY_SIZE_BYTES)
}
