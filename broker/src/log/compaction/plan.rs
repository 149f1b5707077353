//! When a partition is compacted, and how far. Pure: segments, progress, bounds and time in, a plan out.

use super::progress::Progress;
use crate::log::{CompactionSettings, SegmentSummary};

const WHOLE_PPM: u128 = 1_000_000;

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct Situation<'a> {
    /// Oldest first, the one being written included.
    pub(in crate::log) segments: &'a [SegmentSummary],
    pub(in crate::log) log_start: i64,
    pub(in crate::log) progress: Progress,
    /// Nothing from here on may be touched: transactions are open, or a reader that must not miss anything stands there.
    pub(in crate::log) limit: i64,
    /// Time of the first record that was not compacted yet, Unix milliseconds, where it is known.
    pub(in crate::log) oldest_dirty_ms: Option<i64>,
    pub(in crate::log) now_ms: i64,
}

/// What is to be compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct Plan {
    /// Records from here on are new.
    pub(in crate::log) dirty_from: i64,
    /// One past the last offset that may be compacted: the end of a closed segment.
    pub(in crate::log) until: i64,
}

impl Situation<'_> {
    /// The plan, where it is time.
    pub(in crate::log) fn plan(&self, settings: &CompactionSettings) -> Option<Plan> {
        let plan = self.possible(settings)?;
        let has_new = plan.dirty_from < plan.until;
        let waited_ms = self.oldest_dirty_ms.map(|oldest| self.now_ms.saturating_sub(oldest));
        let too_long = settings.max_lag_ms.zip(waited_ms).is_some_and(|(max, waited)| waited > max);
        let horizon_passed = self.progress.next_horizon_ms <= self.now_ms;
        let due = horizon_passed || has_new && (too_long || self.is_dirty_enough(&plan, settings));
        due.then_some(plan)
    }

    /// The plan if it were time.
    pub(in crate::log) fn possible(&self, settings: &CompactionSettings) -> Option<Plan> {
        let young_ms = self.now_ms.saturating_sub(settings.min_lag_ms);
        let may = |s: &&SegmentSummary| {
            let is_clean = s.next_offset <= self.progress.clean_until;
            let is_old_enough = settings.min_lag_ms == 0 || s.max_timestamp_ms <= young_ms;
            s.closed && s.next_offset <= self.limit && (is_clean || is_old_enough)
        };
        let until = self.segments.iter().take_while(may).last()?.next_offset;
        let dirty_from = self.progress.clean_until.max(self.log_start).min(until);
        Some(Plan { dirty_from, until })
    }

    fn is_dirty_enough(&self, plan: &Plan, settings: &CompactionSettings) -> bool {
        let size_bytes = |dirty_only: bool| {
            let segments = self.segments.iter().filter(|s| s.next_offset <= plan.until);
            let counted = segments.filter(|s| !dirty_only || s.next_offset > plan.dirty_from);
            counted.map(|s| u128::from(s.size_bytes)).sum::<u128>()
        };
        size_bytes(true) * WHOLE_PPM > size_bytes(false) * u128::from(settings.min_dirty_ratio_ppm)
    }
}

