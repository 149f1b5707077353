//! The four codecs of a batch, one file each, under one rule: the output buffer grows with what was unpacked, never with what
//! the input says it will be, and stops at the cap.

use std::io::{self, Read};

use super::{BatchError, Compression};

mod gzip;
mod lz4;
mod snappy;
mod zstd;

/// Unpacks `packed` to at most `max_size_bytes`.
pub fn decompress(codec: Compression, packed: &[u8], max_size_bytes: usize) -> Result<Vec<u8>, BatchError> {
    match codec {
        Compression::None if packed.len() > max_size_bytes => Err(BatchError::TooLarge { limit_bytes: max_size_bytes }),
        Compression::None => Ok(packed.to_vec()),
        Compression::Gzip => gzip::decompress(packed, max_size_bytes),
        Compression::Snappy => snappy::decompress(packed, max_size_bytes),
        Compression::Lz4 => lz4::decompress(packed, max_size_bytes),
        Compression::Zstd => zstd::decompress(packed, max_size_bytes),
    }
}

/// Packs `block`.
pub(super) fn compress(codec: Compression, block: &[u8]) -> Result<Vec<u8>, BatchError> {
    match codec {
        Compression::None => Ok(block.to_vec()),
        Compression::Gzip => gzip::compress(block),
        Compression::Snappy => snappy::compress(block),
        Compression::Lz4 => lz4::compress(block),
        Compression::Zstd => zstd::compress(block),
    }
}

/// Reads a decoder to its end, or to one byte past the cap.
fn read_capped(codec: &'static str, decoder: impl Read, max_size_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let limit = (max_size_bytes as u64).saturating_add(1);
    decoder.take(limit).read_to_end(&mut out).map_err(|error| broken(codec, &error))?;
    if out.len() > max_size_bytes {
        return Err(BatchError::TooLarge { limit_bytes: max_size_bytes });
    }
    Ok(out)
}

fn broken(codec: &'static str, error: &io::Error) -> BatchError {
    BatchError::Codec { codec, reason: error.to_string() }
}
