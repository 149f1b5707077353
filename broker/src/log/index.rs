//! The sparse index of a segment: offset and time to position, one entry per 4 KiB. It lives in memory for the segment being
//! written and in a file for closed ones. It can always be rebuilt from the segment, so a damaged file costs time, not data.
//!
//! ```text
//! at  size  field
//!  0   4    magic "HWIX"
//!  4   4    version (1)
//!  8   8    base offset of the segment
//! 16   8    next offset: one past the segment's last
//! 24   8    bytes of the segment that the index covers
//! 32   8    largest timestamp in the segment, Unix ms (i64::MIN: empty)
//! 40   4    entry count
//! 44   4    CRC32C of bytes 0-43
//! 48  16*n  entries: offset less base (4), position (4), largest timestamp of all batches before it (8)
//!  ..  4    CRC32C of the entries
//! ```
//!
//! All big-endian. Header and entries have checksums of their own, so that opening a log reads 48 bytes per closed segment.

use std::path::Path;

use crate::batch::BatchHeader;
use crate::error::BrokerError;
use crate::fs::file::{read_all, write_atomically};
use crate::fs::{Fs, OpenMode};

/// Bytes of a segment between two entries, at least.
const INTERVAL_BYTES: u64 = 4 << 10;
const MAGIC: u32 = u32::from_be_bytes(*b"HWIX");
const VERSION: u32 = 1;
const HEADER_SIZE_BYTES: usize = 48;
const ENTRY_SIZE_BYTES: usize = 16;

/// What is known of a closed segment without its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) base_offset: i64,
    /// One past the last offset.
    pub(crate) next_offset: i64,
    /// Bytes of batches.
    pub(crate) size_bytes: u64,
    /// Largest timestamp, or `i64::MIN` where there is no batch.
    pub(crate) max_timestamp_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    relative_offset: u32,
    position: u32,
    /// Largest timestamp of all batches before this one; `i64::MIN` for the first.
    max_before_ms: i64,
}

/// Where a walk towards an offset or a time starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Position of a batch.
    pub(crate) position: u64,
    /// Its base offset.
    pub(crate) offset: i64,
}

/// The index of one segment, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SparseIndex {
    summary: Summary,
    entries: Vec<Entry>,
}

impl SparseIndex {
    /// The index of an empty segment.
    pub(crate) fn new(base_offset: i64) -> Self {
        let summary = Summary { base_offset, next_offset: base_offset, size_bytes: 0, max_timestamp_ms: i64::MIN };
        Self { summary, entries: Vec::new() }
    }

    pub(crate) fn summary(&self) -> Summary {
        self.summary
    }

    /// Notes the batch at `position`, which lies behind all noted so far.
    pub(crate) fn add(&mut self, header: &BatchHeader, position: u64) {
        let due = self.entries.last().is_none_or(|last| position >= u64::from(last.position) + INTERVAL_BYTES);
        let relative = u32::try_from(header.base_offset - self.summary.base_offset);
        if let (true, Ok(relative_offset), Ok(position)) = (due, relative, u32::try_from(position)) {
            self.entries.push(Entry { relative_offset, position, max_before_ms: self.summary.max_timestamp_ms });
        }
        self.summary.next_offset = header.next_offset();
        self.summary.size_bytes = position + header.size_bytes as u64;
        self.summary.max_timestamp_ms = self.summary.max_timestamp_ms.max(header.max_timestamp_ms);
    }

    /// Notes that offsets and bytes up to these are spent though no valid batch is there.
    pub(crate) fn skip_to(&mut self, next_offset: i64, position: u64) {
        self.summary.next_offset = self.summary.next_offset.max(next_offset);
        self.summary.size_bytes = self.summary.size_bytes.max(position);
    }

    /// The last known batch at or before `offset`.
    pub(crate) fn before_offset(&self, offset: i64) -> Start {
        let relative = offset - self.summary.base_offset;
        self.start(self.entries.partition_point(|e| i64::from(e.relative_offset) <= relative))
    }

