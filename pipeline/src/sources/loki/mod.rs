//! Loki's push API: `POST /loki/api/v1/push`, as promtail, Grafana Alloy, Fluent Bit and the client libraries speak it.
//!
//! | body | content type | encoding |
//! |---|---|---|
//! | `{"streams": [{"stream": {...}, "values": [["<ns>", "line", {...}]]}]}` | `application/json` | none, gzip, deflate, snappy, zstd |
//! | `{"streams": [{"labels": "{app=\"web\"}", "entries": [{"ts": "<RFC 3339>", "line": "line"}]}]}`, as before Loki 1.0 | `application/json` | the same |
//! | `logproto.PushRequest` in one raw snappy block | anything else | none and snappy: the block; others around it |
//!
//! | answer | when |
//! |---|---|
//! | 204 | every line is stored |
//! | 400, text | some lines are refused for good, and the others stored; or the body cannot be read, and nothing is stored |
//! | 413, 429, 503, 507 | as at the other doors; `Retry-After` where trying again makes sense |
//!
//! Which labels fill which columns is in [`labels`].

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::batcher::Dealer;
use super::encoding::Encoding;
use super::http::answer::status;
use super::http::request;
use super::ingest::Ingest;
use super::meter::Meter;
use super::{IngestError, IngestReport};
use crate::data::logs::{self, Logs};

mod json;
mod labels;
mod lines;
mod protobuf;
mod selector;
#[cfg(test)]
mod tests;

const DOOR: &str = "loki";
/// Most refused lines that an answer names.
const MAX_NAMED: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Protobuf,
}

/// The door.
pub(super) fn router(ingest: Arc<Ingest>) -> Router {
    // The second is where it was before Loki 1.0, and where old agents send to.
    Router::new().route("/loki/api/v1/push", post(take)).route("/api/prom/push", post(take)).with_state(ingest)
}

async fn take(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let meter = Meter { door: DOOR, signal: logs::TOPIC, doors: ingest.doors() };
    #[expect(clippy::disallowed_methods, reason = "measures latency; nothing that is stored depends on it")]
    let started = std::time::Instant::now();
    let (head, mut body) = request.into_parts();
    let format = format(&head.headers);
    let read = match encoding(&head.headers, format) {
        Ok((encoding, inside)) => {
            let read = request::read(DOOR, &ingest, &head.headers, &mut body, encoding).await;
            read.map(|request| super::ingest::Request { inside, ..request })
        }
        Err(error) => Err(error),
    };
    let answer = match read {
        Ok(request) => match store(&ingest, format, request).await {
            Ok(report) => stored(&report),
            Err(error) => refused(&error),
        },
        Err(error) => {
            request::refused(&error, &head.headers, body, meter).await;
            refused(&error)
        }
    };
    meter.answered(started.elapsed().as_secs_f64());
    answer
}

async fn store(ingest: &Ingest, format: Format, request: super::ingest::Request) -> Result<IngestReport, IngestError> {
    let prepared = ingest
        .prepare::<Logs, _>(request, move |body, dealer| match format {
            Format::Json => json::read(body, dealer),
            Format::Protobuf => protobuf::read(body, dealer),
        })
        .await?;
    ingest.append(prepared).await.map(|(report, ())| report)
}

/// Reads a body as this door does.
pub(super) fn probe(json: bool, body: &[u8], dealer: &mut Dealer<'_, Logs>) -> Result<(), IngestError> {
    if json { json::read(body, dealer) } else { protobuf::read(body, dealer) }
}

/// JSON where it says so; everything else is protobuf, as Loki has it.
fn format(headers: &HeaderMap) -> Format {
    let media_type = request::content_type(headers).split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") { Format::Json } else { Format::Protobuf }
}

/// What the body is compressed with, and what is inside that: protobuf is always one block of snappy.
fn encoding(headers: &HeaderMap, format: Format) -> Result<(Encoding, Encoding), IngestError> {
    let encoding = Encoding::named(&request::content_encoding(headers))?;
    Ok(match (format, encoding) {
        (Format::Json, encoding) => (encoding, Encoding::Identity),
        (Format::Protobuf, Encoding::Snappy) => (Encoding::Identity, Encoding::SnappyBlock),
        (Format::Protobuf, encoding) => (encoding, Encoding::SnappyBlock),
    })
}

/// The answer to a request that was read to its end, and whose good lines are stored.
fn stored(report: &IngestReport) -> Response {
    if report.rejected == 0 {
        return StatusCode::NO_CONTENT.into_response();
    }
    let (refused, all) = (report.rejected, report.rejected + report.accepted);
    let mut text = format!("{refused} of {all} lines are refused for good, the others are stored\n");
    for error in report.errors.iter().take(MAX_NAMED) {
        // Writing to a string cannot fail.
        writeln!(text, "line {}: {}", error.index, error.reason).unwrap_or_default();
    }
    if report.errors.len() > MAX_NAMED {
        text.push_str("...\n");
    }
    (StatusCode::BAD_REQUEST, text).into_response()
}

/// The answer to a request of which nothing is acknowledged.
fn refused(error: &IngestError) -> Response {
    let (status, retry_after_s) = match error {
        // Loki knows no 415.
        IngestError::UnknownEncoding { .. } => (StatusCode::BAD_REQUEST, None),
        error => status(error),
    };
    if status.is_server_error() {
        tracing::warn!(%error, status = status.as_u16(), "a Loki push could not be stored");
    }
    let mut response = (status, format!("{error}\n")).into_response();
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
