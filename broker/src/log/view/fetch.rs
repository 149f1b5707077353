//! Batches as they are, for Kafka clients. What is read from the file is what is handed out: one buffer, in which only the leader
//! epochs are set to 0.
//!
//! Each batch's CRC is checked on the way, as for every reader: a damaged range is passed over and reported, and the client goes on
//! behind it as it does where compaction left a hole.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{PartitionView, READ_SLACK_BYTES, bounds};
use crate::batch::set_leader_epoch;
use crate::error::BrokerError;
use crate::log::cursor::{BadRange, BatchCursor, Step};
use crate::log::segment::Segment;
use crate::raw::{FetchedBatches, Isolation, PartitionEnds};

/// Batches of one segment.
struct Run {
    batches: Bytes,
    next_offset: i64,
    /// Ranges of offsets among them of which compaction has left nothing.
    holes: Vec<Range<i64>>,
}

impl PartitionView {
    /// Batches from the one that holds `offset` on: at least one if there is one that may be seen, and no further one that would make
    /// them more than `max_size_bytes`. They come from one segment, so there may be fewer than would fit.
    pub fn fetch(
        &self,
        offset: i64,
        max_size_bytes: usize,
        isolation: Isolation,
    ) -> Result<FetchedBatches, BrokerError> {
        let ends = self.ends();
        let PartitionEnds { log_start, last_stable_offset, high_watermark } = ends;
        if offset < log_start || offset > high_watermark {
            return Err(self.out_of_range(offset));
        }
        let stop = match isolation {
            Isolation::ReadUncommitted => high_watermark,
            Isolation::ReadCommitted => last_stable_offset,
        };
        // Before the segments: what compaction then takes from both is missing from the batches only, and left out below.
        let aborted = Arc::clone(&self.aborted.read());
        self.on_segments(|segments| {
            let mut fetched = FetchedBatches { batches: Bytes::new(), ends, aborted: Vec::new() };
            if let Some(run) = self.first_run(segments, offset, stop, high_watermark, max_size_bytes)? {
                if isolation == Isolation::ReadCommitted {
                    fetched.aborted = aborted.among(offset, run.next_offset, &run.holes);
                }
                fetched.batches = run.batches;
            }
            Ok(fetched)
        })
    }

    /// The batches of the first segment that has some.
    fn first_run(
        &self,
        segments: &[Arc<Segment>],
        offset: i64,
        stop: i64,
        high_watermark: i64,
        max_size_bytes: usize,
    ) -> Result<Option<Run>, BrokerError> {
        let first = segments.partition_point(|s| s.base_offset <= offset).saturating_sub(1);
        if segments.get(first).is_some_and(|segment| segment.base_offset > offset) {
            // Retention took it between the two looks.
            return Err(self.out_of_range(offset));
        }
        for (i, segment) in segments.iter().enumerate().skip(first) {
            let from = offset.max(segment.base_offset);
            if from >= stop {
                break;
            }
            let end_offset = segments.get(i + 1).map_or(high_watermark, |s| s.base_offset.min(high_watermark));
            match self.fetch_segment(segment, from, end_offset, stop, max_size_bytes) {
                Ok(Some(run)) => return Ok(Some(run)),
                // Nothing valid is there any more.
                Ok(None) => {}
                // Retention may have taken the segment away meanwhile; then the answer is that the offset is gone.
                Err(_) if offset < self.offsets().log_start => return Err(self.out_of_range(offset)),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The batches of a segment that hold `from` and what follows, none of which reaches past `stop`.
    fn fetch_segment(
        &self,
        segment: &Segment,
        from: i64,
        end_offset: i64,
        stop: i64,
        max_size_bytes: usize,
    ) -> Result<Option<Run>, BrokerError> {
        let io = |e: std::io::Error| BrokerError::io("read", &segment.paths.log, &e);
        let file = segment.open(self.fs.as_ref())?;
        let start = self.start(segment, |index| index.before_offset(from))?;
        let bounds = bounds(segment, start, end_offset);
        let mut chunk_size = max_size_bytes.saturating_add(READ_SLACK_BYTES);
        if stop < end_offset {
            // What may not be seen is not read, or it would be held in memory along with what is handed out.
            let last = self.start(segment, |index| index.before_offset(stop))?;
            let wanted = last.position.saturating_sub(start.position) as usize;
            chunk_size = chunk_size.min(wanted.saturating_add(READ_SLACK_BYTES));
        }
        let mut cursor = BatchCursor::new(file.as_ref(), bounds, chunk_size);
        let first = loop {
            if cursor.expected_offset() >= end_offset {
                return Ok(None);
            }
            match cursor.step().map_err(io)? {
                Step::Batch(batch) if batch.header.next_offset() <= from => {}
                Step::Batch(batch) => break batch,
                Step::Bad(range) => self.report(segment, range, "no valid batch is there"),
                Step::End { position, .. } => {
                    let (end_position, from_offset) = (bounds.end, cursor.expected_offset());
                    let range = BadRange { position, end_position, from_offset, to_offset: end_offset };
                    self.report(segment, range, "the batches end early");
                    return Ok(None);
                }
            }
        };
        if first.header.next_offset() > stop {
            return Ok(None);
        }
        let begin = first.position;
        let mut positions = vec![begin];
        let mut holes = Vec::new();
        holes.extend(first.header.hole());
        let mut end = begin + first.header.size_bytes as u64;
        let mut next_offset = first.header.next_offset();
        // Its bytes share the buffer, which is to be ours alone again.
        drop(first);
        while let Some(batch) = cursor.step_in_memory().map_err(io)? {
            let batch_end = batch.position + batch.header.size_bytes as u64;
            if batch.header.next_offset() > stop || batch_end - begin > max_size_bytes as u64 {
                break;
            }
            positions.push(batch.position);
            holes.extend(batch.header.hole());
            (end, next_offset) = (batch_end, batch.header.next_offset());
        }
        let (chunk, chunk_at) = cursor.into_chunk();
        let mut chunk = BytesMut::from(chunk);
        for position in positions {
            if let Some(batch) = chunk.get_mut((position - chunk_at) as usize..) {
                set_leader_epoch(batch, 0);
            }
        }
        let batches = chunk.freeze().slice((begin - chunk_at) as usize..(end - chunk_at) as usize);
        Ok(Some(Run { batches, next_offset, holes }))
    }
}
