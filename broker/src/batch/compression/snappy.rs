//! Snappy in the xerial framing of Kafka's Java client, and raw as some other clients write it.
//!
//! ```text
//!  0  8  0x82 "SNAPPY" 0x00
//!  8  4  version (1), big-endian
//! 12  4  lowest version that can read it (1)
//! 16  .. blocks: 4 bytes of length, big-endian, and a raw snappy block of at most 32 KiB unpacked
//! ```

use snap::raw::{Decoder, Encoder, decompress_len};

use super::BatchError;

const NAME: &str = "snappy";
const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const HEADER_SIZE_BYTES: usize = 16;
const BLOCK_SIZE_BYTES: usize = 32 << 10;
/// No snappy element yields more than 64 bytes from 3, so a block that claims more than this lies about its size.
const MAX_RATIO: usize = 22;

pub(super) fn decompress(packed: &[u8], max_size_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !packed.starts_with(MAGIC) {
        unpack_block(packed, max_size_bytes, &mut out)?;
        return Ok(out);
    }
    let mut rest = packed.get(HEADER_SIZE_BYTES..).ok_or_else(|| broken("the xerial header is cut short"))?;
    while !rest.is_empty() {
        let (size, tail) = rest.split_first_chunk::<4>().ok_or_else(|| broken("a block length is cut short"))?;
        let size = u32::from_be_bytes(*size) as usize;
        let (block, tail) = tail.split_at_checked(size).ok_or_else(|| broken("a block is cut short"))?;
        unpack_block(block, max_size_bytes, &mut out)?;
        rest = tail;
    }
    Ok(out)
}

/// Unpacks one raw block behind what `out` holds.
fn unpack_block(block: &[u8], max_size_bytes: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let claimed = decompress_len(block).map_err(broken)?;
    if claimed > max_size_bytes.saturating_sub(out.len()) {
        return Err(BatchError::TooLarge { limit_bytes: max_size_bytes });
    }
    if claimed > block.len().saturating_mul(MAX_RATIO) {
        return Err(broken(format!("a block of {} bytes claims to unpack to {claimed}", block.len())));
    }
    let start = out.len();
    out.resize(start + claimed, 0);
    let written = Decoder::new().decompress(block, &mut out[start..]).map_err(broken)?;
    out.truncate(start + written);
    Ok(())
}

pub(super) fn compress(block: &[u8]) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::with_capacity(HEADER_SIZE_BYTES + block.len() / 2);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = Encoder::new();
    for chunk in block.chunks(BLOCK_SIZE_BYTES) {
        let packed = encoder.compress_vec(chunk).map_err(broken)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

fn broken(reason: impl ToString) -> BatchError {
    BatchError::Codec { codec: NAME, reason: reason.to_string() }
}
