//! Answers: a report, or `{"error": "..."}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use highwater_broker::BrokerError;
use serde_json::json;

use super::{IngestError, IngestReport};
use crate::log::LogError;
use crate::log::kafka::KafkaError;

/// The answer to a request that was read to its end.
pub(super) fn report(report: &IngestReport) -> Response {
    let none_stored = report.accepted == 0 && report.rejected > 0;
    let status = if none_stored { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    (status, Json(report)).into_response()
}

/// The answer to a request that was refused as a whole.
pub(in crate::sources) fn error(error: &IngestError) -> Response {
    let (status, retry_after_s) = status(error);
    if status.is_server_error() {
        tracing::warn!(%error, status = status.as_u16(), "a request could not be stored");
    }
    let mut response = (status, Json(json!({ "error": error.to_string() }))).into_response();
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The status, and after how many seconds a retry makes sense.
pub(in crate::sources) fn status(error: &IngestError) -> (StatusCode, Option<u16>) {
    match error {
        IngestError::Body(_)
        | IngestError::Message { .. }
        | IngestError::Tenant(_)
        | IngestError::InvalidKey
        | IngestError::Undecompressable { .. }
        | IngestError::Incomplete { .. } => (StatusCode::BAD_REQUEST, None),
        IngestError::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, None),
        IngestError::TooLarge { .. } | IngestError::Expanded { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
        IngestError::UnknownEncoding { .. } | IngestError::ContentType { .. } => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, None)
        }
        IngestError::Limited(limited) => {
            (StatusCode::TOO_MANY_REQUESTS, Some(u16::try_from(limited.retry_after_s()).unwrap_or(u16::MAX)))
        }
        IngestError::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, Some(1)),
        IngestError::Log { source, .. } | IngestError::Topic { source, .. } => match source {
            LogError::Broker(BrokerError::DiskFull { .. }) => (StatusCode::INSUFFICIENT_STORAGE, Some(10)),
            LogError::Broker(BrokerError::BatchTooLarge { .. })
            | LogError::Kafka(KafkaError::RecordTooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            // Stopped, shutting down, no topic: not the sender's fault, and somebody will see to it.
            _ => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
        },
        IngestError::Abandoned { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
        IngestError::Config { .. } | IngestError::Encode(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
    }
}
