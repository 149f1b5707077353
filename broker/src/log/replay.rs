//! Rebuilding what a partition remembers when it is opened: the newest usable snapshot, and the batches behind it.

use std::path::Path;
use std::sync::Arc;

use super::cursor::{BatchCursor, Bounds, FoundBatch, Step};
use super::recovery::Access;
use super::segment::{Segment, offset_of, snapshot_path};
use super::state::PartitionState;
use super::{SCAN_CHUNK_SIZE_BYTES, snapshot};
use crate::batch::{BatchHeader, decode_marker, decode_records};
use crate::error::BrokerError;
use crate::fs::Fs;
use crate::fs::file::read_all;

/// What to rebuild from.
pub(super) struct Replay<'a> {
    pub(super) fs: &'a dyn Fs,
    pub(super) dir: &'a Path,
    pub(super) segments: &'a [Arc<Segment>],
    pub(super) next_offset: i64,
    /// Bytes of batches in the last segment.
    pub(super) written_bytes: u64,
    pub(super) max_decompressed_size_bytes: usize,
    pub(super) max_idempotency_keys: usize,
    pub(super) now_ms: i64,
    /// With [`Access::Write`], snapshots that cannot be used are removed.
    pub(super) access: Access,
    /// Whether the guard state is wanted too; it takes unpacking every batch that is our own.
    pub(super) guards: bool,
}

impl Replay<'_> {
    /// The state as of the end of the log, and whether it is certainly all of it.
    pub(super) fn run(&self) -> Result<(PartitionState, bool), BrokerError> {
        let snapshot = self.newest_snapshot()?;
        let oldest = self.segments.first().map_or(self.next_offset, |s| s.base_offset);
        // What compaction took is in snapshots only.
        let is_all_there = oldest == 0 && self.segments.iter().all(|s| s.paths.generation == 0);
        let complete = snapshot.is_some() || is_all_there;
        let (mut state, from) = snapshot.unwrap_or_else(|| (PartitionState::new(self.max_idempotency_keys), oldest));
        let first = self.segments.partition_point(|s| s.base_offset <= from).saturating_sub(1);
        for (i, segment) in self.segments.iter().enumerate().skip(first) {
            let end_offset = self.segments.get(i + 1).map_or(self.next_offset, |s| s.base_offset);
            if from >= end_offset {
                continue;
            }
            let end = if i + 1 == self.segments.len() { self.written_bytes } else { segment.readable_bytes() };
            let io = |e: std::io::Error| BrokerError::io("read", &segment.paths.log, &e);
            let file = segment.open(self.fs)?;
            let bounds = Bounds { position: 0, end, expected_offset: segment.base_offset, max_offset: end_offset };
            let mut cursor = BatchCursor::new(file.as_ref(), bounds, SCAN_CHUNK_SIZE_BYTES);
            while cursor.expected_offset() < end_offset {
                match cursor.step().map_err(io)? {
                    Step::Batch(batch) if batch.header.base_offset >= from => self.note(&mut state, &batch),
                    Step::Batch(_) | Step::Bad(_) => {}
                    Step::End { .. } => break,
                }
            }
        }
        state.producers.expire(self.now_ms);
        Ok((state, complete))
    }

    fn newest_snapshot(&self) -> Result<Option<(PartitionState, i64)>, BrokerError> {
        let entries = self.fs.read_dir(self.dir).map_err(|e| BrokerError::io("list", self.dir, &e))?;
        let mut offsets: Vec<i64> = entries.iter().filter_map(|e| offset_of(&e.name, ".state")).collect();
        offsets.sort_unstable();
        for offset in offsets.into_iter().rev() {
            let path = snapshot_path(self.dir, offset);
            let decoded =
                read_all(self.fs, &path)?.and_then(|bytes| snapshot::decode(&bytes, self.max_idempotency_keys));
            match decoded {
                Some((state, at)) if at == offset && at <= self.next_offset => return Ok(Some((state, at))),
                _ if self.access == Access::Read => {}
                _ => {
                    // Damaged, or of records that are no more: offsets will be used again, and it must not count then.
                    tracing::warn!(path = %path.display(), "dropping a snapshot of the partition's state that cannot be used");
                    self.fs.remove_file(&path).map_err(|e| BrokerError::io("remove", &path, &e))?;
                }
            }
        }
        Ok(None)
    }

    fn note(&self, state: &mut PartitionState, batch: &FoundBatch) {
        let header = &batch.header;
        if header.is_control() {
            if let Some(marker) = decode_marker(header, &batch.bytes) {
                state.producers.note_marker(&marker, header.base_offset, self.now_ms);
            }
        } else if header.has_producer() {
            state.producers.note_batch(header, self.now_ms);
        } else if self.guards && !header.is_verbatim() {
            let mut records = Vec::new();
            // A batch that does not decode is not ours, so it has no guard; reads report it.
            if decode_records(header, &batch.bytes, i64::MIN, self.max_decompressed_size_bytes, &mut records).is_ok() {
                state.guard.observe(&records, append_time_ms(header, self.now_ms));
            }
        }
    }
}

/// When a batch was appended. Where its records carry their sender's time that is a guess, and not later than now; our own stamp
/// stands also when the clock was set back since: a key made older than it is would be forgotten too early.
fn append_time_ms(header: &BatchHeader, now_ms: i64) -> i64 {
    if header.is_log_append_time() { header.max_timestamp_ms } else { header.max_timestamp_ms.min(now_ms) }
}
