//! What stage 2 keeps of one pane: each source's partials, in the order they came.
//!
//! A part is a batch in memory, or the same batch as a compressed Arrow IPC stream: where memory is short, batches of open panes are packed, which
//! changes nothing but what they take. A pane that no window waits for is packed as a whole, one stream for all its sources. Streams are chunks: where memory
//! is still short they are put aside, which does not even change what they count for.

use std::io;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use highwater_pipeline::runtime::{Chunk, ProcessorError, Scratch};
use serde::{Deserialize, Serialize};

use super::closing;
use super::partials::bucket;
use super::plan::RollupPlan;
use crate::frames;

/// A source with more batches in memory than this has them merged into one.
const MAX_BATCHES: usize = 16;
/// What a part costs beside its rows, in bytes.
const PART_BYTES: usize = 1_024;
/// What a packed pane costs beside its bytes.
const PACKED_BYTES: usize = 256;

/// One pane.
pub(super) struct Pane {
    partials: Partials,
    /// How many windows that are not gone it is part of.
    pub(super) windows: usize,
    /// True while no window waits for it.
    is_closed: bool,
}

enum Partials {
    /// Per source, in source order, its parts in the order they came.
    Parts(Vec<Vec<Part>>),
    Packed(Packed),
}

enum Part {
    Loose { batch: RecordBatch, size_bytes: usize },
    Stream { rows: usize, chunk: Chunk },
}

/// One partial per source, as one Arrow IPC stream.
struct Packed {
    /// Rows of each source, in source order.
    rows: Vec<usize>,
    chunk: Chunk,
}

/// What panes take, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of those that a window waits for.
    pub(super) open_bytes: usize,
    /// Of these, what is not packed.
    pub(super) loose_bytes: usize,
    /// Of those that no window waits for.
    pub(super) kept_bytes: usize,
    /// Of all of them, what is packed and not aside.
    pub(super) packed_in_memory_bytes: usize,
}

impl Sizes {
    pub(super) fn add(&mut self, pane: &Pane) {
        let Self { open_bytes, loose_bytes, kept_bytes, packed_in_memory_bytes } = pane.sizes();
        self.open_bytes += open_bytes;
        self.loose_bytes += loose_bytes;
        self.kept_bytes += kept_bytes;
        self.packed_in_memory_bytes += packed_in_memory_bytes;
    }

    pub(super) fn take(&mut self, pane: &Pane) {
        let Self { open_bytes, loose_bytes, kept_bytes, packed_in_memory_bytes } = pane.sizes();
        self.open_bytes -= open_bytes;
        self.loose_bytes -= loose_bytes;
        self.kept_bytes -= kept_bytes;
        self.packed_in_memory_bytes -= packed_in_memory_bytes;
    }
}

/// The parts of a pane in a snapshot; its batches are chunks, in order.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Held {
    /// A chunk per batch: the index of its source.
    Loose(Vec<usize>),
    /// A chunk per part: the index of its source, and its rows where it is packed.
    Parts(Vec<(usize, Option<usize>)>),
    /// One chunk: rows of each source.
    Packed(Vec<usize>),
}

impl Pane {
    /// Of so many sources, with nothing yet.
    pub(super) fn new(sources: usize, windows: usize) -> Self {
        let parts = (0..sources).map(|_| Vec::new()).collect();
        Self { partials: Partials::Parts(parts), windows, is_closed: false }
    }

