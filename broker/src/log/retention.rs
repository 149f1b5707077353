//! Which segments may go. Pure: segments, limits and time in, a plan out.

use super::{PartitionId, SegmentSummary};

/// The largest time in a segment in which no record has one.
const NO_TIMESTAMP: i64 = -1;

/// What bounds a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Segments whose newest record is older than this go, in milliseconds.
    pub retention_ms: Option<i64>,
    /// Oldest segments go while the partition is larger than this, in bytes.
    pub retention_bytes: Option<u64>,
    /// Nothing at or above this offset goes: a reader that must not miss anything stands there.
    pub hold_back: Option<i64>,
}

/// What retention did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Bytes of segments removed.
    pub freed_bytes: u64,
    /// True where something should have gone but was held back for a reader.
    pub held_back: bool,
}

/// What retention wants to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The log start to advance to.
    pub(super) log_start: Option<i64>,
    /// The segment being written has expired as well and must be closed before it can go.
    pub(super) roll_active: bool,
    pub(super) held_back: bool,
}

/// Plans retention for one partition; `segments` are oldest first.
pub(super) fn plan(segments: &[SegmentSummary], limits: &RetentionLimits, now_ms: i64) -> Plan {
    let mut plan = Plan::default();
    let mut size_bytes: u64 = segments.iter().map(|s| s.size_bytes).sum();
    for segment in segments {
        let empty = segment.next_offset == segment.base_offset;
        // Of records that their senders gave no time nobody knows how old they are: only size takes them.
        let has_time = segment.max_timestamp_ms != NO_TIMESTAMP;
        let too_old =
            has_time && limits.retention_ms.is_some_and(|ms| now_ms.saturating_sub(segment.max_timestamp_ms) > ms);
        let too_much = segment.closed && limits.retention_bytes.is_some_and(|bytes| size_bytes > bytes);
        if empty && !segment.closed || !too_old && !too_much {
            break;
        }
        if limits.hold_back.is_some_and(|offset| segment.next_offset > offset) {
            plan.held_back = true;
            break;
        }
        if !segment.closed {
            plan.roll_active = true;
            break;
        }
        plan.log_start = Some(segment.next_offset);
        size_bytes -= segment.size_bytes;
    }
    plan
}

/// Which log starts bring all partitions together under the disk limit: the closed segments with the oldest records go
/// first, whoever still wants to read them.
pub(crate) fn disk_limit_plan(
    partitions: &[(PartitionId, Vec<SegmentSummary>)],
    disk_limit_bytes: u64,
) -> Vec<(PartitionId, i64)> {
    let all = partitions.iter().flat_map(|(_, segments)| segments);
    let mut size_bytes: u64 = all.map(|s| s.size_bytes).sum();
    // Within a partition only a prefix can go, so each closed segment counts as old as the newest up to it.
    let mut candidates = Vec::new();
    for (id, segments) in partitions {
        let mut newest_ms = i64::MIN;
        for segment in segments.iter().filter(|s| s.closed) {
            newest_ms = newest_ms.max(segment.max_timestamp_ms);
            candidates.push((newest_ms, id, segment.next_offset, segment.size_bytes));
        }
    }
    candidates.sort();
    let mut plan: Vec<(PartitionId, i64)> = Vec::new();
    for (_, id, log_start, segment_bytes) in candidates {
        if size_bytes <= disk_limit_bytes {
            break;
        }
        size_bytes -= segment_bytes;
        match plan.iter_mut().find(|(known, _)| known == id) {
            Some((_, known)) => *known = log_start,
            None => plan.push((id.clone(), log_start)),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn segment(base_offset: i64, max_timestamp_ms: i64, closed: bool) -> SegmentSummary {
        SegmentSummary { base_offset, next_offset: base_offset + 10, size_bytes: 100, max_timestamp_ms, closed }
    }

    fn three() -> Vec<SegmentSummary> {
        vec![segment(0, 1_000, true), segment(10, 2_000, true), segment(20, 3_000, false)]
    }

    #[test]
    fn age_takes_the_old_segments_and_stops_at_the_first_young_one() {
        let limits = RetentionLimits { retention_ms: Some(500), ..Default::default() };
        assert_eq!(plan(&three(), &limits, 1_500), Plan::default());
        assert_eq!(plan(&three(), &limits, 1_501).log_start, Some(10));
        assert_eq!(plan(&three(), &limits, 3_500).log_start, Some(20));
        assert!(!plan(&three(), &limits, 3_500).roll_active);
        assert!(plan(&three(), &limits, 3_501).roll_active);
    }

    #[test]
    fn records_without_a_time_do_not_age() {
        let mut segments = three();
        segments[0].max_timestamp_ms = NO_TIMESTAMP;
        let limits = RetentionLimits { retention_ms: Some(500), ..Default::default() };
        assert_eq!(plan(&segments, &limits, 9_000), Plan::default());
        let limits = RetentionLimits { retention_bytes: Some(200), ..limits };
        assert!(plan(&segments, &limits, 9_000).roll_active, "size takes it, and age the rest");
    }

    #[test]
    fn size_takes_closed_segments_only() {
        let limits = |bytes| RetentionLimits { retention_bytes: Some(bytes), ..Default::default() };
        assert_eq!(plan(&three(), &limits(300), 0), Plan::default());
        assert_eq!(plan(&three(), &limits(299), 0).log_start, Some(10));
        assert_eq!(plan(&three(), &limits(0), 0), Plan { log_start: Some(20), ..Plan::default() });
    }

    #[test]
    fn a_reader_holds_back_what_it_has_not_passed() {
        let limits = |offset| RetentionLimits { retention_ms: Some(1), hold_back: Some(offset), ..Default::default() };
        assert_eq!(plan(&three(), &limits(9), 9_000), Plan { held_back: true, ..Plan::default() });
        let plan_at_10 = plan(&three(), &limits(10), 9_000);
        assert_eq!(plan_at_10, Plan { log_start: Some(10), held_back: true, roll_active: false });
        assert!(plan(&three(), &limits(30), 9_000).roll_active);
    }

    #[test]
    fn an_empty_log_is_left_alone() {
        let empty = SegmentSummary { next_offset: 0, size_bytes: 0, ..segment(0, i64::MIN, false) };
        let limits = RetentionLimits { retention_ms: Some(1), retention_bytes: Some(0), hold_back: None };
        assert_eq!(plan(&[empty], &limits, 9_000), Plan::default());
    }

    #[test]
    fn the_disk_limit_takes_the_oldest_across_partitions() {
        let id = |partition| PartitionId { topic: Arc::from("logs"), partition };
        let partitions = vec![
            (id(0), vec![segment(0, 1_000, true), segment(10, 5_000, true), segment(20, 9_000, false)]),
            (id(1), vec![segment(0, 2_000, true), segment(10, 3_000, true), segment(20, 9_000, false)]),
        ];
        assert_eq!(disk_limit_plan(&partitions, 600), vec![]);
        assert_eq!(disk_limit_plan(&partitions, 599), vec![(id(0), 10)]);
        assert_eq!(disk_limit_plan(&partitions, 350), vec![(id(0), 10), (id(1), 20)]);
        assert_eq!(disk_limit_plan(&partitions, 0), vec![(id(0), 20), (id(1), 20)]);
    }
}
