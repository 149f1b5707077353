//! Zigzag varints, as Kafka's records use them. At most 5 bytes for 32 bits and 10 for 64.

use super::BatchError;

/// The longest varint there is.
pub(super) const MAX_SIZE_BYTES: usize = 10;

/// Appends a zigzag varint.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] takes for a value.
pub(super) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes a zigzag varint off the front of `bytes`.
pub(super) fn take(bytes: &mut &[u8], what: &'static str) -> Result<i64, BatchError> {
    let mut value: u64 = 0;
    for (i, &byte) in bytes.iter().take(MAX_SIZE_BYTES).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return Err(BatchError::Field { what, value: i64::from(byte) });
        }
        value |= bits << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BatchError::Truncated { what, needed: bytes.len() + 1, available: bytes.len() })
}

/// [`take`], for the fields that Kafka bounds to 32 bits.
pub(super) fn take_i32(bytes: &mut &[u8], what: &'static str) -> Result<i32, BatchError> {
    let value = take(bytes, what)?;
    i32::try_from(value).map_err(|_| BatchError::Field { what, value })
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
