//! Decoded rows, kept until the table has passed them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;
use parking_lot::Mutex;

use super::{BATCH_ROWS, TailPartition};

/// Memory shared by the tails of all tables.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, used_bytes: AtomicUsize::new(0) }
    }

    /// Memory in use, bytes.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        let taken = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.report();
        taken
    }

    fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.report();
    }

    fn report(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("highwater_sql_tail_cache_bytes").set(self.used_bytes() as f64);
    }
}

/// All rows at offsets `[base_offset, next_offset)`.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base_offset: i64,
    pub(super) next_offset: i64,
    pub(super) batches: Vec<RecordBatch>,
    /// The markers among its records, in offset order.
    pub(super) markers: Vec<Marker>,
    rows: usize,
    size_bytes: usize,
}

/// At this offset a window of a rollup is closed again; see [`Superseded`](highwater_pipeline::tables::Superseded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) offset: i64,
    pub(super) window_start_us: i64,
}

impl Segment {
    pub(super) fn new(base_offset: i64, next_offset: i64, batches: Vec<RecordBatch>, markers: Vec<Marker>) -> Self {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let size_bytes = batches.iter().map(size_bytes).sum::<usize>() + markers.len() * size_of::<Marker>();
        Self { base_offset, next_offset, batches, markers, rows, size_bytes }
    }
}

/// What the rows of a batch take; buffers shared with other batches count by the part used.
fn size_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|c| c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_array_memory_size()))
        .sum()
}

/// Segments by partition and base offset. They may overlap, where two queries read at once.
#[derive(Debug)]
pub(super) struct TailCache {
    budget: Arc<Budget>,
    partitions: Mutex<HashMap<TailPartition, BTreeMap<i64, Arc<Segment>>>>,
}

impl TailCache {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, partitions: Mutex::default() }
    }

    /// A segment that holds this offset.
    pub(super) fn get(&self, partition: &TailPartition, offset: i64) -> Option<Arc<Segment>> {
        let partitions = self.partitions.lock();
        let (_, segment) = partitions.get(partition)?.range(..=offset).next_back()?;
        (segment.next_offset > offset).then(|| Arc::clone(segment))
    }

    /// Keeps a segment, where there is room, and gives it back. A small one is joined to the one before it, so that a query per second
    /// over a slow topic does not pile up tiny batches.
    pub(super) fn insert(
        &self,
        partition: &TailPartition,
        segment: Segment,
        join: impl FnOnce(Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ArrowError>,
    ) -> Arc<Segment> {
        let segment = Arc::new(segment);
        let mut partitions = self.partitions.lock();
        let segments = partitions.entry(partition.clone()).or_default();
        if segments.get(&segment.base_offset).is_some_and(|s| s.next_offset >= segment.next_offset) {
            return segment;
        }
        let before = segments.range(..segment.base_offset).next_back().map(|(_, s)| Arc::clone(s));
        let joined = before
            .filter(|b| b.next_offset == segment.base_offset && b.rows + segment.rows <= BATCH_ROWS)
            .and_then(|b| {
                let parts = b.batches.iter().chain(&segment.batches).cloned().collect();
                let markers = b.markers.iter().chain(&segment.markers).copied().collect();
                // Where they do not join, they stay apart.
                join(parts)
                    .ok()
                    .map(|batches| Arc::new(Segment::new(b.base_offset, segment.next_offset, batches, markers)))
            });
        let kept = joined.unwrap_or_else(|| Arc::clone(&segment));
        if self.budget.take(kept.size_bytes)
            && let Some(old) = segments.insert(kept.base_offset, kept)
        {
            self.budget.give_back(old.size_bytes);
        }
        segment
    }

    /// Forgets what lies wholly below `offset`, and everything of an earlier topic of the same name.
    pub(super) fn evict_below(&self, partition: &TailPartition, offset: i64) {
        self.partitions.lock().retain(|key, segments| {
            let same_place = key.topic == partition.topic && key.partition == partition.partition;
            let stale = same_place && key.topic_id != partition.topic_id;
            if same_place {
                segments.retain(|_, segment| {
                    let keep = !stale && segment.next_offset > offset;
                    if !keep {
                        self.budget.give_back(segment.size_bytes);
                    }
                    keep
                });
            }
            !segments.is_empty()
        });
    }
}