    pub(super) fn sizes(&self) -> Sizes {
        let (mut loose_bytes, mut stream_bytes, mut packed_in_memory_bytes) = (0, 0, 0);
        match &self.partials {
            Partials::Packed(Packed { chunk, .. }) => {
                stream_bytes = chunk.size_bytes() + PACKED_BYTES;
                packed_in_memory_bytes = chunk.memory_bytes();
            }
            Partials::Parts(sources) => {
                for part in sources.iter().flatten() {
                    match part {
                        Part::Loose { size_bytes, .. } => loose_bytes += size_bytes,
                        Part::Stream { chunk, .. } => {
                            stream_bytes += chunk.size_bytes() + PART_BYTES;
                            packed_in_memory_bytes += chunk.memory_bytes();
                        }
                    }
                }
            }
        }
        let all_bytes = loose_bytes + stream_bytes;
        if self.is_closed {
            return Sizes { open_bytes: 0, loose_bytes: 0, kept_bytes: all_bytes, packed_in_memory_bytes };
        }
        Sizes { open_bytes: all_bytes, loose_bytes, kept_bytes: 0, packed_in_memory_bytes }
    }

    /// Puts what is packed aside.
    pub(super) fn put_aside(&mut self, scratch: &dyn Scratch) -> io::Result<()> {
        match &mut self.partials {
            Partials::Packed(Packed { chunk, .. }) => chunk.put_aside(scratch),
            Partials::Parts(sources) => sources.iter_mut().flatten().try_for_each(|part| match part {
                Part::Stream { chunk, .. } => chunk.put_aside(scratch),
                Part::Loose { .. } => Ok(()),
            }),
        }
    }

    /// How many rows its partials have.
    pub(super) fn rows(&self) -> usize {
        match &self.partials {
            Partials::Packed(packed) => packed.rows.iter().sum(),
            Partials::Parts(sources) => sources.iter().flatten().map(Part::rows).sum(),
        }
    }

    /// Puts a partial behind those of its source. A window waits for the pane from now on.
    pub(super) fn push(
        &mut self,
        plan: &RollupPlan,
        pane_us: i64,
        source: usize,
        batch: RecordBatch,
    ) -> Result<(), ProcessorError> {
        let Some(parts) = self.open(plan)?.get_mut(source) else { return Ok(()) };
        parts.push(Part::loose(batch));
        let packed = parts.iter().rposition(|part| matches!(part, Part::Stream { .. })).map_or(0, |at| at + 1);
        if parts.len() - packed > MAX_BATCHES {
            let batches = parts.drain(packed..).map(|part| part.batch()).collect::<Result<Vec<_>, _>>()?;
            let merged = closing::merge(plan, &batches, pane_us).map_err(|e| plan.cannot_fold(e))?;
            parts.push(Part::loose(merged));
        }
        Ok(())
    }

    /// Drops what a source has here. True where it had anything.
    pub(super) fn clear(&mut self, plan: &RollupPlan, source: usize) -> Result<bool, ProcessorError> {
        let has = match &self.partials {
            Partials::Parts(sources) => sources.get(source).is_some_and(|parts| !parts.is_empty()),
            Partials::Packed(packed) => packed.rows.get(source).is_some_and(|&rows| rows > 0),
        };
        if has && let Some(parts) = self.open(plan)?.get_mut(source) {
            parts.clear();
        }
        Ok(has)
    }

    fn open(&mut self, plan: &RollupPlan) -> Result<&mut Vec<Vec<Part>>, ProcessorError> {
        self.is_closed = false;
        if let Partials::Packed(packed) = &self.partials {
            let parts = packed.unpack(plan)?.into_iter().map(|batch| batch.map(Part::loose).into_iter().collect());
            self.partials = Partials::Parts(parts.collect());
        }
        match &mut self.partials {
            Partials::Parts(parts) => Ok(parts),
            Partials::Packed(_) => Err(ProcessorError::new("a pane is packed")),
        }
    }

    /// No window waits for it any more. One of more than `most_rows` is not merged.
    pub(super) fn close(&mut self, plan: &RollupPlan, pane_us: i64, most_rows: usize) -> Result<(), ProcessorError> {
        if self.is_closed {
            return Ok(());
        }
        self.is_closed = true;
        if self.rows() > most_rows {
            return self.pack();
        }
        if let Partials::Parts(_) = &self.partials {
            let merged = self.merged(plan, pane_us).map_err(|e| plan.cannot_fold(e))?;
            self.partials = Partials::Packed(Packed::new(plan, &merged)?);
        }
        Ok(())
    }

