//! The header of a request.
//!
//! ```text
//! i16 API key · i16 version · i32 correlation id · i16 length (-1 null), client id · tagged fields where the version is flexible
//! ```

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::FrameError;
use super::shape::{ShapeError, Walk};

/// The header of a request, but for its tagged fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kafka) struct RequestHead {
    /// API key.
    pub(in crate::kafka) key: i16,
    /// Version of the API.
    pub(in crate::kafka) version: i16,
    /// What the answer is to repeat.
    pub(in crate::kafka) correlation: i32,
    /// The client's name for itself; empty where it gives none.
    pub(in crate::kafka) client_id: StrBytes,
    /// Where in the frame the header's tagged fields begin, or the body where there are none.
    pub(in crate::kafka) end: usize,
}

impl RequestHead {
    /// Reads the header of a frame.
    pub(in crate::kafka) fn read(frame: &Bytes) -> Result<Self, FrameError> {
        Self::walk(frame).map_err(|reason| FrameError::Header { reason })
    }

    fn walk(frame: &Bytes) -> Result<Self, ShapeError> {
        let mut walk = Walk::new(frame);
        let (key, version, correlation) = (walk.i16()?, walk.i16()?, walk.i32()?);
        let name = walk.text(false)?.unwrap_or_default();
        let client_id = StrBytes::from_utf8(frame.slice_ref(name.as_bytes())).map_err(|_| ShapeError::Utf8)?;
        Ok(Self { key, version, correlation, client_id, end: frame.len() - walk.left() })
    }
}
