//! Answers: no content, or text for people.

use std::fmt::Write;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Version, Written};
use crate::sources::http::answer::status;
use crate::sources::{IngestError, IngestReport};

/// Most refused series that an answer names.
const MAX_NAMED: usize = 10;

/// The answer to a request that was read to its end, and whose good samples are stored.
pub(super) fn stored(version: Version, report: &IngestReport, written: &Written) -> Response {
    let mut response = match written.refused + report.series_refused {
        0 => StatusCode::NO_CONTENT.into_response(),
        refused => {
            let all = refused + report.accepted;
            let mut text = format!("{refused} of {all} samples are refused for good, the others are stored\n");
            for error in report.errors.iter().take(MAX_NAMED) {
                // Writing to a string cannot fail.
                writeln!(text, "series {}: {}", error.index, error.reason).unwrap_or_default();
            }
            if report.errors.len() > MAX_NAMED {
                text.push_str("...\n");
            }
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    };
    if version == Version::V2 {
        count(&mut response, written.samples, written.histograms);
    }
    response
}

/// The answer to a request of which nothing is acknowledged.
pub(super) fn error(version: Option<Version>, error: &IngestError) -> Response {
    let (status, retry_after_s) = status(error);
    if status.is_server_error() {
        tracing::warn!(%error, status = status.as_u16(), "a remote write request could not be stored");
    }
    let mut response = (status, format!("{error}\n")).into_response();
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if version == Some(Version::V2) {
        count(&mut response, 0, 0);
    }
    response
}

fn count(response: &mut Response, samples: u64, histograms: u64) {
    for (name, count) in [("samples", samples), ("histograms", histograms), ("exemplars", 0)] {
        let name = HeaderName::from_bytes(format!("x-prometheus-remote-write-{name}-written").as_bytes());
        if let Ok(name) = name {
            response.headers_mut().insert(name, HeaderValue::from(count));
        }
    }
}
