//! Walking the batches of one segment file, past damage where there is any. Recovery and readers see a segment through this
//! and nothing else, so they cannot disagree about what is in it.
//!
//! A batch is valid where its header is sane, its CRC matches and its base offset is the one expected next. Where that fails,
//! the cursor looks for the next valid batch: first where the damaged one says it ends, then byte by byte. What lies
//! between is a bad range. If nothing valid follows, the walk ends there.

use std::io;

use bytes::Bytes;

use crate::batch::{BatchHeader, HEADER_SIZE_BYTES};
use crate::fs::FsFile;

/// Bytes of a segment that hold no valid batch although valid ones follow, and the offsets lost with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRange {
    /// Position of the first bad byte in the segment.
    pub position: u64,
    /// Position of the next valid batch.
    pub end_position: u64,
    /// First lost offset.
    pub from_offset: i64,
    /// One past the last lost offset.
    pub to_offset: i64,
}

/// A valid batch.
#[derive(Debug, Clone)]
pub(crate) struct FoundBatch {
    /// Its header.
    pub(crate) header: BatchHeader,
    /// Where it begins in the segment.
    pub(crate) position: u64,
    /// All of its bytes.
    pub(crate) bytes: Bytes,
}

/// What the cursor came upon.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The next batch.
    Batch(FoundBatch),
    /// Damage, with a valid batch behind it, which comes next.
    Bad(BadRange),
    /// Nothing valid from `position` on. `torn` where the bytes there are not just the zeros of preallocation.
    End {
        /// Where the valid batches end.
        position: u64,
        /// Whether something else than zeros follows.
        torn: bool,
    },
}

/// Where a walk starts and what bounds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Position of the first batch to look at.
    pub(crate) position: u64,
    /// Bytes from here on are not looked at.
    pub(crate) end: u64,
    /// Base offset that the batch at `position` must have.
    pub(crate) expected_offset: i64,
    /// No batch may reach past this offset: base of the next segment, or the high watermark.
    pub(crate) max_offset: i64,
}

/// See the module's text.
pub(crate) struct BatchCursor<'a> {
    file: &'a dyn FsFile,
    bounds: Bounds,
    chunk_size: usize,
    chunk: Bytes,
    chunk_at: u64,
}

impl<'a> BatchCursor<'a> {
    /// A cursor that reads `chunk_size` bytes at a time, more only where one batch is larger.
    pub(crate) fn new(file: &'a dyn FsFile, bounds: Bounds, chunk_size: usize) -> Self {
        let chunk_size = chunk_size.max(HEADER_SIZE_BYTES);
        Self { file, bounds, chunk_size, chunk: Bytes::new(), chunk_at: bounds.position }
    }

    /// The base offset expected next.
    pub(crate) fn expected_offset(&self) -> i64 {
        self.bounds.expected_offset
    }

    /// True where the next batch lies wholly in what was read already.
    pub(crate) fn next_is_in_memory(&self) -> bool {
        let at = (self.bounds.position - self.chunk_at) as usize;
        let rest = self.chunk.get(at..).unwrap_or_default();
        BatchHeader::parse(rest).is_ok_and(|header| header.size_bytes <= rest.len())
    }

    /// The next batch, if it lies in what was read already and is valid. Reads nothing.
    pub(crate) fn step_in_memory(&mut self) -> io::Result<Option<FoundBatch>> {
        let Bounds { position, expected_offset, .. } = self.bounds;
        if !self.next_is_in_memory() {
            return Ok(None);
        }
        let found = self.valid_at(position, |offset| offset == expected_offset)?;
        if let Some(batch) = &found {
            self.bounds.position = position + batch.header.size_bytes as u64;
            self.bounds.expected_offset = batch.header.next_offset();
        }
        Ok(found)
    }

    /// What was read last, and where in the segment it begins.
    pub(crate) fn into_chunk(self) -> (Bytes, u64) {
        (self.chunk, self.chunk_at)
    }