/// Segments that become one together: neighbours, up to this size and a range of offsets that an index can hold. One that is damaged is
/// left as it is, for people to look at.
pub(in crate::log) fn groups(
    segments: &[SegmentSummary],
    damaged: &[bool],
    max_size_bytes: u64,
) -> Vec<std::ops::Range<usize>> {
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    let mut size_bytes = 0;
    for (i, segment) in segments.iter().enumerate() {
        let joins = groups.last().is_some_and(|group| {
            let base = segments[group.start].base_offset;
            let near = segment.next_offset - base <= i64::from(i32::MAX);
            !damaged[i] && !damaged[i - 1] && near && size_bytes + segment.size_bytes <= max_size_bytes
        });
        match groups.last_mut().filter(|_| joins) {
            Some(group) => {
                group.end = i + 1;
                size_bytes += segment.size_bytes;
            }
            None => {
                groups.push(i..i + 1);
                size_bytes = segment.size_bytes;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::super::progress::NEVER_MS;
    use super::*;

    const HALF: CompactionSettings = CompactionSettings {
        delete_retention_ms: 1000,
        min_dirty_ratio_ppm: 500_000,
        min_lag_ms: 0,
        max_lag_ms: None,
        max_keys: 100,
    };

    fn segment(i: i64, closed: bool) -> SegmentSummary {
        let (base_offset, max_timestamp_ms) = (i * 10, i * 1000 + 999);
        SegmentSummary { base_offset, next_offset: base_offset + 10, size_bytes: 100, max_timestamp_ms, closed }
    }

    fn four() -> Vec<SegmentSummary> {
        vec![segment(0, true), segment(1, true), segment(2, true), segment(3, false)]
    }

    fn situation(segments: &[SegmentSummary], clean_until: i64) -> Situation<'_> {
        let progress = Progress { clean_until, next_horizon_ms: NEVER_MS };
        Situation { segments, log_start: 0, progress, limit: i64::MAX, oldest_dirty_ms: None, now_ms: 10_000 }
    }

    #[test]
    fn it_is_time_once_more_than_the_share_is_new_and_only_closed_segments_count() {
        let segments = four();
        let plan = |clean_until| situation(&segments, clean_until).plan(&HALF);
        assert_eq!(plan(0), Some(Plan { dirty_from: 0, until: 30 }));
        assert_eq!(plan(10), Some(Plan { dirty_from: 10, until: 30 }));
        assert_eq!(plan(20), None, "a third is new");
        assert_eq!(plan(30), None);
        let third = CompactionSettings { min_dirty_ratio_ppm: 333_333, ..HALF };
        assert_eq!(situation(&segments, 20).plan(&third), Some(Plan { dirty_from: 20, until: 30 }));
        let exactly = CompactionSettings { min_dirty_ratio_ppm: 0, ..HALF };
        assert_eq!(situation(&segments, 30).plan(&exactly), None, "nothing is new");
    }

    #[test]
    fn what_may_not_be_touched_ends_the_plan_at_the_segment_before() {
        let segments = four();
        let at = |limit| Situation { limit, ..situation(&segments, 0) }.plan(&HALF).map(|plan| plan.until);
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(10));
        assert_eq!(at(29), Some(20));
        assert_eq!(at(30), Some(30));
    }

    #[test]
    fn young_records_are_left_alone_and_old_ones_do_not_wait_for_ever() {
        let segments = four();
        let young = CompactionSettings { min_lag_ms: 8_001, ..HALF };
        assert_eq!(situation(&segments, 0).plan(&young), Some(Plan { dirty_from: 0, until: 20 }));
        let slow = CompactionSettings { max_lag_ms: Some(5_000), min_dirty_ratio_ppm: 1_000_000, ..HALF };
        let waiting = |oldest| Situation { oldest_dirty_ms: Some(oldest), ..situation(&segments, 20) }.plan(&slow);
        assert_eq!(waiting(5_000), None);
        assert_eq!(waiting(4_999), Some(Plan { dirty_from: 20, until: 30 }));
    }

    #[test]
    fn a_tombstone_whose_time_has_come_is_reason_enough() {
        let segments = four();
        let with = |next_horizon_ms| {
            let progress = Progress { clean_until: 30, next_horizon_ms };
            Situation { progress, ..situation(&segments, 30) }.plan(&HALF)
        };
        assert_eq!(with(10_001), None);
        assert_eq!(with(10_000), Some(Plan { dirty_from: 30, until: 30 }));
    }

    #[test]
    fn neighbours_become_one_up_to_a_size_and_damaged_ones_stay_alone() {
        let segments = &four()[..3];
        assert_eq!(groups(segments, &[false; 3], 200), vec![0..2, 2..3]);
        assert_eq!(groups(segments, &[false; 3], 300), vec![0..3]);
        assert_eq!(groups(segments, &[false; 3], 10), vec![0..1, 1..2, 2..3]);
        assert_eq!(groups(segments, &[false, true, false], 300), vec![0..1, 1..2, 2..3]);
        let far = SegmentSummary { base_offset: 20, next_offset: i64::from(i32::MAX) + 1, ..segment(2, true) };
        assert_eq!(groups(&[segment(0, true), segment(1, true), far], &[false; 3], 300), vec![0..2, 2..3]);
    }
}
