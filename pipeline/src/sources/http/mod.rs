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
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::post;

use super::encoding::Encoding;
use super::ingest::{self, Ingest, Route};
use super::meter::Meter;
use super::{IdempotencyKey, IngestError, IngestReport};
use crate::data::Tenant;
use crate::data::logs::Logs;
use crate::data::metrics::Metrics;

mod answer;
mod body;
#[cfg(test)]
mod tests;

/// The header of the trusted tenant.
const TENANT: &str = "x-scope-orgid";
/// The header of the sender's name for the request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const DOOR: &str = "http";

/// The doors. Other methods on the same paths are free for whoever merges this router.
pub fn router(ingest: Arc<Ingest>) -> Router {
    Router::new().route("/logs", post(take::<Logs>)).route("/metrics", post(take::<Metrics>)).with_state(ingest)
}

async fn take<S: Route>(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let meter = Meter { door: DOOR, signal: S::TOPIC, doors: ingest.doors() };
    #[expect(clippy::disallowed_methods, reason = "measures latency; nothing that is stored depends on it")]
    let started = std::time::Instant::now();
    let (head, mut body) = request.into_parts();
    let answer = match read::<S>(&ingest, &head.headers, &mut body).await {
        Ok(request) => match ingest.take::<S>(request).await {
            Ok(report) => answer::report(&report),
            Err(error) => answer::error(&error),
        },
        Err(error) => {
            meter.refused(error.code());
            // A sender that is still sending would see a broken connection in place of the answer; one that asked first
            // (`Expect: 100-continue`) is told not to begin.
            if !head.headers.contains_key(header::EXPECT) {
                body::discard(body).await;
            }
            answer::error(&error)
        }
    };
    meter.answered(started.elapsed().as_secs_f64());
    answer
}

/// Reads head and body of a request. Where it fails, `body` is what has not been read.
async fn read<S: Route>(ingest: &Ingest, headers: &HeaderMap, body: &mut Body) -> Result<ingest::Request, IngestError> {
    let tenant = match headers.get(TENANT) {
        None => Tenant::default(),
        Some(name) => Tenant::new(&String::from_utf8_lossy(name.as_bytes()))?,
    };
    let key = match headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(key) => Some(IdempotencyKey::new(key.to_str().map_err(|_| IngestError::InvalidKey)?)?),
    };
    let encoding = Encoding::named(&content_encoding(headers))?;
    let mut reservation = ingest.reservation();
    let body = body::collect(body, headers, ingest.config(), &mut reservation).await?;
    Ok(ingest::Request { door: DOOR, tenant, body, encoding, lines: declares_lines(headers), key, reservation })
}

/// All content encodings that the headers name, in order.
fn content_encoding(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(", ")
}

/// True where the content type says one entry per line. Otherwise the body's form decides by itself.
fn declares_lines(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"]
        .iter()
        .any(|lines| media_type.eq_ignore_ascii_case(lines))
}
