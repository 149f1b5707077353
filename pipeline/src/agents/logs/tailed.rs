//! One open file: reads what is new and notices when its content has been replaced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::feed::Feed;
use super::options::LogsOptions;
use super::rotated::{Unpacked, is_copy, is_relative};
use crate::agents::AgentError;
use crate::agents::report::Counters;
use crate::agents::shipping::{FileId, HEAD_SIZE_BYTES, Head, Place, Position};

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
    content: Content,
    last_bytes_ms: i64,
    /// The first bytes read, up to [`HEAD_SIZE_BYTES`].
    head: Vec<u8>,
    /// Its content was replaced; reading starts over once everything before is spooled.
    replaced: bool,
}

/// Where the bytes come from.
#[derive(Debug)]
enum Content {
    File(File),
    /// What rotation has made of the file; it is not replaced and does not grow.
    Unpacked(Unpacked),
}

/// Whether one file is a copy of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    /// It is not.
    No,
    /// Of what the other holds now: it may have been made, or it is being made.
    Now,
    /// Of what the other held until it was truncated, which its reader has yet to notice.
    Before,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes went into the feed.
    Bytes(usize),
    /// There is nothing new.
    End,
    /// The file has been truncated (or written anew): after [`TailedFile::begin_anew`] the next read starts at 0.
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
        Self::new(path, lane, (id, Content::File(file), head), offset, options, counters, now_ms)
    }

    /// Goes on with a file at a position in what rotation has made of it.
    pub(crate) fn unpacked(
        unpacked: Unpacked,
        position: &Position,
        options: &LogsOptions,
        counters: Arc<Counters>,
        now_ms: i64,
    ) -> Result<Self, AgentError> {
        let (path, head, place) = (unpacked.path.clone(), unpacked.head.clone(), &position.place);
        let content = (place.file, Content::Unpacked(unpacked), head);
        Self::new(&path, &position.path, content, place.offset, options, counters, now_ms)
    }

    fn new(
        path: &Path,
        lane: &str,
        (id, content, head): (FileId, Content, Vec<u8>),
        offset: u64,
        options: &LogsOptions,
        counters: Arc<Counters>,
        now_ms: i64,
    ) -> Result<Self, AgentError> {
        Ok(Self {
            path: path.to_path_buf(),
            lane: Arc::from(lane),
            id,
            feed: Feed::new(options, Some(lane), offset, counters)?,
            after: None,
            gone_since_ms: None,
            at_end: false,
            rest_until_ms: i64::MIN,
            content,
            last_bytes_ms: now_ms,
            head,
            replaced: false,
        })
    }

    /// Reads up to one buffer. The feed must have no closed batches left: they belong to the head that is known now.
    pub(crate) fn read(&mut self, buffer: &mut [u8], now_ms: i64) -> Result<Read, AgentError> {
        let path = &self.path;
        let io = |source| AgentError::io("read", path)(source);
        if self.replaced {
            self.feed.restart(0);
            self.head.clear();
            self.replaced = false;
        }
        let offset = self.feed.offset();
        if self.is_replaced(offset).map_err(io)? {
            self.at_end = false;
            return Ok(Read::Truncated);
        }
        let count = match &mut self.content {
            Content::File(file) => read_some(file, buffer, offset),
            Content::Unpacked(unpacked) => unpacked.read_at(buffer, offset),
        };
        let count = count.map_err(io)?;
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

    /// Whether it has lost what was read up to `offset`.
    fn is_replaced(&self, offset: u64) -> std::io::Result<bool> {
        let Content::File(file) = &self.content else { return Ok(false) };
        let size_bytes = file.metadata()?.len();
        Ok(size_bytes < offset || (size_bytes > offset && !Head::of(&self.head).matches(file)?))
    }

    /// After [`Read::Truncated`]: finishes what was read. `rest_is_found`: a line without its end is read again, from a copy.
    pub(crate) fn begin_anew(&mut self, rest_is_found: bool, now_ms: i64) {
        if rest_is_found {
            self.feed.finish_whole_lines(now_ms);
        } else {
            self.feed.finish(true, now_ms);
        }
        self.replaced = true;
    }

    /// Whether it is what rotation has made of a file, and has no name that patterns lead to.
    pub(crate) fn is_unpacked(&self) -> bool {
        matches!(self.content, Content::Unpacked(_))
    }

    /// Whether a file that was found is a copy of this one.
    pub(crate) fn is_copied_to(&self, found: &Path) -> std::io::Result<Copied> {
        let Content::File(file) = &self.content else { return Ok(Copied::No) };
        // Looked at more closely than for reading: another content of the very same size counts.
        let head = Head::of(&self.head);
        if file.metadata()?.len() < self.feed.offset() || !head.matches(file)? {
            let is_copy = is_relative(&self.path, found) && head.matches(&File::open(found)?)?;
            return Ok(if is_copy { Copied::Before } else { Copied::No });
        }
        Ok(if is_copy(&self.path, file, found)? { Copied::Now } else { Copied::No })
    }

    /// Tells how much of the file is still to be read.
    pub(crate) fn tell_lag(&self) {
        let Content::File(file) = &self.content else { return };
        if let Ok(metadata) = file.metadata() {
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

fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
