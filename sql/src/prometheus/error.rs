//! Errors as the Prometheus API answers them: `{"status":"error","errorType":"...","error":"..."}`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use highwater_promql::{Error, ErrorKind, Quoted};

use crate::error::SqlError;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiErrorKind {
    BadData,
    Execution,
    Canceled,
    Timeout,
    Internal,
    Unavailable,
}

impl ApiErrorKind {
    fn name(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            // nginx's "the client closed the connection"; it has no name.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            Self::Timeout | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub(super) kind: ApiErrorKind,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The request is wrong.
    pub(super) fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ApiErrorKind::BadData, message)
    }

    /// A parameter is wrong.
    pub(super) fn invalid_parameter(name: &str, why: &str) -> Self {
        Self::bad_data(format!("invalid parameter {}: {why}", Quoted(name)))
    }

    /// A query that cannot be parsed: the parameter it came in is wrong.
    pub(super) fn in_parameter(self, name: &str) -> Self {
        match self.kind {
            ApiErrorKind::BadData => Self::invalid_parameter(name, &self.message),
            _ => self,
        }
    }

    /// The status it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// A short name of the outcome, for metrics.
    pub(super) fn code(&self) -> &'static str {
        self.kind.name()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::BadData => ApiErrorKind::BadData,
            ErrorKind::Execution => ApiErrorKind::Execution,
            ErrorKind::Canceled => ApiErrorKind::Canceled,
            ErrorKind::Timeout => ApiErrorKind::Timeout,
            ErrorKind::Internal => ApiErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        let kind = match &error {
            SqlError::Storage { .. } | SqlError::File { .. } | SqlError::Log { .. } | SqlError::Tail { .. } => {
                ApiErrorKind::Unavailable
            }
            _ => ApiErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "status": "error", "errorType": self.kind.name(), "error": self.message,
        });
        (self.kind.status(), axum::Json(body)).into_response()
    }
}
