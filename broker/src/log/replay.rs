//! Rebuilding the guard state when a partition is opened: the newest usable snapshot, and the headers of the records behind it.

use std::path::Path;
use std::sync::Arc;

use super::cursor::{BatchCursor, Bounds, Step};
use super::guard_state::GuardState;
use super::recovery::Access;
use super::segment::{Segment, offset_of, snapshot_path};
use super::{LogSettings, SCAN_CHUNK_SIZE_BYTES, snapshot};
use crate::batch::{BatchHeader, decode_records};
use crate::error::BrokerError;
use crate::fs::Fs;
use crate::fs::file::read_all;

/// The guard state as of the end of the log, and whether it is certainly all of it. Snapshots that cannot be used are removed with
/// [`Access::Write`].
#[expect(clippy::too_many_arguments, reason = "all of them are what an open partition holds together")]
pub(super) fn rebuild_guard_state(
    fs: &dyn Fs,
    dir: &Path,
    segments: &[Arc<Segment>],
    settings: &LogSettings,
    next_offset: i64,
    written_bytes: u64,
    now_ms: i64,
    access: Access,
) -> Result<(GuardState, bool), BrokerError> {
    let entries = fs.read_dir(dir).map_err(|e| BrokerError::io("list", dir, &e))?;
    let mut offsets: Vec<i64> = entries.iter().filter_map(|e| offset_of(&e.name, ".state")).collect();
    offsets.sort_unstable();
    let mut start = None;
    for offset in offsets.into_iter().rev() {
        let path = snapshot_path(dir, offset);
        let decoded = read_all(fs, &path)?.and_then(|bytes| snapshot::decode(&bytes, settings.max_idempotency_keys));
        match decoded {
            Some((state, at)) if at == offset && at <= next_offset => {
                start = Some((state, at));
                break;
            }
            _ if access == Access::Read => {}
            _ => {
                // Damaged, or of records that are no more: offsets will be used again, and it must not count then.
                tracing::warn!(path = %path.display(), "dropping a snapshot of the guard state that cannot be used");
                fs.remove_file(&path).map_err(|e| BrokerError::io("remove", &path, &e))?;
            }
        }
    }
    let oldest = segments.first().map_or(next_offset, |s| s.base_offset);
    let complete = start.is_some() || oldest == 0;
    let (mut state, from) = start.unwrap_or_else(|| (GuardState::new(settings.max_idempotency_keys), oldest));
    let first = segments.partition_point(|s| s.base_offset <= from).saturating_sub(1);
    for (i, segment) in segments.iter().enumerate().skip(first) {
        let end_offset = segments.get(i + 1).map_or(next_offset, |s| s.base_offset);
        if from >= end_offset {
            continue;
        }
        let end = if i + 1 == segments.len() { written_bytes } else { segment.readable_bytes() };
        let io = |e: std::io::Error| BrokerError::io("read", &segment.paths.log, &e);
        let file = segment.open(fs)?;
        let bounds = Bounds { position: 0, end, expected_offset: segment.base_offset, max_offset: end_offset };
        let mut cursor = BatchCursor::new(file.as_ref(), bounds, SCAN_CHUNK_SIZE_BYTES);
        while cursor.expected_offset() < end_offset {
            match cursor.step().map_err(io)? {
                Step::Batch(batch) if batch.header.base_offset >= from => {
                    let mut records = Vec::new();
                    let limit = settings.max_decompressed_size_bytes;
                    // A batch that does not decode is not ours, so it has no guard; reads report it.
                    if decode_records(&batch.header, &batch.bytes, i64::MIN, limit, &mut records).is_ok() {
                        state.observe(&records, append_time_ms(&batch.header, now_ms));
                    }
                }
                Step::Batch(_) | Step::Bad(_) => {}
                Step::End { .. } => break,
            }
        }
    }
    Ok((state, complete))
}

/// When a batch was appended. Where its records carry their sender's time that is a guess, and not later than now; our own stamp
/// stands also when the clock was set back since: a key made older than it is would be forgotten too early.
fn append_time_ms(header: &BatchHeader, now_ms: i64) -> i64 {
    if header.is_log_append_time() { header.max_timestamp_ms } else { header.max_timestamp_ms.min(now_ms) }
}
