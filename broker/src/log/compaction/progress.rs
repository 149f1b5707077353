//! How far a partition has been compacted, in the file `compaction` of its directory.
//!
//! ```text
//! at  size  field
//!  0   4    magic "HWCM"
//!  4   4    version (1)
//!  8   8    clean offset: below it no record is older than another of its key
//! 16   8    when the next tombstone or marker below it may go, Unix ms (i64::MAX: there is none)
//! 24   4    CRC32C of bytes 0-23
//! ```
//!
//! Replaced as a whole. A missing or damaged one costs time, not data: everything is compacted anew.

use std::path::Path;

use crate::error::BrokerError;
use crate::fs::Fs;
use crate::fs::file::{read_all, write_atomically};

const FILE: &str = "compaction";
const MAGIC: u32 = u32::from_be_bytes(*b"HWCM");
const VERSION: u32 = 1;
const SIZE_BYTES: usize = 28;
/// No tombstone or marker waits.
pub(in crate::log) const NEVER_MS: i64 = i64::MAX;

/// See the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct Progress {
    pub(in crate::log) clean_until: i64,
    pub(in crate::log) next_horizon_ms: i64,
}

impl Progress {
    /// What is noted in this directory.
    pub(in crate::log) fn read(fs: &dyn Fs, dir: &Path) -> Result<Self, BrokerError> {
        let bytes = read_all(fs, &dir.join(FILE))?;
        Ok(bytes.and_then(|bytes| decode(&bytes)).unwrap_or(Self { clean_until: 0, next_horizon_ms: NEVER_MS }))
    }

    /// Notes it, durably.
    pub(in crate::log) fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), BrokerError> {
        write_atomically(fs, &dir.join(FILE), &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SIZE_BYTES);
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.clean_until.to_be_bytes());
        out.extend_from_slice(&self.next_horizon_ms.to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        out
    }
}

fn decode(bytes: &[u8]) -> Option<Progress> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (magic, rest) = body.split_first_chunk::<4>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (clean_until, rest) = rest.split_first_chunk::<8>()?;
    let next_horizon_ms: &[u8; 8] = rest.try_into().ok()?;
    let known = u32::from_be_bytes(*magic) == MAGIC && u32::from_be_bytes(*version) == VERSION;
    (known && crc32c::crc32c(body) == u32::from_be_bytes(*crc)).then(|| Progress {
        clean_until: i64::from_be_bytes(*clean_until),
        next_horizon_ms: i64::from_be_bytes(*next_horizon_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::SimFs;

    #[test]
    fn it_is_read_as_it_was_written_and_any_flipped_bit_makes_it_unknown() {
        let fs = SimFs::new();
        let dir = Path::new("/p");
        fs.create_dir_all(dir).unwrap();
        let unknown = Progress { clean_until: 0, next_horizon_ms: NEVER_MS };
        assert_eq!(Progress::read(&fs, dir).unwrap(), unknown);
        let progress = Progress { clean_until: 4711, next_horizon_ms: 1_700_000_000_000 };
        progress.write(&fs, dir).unwrap();
        assert_eq!(Progress::read(&fs, dir).unwrap(), progress);
        for bit in 0..SIZE_BYTES * 8 {
            fs.flip(&dir.join(FILE), (bit / 8) as u64, 1 << (bit % 8)).unwrap();
            assert_eq!(Progress::read(&fs, dir).unwrap(), unknown, "bit {bit}");
            fs.flip(&dir.join(FILE), (bit / 8) as u64, 1 << (bit % 8)).unwrap();
        }
    }
}
