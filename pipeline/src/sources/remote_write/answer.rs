//! Answers: no content, or text for people.

use std::fmt::Write;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Version, Written};
use crate::sources::http::answer::status;
use crate::sources::{EntryError, IngestError, IngestReport};

/// Most refused series that an answer names.
const MAX_NAMED: usize = 10;

/// The answer to a request that was read to its end, and whose good samples are stored.
pub(super) fn stored(version: Version, report: &IngestReport, written: &Written) -> Response {
    let refused = written.refused + report.series_refused;
    // A series of no samples is refused, too.
    let mut response = if refused == 0 && report.errors.is_empty() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let all = refused + report.accepted;
        let mut text = format!("{refused} of {all} samples are refused for good, the others are stored\n");
        for error in report.errors.iter().take(MAX_NAMED) {
            // Writing to a string cannot fail.
            match error.index {
                EntryError::SEVERAL => writeln!(text, "some series: {}", error.reason),
                index => writeln!(text, "series {index}: {}", error.reason),
            }
            .unwrap_or_default();
        }
        if report.errors.len() > MAX_NAMED {
            text.push_str("...\n");
        }
        (StatusCode::BAD_REQUEST, text).into_response()
    };
    if version == Version::V2 {
        // Which of both were too many series is not known; more than was written is never said.
        let over = report.series_refused.saturating_sub(written.samples);
        let samples = written.samples.saturating_sub(report.series_refused);
        count(&mut response, samples, written.histograms.saturating_sub(over));
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
