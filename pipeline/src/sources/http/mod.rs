//! `POST /logs` and `POST /metrics`.
//!
//! | answer | when |
//! |---|---|
//! | 200 | at least one entry is stored, or there was none; the body counts and names those refused |
//! | 400 | every entry was refused; or the body, tenant or idempotency key cannot be read, and nothing is stored |
//! | 408 | the body stopped coming |
//! | 413 | the body is too large, before or after decompression |
//! | 415 | the content encoding is unknown |
//! | 429, `Retry-After` | too many bytes of requests are in flight |
//! | 503, `Retry-After` | the log does not take it now |
//! | 507, `Retry-After` | the disk is full |

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;

use super::encoding::Encoding;
use super::ingest::{Ingest, Route};
use super::meter::Meter;
use super::{IngestError, IngestReport};
use crate::data::logs::Logs;
use crate::data::metrics::Metrics;
use crate::data::signal::Signal;

pub(super) mod answer;
mod body;
pub(super) mod request;
#[cfg(test)]
mod tests;

const DOOR: &str = "http";

pub(crate) use body::discard;

/// The doors. Other methods on the same paths are free for whoever merges this router.
pub fn router(ingest: Arc<Ingest>) -> Router {
    Router::new().route("/logs", post(take::<Logs>)).route("/metrics", post(take::<Metrics>)).with_state(ingest)
}

async fn take<S: Route + Signal>(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let meter = Meter { door: DOOR, signal: S::TOPIC, doors: ingest.doors() };
    #[expect(clippy::disallowed_methods, reason = "measures latency; nothing that is stored depends on it")]
    let started = std::time::Instant::now();
    let (head, mut body) = request.into_parts();
    let read = match Encoding::named(&request::content_encoding(&head.headers)) {
        Ok(encoding) => request::read(DOOR, &ingest, &head.headers, &mut body, encoding).await,
        Err(error) => Err(error),
    };
    let answer = match read {
        Ok(request) => match ingest.take_json::<S>(request, declares_lines(&head.headers)).await {
            Ok(report) => answer::report(&report),
            Err(error) => answer::error(&error),
        },
        Err(error) => {
            request::refused(&error, &head.headers, body, meter).await;
            answer::error(&error)
        }
    };
    meter.answered(started.elapsed().as_secs_f64());
    answer
}

/// True where the content type says one entry per line. Otherwise the body's form decides by itself.
fn declares_lines(headers: &HeaderMap) -> bool {
    let media_type = request::content_type(headers).split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"]
        .iter()
        .any(|lines| media_type.eq_ignore_ascii_case(lines))
}
