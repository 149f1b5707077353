//! Writing the segment that takes the place of a group of segments. While nothing has changed nothing is written: a group of one in which
//! all stays is left alone.

use std::path::Path;
use std::sync::Arc;

use super::filter::{Filter, Verdict};
use crate::batch::BatchHeader;
use crate::batch::put_hole;
use crate::error::{BrokerError, is_disk_full};
use crate::fs::file::{TEMPORARY_SUFFIX, with_suffix};
use crate::fs::{Fs, FsFile, OpenMode};
use crate::log::SCAN_CHUNK_SIZE_BYTES;
use crate::log::cursor::{BadRange, BatchCursor, Bounds, FoundBatch, Step};
use crate::log::index::SparseIndex;
use crate::log::segment::{Segment, SegmentPaths};

/// Written at a time.
const WRITE_CHUNK_SIZE_BYTES: usize = 1 << 20;

/// A segment that is whole and synced, under a temporary name, and may take the place of others.
pub(in crate::log) struct Replacement {
    /// The segments that it replaces, neighbours, oldest first.
    pub(in crate::log) old: Vec<Arc<Segment>>,
    /// Where it is to be.
    pub(in crate::log) paths: SegmentPaths,
    pub(in crate::log) index: SparseIndex,
    /// Markers of aborted transactions that it does not have any more, ascending.
    pub(in crate::log) aborted_markers: Vec<i64>,
}

impl Replacement {
    /// Where it is until it takes its place.
    pub(in crate::log) fn temporary(paths: &SegmentPaths) -> std::path::PathBuf {
        with_suffix(&paths.log, TEMPORARY_SUFFIX)
    }
}