    /// The last known batch before which everything is older than `timestamp_ms`.
    pub(crate) fn before_time(&self, timestamp_ms: i64) -> Start {
        self.start(self.entries.partition_point(|e| e.max_before_ms < timestamp_ms))
    }

    fn start(&self, after: usize) -> Start {
        match after.checked_sub(1).and_then(|i| self.entries.get(i)) {
            Some(entry) => Start {
                position: u64::from(entry.position),
                offset: self.summary.base_offset + i64::from(entry.relative_offset),
            },
            None => Start { position: 0, offset: self.summary.base_offset },
        }
    }

    /// Writes the index file, durably.
    pub(crate) fn write(&self, fs: &dyn Fs, path: &Path) -> Result<(), BrokerError> {
        let mut out = Vec::with_capacity(HEADER_SIZE_BYTES + self.entries.len() * ENTRY_SIZE_BYTES + 4);
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.summary.base_offset.to_be_bytes());
        out.extend_from_slice(&self.summary.next_offset.to_be_bytes());
        out.extend_from_slice(&self.summary.size_bytes.to_be_bytes());
        out.extend_from_slice(&self.summary.max_timestamp_ms.to_be_bytes());
        out.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.relative_offset.to_be_bytes());
            out.extend_from_slice(&entry.position.to_be_bytes());
            out.extend_from_slice(&entry.max_before_ms.to_be_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out[HEADER_SIZE_BYTES..]).to_be_bytes());
        write_atomically(fs, path, &out)
    }

    /// Reads an index file; `None` where it is missing or damaged.
    pub(crate) fn read(fs: &dyn Fs, path: &Path) -> Result<Option<Self>, BrokerError> {
        let Some(bytes) = read_all(fs, path)? else { return Ok(None) };
        Ok(Self::parse(&bytes))
    }

    /// Reads only the summary; `None` where the file is missing or its header damaged.
    pub(crate) fn read_summary(fs: &dyn Fs, path: &Path) -> Result<Option<Summary>, BrokerError> {
        let file = match fs.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BrokerError::io("open", path, &error)),
        };
        let mut header = [0; HEADER_SIZE_BYTES];
        let read = file.read_at(&mut header, 0).map_err(|e| BrokerError::io("read", path, &e))?;
        Ok(parse_header(&header[..read]).map(|(summary, _)| summary))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (summary, count) = parse_header(bytes)?;
        let body = bytes.get(HEADER_SIZE_BYTES..)?;
        let (entries, crc) = body.split_last_chunk::<4>()?;
        if entries.len() != count.checked_mul(ENTRY_SIZE_BYTES)? || crc32c::crc32c(entries) != u32::from_be_bytes(*crc)
        {
            return None;
        }
        let entries = entries.chunks_exact(ENTRY_SIZE_BYTES).map(|chunk| {
            let (relative_offset, rest) = chunk.split_first_chunk::<4>()?;
            let (position, rest) = rest.split_first_chunk::<4>()?;
            Some(Entry {
                relative_offset: u32::from_be_bytes(*relative_offset),
                position: u32::from_be_bytes(*position),
                max_before_ms: i64::from_be_bytes(*rest.first_chunk::<8>()?),
            })
        });
        Some(Self { summary, entries: entries.collect::<Option<_>>()? })
    }
}

fn parse_header(bytes: &[u8]) -> Option<(Summary, usize)> {
    let header = bytes.first_chunk::<HEADER_SIZE_BYTES>()?;
    let u32_at = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| (u64::from(u32_at(at)) << 32) | u64::from(u32_at(at + 4));
    if u32_at(0) != MAGIC || u32_at(4) != VERSION || crc32c::crc32c(&header[..44]) != u32_at(44) {
        return None;
    }
    let summary = Summary {
        base_offset: u64_at(8) as i64,
        next_offset: u64_at(16) as i64,
        size_bytes: u64_at(24),
        max_timestamp_ms: u64_at(32) as i64,
    };
    Some((summary, u32_at(40) as usize))
}
