//! OTLP/HTTP: `POST /v1/logs`, `/v1/metrics`, `/v1/traces`.
//!
//! Bodies are protobuf (`application/x-protobuf`) or JSON (`application/json`), compressed with what the other doors take; answers are written as the
//! request was.
//!
//! | answer | when |
//! |---|---|
//! | 200 | read to its end; `partial_success` counts and names what is refused for good |
//! | 400 | it cannot be read, and nothing is stored |
//! | 413, 415 | too large; another content type or encoding |
//! | 429, 503, `Retry-After` | not now: an exporter tries again |
//!
//! The body of an error is a `google.rpc.Status`. The same doors are at the paths where other servers have them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;

use super::status::{self, verdict};
use super::{Outcome, Signal, store};
use crate::data::logs::Logs;
use crate::data::metrics::Metrics;
use crate::data::otlp::Encoding;
use crate::data::protobuf::{put_bytes, put_varint};
use crate::data::spans::Spans;
use crate::sources::IngestError;
use crate::sources::encoding;
use crate::sources::http::request;
use crate::sources::ingest::Ingest;
use crate::sources::meter::Meter;

const DOOR: &str = "otlp_http";
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Where exporters send to whose server was another one before: Prometheus; Loki and Mimir; VictoriaMetrics.
const BELOW: [&str; 4] = ["", "/api/v1/otlp", "/otlp", "/opentelemetry"];

/// The doors.
pub fn router(ingest: Arc<Ingest>) -> Router {
    let mut router = Router::new();
    for below in BELOW {
        router = router
            .route(&format!("{below}/v1/logs"), post(take::<Logs>))
            .route(&format!("{below}/v1/metrics"), post(take::<Metrics>))
            .route(&format!("{below}/v1/traces"), post(take::<Spans>));
    }
    router.with_state(ingest)
}

async fn take<S: Signal>(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let meter = Meter { door: DOOR, signal: S::TOPIC, doors: ingest.doors() };
    #[expect(clippy::disallowed_methods, reason = "measures latency; nothing that is stored depends on it")]
    let started = std::time::Instant::now();
    let (head, mut body) = request.into_parts();
    let format = format(&head.headers);
    let compression = encoding::Encoding::named(&request::content_encoding(&head.headers));
    let read = match (&format, compression) {
        (Ok(_), Ok(compression)) => request::read(DOOR, &ingest, &head.headers, &mut body, compression).await,
        (Err(content_type), _) => Err(IngestError::ContentType {
            content_type: content_type.clone(),
            wanted: "application/x-protobuf or application/json",
        }),
        (_, Err(error)) => Err(error),
    };
    let format = format.unwrap_or(Encoding::Json);
    let answer = match read {
        Ok(request) => match store::<S>(&ingest, format, request).await {
            Ok(outcome) => success::<S>(format, &outcome),
            Err(error) => failure(format, &error),
        },
        Err(error) => {
            request::refused(&error, &head.headers, body, meter).await;
            failure(format, &error)
        }
    };
    meter.answered(started.elapsed().as_secs_f64());
    answer
}

/// How the body is written, by its content type; else the content type.
fn format(headers: &HeaderMap) -> Result<Encoding, String> {
    let content_type = request::content_type(headers);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if [PROTOBUF, "application/protobuf"].iter().any(|known| media_type.eq_ignore_ascii_case(known)) {
        Ok(Encoding::Protobuf)
    } else if media_type.eq_ignore_ascii_case(JSON) {
        Ok(Encoding::Json)
    } else {
        Err(content_type.to_owned())
    }
}

fn content_type(format: Encoding) -> [(header::HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, if format == Encoding::Json { JSON } else { PROTOBUF })]
}

/// `Export<Signal>ServiceResponse`; the signals number their fields alike.
pub(super) fn response(outcome: &Outcome) -> Vec<u8> {
    let mut response = Vec::new();
    if outcome.refused > 0 {
        let mut partial = Vec::new();
        put_varint(1, outcome.refused, &mut partial);
        put_bytes(2, outcome.message.as_bytes(), &mut partial);
        put_bytes(1, &partial, &mut response);
    }
    response
}

fn success<S: Signal>(format: Encoding, outcome: &Outcome) -> Response {
    let body = match format {
        Encoding::Protobuf => response(outcome),
        Encoding::Json if outcome.refused == 0 => b"{}".to_vec(),
        Encoding::Json => {
            // As protobuf's JSON has it, a 64-bit number is a string.
            let partial = json!({ S::REJECTED: outcome.refused.to_string(), "errorMessage": outcome.message });
            json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
    };
    (content_type(format), body).into_response()
}

fn failure(format: Encoding, error: &IngestError) -> Response {
    let verdict = verdict(error);
    if verdict.status.is_server_error() {
        tracing::warn!(%error, status = verdict.status.as_u16(), "an OTLP request could not be stored");
    }
    let message = error.to_string();
    let body = match format {
        Encoding::Protobuf => status::encode(verdict, &message),
        Encoding::Json => json!({ "code": verdict.code as u8, "message": message }).to_string().into_bytes(),
    };
    let mut response = (verdict.status, content_type(format), body).into_response();
    if let Some(seconds) = verdict.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