/// What became of a group.
pub(super) enum Rewritten {
    /// All of it stays.
    Unchanged,
    /// This takes its place.
    Changed(Replacement),
    /// It is damaged here and must stay as it is.
    Damaged(Arc<Segment>, BadRange, &'static str),
}

/// Filters a group of segments, each with the offset that ends it, into a new one.
pub(super) fn rewrite(
    fs: &dyn Fs,
    dir: &Path,
    group: &[(Arc<Segment>, i64)],
    filter: &mut Filter<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Rewritten, BrokerError> {
    let (Some((first, _)), Some((_, end_offset))) = (group.first(), group.last()) else {
        return Ok(Rewritten::Unchanged);
    };
    let generation = group.iter().map(|(segment, _)| segment.paths.generation).max().unwrap_or(0).saturating_add(1);
    let paths = SegmentPaths::compacted(dir, first.base_offset, *end_offset, generation);
    let mut output = Output::new(fs, &paths, group);
    match fill(fs, group, filter, &mut output, stop) {
        Ok(None) => output.finish(group, std::mem::take(&mut filter.aborted_markers)),
        Ok(Some(damaged)) => {
            output.discard();
            Ok(damaged)
        }
        Err(error) => {
            output.discard();
            Err(error)
        }
    }
}

/// Answers with where the group is damaged, if it is.
fn fill(
    fs: &dyn Fs,
    group: &[(Arc<Segment>, i64)],
    filter: &mut Filter<'_>,
    output: &mut Output<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Rewritten>, BrokerError> {
    for (segment, end_offset) in group {
        let io = |e: std::io::Error| BrokerError::io("read", &segment.paths.log, &e);
        let file = segment.open(fs)?;
        let bounds = Bounds {
            position: 0,
            end: segment.readable_bytes(),
            expected_offset: segment.base_offset,
            max_offset: *end_offset,
        };
        let mut cursor = BatchCursor::new(file.as_ref(), bounds, SCAN_CHUNK_SIZE_BYTES);
        while cursor.expected_offset() < *end_offset {
            if stop() {
                return Err(BrokerError::Closed);
            }
            match cursor.step().map_err(io)? {
                Step::Batch(batch) => match filter.judge(&batch) {
                    Verdict::Keep => output.keep(&batch)?,
                    Verdict::Replace(header, bytes) => output.replace(&batch.header, &header, &bytes)?,
                    Verdict::Drop => output.drop_batch(&batch)?,
                },
                Step::Bad(range) => {
                    return Ok(Some(Rewritten::Damaged(Arc::clone(segment), range, "no valid batch is there")));
                }
                Step::End { position, .. } => {
                    let from_offset = cursor.expected_offset();
                    let range = BadRange { position, end_position: bounds.end, from_offset, to_offset: *end_offset };
                    return Ok(Some(Rewritten::Damaged(Arc::clone(segment), range, "the batches end early")));
                }
            }
        }
    }
    Ok(None)
}

/// The new segment on its way to the disk.
struct Output<'a> {
    fs: &'a dyn Fs,
    paths: &'a SegmentPaths,
    /// Copied from once something changes; `None` where that was so from the start.
    source: Option<Arc<Segment>>,
    file: Option<Arc<dyn FsFile>>,
    /// Bytes given to the file.
    written: u64,
    buffer: Vec<u8>,
    index: SparseIndex,
    /// Where the next batch goes.
    position: u64,
    /// First offset of which nothing has stayed since the last batch that did.
    hole_from: i64,
    /// The hole that the source has at the end of what was copied, if that is all there is to it.
    next_offset: i64,
}

impl<'a> Output<'a> {
    fn new(fs: &'a dyn Fs, paths: &'a SegmentPaths, group: &[(Arc<Segment>, i64)]) -> Self {
        let source = match group {
            [(only, _)] => Some(Arc::clone(only)),
            _ => None,
        };
        Self {
            fs,
            paths,
            source,
            file: None,
            written: 0,
            buffer: Vec::new(),
            index: SparseIndex::new(paths.base_offset),
            position: 0,
            hole_from: paths.base_offset,
            next_offset: paths.base_offset,
        }
    }

    fn keep(&mut self, batch: &FoundBatch) -> Result<(), BrokerError> {
        self.close_hole(batch.header.base_offset)?;
        self.put(&batch.header, &batch.bytes)
    }

    fn replace(&mut self, old: &BatchHeader, new: &BatchHeader, bytes: &[u8]) -> Result<(), BrokerError> {
        self.begin()?;
        self.close_hole(old.base_offset)?;
        self.put(new, bytes)
    }

    fn drop_batch(&mut self, batch: &FoundBatch) -> Result<(), BrokerError> {
        // A lone hole stays as it is: writing it anew would change nothing.
        let is_lone_hole = batch.header.hole().is_some() && self.hole_from == self.next_offset;
        if !is_lone_hole {
            self.begin()?;
        }
        self.next_offset = batch.header.next_offset();
        Ok(())
    }

    /// Writes what stands for the offsets up to here of which nothing stayed.
    fn close_hole(&mut self, to: i64) -> Result<(), BrokerError> {
        let mut holes = Vec::new();
        put_hole(self.hole_from, to, |header, bytes| holes.push((header, bytes)));
        holes.iter().try_for_each(|(header, bytes)| self.put(header, bytes))
    }

    fn put(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), BrokerError> {
        self.index.add(header, self.position);
        self.position += bytes.len() as u64;
        self.hole_from = header.next_offset();
        self.next_offset = self.hole_from;
        if self.source.is_some() && self.file.is_none() {
            // It is in the source at the same place.
            return Ok(());
        }
        self.begin()?;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_CHUNK_SIZE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Begins to write, with what was left alone until now.
    fn begin(&mut self) -> Result<(), BrokerError> {
        if self.file.is_some() {
            return Ok(());
        }
        let path = Replacement::temporary(self.paths);
        let file = self.fs.open(&path, OpenMode::Create).map_err(|e| self.failed("create", &e))?;
        self.file = Some(file);
        let Some(source) = self.source.clone() else { return Ok(()) };
        let read = |e: std::io::Error| BrokerError::io("read", &source.paths.log, &e);
        let from = source.open(self.fs)?;
        let mut at = 0;
        while at < self.position {
            let mut chunk = vec![0; WRITE_CHUNK_SIZE_BYTES.min((self.position - at) as usize)];
            let size = from.read_at(&mut chunk, at).map_err(read)?;
            if size == 0 {
                return Err(read(std::io::ErrorKind::UnexpectedEof.into()));
            }
            self.buffer.extend_from_slice(&chunk[..size]);
            self.flush()?;
            at += size as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BrokerError> {
        let Some(file) = &self.file else { return Ok(()) };
        let end = self.written + self.buffer.len() as u64;
        // Room first, so that a full disk shows as that.
        let put = file.allocate(end).and_then(|()| file.write_all_at(&self.buffer, self.written));
        put.map_err(|e| self.failed("write", &e))?;
        self.written = end;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, group: &[(Arc<Segment>, i64)], aborted_markers: Vec<i64>) -> Result<Rewritten, BrokerError> {
        let end_offset = group.last().map_or(self.next_offset, |(_, end)| *end);
        let done = self.close_hole(end_offset).and_then(|()| self.flush()).and_then(|()| match &self.file {
            None => Ok(false),
            Some(file) => file.sync_data().map(|()| true).map_err(|e| self.failed("sync", &e)),
        });
        let done = done.and_then(|changed| {
            // In its place before the segment is: a crash in between leaves an index of nothing, which recovery sweeps.
            if changed { self.index.write(self.fs, &self.paths.index).map(|()| true) } else { Ok(false) }
        });
        match done {
            Ok(false) => Ok(Rewritten::Unchanged),
            Ok(true) => Ok(Rewritten::Changed(Replacement {
                old: group.iter().map(|(segment, _)| Arc::clone(segment)).collect(),
                paths: self.paths.clone(),
                index: self.index,
                aborted_markers,
            })),
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    fn discard(&self) {
        if self.file.is_some() {
            discard(self.fs, self.paths);
        }
    }

    fn failed(&self, action: &'static str, error: &std::io::Error) -> BrokerError {
        let path = Replacement::temporary(self.paths);
        if is_disk_full(error) {
            BrokerError::DiskFull { path, needed_bytes: self.buffer.len() as u64 }
        } else {
            BrokerError::io(action, path, error)
        }
    }
}

/// Removes a new segment that did not take its place; what cannot be removed now goes with the next start.
pub(in crate::log) fn discard(fs: &dyn Fs, paths: &SegmentPaths) {
    for path in [Replacement::temporary(paths), paths.index.clone()] {
        if let Err(error) = fs.remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(path = %path.display(), %error, "left a file of a compaction behind");
        }
    }
}