    /// The next batch, bad range, or the end.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let Bounds { position, expected_offset, .. } = self.bounds;
        if let Some(batch) = self.valid_at(position, |offset| offset == expected_offset)? {
            self.bounds.position = position + batch.header.size_bytes as u64;
            self.bounds.expected_offset = batch.header.next_offset();
            return Ok(Step::Batch(batch));
        }
        if self.is_zero_to_end(position)? {
            return Ok(Step::End { position, torn: false });
        }
        let Some((end_position, to_offset)) = self.find_valid_after(position)? else {
            return Ok(Step::End { position, torn: true });
        };
        self.bounds.position = end_position;
        self.bounds.expected_offset = to_offset;
        Ok(Step::Bad(BadRange { position, end_position, from_offset: expected_offset, to_offset }))
    }

    fn find_valid_after(&mut self, position: u64) -> io::Result<Option<(u64, i64)>> {
        let lowest = self.bounds.expected_offset;
        // The damage may have spared the length: then the next batch is where it always was.
        if let Some(header) = self.header_at(position)? {
            let next = position + header.size_bytes as u64;
            if let Some(batch) = self.valid_at(next, |offset| offset >= lowest)? {
                return Ok(Some((next, batch.header.base_offset)));
            }
        }
        for candidate in position + 1..self.bounds.end.saturating_sub(HEADER_SIZE_BYTES as u64 - 1) {
            // The magic byte first: it rules out nearly every position without parsing.
            if self.byte_at(candidate + 16)? != 2 {
                continue;
            }
            if let Some(batch) = self.valid_at(candidate, |offset| offset >= lowest)? {
                return Ok(Some((candidate, batch.header.base_offset)));
            }
        }
        Ok(None)
    }

    /// The batch at `position`, if it is valid and its base offset is `wanted`.
    fn valid_at(&mut self, position: u64, wanted: impl Fn(i64) -> bool) -> io::Result<Option<FoundBatch>> {
        let Some(header) = self.header_at(position)? else { return Ok(None) };
        if !wanted(header.base_offset) || header.next_offset() > self.bounds.max_offset {
            return Ok(None);
        }
        let Some(bytes) = self.bytes_at(position, header.size_bytes)? else { return Ok(None) };
        Ok(header.check_crc(&bytes).is_ok().then_some(FoundBatch { header, position, bytes }))
    }

    fn header_at(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        let bytes = self.bytes_at(position, HEADER_SIZE_BYTES)?;
        Ok(bytes.and_then(|bytes| BatchHeader::parse(&bytes).ok()))
    }

    fn byte_at(&mut self, position: u64) -> io::Result<u8> {
        let cached = position.checked_sub(self.chunk_at).and_then(|at| self.chunk.get(at as usize)).copied();
        match cached {
            Some(byte) => Ok(byte),
            None => Ok(self.bytes_at(position, 1)?.map_or(0, |bytes| bytes[0])),
        }
    }

    /// `size` bytes at `position`, or `None` where they reach past the end. The size was read from the file, but is never
    /// more than the file has.
    fn bytes_at(&mut self, position: u64, size: usize) -> io::Result<Option<Bytes>> {
        if position.checked_add(size as u64).is_none_or(|end| end > self.bounds.end) {
            return Ok(None);
        }
        let in_chunk = |chunk: &Bytes, chunk_at: u64| {
            let at = usize::try_from(position.checked_sub(chunk_at)?).ok()?;
            (at.checked_add(size)? <= chunk.len()).then(|| chunk.slice(at..at + size))
        };
        if let Some(bytes) = in_chunk(&self.chunk, self.chunk_at) {
            return Ok(Some(bytes));
        }
        let wanted = self.chunk_size.max(size).min((self.bounds.end - position) as usize);
        let mut buffer = vec![0; wanted];
        let read = self.file.read_at(&mut buffer, position)?;
        buffer.truncate(read);
        self.chunk = Bytes::from(buffer);
        self.chunk_at = position;
        Ok(in_chunk(&self.chunk, position))
    }

    fn is_zero_to_end(&mut self, position: u64) -> io::Result<bool> {
        let mut at = position;
        while at < self.bounds.end {
            let size = (self.bounds.end - at).min(self.chunk_size as u64) as usize;
            let Some(bytes) = self.bytes_at(at, size)? else { return Ok(true) };
            if bytes.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += size as u64;
        }
        Ok(true)
    }
}
