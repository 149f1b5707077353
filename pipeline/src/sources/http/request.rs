//! What every door over HTTP does with a request before it reads what is in it: whose it is, its key, its body within limits.

use axum::body::Body;
use axum::http::{HeaderMap, header};

use super::body;
use crate::data::Tenant;
use crate::sources::encoding::Encoding;
use crate::sources::ingest::{self, Ingest};
use crate::sources::meter::Meter;
use crate::sources::{IdempotencyKey, IngestError};

/// The header of the trusted tenant.
const TENANT: &str = "x-scope-orgid";
/// The header of the sender's name for the request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Reads head and body of a request. Where it fails, `body` is what has not been read; [`refused`] knows what to do with it.
pub(in crate::sources) async fn read(
    door: &'static str,
    ingest: &Ingest,
    headers: &HeaderMap,
    body: &mut Body,
    encoding: Encoding,
) -> Result<ingest::Request, IngestError> {
    let tenant = match headers.get(TENANT) {
        None => Tenant::default(),
        Some(name) => Tenant::new(&String::from_utf8_lossy(name.as_bytes()))?,
    };
    let key = match headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(key) => Some(IdempotencyKey::new(key.to_str().map_err(|_| IngestError::InvalidKey)?)?),
    };
    let mut reservation = ingest.reservation();
    let body = body::collect(body, headers, ingest.config(), &mut reservation).await?;
    Ok(ingest::Request { door, tenant, body, encoding, inside: Encoding::Identity, key, reservation })
}

/// A request was refused before all of it was read: counts it, and lets the sender get to its answer.
pub(in crate::sources) async fn refused(error: &IngestError, headers: &HeaderMap, body: Body, meter: Meter<'_>) {
    meter.refused(error.code());
    // A sender that is still sending would see a broken connection in place of the answer; one that asked first
    // (`Expect: 100-continue`) is told not to begin.
    if !headers.contains_key(header::EXPECT) {
        body::discard(body).await;
    }
}

/// All content encodings that the headers name, in order.
pub(in crate::sources) fn content_encoding(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(", ")
}

/// The content type as it was sent; empty where there is none.
pub(in crate::sources) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
