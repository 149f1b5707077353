//! Requests as bytes: the header, the proof that a body has the shape that its version asks for, and answers that are not one buffer.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

mod error;
mod fetched;
mod head;
#[cfg(test)]
pub(in crate::kafka) mod samples;
mod shape;

pub(in crate::kafka) use error::FrameError;
pub(in crate::kafka) use fetched::encode_fetched;
pub(in crate::kafka) use head::RequestHead;

use shape::{Shape, Walk};

/// Proves that the body of a request has the shape of its API and version, and answers with it. Bytes behind the body are let be, as
/// Kafka does.
pub(in crate::kafka) fn check_body(api: ApiKey, head: &RequestHead, frame: &Bytes) -> Result<Bytes, FrameError> {
    let shape = Shape::of(api).ok_or_else(|| FrameError::unserved(head))?;
    let misshapen = |reason| FrameError::Body { key: head.key, version: head.version, reason };
    let mut walk = Walk::new(&frame[head.end..]);
    if shape.is_flexible(head.version) {
        walk.header_tags().map_err(misshapen)?;
    }
    let start = frame.len() - walk.left();
    walk.body(shape, head.version).map_err(misshapen)?;
    Ok(frame.slice(start..))
}
