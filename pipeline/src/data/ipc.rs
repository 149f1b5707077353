//! Rows on the wire: an Arrow IPC stream, buffers compressed with LZ4 (frame).

use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

/// Why rows could not be read from or written to the wire.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// The bytes are no Arrow IPC stream, or one outside the caps.
    #[error("not a readable Arrow IPC stream: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Arrow could not encode the rows.
    #[error("rows cannot be encoded as Arrow IPC")]
    Encode(#[source] ArrowError),
}

/// Encodes one batch as a stream.
pub fn encode(batch: &RecordBatch) -> Result<Bytes, IpcError> {
    let encode = || {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options)?;
        writer.write(batch)?;
        writer.finish()?;
        writer.into_inner()
    };
    encode().map(Bytes::from).map_err(IpcError::Encode)
}

/// Decodes a stream: its batches, in order.
pub fn decode(bytes: &[u8]) -> Result<Vec<RecordBatch>, IpcError> {
    let malformed = |error: ArrowError| IpcError::Malformed { reason: error.to_string() };
    StreamReader::try_new(bytes, None).map_err(malformed)?.collect::<Result<_, _>>().map_err(malformed)
}
