//! OTLP, OpenTelemetry's own protocol: logs, metrics and traces, over HTTP ([`http`], on the main port and on one of its own) and over
//! gRPC ([`grpc`]).
//!
//! What a request holds is read by [`crate::data::otlp`]; what it is told follows the OTLP specification: entries that are refused for good are a
//! partial success, with their number and the first reasons; what may be sent again is answered so that an exporter does.

use bytes::Bytes;

use super::batcher::Dealer;
use super::ingest::{Ingest, Request, Route};
use super::{EntryError, IngestError, IngestReport};
use crate::data::logs::Logs;
use crate::data::metrics::Metrics;
use crate::data::otlp::{self, Encoding, OtlpError};
use crate::data::spans::Spans;

pub mod grpc;
pub mod http;
mod sinks;
mod status;
#[cfg(test)]
mod tests;

use sinks::{Dealt, Taken};
pub(crate) use status::encode_status;

/// Most refused entries that an answer names.
const MAX_NAMED: usize = 10;

/// What differs between the signals.
pub(super) trait Signal: Route {
    /// What the answer calls the number of refused entries, in JSON.
    const REJECTED: &'static str;
    /// Name of the service, `opentelemetry.proto.collector.<...>`.
    const SERVICE: &'static str;

    /// Reads a request into rows.
    fn read(body: &[u8], encoding: Encoding, dealer: &mut Dealer<'_, Self>) -> Result<Taken, IngestError>
    where
        Self: Sized;
}

impl Signal for Logs {
    const REJECTED: &'static str = "rejectedLogRecords";
    const SERVICE: &'static str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

    fn read(body: &[u8], encoding: Encoding, dealer: &mut Dealer<'_, Self>) -> Result<Taken, IngestError> {
        let (limits, mut sink) = (dealer.limits(), Dealt::new(dealer));
        otlp::read_logs(body, encoding, &limits, &mut sink)?;
        sink.finish()
    }
}

impl Signal for Metrics {
    const REJECTED: &'static str = "rejectedDataPoints";
    const SERVICE: &'static str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

    fn read(body: &[u8], encoding: Encoding, dealer: &mut Dealer<'_, Self>) -> Result<Taken, IngestError> {
        let (limits, mut sink) = (dealer.limits(), Dealt::new(dealer));
        otlp::read_metrics(body, encoding, &limits, &mut sink)?;
        sink.finish()
    }
}

impl Signal for Spans {
    const REJECTED: &'static str = "rejectedSpans";
    const SERVICE: &'static str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    fn read(body: &[u8], encoding: Encoding, dealer: &mut Dealer<'_, Self>) -> Result<Taken, IngestError> {
        let (limits, mut sink) = (dealer.limits(), Dealt::new(dealer));
        otlp::read_spans(body, encoding, &limits, &mut sink)?;
        sink.finish()
    }
}

/// What a request that was read to its end is told: how many entries are refused, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Outcome {
    refused: u64,
    message: String,
}

/// Reads a body as these doors do.
pub(super) fn probe<S: Signal>(json: bool, body: &[u8], dealer: &mut Dealer<'_, S>) -> Result<(), IngestError> {
    let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
    S::read(body, encoding, dealer).map(drop)
}

async fn store<S: Signal>(ingest: &Ingest, encoding: Encoding, request: Request) -> Result<Outcome, IngestError> {
    let door = request.door;
    let mut prepared =
        ingest.prepare::<S, _>(request, move |body: &Bytes, dealer| S::read(body, encoding, dealer)).await?;
    // First, so that a request is not acknowledged without; one that fails here has stored nothing yet.
    let described = std::mem::take(&mut prepared.extra.described);
    ingest.describe(door, &prepared.tenant, described).await?;
    let (report, taken) = ingest.append(prepared).await?;
    Ok(Outcome { refused: taken.refused + report.series_refused, message: reasons(&report) })
}

/// The first reasons, for people.
fn reasons(report: &IngestReport) -> String {
    let named = report.errors.iter().take(MAX_NAMED).map(|error| match error.index {
        EntryError::SEVERAL => format!("some entries: {}", error.reason),
        index => format!("entry {index}: {}", error.reason),
    });
    let mut text = named.collect::<Vec<_>>().join("; ");
    if report.errors.len() > MAX_NAMED {
        text.push_str("; ...");
    }
    text
}

impl From<OtlpError> for IngestError {
    fn from(error: OtlpError) -> Self {
        Self::Message { message: "OTLP request", reason: error.to_string() }
    }
}
