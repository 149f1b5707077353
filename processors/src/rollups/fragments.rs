//! The fragments of sessions: rows of the partials they came in, named one by one and gathered when sessions close.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::interleave_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use highwater_pipeline::data::time;

use super::plan::RollupPlan;

/// Dead rows are swept once there are this many more of them than of the others.
const MAX_DEAD_ROWS: usize = 65_536;

/// One row of a partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) source: usize,
    /// Its place in the order in which fragments came.
    pub(super) arrived: i64,
    /// About what it takes: its share of its partial.
    pub(super) size_bytes: u32,
    chunk: u64,
    row: usize,
}

/// All fragments of a rollup.
#[derive(Default)]
pub(super) struct Fragments {
    chunks: BTreeMap<u64, Chunk>,
    next: u64,
    rows: usize,
    live: usize,
}

struct Chunk {
    partial: RecordBatch,
    live: usize,
}

impl Fragments {
    /// Takes a partial; its rows came from `arrived` on.
    pub(super) fn add(&mut self, partial: &RecordBatch, source: usize, arrived: i64) -> Vec<Fragment> {
        let rows = partial.num_rows();
        let size = partial.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum::<usize>();
        let size_bytes = u32::try_from(size / rows.max(1)).unwrap_or(u32::MAX);
        let chunk = self.push(partial.clone());
        (arrived..).zip(0..rows).map(|(arrived, row)| Fragment { source, arrived, size_bytes, chunk, row }).collect()
    }

    /// Takes a partial whose rows are described already, in their order.
    pub(super) fn adopt(&mut self, partial: RecordBatch, fragments: &mut [Fragment]) {
        let chunk = self.push(partial);
        for (row, fragment) in fragments.iter_mut().enumerate() {
            (fragment.chunk, fragment.row) = (chunk, row);
        }
    }

    fn push(&mut self, partial: RecordBatch) -> u64 {
        let live = partial.num_rows();
        self.rows += live;
        self.live += live;
        self.next += 1;
        if live > 0 {
            self.chunks.insert(self.next, Chunk { partial, live });
        }
        self.next
    }

    /// These are needed no more.
    pub(super) fn release(&mut self, fragments: &[Fragment]) {
        for fragment in fragments {
            let Some(chunk) = self.chunks.get_mut(&fragment.chunk) else { continue };
            chunk.live -= 1;
            self.live -= 1;
            if chunk.live == 0 {
                self.rows -= chunk.partial.num_rows();
                self.chunks.remove(&fragment.chunk);
            }
        }
    }

    /// One partial of all these fragments, in order, each under the start given for it.
    pub(super) fn gather(&self, plan: &RollupPlan, of: &[(i64, &[Fragment])]) -> Result<RecordBatch> {
        let mut starts = Vec::new();
        let mut places = Vec::new();
        let mut index: BTreeMap<u64, usize> = BTreeMap::new();
        let mut chunks: Vec<&RecordBatch> = Vec::new();
        for (start_us, fragments) in of {
            for fragment in *fragments {
                let chunk = match index.get(&fragment.chunk) {
                    Some(&chunk) => chunk,
                    None => {
                        let missing = || DataFusionError::Internal("a fragment is missing".to_owned());
                        chunks.push(&self.chunks.get(&fragment.chunk).ok_or_else(missing)?.partial);
                        index.insert(fragment.chunk, chunks.len() - 1);
                        chunks.len() - 1
                    }
                };
                places.push((chunk, fragment.row));
                starts.push(*start_us);
            }
        }
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&plan.partial_schema)));
        }
        let gathered = interleave_record_batch(&chunks, &places)?;
        let mut columns: Vec<ArrayRef> = gathered.columns().to_vec();
        columns[0] = Arc::new(time::array(starts));
        Ok(RecordBatch::try_new(Arc::clone(&plan.partial_schema), columns)?)
    }

    /// Sweeps rows that are dead, if there are many: a partial is kept whole as long as one of its rows is alive. `all` are the fragments of every session.
    pub(super) fn tidy<'a>(
        &mut self,
        all: impl Iterator<Item = &'a mut Vec<Fragment>>,
        plan: &RollupPlan,
    ) -> Result<()> {
        if self.rows - self.live < self.live + MAX_DEAD_ROWS {
            return Ok(());
        }
        let mut all: Vec<&mut Vec<Fragment>> = all.collect();
        let gathered: Vec<(i64, &[Fragment])> = all.iter().map(|fragments| (0, &fragments[..])).collect();
        let partial = self.gather(plan, &gathered)?;
        self.chunks.clear();
        (self.rows, self.live) = (0, 0);
        let chunk = self.push(partial);
        for (row, fragment) in all.iter_mut().flat_map(|fragments| fragments.iter_mut()).enumerate() {
            (fragment.chunk, fragment.row) = (chunk, row);
        }
        Ok(())
    }

    /// A fragment that is not adopted yet.
    pub(super) fn described(source: usize, arrived: i64, size_bytes: u32) -> Fragment {
        Fragment { source, arrived, size_bytes, chunk: 0, row: 0 }
    }
}
