//! Finding records by their time. Times need not ascend with offsets, so "the first record at or after" is found by a walk from
//! where the index says that everything before is older.

use super::{PartitionView, bounds};
use crate::batch::decode_records;
use crate::error::BrokerError;
use crate::log::cursor::{BatchCursor, Step};
use crate::log::segment::Segment;
use crate::raw::TimeQuery;
use crate::topic::PartitionOffsets;

/// Bytes looked at in one go while searching for a time.
const SEARCH_CHUNK_SIZE_BYTES: usize = 256 << 10;

impl PartitionView {
    /// The offset and timestamp of the record that is asked for, below the high watermark; `None` where there is none.
    pub fn timestamp_lookup(&self, query: TimeQuery) -> Result<Option<(i64, i64)>, BrokerError> {
        match query {
            TimeQuery::At(timestamp_ms) => self.first_at(timestamp_ms),
            TimeQuery::Latest => self.latest(),
        }
    }

    fn first_at(&self, timestamp_ms: i64) -> Result<Option<(i64, i64)>, BrokerError> {
        let PartitionOffsets { log_start, high_watermark } = self.offsets();
        self.on_segments(|segments| {
            for (i, segment) in segments.iter().enumerate() {
                let end = segments.get(i + 1).map_or(high_watermark, |s| s.base_offset.min(high_watermark));
                if end <= log_start || segment.max_timestamp_ms() < timestamp_ms {
                    continue;
                }
                let found = self.search(segment, end, log_start, Some(timestamp_ms))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }

    fn latest(&self) -> Result<Option<(i64, i64)>, BrokerError> {
        let PartitionOffsets { log_start, high_watermark } = self.offsets();
        self.on_segments(|segments| {
            let mut best: Option<(i64, i64)> = None;
            // The newest first: mostly the others then have nothing newer, and are not looked into.
            for (i, segment) in segments.iter().enumerate().rev() {
                let end = segments.get(i + 1).map_or(high_watermark, |s| s.base_offset.min(high_watermark));
                if end <= log_start || best.is_some_and(|(_, known_ms)| segment.max_timestamp_ms() < known_ms) {
                    continue;
                }
                // Mostly it is where the index says; not where that is below the log start, or not yet readable.
                let found = match self.search(segment, end, log_start, Some(segment.max_timestamp_ms()))? {
                    None => self.search(segment, end, log_start, None)?,
                    found => found,
                };
                // Of the same time, the earlier segment's.
                best = match (best, found) {
                    (Some(known), Some(found)) if found.1 < known.1 => Some(known),
                    (known, None) => known,
                    (_, found) => found,
                };
            }
            Ok(best)
        })
    }

    /// The first record of a segment, at `log_start` or above and below `end_offset`, whose time is at or after this one; without one, the
    /// first of those with the largest time.
    fn search(
        &self,
        segment: &Segment,
        end_offset: i64,
        log_start: i64,
        at_ms: Option<i64>,
    ) -> Result<Option<(i64, i64)>, BrokerError> {
        let file = segment.open(self.fs.as_ref())?;
        let mut wanted_ms = at_ms.unwrap_or(i64::MIN);
        let start = self.start(segment, |index| index.before_time(wanted_ms))?;
        let mut cursor = BatchCursor::new(file.as_ref(), bounds(segment, start, end_offset), SEARCH_CHUNK_SIZE_BYTES);
        let mut best: Option<(i64, i64)> = None;
        while cursor.expected_offset() < end_offset {
            let batch = match cursor.step().map_err(|e| BrokerError::io("read", &segment.paths.log, &e))? {
                Step::Batch(batch) => batch,
                Step::Bad(_) => continue,
                Step::End { .. } => break,
            };
            let header = &batch.header;
            if header.max_timestamp_ms < wanted_ms || header.next_offset() <= log_start {
                continue;
            }
            let is_whole = header.record_count == header.last_offset_delta + 1;
            let found = if header.is_log_append_time() && is_whole {
                Some((header.base_offset.max(log_start), header.max_timestamp_ms))
            } else {
                let mut records = Vec::new();
                let limit = self.max_decompressed_size_bytes;
                // A batch that does not decode is reported by the reads that pass it.
                drop(decode_records(header, &batch.bytes, log_start, limit, &mut records));
                let times = records.iter().map(|r| (r.offset, r.timestamp_ms)).filter(|(_, ms)| *ms >= wanted_ms);
                match at_ms {
                    Some(_) => times.into_iter().next(),
                    None => times.reduce(|best, next| if next.1 > best.1 { next } else { best }),
                }
            };
            if let Some((offset, timestamp_ms)) = found {
                best = Some((offset, timestamp_ms));
                if at_ms.is_some() {
                    break;
                }
                wanted_ms = timestamp_ms.saturating_add(1);
            }
        }
        Ok(best)
    }
}
