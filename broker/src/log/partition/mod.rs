//! The writer's side of a partition.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::checkpoint::{Checkpoint, CheckpointFile};
use super::compaction::Progress;
use super::guard_state::{TaskState, Verdict, guard_header};
use super::recovery::{RecoveryReport, recover};
use super::segment::{ActiveBody, Body, Segment};
use super::state::PartitionState;
use super::{LogSettings, PartitionId, PartitionView};
use crate::append::{Appended, Guard};
use crate::batch::{BatchHeader, Draft, EncodeOptions, disk_field, encode, set_leader_epoch};
use crate::error::{BrokerError, is_disk_full};
use crate::fs::Fs;
use crate::record::Record;
use crate::topic::PartitionOffsets;

mod compact;
mod log_start;
mod produce;
pub(crate) use produce::KnownProducer;
mod roll;

pub(super) use roll::create_segment_file;

/// Room is reserved in steps that grow with the segment: small topics stay small, busy ones reserve seldom.
const MIN_STEP_BYTES: u64 = 1 << 20;
const MAX_STEP_BYTES: u64 = 16 << 20;
pub(in crate::log) const CHECKPOINT_FILE: &str = "checkpoint";

/// The log of one partition, for its one writer. See [`crate::log`].
pub struct PartitionLog {
    id: PartitionId,
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    settings: LogSettings,
    view: Arc<PartitionView>,
    /// Oldest first; the last is the one being written.
    segments: Vec<Arc<Segment>>,
    active: ActiveFile,
    next_offset: i64,
    written_bytes: u64,
    state: PartitionState,
    checkpoint_file: CheckpointFile,
    checkpoint: Checkpoint,
    /// How far it was compacted, once that was looked up.
    progress: Option<Progress>,
    stopped: Option<String>,
    /// The batch being made; kept for its capacity.
    scratch: Vec<u8>,
}

/// How far the segment being written has come, in bytes.
#[derive(Debug, Clone, Copy)]
struct ActiveFile {
    written: u64,
    synced: u64,
    allocated: u64,
    /// When the first batch was written to it, or it was opened, Unix milliseconds; `None` where it is empty.
    since_ms: Option<i64>,
}

impl PartitionLog {
    /// Opens the log in this directory, which must exist, recovering what a crash left. An empty directory is an empty log.
    pub fn open(
        id: PartitionId,
        fs: Arc<dyn Fs>,
        dir: impl Into<PathBuf>,
        settings: LogSettings,
        now_ms: i64,
    ) -> Result<(Self, RecoveryReport), BrokerError> {
        let dir = dir.into();
        let recovered = recover(&id, fs.as_ref(), &dir, &settings, now_ms)?;
        let written = recovered.written_bytes;
        let offsets = PartitionOffsets { log_start: recovered.log_start, high_watermark: recovered.next_offset };
        let max_unpacked = settings.max_decompressed_size_bytes;
        let segments = recovered.segments;
        let mut state = recovered.state;
        state.producers.take_unpublished();
        let producers = &state.producers;
        let view = PartitionView::new(id.clone(), Arc::clone(&fs), max_unpacked, segments.clone(), offsets, producers);
        for (segment, range, reason) in &recovered.damaged {
            view.report(segment, *range, reason);
        }
        let checkpoint_path = dir.join(CHECKPOINT_FILE);
        let mut log = Self {
            id,
            dir,
            settings,
            view: Arc::new(view),
            segments,
            active: ActiveFile {
                written,
                synced: written,
                allocated: recovered.allocated_bytes,
                since_ms: (written > 0).then_some(now_ms),
            },
            progress: None,
            next_offset: recovered.next_offset,
            written_bytes: 0,
            state,
            checkpoint_file: CheckpointFile::open(fs.as_ref(), &checkpoint_path)?,
            checkpoint: Checkpoint::default(),
            stopped: None,
            scratch: Vec::new(),
            fs,
        };
        // From here on it is being written to: the next open must look at the tail again.
        log.write_checkpoint(offsets.log_start, false)?;
        Ok((log, recovered.report))
    }

    /// The readers' side, to share.
    pub fn view(&self) -> &Arc<PartitionView> {
        &self.view
    }

    /// Which partition this is.
    pub fn id(&self) -> &PartitionId {
        &self.id
    }

    /// Goes by other settings from here on. What is written already stays as it is.
    pub fn configure(&mut self, settings: LogSettings) {
        self.settings = settings;
    }

    /// One past the last written offset, synced or not.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// True where something written is not yet synced.
    pub fn is_dirty(&self) -> bool {
        self.active.written > self.active.synced
    }

