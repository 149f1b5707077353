//! One open file: reads what is new and notices when its content has been replaced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::feed::Feed;
use super::options::LogsOptions;
use crate::agents::AgentError;
use crate::agents::report::Counters;
use crate::agents::shipping::{FileId, HEAD_SIZE_BYTES, Head, Place, Position};

/// First bytes of compressed files, which rotation leaves beside the logs: gzip, zstd, xz, bzip2.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"];

/// Bytes of a file that are still to be read, by its path.
pub(crate) const LAG: &str = "highwater_agent_lag_bytes";

/// A file being read.
#[derive(Debug)]
pub(crate) struct TailedFile {
    /// Where it is now.
    pub(crate) path: PathBuf,
    /// Where it was when it was opened; its batches and those of its successor there go out in order.
    pub(crate) lane: Arc<str>,
    pub(crate) id: FileId,
    pub(crate) feed: Feed,
    /// Not read before this file is at its end.
    pub(crate) after: Option<FileId>,
    /// No name leads to it any more, since then.
    pub(crate) gone_since_ms: Option<i64>,
    /// The last read found nothing.
    pub(crate) at_end: bool,
    /// Not read before this time, for reading failed.
    pub(crate) rest_until_ms: i64,
    file: File,
    last_bytes_ms: i64,
    /// The first bytes read, up to [`HEAD_SIZE_BYTES`].
    head: Vec<u8>,
    /// Its content was replaced; reading starts over once everything before is spooled.
    replaced: bool,
    line_size_bytes: usize,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes went into the feed.
    Bytes(usize),
    /// There is nothing new.
    End,
    /// The file has been truncated (or written anew): the feed is finished, and the next read starts at 0.
    Truncated,
}

impl TailedFile {
    /// Opens a file to be read from `offset` on.
    pub(crate) fn open(
        path: &Path,
        lane: &str,
        offset: u64,
        options: &LogsOptions,
        counters: Arc<Counters>,
        now_ms: i64,
    ) -> Result<Self, AgentError> {
        let io = |source| AgentError::io("open", path)(source);
        let file = File::open(path).map_err(io)?;
        // The name may lead elsewhere by now; what was opened counts.
        let id = FileId::of(&file.metadata().map_err(io)?);
        let mut head = vec![0; usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_SIZE_BYTES)];
        file.read_exact_at(&mut head, 0).map_err(io)?;
        Ok(Self {
            path: path.to_path_buf(),
            lane: Arc::from(lane),
            id,
            feed: Feed::new(options, Some(lane), offset, counters)?,
            after: None,
            gone_since_ms: None,
            at_end: false,
            rest_until_ms: i64::MIN,
            file,
            last_bytes_ms: now_ms,
            head,
            replaced: false,
            line_size_bytes: options.line_size_bytes,
        })
    }

    /// Reads up to one buffer. The feed must have no closed batches left: they belong to the head that is known now.
    pub(crate) fn read(&mut self, buffer: &mut [u8], now_ms: i64) -> Result<Read, AgentError> {
        let path = &self.path;
        let io = |source| AgentError::io("read", path)(source);
        if self.replaced {
            self.feed.restart(self.line_size_bytes);
            self.head.clear();
            self.replaced = false;
        }
        let offset = self.feed.offset();
        let size_bytes = self.file.metadata().map_err(io)?.len();
        if size_bytes < offset || (size_bytes > offset && !Head::of(&self.head).matches(&self.file).map_err(io)?) {
            self.feed.finish(true, now_ms);
            self.replaced = true;
            self.at_end = false;
            return Ok(Read::Truncated);
        }
        let count = read_some(&self.file, buffer, offset).map_err(io)?;
        self.at_end = count == 0;
        if count == 0 {
            return Ok(Read::End);
        }
        let bytes = &buffer[..count];
        let lacking = HEAD_SIZE_BYTES.saturating_sub(self.head.len()).min(count);
        if self.head.len() as u64 == offset {
            self.head.extend_from_slice(&bytes[..lacking]);
        }
        self.last_bytes_ms = now_ms;
        self.feed.push(bytes, now_ms);
        Ok(Read::Bytes(count))
    }

    /// Tells how much of the file is still to be read.
    pub(crate) fn tell_lag(&self) {
        if let Ok(metadata) = self.file.metadata() {
            let lag_bytes = metadata.len().saturating_sub(self.feed.offset());
            metrics::gauge!(LAG, "path" => self.lane.to_string()).set(lag_bytes as f64);
        }
    }

    /// What positions in this file are made of.
    pub(crate) fn origin(&self) -> Origin {
        Origin { path: self.lane.to_string(), file: self.id, head: self.head.clone() }
    }

    /// Whether no bytes have come for so long, counted from `since_ms` at the earliest.
    pub(crate) fn is_silent(&self, since_ms: i64, wait_ms: i64, now_ms: i64) -> bool {
        let since_ms = since_ms.max(self.last_bytes_ms);
        !(since_ms..since_ms.saturating_add(wait_ms)).contains(&now_ms)
    }
}

/// A file as it was when bytes were read from it.
#[derive(Debug)]
pub(crate) struct Origin {
    path: String,
    file: FileId,
    head: Vec<u8>,
}

impl Origin {
    /// The position at `offset`.
    pub(crate) fn position(&self, offset: u64) -> Position {
        let known = usize::try_from(offset).unwrap_or(usize::MAX).min(self.head.len());
        let place = Place { file: self.file, offset, head: Head::of(&self.head[..known]) };
        Position { path: self.path.clone(), place }
    }
}

/// Where to read on in the file at `path`, of which `place` is known: there, or at 0 where it is not that content
/// any more.
pub(crate) fn resume(path: &Path, place: &Place) -> Result<Option<u64>, AgentError> {
    let io = |source| AgentError::io("look into", path)(source);
    let file = File::open(path).map_err(io)?;
    let is_there = file.metadata().map_err(io)?.len() >= place.offset && place.head.matches(&file).map_err(io)?;
    Ok(is_there.then_some(place.offset))
}

/// Whether the file is compressed, by its first bytes.
pub(crate) fn is_compressed(path: &Path) -> io::Result<bool> {
    let mut start = [0; 8];
    let count = read_some(&File::open(path)?, &mut start, 0)?;
    Ok(COMPRESSED.iter().any(|magic| start[..count].starts_with(magic)))
}

fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
