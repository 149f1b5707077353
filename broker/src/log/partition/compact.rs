//! The writer's part in compaction: saying when and how far, putting new segments in their place, and noting how far it came.

use std::sync::Arc;

use super::super::compaction::{Compacted, Compaction, Damage, NewSegment, Progress, Replacement, Situation, discard};
use super::super::cursor::{BatchCursor, Bounds, Step};
use super::super::segment::{Body, Segment, offset_of};
use super::PartitionLog;
use crate::batch::HEADER_SIZE_BYTES;
use crate::error::BrokerError;
use crate::topic::PartitionOffsets;

/// Snapshots of what the partition remembers that must not lie behind anything that is replaced: with one of them damaged the other
/// still needs none of it.
const WANTED_SNAPSHOTS: usize = 2;

impl PartitionLog {
    /// Closes the segment being written where its time is up.
    pub fn roll_if_due(&mut self, now_ms: i64) -> Result<(), BrokerError> {
        self.check_running()?;
        let max_lag_ms = self.settings.compaction.and_then(|compaction| compaction.max_lag_ms);
        let longest_ms = [self.settings.segment_ms, max_lag_ms].into_iter().flatten().min();
        let (Some(longest_ms), Some(since_ms)) = (longest_ms, self.active.since_ms) else { return Ok(()) };
        if self.active.written > 0 && now_ms.saturating_sub(since_ms) >= longest_ms { self.roll() } else { Ok(()) }
    }

    /// A pass over the log, where it is time for one, or where one went only part of the way (`resume`). `hold_back` is an offset that must not be
    /// passed.
    pub fn begin_compaction(
        &mut self,
        hold_back: Option<i64>,
        resume: bool,
        now_ms: i64,
    ) -> Result<Option<Compaction>, BrokerError> {
        self.check_running()?;
        let Some(settings) = self.settings.compaction else { return Ok(None) };
        let progress = self.progress()?;
        let PartitionOffsets { log_start, .. } = self.view.offsets();
        let unstable = self.state.producers.first_unstable().unwrap_or(i64::MAX);
        let summaries = self.view.segments();
        let mut situation = Situation {
            segments: &summaries,
            log_start,
            progress,
            limit: unstable.min(hold_back.unwrap_or(i64::MAX)),
            oldest_dirty_ms: None,
            now_ms,
        };
        if settings.max_lag_ms.is_some() {
            situation.oldest_dirty_ms = self.oldest_since(progress.clean_until)?;
        }
        let plan = if resume { situation.possible(&settings) } else { situation.plan(&settings) };
        let Some(plan) = plan else { return Ok(None) };
        let count = summaries.iter().take_while(|s| s.next_offset <= plan.until).count();
        let ends = summaries.iter().map(|s| s.next_offset);
        let segments: Vec<_> = self.segments.iter().cloned().zip(ends).take(count).collect();
        let known = self.view.damaged();
        let is_damaged = |segment: &Arc<Segment>| known.iter().any(|damage| damage.segment == segment.paths.log);
        Ok(Some(Compaction {
            id: self.id.clone(),
            fs: Arc::clone(&self.fs),
            dir: self.dir.clone(),
            damaged: segments.iter().map(|(segment, _)| is_damaged(segment)).collect(),
            segments,
            summaries: summaries[..count].to_vec(),
            plan,
            aborted: Arc::new(self.state.producers.aborted().clone()),
            settings,
            segment_size_bytes: self.settings.segment_size_bytes,
            max_unpacked_size_bytes: self.settings.max_decompressed_size_bytes,
            now_ms,
        }))
    }

    /// Puts a new segment in the place of those it was made from, durably. Refused, and nothing changed, where they are not all there any
    /// more.
    pub fn replace_segments(&mut self, new: NewSegment) -> Result<(), BrokerError> {
        let NewSegment(replacement) = new;
        let at = self.segments.iter().position(|s| replacement.old.first().is_some_and(|old| Arc::ptr_eq(s, old)));
        let count = replacement.old.len();
        let found = at.filter(|at| {
            let there = self.segments[*at..].iter().take(count);
            there.len() == count && there.zip(&replacement.old).all(|(a, b)| Arc::ptr_eq(a, b))
        });
        let result = match found {
            Some(at) => self.check_running().and_then(|()| self.put_in_place(at, &replacement)),
            // Retention was faster.
            None => Err(BrokerError::Closed),
        };
        if result.is_err() && self.stopped.is_none() {
            discard(self.fs.as_ref(), &replacement.paths);
        }
        result
    }

