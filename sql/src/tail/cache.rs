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
    rows: usize,
    size_bytes: usize,
}

impl Segment {
    pub(super) fn new(base_offset: i64, next_offset: i64, batches: Vec<RecordBatch>) -> Self {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let size_bytes = batches.iter().map(size_bytes).sum();
        Self { base_offset, next_offset, batches, rows, size_bytes }
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
                // Where they do not join, they stay apart.
                join(parts).ok().map(|batches| Arc::new(Segment::new(b.base_offset, segment.next_offset, batches)))
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
