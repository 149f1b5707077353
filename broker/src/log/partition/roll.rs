//! Closing segments, starting new ones, and noting durably how far the log is good.

use std::path::Path;
use std::sync::Arc;

use super::super::checkpoint::Checkpoint;
use super::super::index::SparseIndex;
use super::super::segment::{Segment, SegmentPaths, offset_of, snapshot_path};
use super::super::snapshot;
use super::{ActiveFile, CHECKPOINT_FILE, PartitionLog};
use crate::error::{BrokerError, is_disk_full};
use crate::fs::file::write_atomically;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::topic::PartitionOffsets;

const KEPT_SNAPSHOTS: usize = 2;

impl PartitionLog {
    /// Closes the segment being written and starts the next. Where the disk is full nothing changes and the error is retryable.
    pub(super) fn roll(&mut self) -> Result<(), BrokerError> {
        self.sync()?;
        let old = Arc::clone(self.active_segment());
        let body = self.active_body()?;
        // Give back what was reserved and not used.
        let cut = body.file.set_len(self.active.written).and_then(|()| body.file.sync_data());
        let index = body.index.read().clone();
        if let Err(error) = cut {
            return Err(self.stop(format!("closing {} failed: {error}", old.paths.log.display())));
        }
        self.active.allocated = self.active.written;
        let next = SegmentPaths::new(&self.dir, self.next_offset);
        let opened = index
            .write(self.fs.as_ref(), &old.paths.index)
            .and_then(|()| self.write_snapshot())
            .and_then(|()| self.create_segment(&next));
        let file = opened.map_err(|error| self.stop_unless_full(error))?;

        let (last, closed) = (self.segments.len() - 1, Segment::closed(old.paths.clone(), index.summary()));
        self.segments[last] = Arc::new(closed);
        let active = Segment::active(next, file, SparseIndex::new(self.next_offset), 0);
        self.segments.push(Arc::new(active));
        self.active = ActiveFile { written: 0, synced: 0, allocated: 0, since_ms: None };
        self.view.publish_segments(self.segments.clone());
        self.write_checkpoint(self.view.offsets().log_start, false)
    }

    fn create_segment(&self, paths: &SegmentPaths) -> Result<Arc<dyn FsFile>, BrokerError> {
        create_segment_file(self.fs.as_ref(), &self.dir, paths)
    }

    /// Writes the partition's state as of the end of the log, which must be synced, and drops all but the newest snapshots.
    pub(super) fn write_snapshot(&self) -> Result<(), BrokerError> {
        let path = snapshot_path(&self.dir, self.next_offset);
        write_atomically(self.fs.as_ref(), &path, &snapshot::encode(&self.state, self.next_offset))?;
        let entries = self.fs.read_dir(&self.dir).map_err(|e| BrokerError::io("list", &self.dir, &e))?;
        let mut offsets: Vec<i64> = entries.iter().filter_map(|e| offset_of(&e.name, ".state")).collect();
        offsets.sort_unstable();
        for offset in offsets.iter().rev().skip(KEPT_SNAPSHOTS) {
            self.remove(&snapshot_path(&self.dir, *offset));
        }
        Ok(())
    }

    /// Notes durably how far the log is known to be good, if it has moved since the last time.
    pub fn write_recovery_point(&mut self) -> Result<(), BrokerError> {
        self.check_running()?;
        let PartitionOffsets { log_start, high_watermark } = self.view.offsets();
        if self.checkpoint.recovery_offset == high_watermark {
            return Ok(());
        }
        self.write_checkpoint(log_start, false)
    }

    pub(super) fn write_checkpoint(&mut self, log_start: i64, clean: bool) -> Result<(), BrokerError> {
        let checkpoint = Checkpoint {
            log_start,
            recovery_offset: self.view.offsets().high_watermark,
            segment_base: self.active_segment().base_offset,
            position: self.active.synced,
            clean,
        };
        if let Err(error) = self.checkpoint_file.write(&checkpoint) {
            let path = self.dir.join(CHECKPOINT_FILE);
            return Err(self.stop(format!("the checkpoint {} could not be written: {error}", path.display())));
        }
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// Syncs and leaves everything so that the next open has nothing to scan.
    pub fn close(&mut self) -> Result<(), BrokerError> {
        self.sync()?;
        let segment = Arc::clone(self.active_segment());
        let body = self.active_body()?;
        let index = body.index.read().clone();
        let cut = body.file.set_len(self.active.written).and_then(|()| body.file.sync_data());
        if let Err(error) = cut {
            return Err(self.stop(format!("closing {} failed: {error}", segment.paths.log.display())));
        }
        self.active.allocated = self.active.written;
        let written = index.write(self.fs.as_ref(), &segment.paths.index).and_then(|()| self.write_snapshot());
        written.map_err(|error| self.stop_unless_full(error))?;
        self.write_checkpoint(self.view.offsets().log_start, true)
    }
}

/// Creates an empty segment file with a durable name.
pub(in crate::log) fn create_segment_file(
    fs: &dyn Fs,
    dir: &Path,
    paths: &SegmentPaths,
) -> Result<Arc<dyn FsFile>, BrokerError> {
    let file = fs.open(&paths.log, OpenMode::Create).map_err(|e| {
        if is_disk_full(&e) {
            BrokerError::DiskFull { path: paths.log.clone(), needed_bytes: 0 }
        } else {
            BrokerError::io("create", &paths.log, &e)
        }
    })?;
    fs.sync_dir(dir).map_err(|e| BrokerError::io("sync the directory", dir, &e))?;
    Ok(file)
}