    fn put_in_place(&mut self, at: usize, replacement: &Replacement) -> Result<(), BrokerError> {
        let Replacement { old, paths, index, aborted_markers } = replacement;
        let summary = index.summary();
        self.sync()?;
        self.keep_state_above(summary.next_offset)?;
        let renamed = self.fs.rename(&Replacement::temporary(paths), &paths.log);
        renamed.map_err(|e| BrokerError::io("rename to", &paths.log, &e))?;
        if let Err(error) = self.fs.sync_dir(&self.dir) {
            return Err(self.stop(format!("the sync of {} failed: {error}", self.dir.display())));
        }
        let segment = Arc::new(Segment::closed(paths.clone(), summary));
        self.segments.splice(at..at + old.len(), [segment]);
        self.view.publish_segments(self.segments.clone());
        if !aborted_markers.is_empty() {
            self.state.producers.forget_aborted(aborted_markers);
            self.view.forget_aborted(aborted_markers);
        }
        for segment in old {
            self.remove(&segment.paths.log);
            self.remove(&segment.paths.index);
        }
        Ok(())
    }

    /// Sees to it that what the partition remembers can be rebuilt without anything below this offset.
    fn keep_state_above(&self, offset: i64) -> Result<(), BrokerError> {
        let entries = self.fs.read_dir(&self.dir).map_err(|e| BrokerError::io("list", &self.dir, &e))?;
        let above: Vec<i64> =
            entries.iter().filter_map(|e| offset_of(&e.name, ".state")).filter(|at| *at >= offset).collect();
        if above.len() >= WANTED_SNAPSHOTS || above.contains(&self.next_offset) {
            return Ok(());
        }
        self.write_snapshot()
    }

    /// Notes how far a pass came.
    pub fn finish_compaction(&mut self, done: &Compacted) -> Result<(), BrokerError> {
        self.check_running()?;
        let progress = Progress { clean_until: done.until, next_horizon_ms: done.next_horizon_ms };
        progress.write(self.fs.as_ref(), &self.dir)?;
        self.progress = Some(progress);
        Ok(())
    }

    /// Takes note of damage that a pass came upon.
    pub fn note_damage(&self, damage: &Damage) {
        self.view.report(&damage.segment, damage.range, damage.reason);
    }

    fn progress(&mut self) -> Result<Progress, BrokerError> {
        let progress = match self.progress {
            Some(progress) => progress,
            None => Progress::read(self.fs.as_ref(), &self.dir)?,
        };
        self.progress = Some(progress);
        Ok(progress)
    }

    /// Time of the first batch of the closed segment that holds `offset`, or of the next one.
    fn oldest_since(&self, offset: i64) -> Result<Option<i64>, BrokerError> {
        let ends = self.segments.iter().skip(1).map(|s| s.base_offset);
        let first = self.segments.iter().zip(ends).find(|(_, end)| *end > offset);
        let Some((segment, end_offset)) = first.filter(|(s, _)| matches!(s.body, Body::Closed(_))) else {
            return Ok(None);
        };
        first_time(self, segment, end_offset)
    }
}

fn first_time(log: &PartitionLog, segment: &Segment, end_offset: i64) -> Result<Option<i64>, BrokerError> {
    let file = segment.open(log.fs.as_ref())?;
    let bounds = Bounds {
        position: 0,
        end: segment.readable_bytes(),
        expected_offset: segment.base_offset,
        max_offset: end_offset,
    };
    let mut cursor = BatchCursor::new(file.as_ref(), bounds, HEADER_SIZE_BYTES);
    loop {
        match cursor.step().map_err(|e| BrokerError::io("read", &segment.paths.log, &e))? {
            Step::Batch(batch) if batch.header.hole().is_some() => {}
            Step::Batch(batch) => return Ok(Some(batch.header.max_timestamp_ms)),
            Step::Bad(_) => {}
            Step::End { .. } => return Ok(None),
        }
    }
}