    /// Why the partition takes no writes any more, if so.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Where each task stands in this partition.
    pub fn tasks(&self) -> impl Iterator<Item = (&Arc<str>, &TaskState)> {
        self.state.guard.tasks.iter()
    }

    /// Bytes of batches written since the log was opened.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Idempotency keys forgotten before 24 h had passed, for want of room, since the log was opened.
    pub fn forgotten_keys(&self) -> u64 {
        self.state.guard.forgotten_keys
    }

    /// Producers forgotten before they had been idle for a day, for want of room, since the log was opened.
    pub fn forgotten_producers(&self) -> u64 {
        self.state.producers.forgotten
    }

    /// Writes one batch of the records that the guard lets through. It is durable, and may be acknowledged, once [`Self::sync`]
    /// has returned; that holds for answers that wrote nothing as well, since what they refer to may not be synced yet.
    pub fn append(&mut self, records: &[Record], guard: &Guard, now_ms: i64) -> Result<Appended, BrokerError> {
        self.check_running()?;
        let from = match self.state.guard.judge(guard, now_ms) {
            Verdict::Write { from } => from,
            Verdict::Duplicate(appended) => return Ok(appended),
            Verdict::Fenced { current } => return Err(fenced(guard, current)),
        };
        let drafts: Vec<Draft<'_>> = records
            .iter()
            .enumerate()
            .skip(from)
            .map(|(i, record)| Draft { record, guard: guard_header(guard, i, i == from) })
            .collect();
        let appended = Appended {
            base_offset: self.next_offset,
            last_offset: self.next_offset + drafts.len() as i64 - 1,
            append_time_ms: now_ms,
            duplicate: false,
            suppressed: from,
        };
        if !drafts.is_empty() {
            self.write_batch(&drafts, now_ms)?;
            self.state.guard.apply(guard, &appended);
        }
        Ok(appended)
    }

    fn write_batch(&mut self, drafts: &[Draft<'_>], now_ms: i64) -> Result<(), BrokerError> {
        let mut batch = std::mem::take(&mut self.scratch);
        let result = self.encode_and_write(drafts, now_ms, &mut batch);
        // Keep what usual batches need, give back what a giant took.
        batch.clear();
        batch.shrink_to(MIN_STEP_BYTES as usize);
        self.scratch = batch;
        result
    }

    fn encode_and_write(&mut self, drafts: &[Draft<'_>], now_ms: i64, batch: &mut Vec<u8>) -> Result<(), BrokerError> {
        let options = EncodeOptions {
            base_offset: self.next_offset,
            leader_epoch: 0,
            append_time_ms: now_ms,
            timestamp_type: self.settings.timestamp_type,
            compression: self.settings.compression,
        };
        let header = encode(drafts, &options, batch).map_err(|e| self.invalid(e.to_string()))?;
        let unsynced_bytes = self.make_room(&header)?;
        set_leader_epoch(batch, disk_field(unsynced_bytes, false));
        self.put(&header, &[batch], now_ms)
    }

    /// Makes room for a batch that comes next, in a new segment where this one is full. Answers with how many bytes before it are not
    /// synced.
    fn make_room(&mut self, header: &BatchHeader) -> Result<u64, BrokerError> {
        let size = header.size_bytes as u64;
        if header.size_bytes > self.settings.max_batch_size_bytes {
            return Err(BrokerError::BatchTooLarge {
                topic: self.id.topic.to_string(),
                partition: self.id.partition,
                size_bytes: header.size_bytes,
                limit_bytes: self.settings.max_batch_size_bytes,
            });
        }
        let last_offset = self.next_offset + i64::from(header.last_offset_delta);
        let full = self.active.written + size > self.settings.segment_size_bytes
            || last_offset - self.active_segment().base_offset > i64::from(i32::MAX);
        if self.active.written > 0 && full {
            self.roll()?;
        }
        self.reserve(size)?;
        Ok(self.active.written - self.active.synced)
    }

    /// Writes the batch for which room was made; its bytes may come in several parts.
    fn put(&mut self, header: &BatchHeader, parts: &[&[u8]], now_ms: i64) -> Result<(), BrokerError> {
        let size = header.size_bytes as u64;
        let position = self.active.written;
        let mut at = position;
        for part in parts {
            if let Err(error) = self.active_body()?.file.write_all_at(part, at) {
                return Err(self.undo_write(&error, size));
            }
            at += part.len() as u64;
        }
        self.active_body()?.index.write().add(header, position);
        self.active.written += size;
        self.active.since_ms.get_or_insert(now_ms);
        self.written_bytes += size;
        self.next_offset = header.next_offset();
        Ok(())
    }

    /// Makes sure that the disk has room for `size` more bytes, before any is written.
    fn reserve(&mut self, size: u64) -> Result<(), BrokerError> {
        let needed = self.active.written + size;
        if needed <= self.active.allocated {
            return Ok(());
        }
        let step = self.active.allocated.clamp(MIN_STEP_BYTES, MAX_STEP_BYTES);
        let ahead = (self.active.allocated + step).min(self.settings.segment_size_bytes).max(needed);
        let file = Arc::clone(&self.active_body()?.file);
        let mut reserved = ahead;
        let mut result = file.allocate(ahead);
        if result.as_ref().is_err_and(is_disk_full) && ahead > needed {
            reserved = needed;
            result = file.allocate(needed);
        }
        match result {
            Ok(()) => {
                self.active.allocated = reserved;
                Ok(())
            }
            Err(error) => Err(self.undo_write(&error, size)),
        }
    }

    /// Takes a failed write back, so that nothing half written remains. If that fails too, the partition stops.
    fn undo_write(&mut self, error: &std::io::Error, size: u64) -> BrokerError {
        let path = self.active_segment().paths.log.clone();
        // Synced, or a power loss could bring back whole what was refused here.
        let cut = |body: &ActiveBody| body.file.set_len(self.active.written).and_then(|()| body.file.sync_data());
        let undone = self.active_body().map(cut);
        self.active.allocated = self.active.written;
        match undone {
            Ok(Ok(())) if is_disk_full(error) => BrokerError::DiskFull { path, needed_bytes: size },
            Ok(Ok(())) => self.stop(format!("a write to {} failed: {error}", path.display())),
            Ok(Err(undo)) => {
                self.stop(format!("a write to {} failed ({error}) and cannot be undone: {undo}", path.display()))
            }
            Err(error) => error,
        }
    }

    /// Makes everything written durable, and shows it to readers.
    pub fn sync(&mut self) -> Result<(), BrokerError> {
        self.check_running()?;
        if !self.is_dirty() {
            return Ok(());
        }
        let body = self.active_body()?;
        if let Err(error) = body.file.sync_data() {
            let path = self.active_segment().paths.log.clone();
            return Err(self.stop(format!("the sync of {} failed: {error}", path.display())));
        }
        self.active.synced = self.active.written;
        let body = self.active_body()?;
        body.readable_bytes.store(self.active.synced, Ordering::Release);
        let aborted = self.state.producers.take_unpublished();
        self.view.publish_ends(self.next_offset, self.state.producers.first_unstable(), &aborted);
        Ok(())
    }

    /// A file that stays behind is swept by the next open, so failing to remove it is no reason to stop.
    fn remove(&self, path: &Path) {
        match self.fs.remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a file of the log; the next start tries again")
            }
        }
    }

