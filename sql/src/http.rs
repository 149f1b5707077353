//! SQL over HTTP: `POST /api/v1/sql`.
//!
//! The body is `{"query": "...", "params": [...], "format": "json"|"ndjson"|"csv"|"arrow", "timeout": "10s"}`, where all but the query may be left out,
//! or the bare query as `text/plain` with `?format=`. The parameters are the values of `$1`, `$2`, ... Rows are streamed. Header `highwater-snapshot` says which part of which table the query saw, as JSON.
//!
//! An error before the first row is a status and `{"error": "...", "code": "..."}`, with `"line"` and `"column"` of the query's text where they are
//! known:
//!
//! | status | code | |
//! |---|---|---|
//! | 400 | `syntax`, `invalid`, `parameter`, `execution`, `request` | the query, or the request around it, is wrong |
//! | 403 | `forbidden` | it would write, or read outside the tables |
//! | 429 | `busy` | too many queries run; `Retry-After` says when to try again |
//! | 503 | `unavailable` | a table or the log cannot be read |
//! | 504 | `timeout` | cut at `sql.timeout` |
//! | 507 | `memory` | needs more than `sql.memory_limit_bytes` |
//! | 500 | `internal` | a bug |
//!
//! An error after the first row breaks the connection off, so that half a result is not taken for a whole one.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::{Stream, StreamExt};
use highwater_pipeline::data::Tenant;
use serde::Deserialize;

use crate::engine::{Engine, QueryOptions};
use crate::error::{Place, SqlError};
use crate::output::{Encoder, Format};
use crate::parameters::Parameter;
use crate::query::QueryResult;

/// Longest request body, bytes; longer than the longest query text, JSON escapes included.
const MAX_BODY_BYTES: usize = 1 << 20;
/// What `Retry-After` says, seconds.
const RETRY_AFTER: &str = "1";
/// The response header with the cut.
const SNAPSHOT_HEADER: &str = "highwater-snapshot";
/// The tenant's header. Which senders may set it is decided by whoever stands before this router.
const TENANT_HEADER: &str = "x-scope-orgid";

/// The routes of this room.
pub fn router(engine: Arc<Engine>) -> Router {
    Router::new().route("/api/v1/sql", post(sql)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(engine)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    query: String,
    format: Option<String>,
    /// The values of `$1`, `$2`, ...
    #[serde(default)]
    params: Vec<serde_json::Value>,
    /// Cut after this long, if that is sooner than `sql.timeout`.
    timeout: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Parameters {
    format: Option<String>,
}

async fn sql(
    State(engine): State<Arc<Engine>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let (query, format, options) = read_request(&headers, &body, parameters)?;
    let tenant = tenant(&headers).map_err(HttpError::request)?;
    let mut result = engine.query_with(tenant.as_str(), &query, options).await?;
    let snapshot = serde_json::to_string(result.info()).ok().and_then(|s| HeaderValue::from_str(&s).ok());
    // The first batch before the status: most of what goes wrong does so by then.
    let first = result.next().await.transpose()?;
    let encoder = Encoder::new(format, result.schema()).map_err(unwritable)?;
    let mut response = Body::from_stream(document(encoder, first, result)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    if let Some(snapshot) = snapshot {
        response.headers_mut().insert(SNAPSHOT_HEADER, snapshot);
    }
    Ok(response)
}

fn read_request(
    headers: &HeaderMap,
    body: &[u8],
    parameters: Parameters,
) -> Result<(String, Format, QueryOptions), HttpError> {
    let mut options = QueryOptions::default();
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    let (query, format) = if content_type.starts_with("text/plain") {
        let query =
            std::str::from_utf8(body).map_err(|e| HttpError::request(format!("the query is not UTF-8: {e}")))?;
        (query.to_string(), parameters.format)
    } else {
        // Whatever it calls itself: `curl -d` says it is a form.
        let request: Request = serde_json::from_slice(body).map_err(|e| {
            HttpError::request(format!("the body must be {{\"query\": \"...\", \"format\": \"...\"}}: {e}"))
        })?;
        options.parameters = request.params.into_iter().map(Parameter::from_json).collect::<Result<_, _>>()?;
        options.timeout = request.timeout.as_deref().map(duration).transpose()?;
        (request.query, request.format.or(parameters.format))
    };
    let format = match format.as_deref() {
        None => Format::Json,
        Some(name) => name
            .parse()
            .ok()
            // A table's columns are as wide as their widest value, so a table cannot be streamed.
            .filter(|f| *f != Format::Table)
            .ok_or_else(|| HttpError::request(format!("unknown format {name:?}: choose json, ndjson, csv or arrow")))?,
    };
    Ok((query, format, options))
}

fn duration(text: &str) -> Result<Duration, HttpError> {
    humantime::parse_duration(text)
        .map_err(|e| HttpError::request(format!("timeout {text:?} is not a duration such as \"10s\": {e}")))
}

/// Whose data a request asks for.
///
/// # Errors
/// What is wrong with the header.
pub(crate) fn tenant(headers: &HeaderMap) -> Result<Tenant, String> {
    let Some(value) = headers.get(TENANT_HEADER) else { return Ok(Tenant::default()) };
    Tenant::new(&String::from_utf8_lossy(value.as_bytes())).map_err(|e| format!("header {TENANT_HEADER}: {e}"))
}

/// The bytes of the response.
fn document(
    encoder: Encoder,
    first: Option<arrow::array::RecordBatch>,
    rest: QueryResult,
) -> impl Stream<Item = Result<Vec<u8>, SqlError>> {
    let batches = futures::stream::iter(first.map(Ok)).chain(rest);
    futures::stream::try_unfold((Some(encoder), batches), |(encoder, mut batches)| async move {
        let Some(mut encoder) = encoder else { return Ok(None) };
        let broken = |e: arrow::error::ArrowError| SqlError::Internal { message: e.to_string() };
        match batches.next().await {
            Some(batch) => {
                let bytes = encoder.batch(&batch.inspect_err(log_cut)?).map_err(broken)?;
                Ok(Some((bytes, (Some(encoder), batches))))
            }
            None => Ok(Some((encoder.finish().map_err(broken)?, (None, batches)))),
        }
    })
}

fn log_cut(error: &SqlError) {
    tracing::warn!(%error, "a query failed after its first rows were sent; the connection is closed");
}

fn unwritable(error: arrow::error::ArrowError) -> HttpError {
    HttpError::request(format!("the result does not fit the format: {error}"))
}

/// An error as the client sees it.
#[derive(Debug)]
struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: String,
    at: Option<Place>,
}

impl HttpError {
    fn request(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "request", message, at: None }
    }
}

impl From<SqlError> for HttpError {
    fn from(error: SqlError) -> Self {
        let status = match &error {
            SqlError::Syntax { .. }
            | SqlError::Invalid { .. }
            | SqlError::Parameter { .. }
            | SqlError::Execution { .. } => StatusCode::BAD_REQUEST,
            SqlError::Forbidden { .. } => StatusCode::FORBIDDEN,
            SqlError::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            SqlError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            SqlError::Memory { .. } => StatusCode::INSUFFICIENT_STORAGE,
            SqlError::Storage { .. } | SqlError::File { .. } | SqlError::Log { .. } | SqlError::Tail { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            SqlError::Start { .. } | SqlError::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, code: error.code(), message: error.to_string(), at: error.place() }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({ "error": self.message, "code": self.code });
        if let Some(Place { line, column }) = self.at {
            body["line"] = line.into();
            body["column"] = column.into();
        }
        let mut response = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}
