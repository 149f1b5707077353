//! The header of a request.

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;

use super::FrameError;

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kafka) struct RequestHead {
    /// API key.
    pub(in crate::kafka) key: i16,
    /// Version of the API.
    pub(in crate::kafka) version: i16,
    /// What the answer is to repeat.
    pub(in crate::kafka) correlation: i32,
    /// The client's name for itself.
    pub(in crate::kafka) client_id: StrBytes,
    /// Bytes up to the client id's end; tagged fields of the header, if any, come after.
    pub(in crate::kafka) size_bytes: usize,
}

impl RequestHead {
    /// Reads the header of a frame (without its size).
    pub(in crate::kafka) fn read(frame: &Bytes) -> Result<Self, FrameError> {
        let short = || FrameError::Header { size_bytes: frame.len() };
        let mut rest = frame.clone();
        if rest.remaining() < 10 {
            return Err(short());
        }
        let (key, version, correlation, length) = (rest.get_i16(), rest.get_i16(), rest.get_i32(), rest.get_i16());
        let length = usize::try_from(length).unwrap_or(0);
        if rest.remaining() < length {
            return Err(short());
        }
        let client_id = StrBytes::from_utf8(rest.split_to(length)).map_err(|_| short())?;
        Ok(Self { key, version, correlation, client_id, size_bytes: 10 + length })
    }
}