    fn active_segment(&self) -> &Arc<Segment> {
        // Never empty: recovery creates a segment where there is none, and retention keeps the last.
        &self.segments[self.segments.len() - 1]
    }

    fn active_body(&self) -> Result<&ActiveBody, BrokerError> {
        match &self.active_segment().body {
            Body::Active(body) => Ok(body),
            Body::Closed(_) => Err(self.stopped_error("its last segment is closed")),
        }
    }

    fn check_running(&self) -> Result<(), BrokerError> {
        self.stopped.as_ref().map_or(Ok(()), |reason| Err(self.stopped_error(reason)))
    }

    fn stop(&mut self, reason: String) -> BrokerError {
        tracing::error!(partition = %self.id, reason, "partition stops taking writes");
        metrics::counter!("highwater_broker_partitions_stopped_total", &self.id.labels()).increment(1);
        let error = self.stopped_error(&reason);
        self.view.publish_stopped(&reason);
        self.stopped = Some(reason);
        error
    }

    fn stop_unless_full(&mut self, error: BrokerError) -> BrokerError {
        if error.is_retryable() { error } else { self.stop(error.to_string()) }
    }

    fn stopped_error(&self, reason: &str) -> BrokerError {
        BrokerError::Stopped { what: self.id.to_string(), reason: reason.to_owned() }
    }

    fn invalid(&self, reason: String) -> BrokerError {
        BrokerError::InvalidRequest { topic: self.id.topic.to_string(), partition: self.id.partition, reason }
    }
}

fn fenced(guard: &Guard, current: i32) -> BrokerError {
    match guard {
        Guard::Effects { task, epoch, .. } => BrokerError::Fenced { task: task.to_string(), epoch: *epoch, current },
        Guard::None | Guard::Idempotency { .. } => BrokerError::Fenced { task: String::new(), epoch: 0, current },
    }
}
