//! Moving the log start: on request and for retention. Durable first, then the files go.

use std::sync::Arc;

use super::super::retention::{self, Retained, RetentionLimits};
use super::super::segment::Segment;
use super::PartitionLog;
use crate::error::BrokerError;
use crate::topic::PartitionOffsets;

impl PartitionLog {
    /// Moves the log start up to `offset` (at most to the high watermark), durably, then frees the segments wholly below it.
    /// Answers with the log start.
    pub fn advance_log_start(&mut self, offset: i64) -> Result<i64, BrokerError> {
        self.check_running()?;
        let PartitionOffsets { log_start, high_watermark } = self.view.offsets();
        let target = offset.min(high_watermark);
        if target <= log_start {
            return Ok(log_start);
        }
        self.write_checkpoint(target, false)?;
        self.state.producers.forget_below(target);
        self.view.publish_log_start(target);
        let keep = self.segments.partition_point(|s| s.base_offset <= target).saturating_sub(1);
        if keep > 0 {
            let removed: Vec<Arc<Segment>> = self.segments.drain(..keep).collect();
            self.view.publish_segments(self.segments.clone());
            for segment in removed {
                self.remove(&segment.paths.log);
                self.remove(&segment.paths.index);
            }
            if let Err(error) = self.fs.sync_dir(&self.dir) {
                return Err(self.stop(format!("the sync of {} failed: {error}", self.dir.display())));
            }
        }
        Ok(target)
    }

    /// Closes the segment being written where its time is up, and frees what these limits no longer keep.
    pub fn apply_retention(&mut self, limits: &RetentionLimits, now_ms: i64) -> Result<Retained, BrokerError> {
        self.roll_if_due(now_ms)?;
        self.state.producers.expire(now_ms);
        let mut plan = retention::plan(&self.view.segments(), limits, now_ms);
        if plan.roll_active {
            self.roll()?;
            plan = retention::plan(&self.view.segments(), limits, now_ms);
        }
        let before: u64 = self.view.segments().iter().map(|s| s.size_bytes).sum();
        if let Some(log_start) = plan.log_start {
            self.advance_log_start(log_start)?;
        }
        let after: u64 = self.view.segments().iter().map(|s| s.size_bytes).sum();
        Ok(Retained { freed_bytes: before - after, held_back: plan.held_back })
    }
}
