//! The body of a snapshot section: a JSON manifest and the batches it speaks of.
//!
//! ```text
//! u32  length of the manifest    manifest, JSON
//! for each batch:
//!   u64  length    Arrow IPC stream of one batch
//! ```
//! Integers are little-endian. What large state is made of are chunks of the section instead ([`Framed`]): a stream of one batch each.

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::data::ipc;
use highwater_pipeline::runtime::snapshot::Section;
use highwater_pipeline::runtime::{Chunk, ProcessorError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A section that is a manifest and chunks.
pub(crate) struct Framed {
    pub(crate) body: Bytes,
    pub(crate) chunks: Vec<Chunk>,
}

impl Framed {
    pub(crate) fn new<M: Serialize>(manifest: &M, chunks: Vec<Chunk>) -> Result<Self, ProcessorError> {
        Ok(Self { body: encode(manifest, &[])?, chunks })
    }

    /// Reads one back. Snapshots of the first version have the chunks in the body.
    pub(crate) fn decode<M: DeserializeOwned>(section: &Section) -> Result<(M, Vec<Chunk>), ProcessorError> {
        let (manifest, streams) = decode_streams(&section.body)?;
        let streams = streams.into_iter().map(|stream| Chunk::new(Bytes::copy_from_slice(stream)));
        Ok((manifest, streams.chain(section.chunks.iter().cloned()).collect()))
    }
}

/// A batch as a chunk.
pub(crate) fn chunk(batch: &RecordBatch) -> Result<Chunk, ProcessorError> {
    stream(batch).map(Chunk::new)
}

/// The batch of a chunk.
pub(crate) fn batch_of(chunk: &Chunk) -> Result<RecordBatch, ProcessorError> {
    batch(&chunk.read().map_err(|e| ProcessorError::caused("state that was put aside cannot be read", e))?)
}

/// Writes a manifest and its batches.
pub(crate) fn encode<M: Serialize>(manifest: &M, batches: &[RecordBatch]) -> Result<Bytes, ProcessorError> {
    let streams = batches.iter().map(stream).collect::<Result<Vec<_>, _>>()?;
    encode_streams(manifest, &streams)
}

/// Reads them back.
pub(crate) fn decode<M: DeserializeOwned>(body: &Bytes) -> Result<(M, Vec<RecordBatch>), ProcessorError> {
    let (manifest, streams) = decode_streams(body)?;
    Ok((manifest, streams.into_iter().map(batch).collect::<Result<_, _>>()?))
}

/// A batch as it stands in a body.
fn stream(batch: &RecordBatch) -> Result<Bytes, ProcessorError> {
    ipc::encode(batch).map_err(|e| ProcessorError::caused("state cannot be written", e))
}

/// The batch of a stream. Our own, so it may be as large as it has grown.
fn batch(stream: &[u8]) -> Result<RecordBatch, ProcessorError> {
    let decoded =
        ipc::decode_within(stream, ipc::Caps::NONE).map_err(|e| ProcessorError::caused("state is unreadable", e))?;
    let [batch] =
        <[RecordBatch; 1]>::try_from(decoded).map_err(|_| ProcessorError::new("a frame must hold one batch"))?;
    Ok(batch)
}

/// Writes a manifest and batches that are streams already.
fn encode_streams<M: Serialize>(manifest: &M, streams: &[Bytes]) -> Result<Bytes, ProcessorError> {
    let manifest =
        serde_json::to_vec(manifest).map_err(|e| ProcessorError::caused("a state manifest cannot be written", e))?;
    let size = u32::try_from(manifest.len()).map_err(|_| ProcessorError::new("a state manifest exceeds 4 GiB"))?;
    let mut out = Vec::with_capacity(4 + manifest.len() + streams.iter().map(|s| 8 + s.len()).sum::<usize>());
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&manifest);
    for stream in streams {
        out.extend_from_slice(&(stream.len() as u64).to_le_bytes());
        out.extend_from_slice(stream);
    }
    Ok(out.into())
}

/// Reads a manifest and leaves the batches as they are.
pub(crate) fn decode_streams<M: DeserializeOwned>(body: &[u8]) -> Result<(M, Vec<&[u8]>), ProcessorError> {
    let mut rest = body;
    let size = take(&mut rest, 4)?;
    let size = u32::from_le_bytes(size.try_into().map_err(|_| short())?) as usize;
    let manifest = serde_json::from_slice(take(&mut rest, size)?)
        .map_err(|e| ProcessorError::caused("a state manifest is unreadable", e))?;
    let mut streams = Vec::new();
    while !rest.is_empty() {
        let size = u64::from_le_bytes(take(&mut rest, 8)?.try_into().map_err(|_| short())?);
        streams.push(take(&mut rest, usize::try_from(size).unwrap_or(usize::MAX))?);
    }
    Ok((manifest, streams))
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], ProcessorError> {
    let (taken, left) = rest.split_at_checked(size).ok_or_else(short)?;
    *rest = left;
    Ok(taken)
}

fn short() -> ProcessorError {
    ProcessorError::new("a state section ends too early")
}