impl Drop for TailCache {
    fn drop(&mut self) {
        let all: usize = self.partitions.get_mut().values().flat_map(BTreeMap::values).map(|s| s.size_bytes).sum();
        self.budget.give_back(all);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::compute::concat_batches;
    use uuid::Uuid;

    use super::*;

    fn partition(topic_id: u128) -> TailPartition {
        TailPartition { topic: "logs".into(), topic_id: Uuid::from_u128(topic_id), partition: 0 }
    }

    /// A segment with one row of 8 bytes per offset.
    fn segment(offsets: std::ops::Range<i64>) -> Segment {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(offsets.clone()));
        Segment::new(
            offsets.start,
            offsets.end,
            vec![RecordBatch::try_from_iter([("_offset", column)]).unwrap()],
            Vec::new(),
        )
    }

    fn join(parts: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ArrowError> {
        Ok(vec![concat_batches(&parts[0].schema(), &parts)?])
    }

    fn cache(limit_bytes: usize) -> (TailCache, Arc<Budget>) {
        let budget = Arc::new(Budget::new(limit_bytes));
        (TailCache::new(Arc::clone(&budget)), budget)
    }

    #[test]
    fn an_offset_is_found_in_the_segment_that_holds_it() {
        let (cache, budget) = cache(1 << 20);
        let place = partition(1);
        cache.insert(&place, segment(10..20), join);
        cache.insert(&place, segment(30..40), join);
        let held = |offset| cache.get(&place, offset).map(|s| (s.base_offset, s.next_offset));
        assert_eq!(held(9), None);
        assert_eq!(held(10), Some((10, 20)));
        assert_eq!(held(19), Some((10, 20)));
        assert_eq!(held(20), None);
        assert_eq!(held(35), Some((30, 40)));
        assert_eq!(cache.get(&partition(2), 10).map(|s| s.base_offset), None, "another topic of the same name");
        assert_eq!(budget.used_bytes(), 160);
    }

    #[test]
    fn a_small_segment_joins_the_one_before_it() {
        let (cache, budget) = cache(1 << 20);
        let place = partition(1);
        for at in 0..10 {
            cache.insert(&place, segment(at..at + 1), join);
        }
        let whole = cache.get(&place, 7).unwrap();
        assert_eq!((whole.base_offset, whole.next_offset, whole.batches.len(), whole.rows), (0, 10, 1, 10));
        assert_eq!(budget.used_bytes(), 80);
        // Where they do not join, both stay.
        cache.insert(&place, segment(10..11), |_| Err(ArrowError::ComputeError("no".to_string())));
        assert_eq!(cache.get(&place, 10).unwrap().base_offset, 10);
        assert_eq!(cache.get(&place, 9).unwrap().base_offset, 0);
    }

    #[test]
    fn what_the_table_has_passed_is_forgotten() {
        let (cache, budget) = cache(1 << 20);
        let place = partition(1);
        for from in [0, 20, 40] {
            cache.insert(&place, segment(from..from + 10), join);
        }
        cache.evict_below(&place, 25);
        assert!(cache.get(&place, 5).is_none());
        assert!(cache.get(&place, 25).is_some(), "half of it is still wanted");
        assert_eq!(budget.used_bytes(), 160);
        cache.evict_below(&partition(2), 0);
        assert!(cache.get(&place, 45).is_none(), "the topic is another one now");
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn beyond_the_budget_nothing_is_kept() {
        let (cache, budget) = cache(100);
        let place = partition(1);
        cache.insert(&place, segment(0..10), join);
        let given = cache.insert(&place, segment(100..110), join);
        assert_eq!(given.rows, 10, "the caller has its rows all the same");
        assert!(cache.get(&place, 100).is_none());
        assert_eq!(budget.used_bytes(), 80);
        drop(cache);
        assert_eq!(budget.used_bytes(), 0);
    }
}
