//! LZ4 in one frame, as Kafka writes since version 2 of the batch.

use std::io::{Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{BatchError, broken, read_capped};

const NAME: &str = "lz4";

/// The decoder's own buffers are bounded by the format: at most 8 MiB per block, whatever the frame says.
pub(super) fn decompress(packed: &[u8], max_size_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut rest = packed;
    let out = read_capped(NAME, FrameDecoder::new(Read::by_ref(&mut rest)), max_size_bytes)?;
    if !rest.is_empty() {
        return Err(BatchError::Codec { codec: NAME, reason: format!("{} bytes follow the frame", rest.len()) });
    }
    Ok(out)
}

pub(super) fn compress(block: &[u8]) -> Result<Vec<u8>, BatchError> {
    // Independent blocks of 64 KiB, as Kafka's Java client writes them.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(block).map_err(|error| broken(NAME, &error))?;
    encoder.finish().map_err(|error| BatchError::Codec { codec: NAME, reason: error.to_string() })
}
