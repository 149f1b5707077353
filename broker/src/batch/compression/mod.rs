//! The four codecs of a batch, one file each, under one rule: the output buffer grows with what was unpacked, never with what
//! the input says it will be, and stops at the cap.

use std::io::{self, BufRead, BufReader, Read};

use super::{BatchError, Compression};

mod gzip;
mod lz4;
mod snappy;
mod zstd;

const STREAM_BUFFER_SIZE_BYTES: usize = 32 << 10;

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

/// Records on their way out of a batch, for one look at them.
pub(super) enum Unpack<'a> {
    /// They were not packed.
    Plain(&'a [u8]),
    /// Unpacked in one go, as the codec has it.
    Buffer(Vec<u8>),
    /// Unpacked bit by bit while they are read. The reader minds the cap.
    Stream(Box<dyn BufRead + 'a>),
}

/// Begins to unpack `packed`, which yields at most `max_size_bytes`.
pub(super) fn unpack(codec: Compression, packed: &[u8], max_size_bytes: usize) -> Result<Unpack<'_>, BatchError> {
    Ok(match codec {
        Compression::None => Unpack::Plain(packed),
        Compression::Snappy => Unpack::Buffer(snappy::decompress(packed, max_size_bytes)?),
        Compression::Gzip => stream(gzip::decoder(packed)),
        Compression::Lz4 => stream(lz4::decoder(packed)),
        Compression::Zstd => stream(zstd::decoder(packed, max_size_bytes)?),
    })
}

fn stream<'a>(decoder: impl Read + 'a) -> Unpack<'a> {
    Unpack::Stream(Box::new(BufReader::with_capacity(STREAM_BUFFER_SIZE_BYTES, decoder)))
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