    /// Packs its batches, each by itself.
    pub(super) fn pack(&mut self) -> Result<(), ProcessorError> {
        let Partials::Parts(sources) = &mut self.partials else { return Ok(()) };
        for part in sources.iter_mut().flatten() {
            if let Part::Loose { batch, .. } = part {
                *part = Part::Stream { rows: batch.num_rows(), chunk: frames::chunk(batch)? };
            }
        }
        Ok(())
    }

    /// One partial per source that has any, in source order.
    pub(super) fn merged(&self, plan: &RollupPlan, pane_us: i64) -> DataFusionResult<Vec<RecordBatch>> {
        match &self.partials {
            // One partial per source before the sources are folded, so that it is nothing when they were merged.
            Partials::Parts(sources) => sources
                .iter()
                .map(|parts| {
                    let batches = parts.iter().map(Part::batch).collect::<Result<Vec<_>, _>>().map_err(external)?;
                    match <[RecordBatch; 1]>::try_from(batches) {
                        Ok([one]) => Ok(one),
                        Err(several) => closing::merge(plan, &several, pane_us),
                    }
                })
                .collect(),
            Partials::Packed(packed) => {
                let mut sources = Vec::with_capacity(packed.rows.len());
                for batch in packed.unpack(plan).map_err(external)? {
                    sources.push(batch.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&plan.partial_schema))));
                }
                Ok(sources)
            }
        }
    }

    /// The same of one bucket of groups.
    pub(super) fn merged_bucket(
        &self,
        plan: &RollupPlan,
        pane_us: i64,
        number: usize,
        buckets: usize,
    ) -> DataFusionResult<Vec<RecordBatch>> {
        let Partials::Parts(sources) = &self.partials else {
            let sources = self.merged(plan, pane_us)?;
            return sources.iter().map(|partial| bucket(plan, partial, number, buckets)).collect();
        };
        let merge = |parts: &Vec<Part>| {
            let rows = parts.iter().map(|part| bucket(plan, &part.batch().map_err(external)?, number, buckets));
            match <[RecordBatch; 1]>::try_from(rows.collect::<DataFusionResult<Vec<_>>>()?) {
                Ok([one]) => Ok(one),
                Err(several) => closing::merge(plan, &several, pane_us),
            }
        };
        sources.iter().map(merge).collect()
    }

    /// All sources as one partial.
    pub(super) fn folded(&self, plan: &RollupPlan, pane_us: i64) -> DataFusionResult<RecordBatch> {
        closing::merge(plan, &self.merged(plan, pane_us)?, pane_us)
    }

    pub(super) fn save(&self, chunks: &mut Vec<Chunk>) -> Result<Held, ProcessorError> {
        let sources = match &self.partials {
            Partials::Packed(packed) => {
                chunks.push(packed.chunk.clone());
                return Ok(Held::Packed(packed.rows.clone()));
            }
            Partials::Parts(sources) => sources,
        };
        let mut of = Vec::new();
        for (source, parts) in sources.iter().enumerate() {
            for part in parts {
                let (rows, chunk) = match part {
                    Part::Loose { batch, .. } => (None, frames::chunk(batch)?),
                    Part::Stream { rows, chunk } => (Some(*rows), chunk.clone()),
                };
                of.push((source, rows));
                chunks.push(chunk);
            }
        }
        Ok(match of.iter().all(|(_, packed)| packed.is_none()) {
            true => Held::Loose(of.into_iter().map(|(source, _)| source).collect()),
            false => Held::Parts(of),
        })
    }

    /// Takes over what [`Self::save`] wrote. `None` where it is incomplete.
    pub(super) fn load(
        held: Held,
        sources: usize,
        windows: usize,
        is_closed: bool,
        chunks: &mut std::vec::IntoIter<Chunk>,
    ) -> Result<Option<Self>, ProcessorError> {
        let of = match held {
            Held::Packed(mut rows) => {
                let Some(chunk) = chunks.next().filter(|_| rows.len() <= sources) else { return Ok(None) };
                // There were fewer sources before stored rows were one.
                rows.resize(sources, 0);
                let partials = Partials::Packed(Packed { rows, chunk });
                return Ok(Some(Self { partials, windows, is_closed }));
            }
            Held::Loose(of) => of.into_iter().map(|source| (source, None)).collect(),
            Held::Parts(of) => of,
        };
        let mut parts: Vec<Vec<Part>> = (0..sources).map(|_| Vec::new()).collect();
        for (source, packed) in of {
            let (Some(chunk), Some(parts)) = (chunks.next(), parts.get_mut(source)) else { return Ok(None) };
            parts.push(match packed {
                Some(rows) => Part::Stream { rows, chunk },
                None => Part::loose(frames::batch_of(&chunk)?),
            });
        }
        Ok(Some(Self { partials: Partials::Parts(parts), windows, is_closed }))
    }
}

