//! How many messages a request holds, counted on the wire before anything is allocated for them.

use super::OtlpError;

/// Most messages, strings and packed lists in one request. Each costs at most about 250 bytes once decoded.
const MAX_PARTS: usize = 1 << 20;

/// Which fields hold further messages, level by level from the request down.
pub(super) type Shape = &'static [&'static [u64]];

/// Request, resource logs, scope logs, log records.
pub(super) const LOGS: Shape = &[&[1], &[2], &[2]];
/// Request, resource metrics, scope metrics, metrics, their data, data points.
pub(super) const METRICS: Shape = &[&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]];

/// Request, resource spans, scope spans, spans, their events and links.
pub(super) const TRACES: Shape = &[&[1], &[2], &[2], &[11, 13]];

/// Refuses a JSON request of too many objects and lists.
pub(super) fn check_json(bytes: &[u8]) -> Result<(), OtlpError> {
    let (mut parts, mut in_string, mut escaped) = (0, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => parts += 1,
            _ => {}
        }
    }
    if parts > MAX_PARTS { Err(OtlpError::TooManyParts { limit: MAX_PARTS }) } else { Ok(()) }
}

/// Refuses a request of too many parts. What is not protobuf passes: the decoder says it better.
pub(super) fn check(bytes: &[u8], shape: Shape) -> Result<(), OtlpError> {
    let mut left = MAX_PARTS;
    match count(bytes, shape, &mut left) {
        Some(()) => Ok(()),
        None if left == 0 => Err(OtlpError::TooManyParts { limit: MAX_PARTS }),
        None => Ok(()),
    }
}

/// `None` where the count ran out or the bytes are no protobuf.
fn count(mut bytes: &[u8], shape: Shape, left: &mut usize) -> Option<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => bytes = bytes.get(8..)?,
            5 => bytes = bytes.get(4..)?,
            2 => {
                let size = usize::try_from(varint(&mut bytes)?).ok()?;
                let (body, rest) = bytes.split_at_checked(size)?;
                bytes = rest;
                *left -= 1;
                if *left == 0 {
                    return None;
                }
                if let Some((fields, below)) = shape.split_first()
                    && fields.contains(&(tag >> 3))
                {
                    count(body, below, left)?;
                } else if shape.is_empty() {
                    // Attributes and the like: what they hold is counted one level further.
                    count_flat(body, left)?;
                }
            }
            _ => return None,
        }
    }
    Some(())
}

/// Counts the fields of what may be a message; a text that is none counts for nothing more.
fn count_flat(mut bytes: &[u8], left: &mut usize) -> Option<()> {
    while let Some((tag, size)) = varint(&mut bytes).zip(varint(&mut bytes)) {
        let Some(rest) = usize::try_from(size).ok().filter(|_| tag & 7 == 2).and_then(|size| bytes.get(size..)) else {
            break;
        };
        bytes = rest;
        *left -= 1;
        if *left == 0 {
            return None;
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
