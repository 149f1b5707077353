//! A batch on disk.
//!
//! ```text
//! 0        8        12       16          16+H      24+H      24+H+B    32+H+B
//! | HWSPOOL1 | H u32 | B u32 | header H B | xxh64 u64 | body B B | xxh64 u64 |
//! ```
//! Integers are little-endian. The header is JSON ([`Header`]), the body zstd-compressed NDJSON, sent as it is. The
//! first hash covers bytes 0 to 16+H, the second the body, so that a header can be trusted without reading the body.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::position::Position;
use crate::agents::AgentError;

const MAGIC: &[u8; 8] = b"HWSPOOL1";
const HASH_SIZE_BYTES: usize = 8;
const FIXED_SIZE_BYTES: usize = 16;
/// No header of ours comes near; a length beyond it is damage.
const HEADER_LIMIT_BYTES: usize = 1 << 20;

/// What is known of a batch without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The idempotency key, the same for every attempt.
    pub(crate) key: String,
    /// Batches of one lane go out one after the other.
    pub(crate) lane: String,
    /// Lines of the NDJSON body.
    pub(crate) rows: u64,
    /// Where reading goes on once this batch is durable; none where the source cannot be read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<Position>,
}

/// Why bytes are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it is no batch file of this version")]
    Magic,
    #[error("its length is not what its header says")]
    Length,
    #[error("the hash of its header does not match")]
    Header,
    #[error("the hash of its body does not match")]
    Body,
}

/// The bytes of a batch file.
pub(crate) fn encode(header: &Header, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let header = serde_json::to_vec(header)?;
    let mut out = Vec::with_capacity(FIXED_SIZE_BYTES + header.len() + body.len() + 2 * HASH_SIZE_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&size_of(&header).to_le_bytes());
    out.extend_from_slice(&size_of(body).to_le_bytes());
    out.extend_from_slice(&header);
    let hash = XxHash64::oneshot(0, &out);
    out.extend_from_slice(&hash.to_le_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&XxHash64::oneshot(0, body).to_le_bytes());
    Ok(out)
}

/// The header and where the body begins, from the start of a file that is `file_size_bytes` long.
fn decode_header(start: &[u8], file_size_bytes: u64) -> Result<(Header, usize, usize), Damage> {
    let (header_size, body_size) = sizes(start)?;
    let hash_at = FIXED_SIZE_BYTES + header_size;
    let body_at = hash_at + HASH_SIZE_BYTES;
    if file_size_bytes != (body_at + body_size + HASH_SIZE_BYTES) as u64 {
        return Err(Damage::Length);
    }
    let hashed = start.get(..hash_at).ok_or(Damage::Length)?;
    if hash_at_offset(start, hash_at) != Some(XxHash64::oneshot(0, hashed)) {
        return Err(Damage::Header);
    }
    let header = serde_json::from_slice(&hashed[FIXED_SIZE_BYTES..]).map_err(|_| Damage::Header)?;
    Ok((header, body_at, body_size))
}

/// Header and body of a whole file.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, &[u8]), Damage> {
    let (header, body_at, body_size) = decode_header(bytes, bytes.len() as u64)?;
    let body = bytes.get(body_at..body_at + body_size).ok_or(Damage::Length)?;
    if hash_at_offset(bytes, body_at + body_size) != Some(XxHash64::oneshot(0, body)) {
        return Err(Damage::Body);
    }
    Ok((header, body))
}

/// The header of the file at `path`, without reading its body; with the file's size.
pub(crate) fn read_header(path: &Path) -> Result<(Result<Header, Damage>, u64), AgentError> {
    let io = |source| AgentError::io("read", path)(source);
    let mut file = File::open(path).map_err(io)?;
    let file_size_bytes = file.metadata().map_err(io)?.len();
    let mut start = Vec::with_capacity(1024);
    file.by_ref().take(FIXED_SIZE_BYTES as u64).read_to_end(&mut start).map_err(io)?;
    let header = match sizes(&start) {
        Err(damage) => Err(damage),
        Ok((header_size, _)) => {
            file.take((header_size + HASH_SIZE_BYTES) as u64).read_to_end(&mut start).map_err(io)?;
            decode_header(&start, file_size_bytes).map(|(header, _, _)| header)
        }
    };
    Ok((header, file_size_bytes))
}

fn sizes(start: &[u8]) -> Result<(usize, usize), Damage> {
    if start.get(..8) != Some(MAGIC) {
        return Err(Damage::Magic);
    }
    let size = |at: usize| {
        let bytes = start.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    match (size(8), size(12)) {
        (Some(header), Some(body)) if header <= HEADER_LIMIT_BYTES => Ok((header, body)),
        _ => Err(Damage::Length),
    }
}

fn hash_at_offset(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + HASH_SIZE_BYTES)?.try_into().ok()?))
}

/// Batches are capped far below 4 GiB; a longer one would fail its own length check when read.
fn size_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::shipping::position::{FileId, Head, Place};

    fn header() -> Header {
        Header {
            key: "k-1".into(),
            lane: "/var/log/a.log".into(),
            rows: 3,
            position: Some(Position {
                path: "/var/log/a.log".into(),
                place: Place { file: FileId { device: 1, inode: u64::MAX }, offset: 77, head: Head::of(b"abc") },
            }),
        }
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let bytes = encode(&header(), b"the body").unwrap();
        assert_eq!(decode(&bytes), Ok((header(), &b"the body"[..])));
    }

    #[test]
    fn damage_is_seen_at_every_byte() {
        let bytes = encode(&header(), b"the body").unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(decode(&damaged).is_err(), "flip at {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_header_alone_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let mut bytes = encode(&header(), &[7; 9000]).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_header(&path).unwrap(), (Ok(header()), bytes.len() as u64));
        bytes.pop();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_header(&path).unwrap().0, Err(Damage::Length));
    }
}
