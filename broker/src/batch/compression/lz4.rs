//! LZ4 in one frame, as Kafka writes since version 2 of the batch.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{BatchError, broken, read_capped};

const NAME: &str = "lz4";

/// The decoder's own buffers are bounded by the format: at most 8 MiB per block, whatever the frame says.
pub(super) fn decompress(packed: &[u8], max_size_bytes: usize) -> Result<Vec<u8>, BatchError> {
    read_capped(NAME, decoder(packed), max_size_bytes)
}

pub(super) fn decoder(packed: &[u8]) -> impl Read {
    OneFrame(FrameDecoder::new(packed))
}

/// A frame with nothing behind it.
struct OneFrame<'a>(FrameDecoder<&'a [u8]>);

impl Read for OneFrame<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        let rest = self.0.get_ref().len();
        if read == 0 && rest > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{rest} bytes follow the frame")));
        }
        Ok(read)
    }
}

pub(super) fn compress(block: &[u8]) -> Result<Vec<u8>, BatchError> {
    // Independent blocks of 64 KiB, as Kafka's Java client writes them.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(block).map_err(|error| broken(NAME, &error))?;
    encoder.finish().map_err(|error| BatchError::Codec { codec: NAME, reason: error.to_string() })
}
