//! OTLP/gRPC. Framing is read here rather than by a generated service, so that a message counts against the same budget as every other body, is
//! decompressed within the same limits, and is never decoded before it is known to be small enough.
//!
//! | status | when |
//! |---|---|
//! | OK | read to its end; `partial_success` counts and names what is refused for good |
//! | INVALID_ARGUMENT | it cannot be read, and nothing is stored |
//! | RESOURCE_EXHAUSTED | too large; with `RetryInfo`: too much at once, try again |
//! | UNAVAILABLE, `RetryInfo` | the log does not take it now |
//! | UNIMPLEMENTED | another method or compression; another content type, with the HTTP status 415 |

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use tonic::{Code, Status};

use super::status::{self, verdict};
use super::{Outcome, Signal, http, store};
use crate::data::logs::Logs;
use crate::data::metrics::Metrics;
use crate::data::otlp::Encoding as Format;
use crate::data::spans::Spans;
use crate::sources::IngestError;
use crate::sources::encoding::Encoding;
use crate::sources::http::request;
use crate::sources::ingest::{self, Ingest};
use crate::sources::meter::Meter;

const DOOR: &str = "otlp_grpc";
/// Compressions that a message may have, as gRPC names them.
const ACCEPTED: &str = "identity,gzip,deflate,zstd,snappy";
/// Flag and length before a message.
const PREFIX_SIZE_BYTES: usize = 5;

/// The methods, for a server that speaks HTTP/2.
pub fn router(ingest: Arc<Ingest>) -> Router {
    Router::new()
        .route(Logs::SERVICE, post(take::<Logs>))
        .route(Metrics::SERVICE, post(take::<Metrics>))
        .route(Spans::SERVICE, post(take::<Spans>))
        .fallback(|| async { failed(&Status::unimplemented("there is no such method here")) })
        .with_state(ingest)
}

async fn take<S: Signal>(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let meter = Meter { door: DOOR, signal: S::TOPIC, doors: ingest.doors() };
    #[expect(clippy::disallowed_methods, reason = "measures latency; nothing that is stored depends on it")]
    let started = std::time::Instant::now();
    let (head, mut body) = request.into_parts();
    let answer = match read(&ingest, &head.headers, &mut body).await {
        Ok(request) => match store::<S>(&ingest, Format::Protobuf, request).await {
            Ok(outcome) => done(&outcome),
            Err(error) => failed(&refused(&error)),
        },
        Err(error) => {
            request::refused(&error, &head.headers, body, meter).await;
            let mut answer = failed(&refused(&error));
            // Who does not speak gRPC reads the status of HTTP.
            if matches!(error, IngestError::ContentType { .. }) {
                *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            }
            answer
        }
    };
    meter.answered(started.elapsed().as_secs_f64());
    answer
}

async fn read(ingest: &Ingest, headers: &HeaderMap, body: &mut Body) -> Result<ingest::Request, IngestError> {
    let content_type = request::content_type(headers);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !["application/grpc", "application/grpc+proto"].contains(&media_type) {
        return Err(IngestError::ContentType {
            content_type: content_type.to_owned(),
            wanted: "application/grpc or application/grpc+proto",
        });
    }
    let named = headers.get("grpc-encoding").map_or("identity", |value| value.to_str().unwrap_or("?"));
    let encoding = match Encoding::named(named) {
        Ok(
            encoding @ (Encoding::Identity | Encoding::Gzip | Encoding::Deflate | Encoding::Zstd | Encoding::Snappy),
        ) => encoding,
        _ => return Err(IngestError::UnknownEncoding { encoding: named.to_owned(), wanted: ACCEPTED }),
    };
    let request = request::read(DOOR, ingest, headers, body, Encoding::Identity).await?;
    let malformed = |reason: &str| IngestError::Message { message: "gRPC message", reason: reason.to_owned() };
    let (compressed, message) = match *request.body {
        [flag @ (0 | 1), a, b, c, d, ref message @ ..] => {
            let announced = u32::from_be_bytes([a, b, c, d]) as usize;
            if announced != message.len() {
                return Err(malformed("its length is not that of the request"));
            }
            (flag == 1, request.body.slice(PREFIX_SIZE_BYTES..))
        }
        _ => return Err(malformed("it has no prefix of flag and length")),
    };
    if compressed && encoding == Encoding::Identity {
        return Err(malformed("it is compressed, and no grpc-encoding says how"));
    }
    let encoding = if compressed { encoding } else { Encoding::Identity };
    Ok(ingest::Request { body: message, encoding, ..request })
}

/// One message, and trailers that say OK.
fn done(outcome: &Outcome) -> Response {
    let message = http::response(outcome);
    let mut frame = BytesMut::with_capacity(PREFIX_SIZE_BYTES + message.len());
    frame.put_u8(0);
    // An answer names ten reasons at most.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let trailers = async move { Some(Ok::<_, Infallible>(trailers)) };
    let mut response = Response::new(Body::new(Full::new(frame.freeze()).with_trailers(trailers)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The status of a request of which nothing is acknowledged.
fn refused(error: &IngestError) -> Status {
    let verdict = verdict(error);
    if verdict.status.is_server_error() {
        tracing::warn!(%error, "an OTLP request could not be stored");
    }
    let message = error.to_string();
    let details = Bytes::from(status::encode(verdict, &message));
    Status::with_details(Code::from_i32(verdict.code as i32), message, details)
}

/// No message, only a status.
fn failed(status: &Status) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED));
    if status.add_header(headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    response
}
