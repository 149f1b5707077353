//! A set of windows, kept as spans of event time: windows follow each other, so a year of them is one span.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most spans that are kept. Beyond, the smallest gaps are taken in.
const MAX_SPANS: usize = 100_000;

/// Spans of event time, by their start: `[start, end)` in Unix microseconds, neither touching nor overlapping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(i64, i64)>", into = "Vec<(i64, i64)>")]
pub(super) struct Spans(BTreeMap<i64, i64>);

impl Spans {
    /// Whether any of `[start, end)` is in it.
    pub(super) fn overlaps(&self, start_us: i64, end_us: i64) -> bool {
        self.0.range(..end_us).next_back().is_some_and(|(_, &end)| start_us < end)
    }

    /// The earliest instant in it.
    pub(super) fn first_us(&self) -> Option<i64> {
        self.0.first_key_value().map(|(&start_us, _)| start_us)
    }

    /// Takes out everything before this instant.
    pub(super) fn take_before(&mut self, until_us: i64) -> Self {
        let mut taken = Self(std::mem::take(&mut self.0));
        self.0 = taken.0.split_off(&until_us);
        if let Some(mut last) = taken.0.last_entry()
            && *last.get() > until_us
        {
            self.0.insert(until_us, std::mem::replace(last.get_mut(), until_us));
        }
        taken
    }

    /// Adds `[start, end)`. True where there were too many spans, and the smaller gaps between them now count as filled.
    pub(super) fn insert(&mut self, start_us: i64, end_us: i64) -> bool {
        self.insert_within(start_us, end_us, MAX_SPANS)
    }

    fn insert_within(&mut self, mut start_us: i64, mut end_us: i64, limit: usize) -> bool {
        if let Some((&start, &end)) = self.0.range(..=start_us).next_back()
            && end >= start_us
        {
            (start_us, end_us) = (start, end_us.max(end));
        }
        while let Some((&start, &end)) = self.0.range(start_us..=end_us).next() {
            self.0.remove(&start);
            end_us = end_us.max(end);
        }
        self.0.insert(start_us, end_us);
        let full = self.0.len() > limit;
        if full {
            self.fill_smaller_gaps();
        }
        full
    }

    /// Fills the gaps up to the median: half of them and more, so that this happens seldom.
    fn fill_smaller_gaps(&mut self) {
        let spans: Vec<(i64, i64)> = self.clone().into();
        let mut gaps: Vec<i64> = spans.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1)).collect();
        let middle = gaps.len() / 2;
        if gaps.is_empty() {
            return;
        }
        let limit = *gaps.select_nth_unstable(middle).1;
        let mut joined: Vec<(i64, i64)> = Vec::with_capacity(middle);
        for (start, end) in spans {
            match joined.last_mut() {
                Some(last) if start.saturating_sub(last.1) <= limit => last.1 = end,
                _ => joined.push((start, end)),
            }
        }
        *self = joined.into();
    }
}

impl From<Vec<(i64, i64)>> for Spans {
    fn from(spans: Vec<(i64, i64)>) -> Self {
        Self(spans.into_iter().collect())
    }
}

impl From<Spans> for Vec<(i64, i64)> {
    fn from(spans: Spans) -> Self {
        spans.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of: &[(i64, i64)]) -> Spans {
        let mut spans = Spans::default();
        for &(start, end) in of {
            assert!(!spans.insert(start, end));
        }
        spans
    }

    fn list(spans: Spans) -> Vec<(i64, i64)> {
        spans.into()
    }

    #[test]
    fn windows_that_touch_are_one_span_in_whatever_order_they_come() {
        assert_eq!(list(spans(&[(0, 10), (10, 20), (30, 40), (20, 30)])), [(0, 40)]);
        assert_eq!(list(spans(&[(30, 40), (0, 10), (20, 30)])), [(0, 10), (20, 40)]);
        assert_eq!(list(spans(&[(10, 20), (10, 20), (0, 50)])), [(0, 50)]);
        let some = spans(&[(0, 10), (20, 30)]);
        let inside: Vec<i64> = (-1..31).filter(|&at| some.overlaps(at, at + 1)).collect();
        assert_eq!(inside, (0..10).chain(20..30).collect::<Vec<_>>());
        assert!(some.overlaps(-5, 1) && some.overlaps(15, 21) && some.overlaps(-5, 50));
        assert!(!some.overlaps(-5, 0) && !some.overlaps(10, 20) && !some.overlaps(30, 40));
    }

    #[test]
    fn what_is_before_an_instant_can_be_taken_out() {
        let mut some = spans(&[(0, 10), (20, 30)]);
        assert_eq!((some.first_us(), list(some.take_before(5))), (Some(0), vec![(0, 5)]));
        assert_eq!((some.first_us(), list(some.take_before(20))), (Some(5), vec![(5, 10)]));
        assert_eq!((list(some.take_before(40)), some.first_us()), (vec![(20, 30)], None));
        assert_eq!(list(some), []);
    }

    #[test]
    fn too_many_spans_take_in_the_smaller_gaps() {
        let mut some = spans(&[(0, 1), (2, 3), (13, 14), (15, 16)]);
        assert!(some.insert_within(100, 101, 4));
        assert_eq!(list(some), [(0, 16), (100, 101)]);
    }

    #[test]
    fn goes_through_json() {
        let some = spans(&[(0, 10), (20, 30)]);
        let text = serde_json::to_string(&some).unwrap();
        assert_eq!(text, "[[0,10],[20,30]]");
        assert_eq!(serde_json::from_str::<Spans>(&text).unwrap(), some);
    }
}