impl Part {
    fn loose(batch: RecordBatch) -> Self {
        let size_bytes = PART_BYTES + batch.columns().iter().map(size_bytes).sum::<usize>();
        Self::Loose { batch, size_bytes }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Loose { batch, .. } => batch.num_rows(),
            Self::Stream { rows, .. } => *rows,
        }
    }

    fn batch(&self) -> Result<RecordBatch, ProcessorError> {
        match self {
            Self::Loose { batch, .. } => Ok(batch.clone()),
            Self::Stream { chunk, .. } => frames::batch_of(chunk),
        }
    }
}

/// What the values of a column take, whatever buffers they lie in: the same before a snapshot and after it.
fn size_bytes(column: &ArrayRef) -> usize {
    let rows = column.len();
    match column.data_type() {
        DataType::Utf8 => text_bytes(column.as_string::<i32>().value_offsets()) + 4 * rows,
        DataType::Binary => text_bytes(column.as_binary::<i32>().value_offsets()) + 4 * rows,
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let (from, to) = (list.value_offsets().first(), list.value_offsets().last());
            let at = |offset: Option<&i32>| offset.and_then(|&at| usize::try_from(at).ok()).unwrap_or(0);
            size_bytes(&list.values().slice(at(from), at(to) - at(from))) + 4 * rows
        }
        DataType::Struct(_) => column.as_struct().columns().iter().map(size_bytes).sum(),
        DataType::Boolean => rows / 8 + 1,
        other => other.primitive_width().unwrap_or(16) * rows,
    }
}

fn text_bytes(offsets: &[i32]) -> usize {
    let ends = offsets.last().zip(offsets.first());
    ends.map_or(0, |(last, first)| usize::try_from(last - first).unwrap_or(0))
}

fn external(error: ProcessorError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl Packed {
    fn new(plan: &RollupPlan, partials: &[RecordBatch]) -> Result<Self, ProcessorError> {
        let rows = partials.iter().map(RecordBatch::num_rows).collect();
        let all = concat_batches(&plan.partial_schema, partials).map_err(|e| plan.cannot_fold(e.into()))?;
        Ok(Self { rows, chunk: frames::chunk(&all)? })
    }

    /// Each source's partial, where it has one.
    fn unpack(&self, plan: &RollupPlan) -> Result<Vec<Option<RecordBatch>>, ProcessorError> {
        let all = frames::batch_of(&self.chunk)?;
        if self.rows.iter().sum::<usize>() != all.num_rows() {
            return Err(ProcessorError::new(format!("a closed window of rollup {} is incomplete", plan.name)));
        }
        let mut from = 0;
        let parts = self.rows.iter().map(|&rows| {
            let part = all.slice(from, rows);
            from += rows;
            (rows > 0).then_some(part)
        });
        Ok(parts.collect())
    }
}
