//! The body of a snapshot section: a JSON manifest and the batches it speaks of.
//!
//! ```text
//! u32  length of the manifest    manifest, JSON
//! for each batch:
//!   u64  length    Arrow IPC stream of one batch
//! ```
//! Integers are little-endian.

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::data::ipc;
use highwater_pipeline::runtime::ProcessorError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a manifest and its batches.
pub(crate) fn encode<M: Serialize>(manifest: &M, batches: &[RecordBatch]) -> Result<Bytes, ProcessorError> {
    let manifest =
        serde_json::to_vec(manifest).map_err(|e| ProcessorError::caused("a state manifest cannot be written", e))?;
    let size = u32::try_from(manifest.len()).map_err(|_| ProcessorError::new("a state manifest exceeds 4 GiB"))?;
    let mut out = Vec::with_capacity(4 + manifest.len());
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&manifest);
    for batch in batches {
        let bytes = ipc::encode(batch).map_err(|e| ProcessorError::caused("state cannot be written", e))?;
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    Ok(out.into())
}

/// Reads them back.
pub(crate) fn decode<M: DeserializeOwned>(body: &Bytes) -> Result<(M, Vec<RecordBatch>), ProcessorError> {
    let mut rest = &body[..];
    let size = take(&mut rest, 4)?;
    let size = u32::from_le_bytes(size.try_into().map_err(|_| short())?) as usize;
    let manifest = serde_json::from_slice(take(&mut rest, size)?)
        .map_err(|e| ProcessorError::caused("a state manifest is unreadable", e))?;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let size = u64::from_le_bytes(take(&mut rest, 8)?.try_into().map_err(|_| short())?);
        let bytes = take(&mut rest, usize::try_from(size).unwrap_or(usize::MAX))?;
        // Our own snapshot, however large it has grown.
        let decoded =
            ipc::decode_within(bytes, ipc::Caps::NONE).map_err(|e| ProcessorError::caused("state is unreadable", e))?;
        let [batch] =
            <[RecordBatch; 1]>::try_from(decoded).map_err(|_| ProcessorError::new("a frame must hold one batch"))?;
        batches.push(batch);
    }
    Ok((manifest, batches))
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], ProcessorError> {
    let (taken, left) = rest.split_at_checked(size).ok_or_else(short)?;
    *rest = left;
    Ok(taken)
}

fn short() -> ProcessorError {
    ProcessorError::new("a state section ends too early")
}
