//! Requests as bytes: the header, and the proof that a body has the shape its version asks for.

use bytes::Bytes;

mod error;
mod head;

pub(in crate::kafka) use error::FrameError;
pub(in crate::kafka) use head::RequestHead;

/// Checks the body of a request against the shape of its API and version, and answers with the body.
pub(in crate::kafka) fn check_body(head: &RequestHead, frame: &Bytes) -> Result<Bytes, FrameError> {
    let mut rest = frame.clone();
    kafka_protocol::protocol::decode_request_header_from_buffer(&mut rest)
        .map_err(|error| FrameError::undecodable(head, &error))?;
    Ok(rest)
}
