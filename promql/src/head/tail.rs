//! The newest samples of a series as they are, 16 bytes each: most come here, and rules look at them most.

use super::chunk::Point;
use super::grow::push;

/// Most samples.
pub(super) const FULL: usize = 8;

/// In time order.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    base_ms: i64,
    base_mark: i64,
    kept: Vec<Kept>,
}

/// As far from the bases.
#[derive(Debug, Clone, Copy)]
struct Kept {
    value: f64,
    time_ms: i32,
    mark: i32,
}

impl Tail {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Puts a sample at a place; false where it is too far from the others, or there is no room.
    pub(super) fn insert(&mut self, at: usize, point: Point) -> bool {
        if self.kept.is_empty() {
            (self.base_ms, self.base_mark) = (point.time_ms, point.mark);
        }
        let Some(kept) = self.pack(point).filter(|_| self.kept.len() < FULL) else { return false };
        if at == self.kept.len() {
            push(&mut self.kept, kept)
        } else {
            self.kept.insert(at, kept)
        }
        true
    }

    /// Puts another sample of its time at a place; false where it is too far from the others.
    pub(super) fn replace(&mut self, at: usize, point: Point) -> bool {
        let packed = self.pack(point);
        if let Some(kept) = packed {
            self.kept[at] = kept;
        }
        packed.is_some()
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.kept.remove(at);
    }

    fn pack(&self, point: Point) -> Option<Kept> {
        let time_ms = i32::try_from(point.time_ms.checked_sub(self.base_ms)?).ok()?;
        let mark = i32::try_from(point.mark.checked_sub(self.base_mark)?).ok()?;
        Some(Kept { value: point.value, time_ms, mark })
    }

    pub(super) fn time_ms(&self, at: usize) -> i64 {
        self.base_ms + i64::from(self.kept[at].time_ms)
    }

    pub(super) fn get(&self, at: usize) -> Point {
        let kept = self.kept[at];
        Point { time_ms: self.time_ms(at), value: kept.value, mark: self.base_mark + i64::from(kept.mark) }
    }

    /// The place behind the samples that are at most as late as this.
    pub(super) fn at_most(&self, most_ms: i64) -> usize {
        let most_ms = most_ms.saturating_sub(self.base_ms);
        self.kept.iter().rposition(|kept| i64::from(kept.time_ms) <= most_ms).map_or(0, |at| at + 1)
    }

    pub(super) fn points(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = Point> + '_ {
        places.map(|at| self.get(at))
    }

    /// Takes the first samples away.
    pub(super) fn drop_first(&mut self, count: usize) {
        self.kept.drain(..count);
    }

    /// Memory held beside the struct, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.kept.capacity() * size_of::<Kept>()
    }
}
