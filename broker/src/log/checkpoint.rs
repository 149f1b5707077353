//! The checkpoint of a partition: what is durable for certain, written in place.
//!
//! The file has two slots of 56 bytes, 4 KiB apart, written in turn; the valid one with the higher sequence counts. A torn
//! write hits only the slot being written, so there is always one to fall back to, and one sync per checkpoint suffices.
//!
//! ```text
//! at  size  field
//!  0   4    magic "HWCP"
//!  4   4    version (1)
//!  8   8    sequence, one higher with each write
//! 16   8    log start: records below it are gone
//! 24   8    recovery offset: every record below it was synced
//! 32   8    base offset of the segment that holds it
//! 40   8    its position in that segment
//! 48   4    1 after an orderly shutdown, else 0
//! 52   4    CRC32C of bytes 0-51
//! ```

use std::path::Path;
use std::sync::Arc;

use crate::error::{BrokerError, is_disk_full};
use crate::fs::file::{read_all, sync_parent};
use crate::fs::{Fs, FsFile, OpenMode};

const MAGIC: u32 = u32::from_be_bytes(*b"HWCP");
const VERSION: u32 = 1;
const SLOT_SIZE_BYTES: usize = 56;
const SLOT_DISTANCE_BYTES: u64 = 4 << 10;
const FILE_SIZE_BYTES: u64 = 2 * SLOT_DISTANCE_BYTES;

/// See the module's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) log_start: i64,
    pub(crate) recovery_offset: i64,
    pub(crate) segment_base: i64,
    pub(crate) position: u64,
    pub(crate) clean: bool,
}

/// The file, open for the next checkpoint.
pub(crate) struct CheckpointFile {
    file: Arc<dyn FsFile>,
    sequence: u64,
}

impl CheckpointFile {
    /// The newest valid checkpoint; `None` where the file is missing or both slots are damaged.
    pub(crate) fn read(fs: &dyn Fs, path: &Path) -> Result<Option<Checkpoint>, BrokerError> {
        Ok(read_newest(fs, path)?.map(|(_, checkpoint)| checkpoint))
    }

    /// Opens the file for writing, creating it where it is missing.
    pub(crate) fn open(fs: &dyn Fs, path: &Path) -> Result<Self, BrokerError> {
        let sequence = read_newest(fs, path)?.map_or(0, |(sequence, _)| sequence);
        let existed = fs.exists(path).map_err(|e| BrokerError::io("look for", path, &e))?;
        let mode = if existed { OpenMode::Write } else { OpenMode::Create };
        let file = fs.open(path, mode).map_err(|e| BrokerError::io("open", path, &e))?;
        file.allocate(FILE_SIZE_BYTES).map_err(|e| {
            if is_disk_full(&e) {
                BrokerError::DiskFull { path: path.to_owned(), needed_bytes: FILE_SIZE_BYTES }
            } else {
                BrokerError::io("reserve room in", path, &e)
            }
        })?;
        if !existed {
            sync_parent(fs, path)?;
        }
        Ok(Self { file, sequence })
    }

    /// Writes and syncs a checkpoint.
    pub(crate) fn write(&mut self, checkpoint: &Checkpoint) -> std::io::Result<()> {
        self.sequence += 1;
        let slot = encode(self.sequence, checkpoint);
        self.file.write_all_at(&slot, (self.sequence % 2) * SLOT_DISTANCE_BYTES)?;
        self.file.sync_data()
    }
}

fn encode(sequence: u64, checkpoint: &Checkpoint) -> [u8; SLOT_SIZE_BYTES] {
    let mut slot = [0; SLOT_SIZE_BYTES];
    slot[0..4].copy_from_slice(&MAGIC.to_be_bytes());
    slot[4..8].copy_from_slice(&VERSION.to_be_bytes());
    slot[8..16].copy_from_slice(&sequence.to_be_bytes());
    slot[16..24].copy_from_slice(&checkpoint.log_start.to_be_bytes());
    slot[24..32].copy_from_slice(&checkpoint.recovery_offset.to_be_bytes());
    slot[32..40].copy_from_slice(&checkpoint.segment_base.to_be_bytes());
    slot[40..48].copy_from_slice(&checkpoint.position.to_be_bytes());
    slot[48..52].copy_from_slice(&u32::from(checkpoint.clean).to_be_bytes());
    let crc = crc32c::crc32c(&slot[..52]);
    slot[52..56].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn read_newest(fs: &dyn Fs, path: &Path) -> Result<Option<(u64, Checkpoint)>, BrokerError> {
    let Some(bytes) = read_all(fs, path)? else { return Ok(None) };
    let slots = [0, SLOT_DISTANCE_BYTES as usize].into_iter().filter_map(|at| decode(bytes.get(at..)?));
    Ok(slots.max_by_key(|(sequence, _)| *sequence))
}

fn decode(bytes: &[u8]) -> Option<(u64, Checkpoint)> {
    let slot = bytes.first_chunk::<SLOT_SIZE_BYTES>()?;
    let u32_at = |at: usize| u32::from_be_bytes([slot[at], slot[at + 1], slot[at + 2], slot[at + 3]]);
    let u64_at = |at: usize| (u64::from(u32_at(at)) << 32) | u64::from(u32_at(at + 4));
    if u32_at(0) != MAGIC || u32_at(4) != VERSION || crc32c::crc32c(&slot[..52]) != u32_at(52) {
        return None;
    }
    let checkpoint = Checkpoint {
        log_start: u64_at(16) as i64,
        recovery_offset: u64_at(24) as i64,
        segment_base: u64_at(32) as i64,
        position: u64_at(40),
        clean: u32_at(48) == 1,
    };
    Some((u64_at(8), checkpoint))
}
