//! Prometheus remote write 1.0 and 2.0: `POST /api/v1/write`.
//!
//! A body is one raw snappy block of protobuf, walked in place: a series' labels become their canonical text once, its samples go straight
//! into columns.
//!
//! | answer | when |
//! |---|---|
//! | 204 | all samples and histograms are stored |
//! | 400, text | some are refused for good, and the others stored; or the body cannot be read, and nothing is stored |
//! | 413 | too large, before or after decompression |
//! | 415 | content type or encoding are not those of remote write |
//! | 429, 503, 507, `Retry-After` | not now: a sender tries again |
//!
//! Answers to 2.0 count what was written in `X-Prometheus-Remote-Write-{Samples,Histograms,Exemplars}-Written`, errors too. Exemplars are
//! not stored: they are counted as rejected, reason `exemplar`, and refuse nothing else. Samples may come in any order of time.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;

use super::batcher::Dealer;
use super::encoding::Encoding;
use super::http::request;
use super::ingest::Ingest;
use super::meter::Meter;
use super::{IngestError, IngestReport};
use crate::data::metrics::{self, Metrics};

mod answer;
mod series;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use series::Written;

const DOOR: &str = "remote_write";
const WANTED_TYPE: &str =
    "application/x-protobuf, with proto=prometheus.WriteRequest (1.0) or proto=io.prometheus.write.v2.Request (2.0)";

/// Which protocol a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The door.
pub(super) fn router(ingest: Arc<Ingest>) -> Router {
    // The second is where Mimir and Cortex have it.
    Router::new().route("/api/v1/write", post(take)).route("/api/v1/push", post(take)).with_state(ingest)
}

async fn take(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let meter = Meter { door: DOOR, signal: metrics::TOPIC, doors: ingest.doors() };
    #[expect(clippy::disallowed_methods, reason = "measures latency; nothing that is stored depends on it")]
    let started = std::time::Instant::now();
    let (head, mut body) = request.into_parts();
    let version = version(&head.headers);
    let read = match version.and_then(|version| encoding(&head.headers).map(|encoding| (version, encoding))) {
        Ok((version, encoding)) => {
            let read = request::read(DOOR, &ingest, &head.headers, &mut body, encoding).await;
            read.map(|request| (version, request))
        }
        Err(error) => Err(error),
    };
    let answer = match read {
        Ok((version, request)) => match store(&ingest, version, request).await {
            Ok((report, written)) => answer::stored(version, &report, &written),
            Err(error) => answer::error(Some(version), &error),
        },
        Err(error) => {
            request::refused(&error, &head.headers, body, meter).await;
            answer::error(self::version(&head.headers).ok(), &error)
        }
    };
    meter.answered(started.elapsed().as_secs_f64());
    answer
}

async fn store(
    ingest: &Ingest,
    version: Version,
    request: super::ingest::Request,
) -> Result<(IngestReport, Written), IngestError> {
    let mut prepared = ingest
        .prepare::<Metrics, _>(request, move |body, dealer| match version {
            Version::V1 => v1::read(body, dealer),
            Version::V2 => v2::read(body, dealer),
        })
        .await?;
    // First, so that a request is not acknowledged without; one that fails here has stored nothing yet.
    let metadata = std::mem::take(&mut prepared.extra.metadata);
    ingest.describe(DOOR, &prepared.tenant, metadata).await?;
    ingest.append(prepared).await
}

/// Reads a body as this door does.
pub(super) fn probe(v2: bool, body: &Bytes, dealer: &mut Dealer<'_, Metrics>) -> Result<(), IngestError> {
    let read = if v2 { v2::read(body, dealer) } else { v1::read(body, dealer) };
    read.map(drop)
}

/// The protocol that the content type names; without one it is 1.0, as its first senders had none.
fn version(headers: &HeaderMap) -> Result<Version, IngestError> {
    let content_type = request::content_type(headers);
    let refuse = || IngestError::ContentType { content_type: content_type.to_owned(), wanted: WANTED_TYPE };
    let mut parts = content_type.split(';').map(str::trim);
    match parts.next() {
        Some("") if !headers.contains_key(axum::http::header::CONTENT_TYPE) => return Ok(Version::V1),
        Some(media_type) if media_type.eq_ignore_ascii_case("application/x-protobuf") => {}
        _ => return Err(refuse()),
    }
    for parameter in parts.filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or_else(refuse)?;
        if name.trim().eq_ignore_ascii_case("proto") {
            return match value.trim().trim_matches('"') {
                "prometheus.WriteRequest" => Ok(Version::V1),
                "io.prometheus.write.v2.Request" => Ok(Version::V2),
                _ => Err(refuse()),
            };
        }
    }
    Ok(Version::V1)
}

/// Snappy, and nothing else; also where nothing is said.
fn encoding(headers: &HeaderMap) -> Result<Encoding, IngestError> {
    let encoding = request::content_encoding(headers);
    if encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("snappy") {
        Ok(Encoding::SnappyBlock)
    } else {
        Err(IngestError::UnknownEncoding { encoding, wanted: "snappy" })
    }
}
