//! Opening a partition: finding out what is there after an orderly stop, a crash or a power loss.
//!
//! After an orderly stop nothing is scanned. Otherwise every segment from the recovery point's on is read batch by batch:
//!
//! - **The end.** The valid batches end at zeros, or at bytes with no valid batch behind them: a torn tail, which is cut.
//! - **Damage with valid batches behind it** is one of two things. If it was durable once, it is lost data: the range is left in
//!   place, reported and passed over, and what follows stays readable. If it was never durable, power loss tore a group
//!   of appends that nobody was told about; all from the first tear on is cut, because a task's later effect without
//!   its earlier one would make the guard suppress the earlier one for ever. What was durable is known from the
//!   checkpoint, and from the batches: each says how many bytes before it were not yet synced when it was written.
//! - **Acknowledged data at the very end may be gone** (the checkpoint says there was more). Its offsets are not given out again.
//! - **What cannot be proven durable is written again and synced** before it is shown to anybody: after a failed sync the page
//!   cache may hold bytes that the disk does not, and believes them clean.

use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, CheckpointFile};
use super::cursor::{BadRange, BatchCursor, Bounds, Step};
use super::index::{SparseIndex, Summary};
use super::partition::{CHECKPOINT_FILE, create_segment_file};
use super::replay::Replay;
use super::segment::{Segment, SegmentPaths, list_segments};
use super::state::PartitionState;
use super::{LogSettings, PartitionId, PartitionView, SCAN_CHUNK_SIZE_BYTES, rebuild_index};
use crate::error::BrokerError;
use crate::fs::file::{rewrite, sweep_temporary_files};
use crate::fs::{DirEntry, Fs, FsFile, OpenMode};
use crate::topic::PartitionOffsets;

/// What recovery found and did, for logs and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// True where the last stop was orderly and nothing had to be scanned.
    pub clean: bool,
    /// Bytes of segments that were scanned.
    pub scanned_bytes: u64,
    /// Bytes cut off the end of the log, none of them ever acknowledged.
    pub cut_bytes: u64,
    /// Damaged ranges found.
    pub damaged_ranges: usize,
    /// Indexes of closed segments made anew.
    pub rebuilt_indexes: usize,
    /// True where no snapshot of the guard state was usable and the log no longer reaches back to offset 0.
    pub guard_state_incomplete: bool,
}

/// All a partition needs to go on.
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) log_start: i64,
    pub(super) next_offset: i64,
    pub(super) written_bytes: u64,
    pub(super) allocated_bytes: u64,
    pub(super) state: PartitionState,
    pub(super) damaged: Vec<(Arc<Segment>, BadRange, &'static str)>,
    pub(super) report: RecoveryReport,
}

/// Recovers the partition in `dir` for writing.
pub(super) fn recover(
    id: &PartitionId,
    fs: &dyn Fs,
    dir: &Path,
    settings: &LogSettings,
    now_ms: i64,
) -> Result<Recovered, BrokerError> {
    sweep_temporary_files(fs, dir)?;
    let mut recovered = find(id, fs, dir, Access::Write)?;
    let next_offset = recovered.next_offset;
    let replay = Replay {
        fs,
        dir,
        segments: &recovered.segments,
        next_offset,
        written_bytes: recovered.written_bytes,
        max_decompressed_size_bytes: settings.max_decompressed_size_bytes,
        max_idempotency_keys: settings.max_idempotency_keys,
        now_ms,
        access: Access::Write,
        guards: true,
    };
    let (state, complete) = replay.run()?;
    recovered.state = state;
    recovered.state.producers.forget_below(recovered.log_start);
    recovered.report.guard_state_incomplete = !complete;
    let report = &recovered.report;
    if !complete {
        tracing::warn!(partition = %id, "no usable snapshot of the guard state: it was rebuilt from what the log still holds");
    }
    if report.cut_bytes > 0 {
        tracing::warn!(partition = %id, bytes = report.cut_bytes, next_offset, "cut a torn tail that was never acknowledged");
    }
    if !report.clean && report.scanned_bytes > 0 {
        tracing::info!(partition = %id, scanned_bytes = report.scanned_bytes, next_offset, "recovered");
    }
    Ok(recovered)
}

