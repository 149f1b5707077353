//! `google.rpc.Status`, and the codes that say whether an exporter tries again.

use axum::http::StatusCode;

use crate::data::protobuf::{put_bytes, put_varint};
use crate::sources::IngestError;
use crate::sources::http::answer;

/// gRPC's codes, as far as they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// What an error is in this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Over HTTP.
    pub(super) status: StatusCode,
    /// Over gRPC, and in the body over HTTP.
    pub(super) code: Code,
    /// After how many seconds to try again; without it there is no use in it.
    pub(super) retry_after_s: Option<u16>,
}

/// What is answered to an error. Exporters try again after 429, 502, 503 and 504 only, so what others say with 507 or 408 is 503 here.
pub(super) fn verdict(error: &IngestError) -> Verdict {
    let (status, retry_after_s) = answer::status(error);
    let (status, code, retry_after_s) = match status {
        StatusCode::TOO_MANY_REQUESTS => (status, Code::ResourceExhausted, retry_after_s.or(Some(1))),
        StatusCode::PAYLOAD_TOO_LARGE => (status, Code::ResourceExhausted, None),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (status, Code::Unimplemented, None),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE | StatusCode::REQUEST_TIMEOUT => {
            (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, retry_after_s.or(Some(1)))
        }
        _ if status.is_server_error() => (status, Code::Internal, None),
        _ => (status, Code::InvalidArgument, None),
    };
    Verdict { status, code, retry_after_s }
}

/// The message, with when to try again among its details.
pub(super) fn encode(verdict: Verdict, message: &str) -> Vec<u8> {
    encode_status(verdict.code as u8, message, verdict.retry_after_s.map(u64::from))
}

/// A `google.rpc.Status` of this code; with `RetryInfo` where there is a use in trying again after so many seconds.
pub(crate) fn encode_status(code: u8, message: &str, retry_after_s: Option<u64>) -> Vec<u8> {
    let mut status = Vec::with_capacity(message.len() + 64);
    put_varint(1, u64::from(code), &mut status);
    put_bytes(2, message.as_bytes(), &mut status);
    if let Some(seconds) = retry_after_s {
        let (mut duration, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
        put_varint(1, seconds, &mut duration);
        put_bytes(1, &duration, &mut info);
        put_bytes(1, b"type.googleapis.com/google.rpc.RetryInfo", &mut any);
        put_bytes(2, &info, &mut any);
        put_bytes(3, &any, &mut status);
    }
    status
}