impl PartitionView {
    /// Opens the partition in `dir` as it is now, for reading only, changing nothing; another process may be writing to it. What is
    /// shown is what recovery would keep at this moment.
    pub fn open_read_only(
        id: PartitionId,
        fs: Arc<dyn Fs>,
        dir: &Path,
        max_decompressed_size_bytes: usize,
    ) -> Result<Self, BrokerError> {
        let found = find(&id, fs.as_ref(), dir, Access::Read)?;
        let offsets = PartitionOffsets { log_start: found.log_start, high_watermark: found.next_offset };
        let replay = Replay {
            fs: fs.as_ref(),
            dir,
            segments: &found.segments,
            next_offset: found.next_offset,
            written_bytes: found.written_bytes,
            max_decompressed_size_bytes,
            // Neither keys nor the time, by which producers are forgotten, matter to readers.
            max_idempotency_keys: 0,
            now_ms: 0,
            access: Access::Read,
            guards: false,
        };
        let (state, _) = replay.run()?;
        let view = Self::new(id, fs, max_decompressed_size_bytes, found.segments, offsets, &state.producers);
        for (segment, range, reason) in &found.damaged {
            view.report(segment, *range, reason);
        }
        Ok(view)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Finds the segments and the end of the log, and (when writing) mends the tail.
fn find(id: &PartitionId, fs: &dyn Fs, dir: &Path, access: Access) -> Result<Recovered, BrokerError> {
    let entries = fs.read_dir(dir).map_err(|e| BrokerError::io("list", dir, &e))?;
    let (mut segments, replaced) = list_segments(dir, entries.iter().map(|e| e.name.as_str()));
    if access == Access::Write {
        // Compaction's swap was interrupted behind the point from which on the new segment counts.
        replaced.iter().try_for_each(|paths| remove_segment(fs, paths))?;
        sweep_indexes(fs, dir, &entries, &segments)?;
    }
    let checkpoint = CheckpointFile::read(fs, &dir.join(CHECKPOINT_FILE))?;
    if checkpoint.is_none() && !segments.is_empty() {
        tracing::warn!(partition = %id, "checkpoint is missing or damaged; scanning all of the log, from its oldest segment");
    }
    let known = checkpoint.unwrap_or(Checkpoint {
        log_start: segments.first().map_or(0, |paths| paths.base_offset),
        segment_base: i64::MIN,
        ..Checkpoint::default()
    });
    drop_segments_below(fs, &mut segments, known.log_start, access)?;
    // The last one is to be written to, which one that was compacted is not.
    let ended = segments.last().map_or(Some(known.log_start.max(known.recovery_offset)), |last| last.end_offset);
    if let (Some(base), Access::Write) = (ended, access) {
        let paths = SegmentPaths::new(dir, base);
        create_segment_file(fs, dir, &paths)?;
        segments.push(paths);
    }

    let mut recovered = Recovered {
        segments: Vec::with_capacity(segments.len()),
        log_start: known.log_start,
        next_offset: known.log_start.max(known.recovery_offset),
        written_bytes: 0,
        allocated_bytes: 0,
        state: PartitionState::default(),
        damaged: Vec::new(),
        report: RecoveryReport::default(),
    };
    for (i, paths) in segments.iter().enumerate() {
        let next_base = segments.get(i + 1).map(|next| next.base_offset).or(paths.end_offset);
        match next_base {
            Some(next_base) => {
                recovered.add_closed(fs, paths.clone(), next_base, &known, access)?;
                recovered.next_offset = recovered.next_offset.max(next_base);
            }
            None => recovered.add_active(fs, paths.clone(), &known, access)?,
        }
    }
    recovered.report.damaged_ranges = recovered.damaged.len();
    Ok(recovered)
}

impl Recovered {
    fn add_closed(
        &mut self,
        fs: &dyn Fs,
        paths: SegmentPaths,
        next_base: i64,
        known: &Checkpoint,
        access: Access,
    ) -> Result<(), BrokerError> {
        let proven = paths.base_offset < known.segment_base;
        let summary = match SparseIndex::read_summary(fs, &paths.index)? {
            Some(summary) if proven && summary.base_offset == paths.base_offset && summary.next_offset == next_base => {
                summary
            }
            _ => {
                // The segment was synced before the next one was created, so nothing here is cut, whatever is found.
                let empty = Summary {
                    base_offset: paths.base_offset,
                    next_offset: next_base,
                    size_bytes: 0,
                    max_timestamp_ms: i64::MIN,
                };
                let segment = Arc::new(Segment::closed(paths.clone(), empty));
                let index = rebuild_index(fs, &segment, next_base)?;
                self.note_damage(fs, &segment, next_base)?;
                self.report.rebuilt_indexes += 1;
                self.report.scanned_bytes += index.summary().size_bytes;
                if access == Access::Write {
                    match index.write(fs, &paths.index) {
                        // Reads rebuild it in memory; a full disk must not keep the log from opening.
                        Err(error) if error.is_retryable() => tracing::warn!(%error, "an index could not be stored"),
                        other => other?,
                    }
                }
                index.summary()
            }
        };
        self.segments.push(Arc::new(Segment::closed(paths, summary)));
        Ok(())
    }

    fn note_damage(&mut self, fs: &dyn Fs, segment: &Arc<Segment>, end_offset: i64) -> Result<(), BrokerError> {
        let io = |e: std::io::Error| BrokerError::io("read", &segment.paths.log, &e);
        let file = segment.open(fs)?;
        let end = file.size_bytes().map_err(io)?;
        let bounds = Bounds { position: 0, end, expected_offset: segment.base_offset, max_offset: end_offset };
        let mut cursor = BatchCursor::new(file.as_ref(), bounds, SCAN_CHUNK_SIZE_BYTES);
        loop {
            match cursor.step().map_err(io)? {
                Step::Batch(_) => {}
                Step::Bad(range) => self.damaged.push((Arc::clone(segment), range, "no valid batch is there")),
                Step::End { position, .. } => {
                    let from_offset = cursor.expected_offset();
                    if from_offset < end_offset {
                        let range = BadRange { position, end_position: end, from_offset, to_offset: end_offset };
                        self.damaged.push((Arc::clone(segment), range, "the batches end early"));
                    }
                    return Ok(());
                }
            }
        }
    }

    fn add_active(
        &mut self,
        fs: &dyn Fs,
        paths: SegmentPaths,
        known: &Checkpoint,
        access: Access,
    ) -> Result<(), BrokerError> {
        let path = paths.log.clone();
        let io = |action| {
            let path = path.clone();
            move |e: std::io::Error| BrokerError::io(action, path.clone(), &e)
        };
        let mode = if access == Access::Write { OpenMode::Write } else { OpenMode::Read };
        let file = fs.open(&path, mode).map_err(io("open"))?;
        let file_size = file.size_bytes().map_err(io("measure"))?;
        let here = known.segment_base == paths.base_offset;

        if here && known.clean && known.position == file_size {
            let index = SparseIndex::read(fs, &paths.index)?;
            let fits = |s: Summary| {
                s.size_bytes == file_size
                    && s.next_offset == known.recovery_offset
                    && s.base_offset == paths.base_offset
            };
            if let Some(index) = index.filter(|index| fits(index.summary())) {
                self.report.clean = true;
                self.next_offset = known.recovery_offset;
                self.written_bytes = file_size;
                self.allocated_bytes = file_size;
                self.segments.push(Arc::new(Segment::active(paths, file, index, file_size)));
                return Ok(());
            }
        }

        let durable = if here { known.position } else { 0 };
        let mut tail = scan_tail(file.as_ref(), paths.base_offset, file_size, durable).map_err(io("read"))?;
        self.report.scanned_bytes += tail.end;
        let mut lost = None;
        if here && tail.next_offset() < known.recovery_offset {
            // The checkpoint says there was more, and it was acknowledged. Those offsets are spent.
            let end_position = tail.end.max(durable);
            lost = Some(BadRange {
                position: tail.end,
                end_position,
                from_offset: tail.next_offset(),
                to_offset: known.recovery_offset,
            });
            tail.index.skip_to(known.recovery_offset, end_position);
            tail.end = end_position;
            tail.cut_bytes = 0;
        }
        self.allocated_bytes = file_size.max(tail.end);
        if access == Access::Write {
            if tail.torn || tail.end > file_size {
                file.set_len(tail.end).map_err(io("cut"))?;
                self.allocated_bytes = tail.end;
                self.report.cut_bytes += tail.cut_bytes;
            }
            rewrite(file.as_ref(), durable.min(tail.end), tail.end).map_err(io("write"))?;
            file.sync_data().map_err(io("sync"))?;
        }
        self.next_offset = tail.next_offset();
        self.written_bytes = tail.end;
        let segment = Arc::new(Segment::active(paths, file, tail.index, tail.end));
        for range in tail.damaged {
            self.damaged.push((Arc::clone(&segment), range, "no valid batch is there"));
        }
        if let Some(range) = lost {
            self.damaged.push((Arc::clone(&segment), range, "the batches end early"));
        }
        self.segments.push(segment);
        Ok(())
    }
}

/// Where the last segment ends, and what is wrong before.
struct Tail {
    index: SparseIndex,
    end: u64,
    /// Whether the bytes behind the end are more than zeros.
    torn: bool,
    cut_bytes: u64,
    damaged: Vec<BadRange>,
}

impl Tail {
    fn next_offset(&self) -> i64 {
        self.index.summary().next_offset
    }
}

/// Walks the last segment. `durable` bytes of it are known to have been synced.
fn scan_tail(file: &dyn FsFile, base_offset: i64, file_size: u64, durable: u64) -> std::io::Result<Tail> {
    let bounds = Bounds {
        position: 0,
        end: file_size,
        expected_offset: base_offset,
        max_offset: base_offset + i64::from(u32::MAX),
    };
    let mut cursor = BatchCursor::new(file, bounds, SCAN_CHUNK_SIZE_BYTES);
    let mut index = SparseIndex::new(base_offset);
    let mut damaged = Vec::new();
    // Damage of which it is not known whether it was ever durable, with the index as it was in front of it.
    let mut doubtful: Vec<(BadRange, SparseIndex)> = Vec::new();
    let (end, torn) = loop {
        match cursor.step()? {
            Step::Batch(batch) => {
                let unsynced = batch.header.unsynced_bytes();
                let proven = batch.position.saturating_sub(unsynced);
                while doubtful.first().is_some_and(|(range, _)| range.position < proven) {
                    damaged.push(doubtful.remove(0).0);
                }
                index.add(&batch.header, batch.position);
            }
            Step::Bad(range) if range.position < durable => damaged.push(range),
            Step::Bad(range) => doubtful.push((range, index.clone())),
            Step::End { position, torn } => break (position, torn),
        }
    };
    Ok(match doubtful.into_iter().next() {
        Some((range, before)) => {
            Tail { index: before, end: range.position, torn: true, cut_bytes: end - range.position, damaged }
        }
        None => {
            let cut_bytes = if torn { nonzero_end(file, end, file_size)? - end } else { 0 };
            Tail { index, end, torn, cut_bytes, damaged }
        }
    })
}

/// One past the last byte that is not zero, or `from`.
fn nonzero_end(file: &dyn FsFile, from: u64, to: u64) -> std::io::Result<u64> {
    let mut buffer = vec![0; SCAN_CHUNK_SIZE_BYTES.min((to - from) as usize)];
    let (mut at, mut end) = (from, from);
    while at < to {
        let size = buffer.len().min((to - at) as usize);
        let read = file.read_at(&mut buffer[..size], at)?;
        if read == 0 {
            break;
        }
        if let Some(last) = buffer[..read].iter().rposition(|byte| *byte != 0) {
            end = at + last as u64 + 1;
        }
        at += read as u64;
    }
    Ok(end)
}

/// Forgets segments wholly below the log start; a crash between advancing it and unlinking leaves them.
fn drop_segments_below(
    fs: &dyn Fs,
    segments: &mut Vec<SegmentPaths>,
    log_start: i64,
    access: Access,
) -> Result<(), BrokerError> {
    let keep = segments.partition_point(|paths| paths.base_offset <= log_start).saturating_sub(1);
    let below = segments.drain(..keep);
    if access == Access::Read {
        return Ok(());
    }
    below.into_iter().try_for_each(|paths| remove_segment(fs, &paths))
}

/// Removes indexes without a segment: one that was never put in its place, or is gone.
fn sweep_indexes(fs: &dyn Fs, dir: &Path, entries: &[DirEntry], live: &[SegmentPaths]) -> Result<(), BrokerError> {
    let indexes = entries.iter().filter(|e| e.name.ends_with(".index")).map(|e| dir.join(&e.name));
    indexes.filter(|path| live.iter().all(|paths| paths.index != *path)).try_for_each(|path| remove(fs, &path))
}

fn remove_segment(fs: &dyn Fs, paths: &SegmentPaths) -> Result<(), BrokerError> {
    remove(fs, &paths.log)?;
    remove(fs, &paths.index)
}

fn remove(fs: &dyn Fs, path: &Path) -> Result<(), BrokerError> {
    match fs.remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(BrokerError::io("remove", path, &error)),
        _ => Ok(()),
    }
}
