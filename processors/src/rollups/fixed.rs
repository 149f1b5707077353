//! The windows of `tumble` and `hop` in one stage-2 task.
//!
//! Partials are kept per pane, one window or many being made of each, and folded when a window closes: source by source within a pane, pane by pane
//! within a window. So that this costs no more as slides shrink, the panes of a hop are folded in blocks as long as a window:
//!
//! ```text
//! block b                          block b + 1
//! p0   p1   p2   p3   p4         | p5   p6   p7   p8   p9
//!           └─ suffix from p2 ─┘   └ prefix to p6 ┘
//!           └───────── window that begins at p2 ──┘
//! ```
//!
//! Every window is the suffix of one block and the prefix of the next, each made of the one before by folding one pane more. Where the tree of
//! foldings is cut is fixed by the panes' times, not by what happened to be at hand, so the result is the same to the bit whether parts were
//! remembered or made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::common::Result as DataFusionResult;
use highwater_pipeline::runtime::snapshot::Section;
use highwater_pipeline::runtime::{Chunk, ProcessorError, Scratch};
use serde::{Deserialize, Serialize};

use super::closing;
use super::config::LatePolicy;
use super::fold::FoldLimits;
use super::folding::{Closing, Counts, Folding, Partial, Phase, QUIET_US, Written, gone_after};
use super::panes::{Held, Pane, Sizes};
use super::plan::RollupPlan;
use super::spans::Spans;
use crate::frames::Framed;

/// Most rows of the suffixes that are remembered. Beyond, they are made anew for each window, which is as correct.
const MAX_SUFFIX_ROWS: usize = 1_000_000;

/// A window of a hop is folded bucket by bucket from so many buckets on.
const HOP_BUCKETS: usize = 16;

/// Most windows of another definition that are superseded at once.
const MAX_SUPERSEDED: usize = 1_000;

/// The windows of one rollup.
pub(super) struct FixedWindows {
    plan: Arc<RollupPlan>,
    slide_us: i64,
    size_us: i64,
    sources: usize,
    /// All panes that have partials, by their start.
    panes: BTreeMap<i64, Pane>,
    /// All windows that have such panes, by their start.
    windows: BTreeMap<i64, Window>,
    /// Starts of the open ones.
    open: BTreeSet<i64>,
    /// Of the late ones, when the last row for it came, and their starts.
    late: BTreeSet<(i64, i64)>,
    /// Of the closed ones, when they were, and their starts.
    closed: BTreeSet<(i64, i64)>,
    /// Windows that are gone, by the stretch from their start to the next window's.
    gone: Spans,
    /// Windows that another definition has written rows of, which are still to be superseded.
    replaced: Replaced,
    counts: Counts,
    sizes: Sizes,
    folded: Folded,
    /// A window that is being closed part by part.
    underway: Option<Underway>,
    bucket_rows: usize,
}

/// A window of so many groups that they are folded bucket by bucket.
#[derive(Debug, Clone, Copy)]
struct Underway {
    window_us: i64,
    /// The next bucket, and how many there are.
    bucket: usize,
    buckets: usize,
}

/// What another definition of the rollup has left in its table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Replaced {
    spans: Spans,
    /// From one window's start to the next.
    slide_us: i64,
    /// True once it is known from when on rows are filled in: what was written before stays.
    begun: bool,
}

impl Replaced {
    fn is_nothing(&self) -> bool {
        self.spans.first_us().is_none()
    }

    /// Takes out the next window that begins before this instant.
    fn take_before(&mut self, until_us: i64) -> Option<i64> {
        let first_us = self.spans.first_us().filter(|&first_us| first_us < until_us && self.slide_us > 0)?;
        self.spans.take_before(first_us.saturating_add(self.slide_us));
        Some(first_us)
    }

    /// Takes out the window that begins at this instant.
    fn take(&mut self, start_us: i64) -> bool {
        if self.is_nothing()
            || start_us.rem_euclid(self.slide_us.max(1)) != 0
            || !self.spans.overlaps(start_us, start_us + 1)
        {
            return false;
        }
        let before = self.spans.take_before(start_us);
        self.spans.take_before(start_us.saturating_add(self.slide_us));
        for (start_us, end_us) in Vec::from(before) {
            self.spans.insert(start_us, end_us);
        }
        true
    }
}

struct Window {
    phase: Phase,
    /// Of its next closing.
    revision: i32,
}

/// What has been folded of blocks of a hop, to be gone on with. It can be made anew from the panes at any time, so no snapshot has it.
#[derive(Default)]
struct Folded {
    /// From each pane to the end of its block.
    suffixes: BTreeMap<i64, RecordBatch>,
    suffix_rows: usize,
    /// From the start of a block to before this pane.
    prefix: Option<Prefix>,
}

struct Prefix {
    block_us: i64,
    until_us: i64,
    partial: Option<RecordBatch>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    counts: Counts,
    /// From one window's start to the next.
    width_us: i64,
    gone: Spans,
    #[serde(default, skip_serializing_if = "Replaced::is_nothing")]
    replaced: Replaced,
    windows: Vec<Saved>,
    /// Of a hop: its panes. Those of a tumble are its windows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    panes: Vec<SavedPane>,
}

/// A window in a snapshot.
#[derive(Serialize, Deserialize)]
struct Saved {
    window_us: i64,
    phase: Phase,
    revision: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
}

/// A pane in a snapshot; its batches are chunks, in order.
#[derive(Serialize, Deserialize)]
struct SavedPane {
    pane_us: i64,
    held: Held,
}

impl FixedWindows {
    pub(super) fn new(plan: Arc<RollupPlan>, slide_us: i64, size_us: i64, sources: usize) -> Self {
        Self {
            plan,
            slide_us,
            size_us,
            sources,
            panes: BTreeMap::new(),
            windows: BTreeMap::new(),
            open: BTreeSet::new(),
            late: BTreeSet::new(),
            closed: BTreeSet::new(),
            gone: Spans::default(),
            replaced: Replaced::default(),
            counts: Counts::default(),
            sizes: Sizes::default(),
            folded: Folded::default(),
            underway: None,
            bucket_rows: FoldLimits::default().bucket_rows,
        }
    }

    /// Whether a window is a pane.
    fn is_pane(&self) -> bool {
        self.plan.windows.pane_us() == self.size_us
    }

    fn end_us(&self, window_us: i64) -> i64 {
        window_us.saturating_add(self.size_us)
    }

    fn is_gone(&self, window_us: i64) -> bool {
        self.gone.overlaps(window_us, window_us.saturating_add(self.slide_us))
    }

    /// A row has come for this window, which is there, at `now_us`.
    fn touch(&mut self, window_us: i64, now_us: i64) {
        let Some(window) = self.windows.get_mut(&window_us) else { return };
        match window.phase {
            Phase::Open => {
                self.open.insert(window_us);
                return;
            }
            Phase::Late(since_us) => self.late.remove(&(since_us, window_us)),
            Phase::Closed(since_us) => self.closed.remove(&(since_us, window_us)),
        };
        window.phase = Phase::Late(now_us);
        self.late.insert((now_us, window_us));
    }

    /// Of what another definition has written: windows that this one has closed without rows, or does not have. A part at a time.
    fn supersede_others(&mut self, merged_us: i64) -> Option<Closing> {
        if !self.replaced.begun {
            return None;
        }
        let until_us = merged_us.saturating_sub(self.size_us).saturating_sub(self.plan.lateness_us);
        let mut superseded = Vec::new();
        while superseded.len() < MAX_SUPERSEDED
            && let Some(start_us) = self.replaced.take_before(until_us)
        {
            superseded.push((start_us, 1));
        }
        let rows = RecordBatch::new_empty(self.plan.output_schema());
        (!superseded.is_empty()).then_some(Closing { superseded, rows, part: 0 })
    }

    /// Puts a partial to those of its pane, which `windows` windows hold.
    fn keep(&mut self, Partial { source, pane_us, batch, .. }: Partial, windows: usize) -> Result<(), ProcessorError> {
        self.folded.forget(pane_us, self.size_us);
        let pane = self.panes.entry(pane_us).or_insert_with(|| Pane::new(self.sources, windows));
        self.sizes.take(pane);
        let pushed = pane.push(&self.plan, pane_us, source, batch);
        self.sizes.add(pane);
        pushed
    }

    /// Closes a window that is open or late, all of it or the first part.
    fn close(&mut self, window_us: i64, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        let panes = self.panes.range(window_us..self.end_us(window_us));
        let rows: usize = panes.map(|(_, pane)| pane.rows()).sum();
        // The windows of a hop are folded from what they have in common, which is faster, as long as it can be had at once.
        let at_once = if self.slide_us == self.size_us { self.bucket_rows } else { HOP_BUCKETS * self.bucket_rows };
        let buckets = if rows > at_once { rows.div_ceil(self.bucket_rows) } else { 1 };
        self.underway = Some(Underway { window_us, bucket: 0, buckets });
        self.go_on(now_us)
    }

    /// Closes the next part of what is underway.
    fn go_on(&mut self, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        let Some(Underway { window_us, bucket, buckets }) = self.underway.take() else { return Ok(None) };
        let Some(mut revision) = self.windows.get(&window_us).map(|window| window.revision) else { return Ok(None) };
        let is_first = bucket == 0;
        if is_first && self.replaced.take(window_us) {
            // Rows of another definition stand there.
            revision = revision.max(1);
            if let Some(window) = self.windows.get_mut(&window_us) {
                window.revision = revision;
            }
        }
        let plan = Arc::clone(&self.plan);
        let partials = if buckets == 1 { self.fold(window_us) } else { self.fold_bucket(window_us, bucket, buckets) };
        let rows = partials
            .and_then(|partials| closing::close(&plan, &partials, window_us, revision))
            .map_err(|e| plan.cannot_fold(e))?;
        let superseded = if is_first && revision > 0 { vec![(window_us, revision)] } else { Vec::new() };
        self.counts.corrections += superseded.len() as u64;
        let part = i64::try_from(bucket).unwrap_or(i64::MAX);
        if bucket + 1 < buckets {
            self.underway = Some(Underway { window_us, bucket: bucket + 1, buckets });
        } else {
            self.is_closed(window_us, now_us)?;
        }
        Ok(Some(Closing { superseded, rows, part }))
    }

    /// A window is closed.
    fn is_closed(&mut self, window_us: i64, now_us: i64) -> Result<(), ProcessorError> {
        if let Some(window) = self.windows.get_mut(&window_us) {
            match window.phase {
                Phase::Late(since_us) => self.late.remove(&(since_us, window_us)),
                Phase::Open | Phase::Closed(_) => self.open.remove(&window_us),
            };
            window.phase = Phase::Closed(now_us);
            window.revision = window.revision.saturating_add(1);
        }
        match self.plan.late {
            LatePolicy::Correct => {
                self.closed.insert((now_us, window_us));
                self.pack(window_us)?;
            }
            // The watermark says that it is gone.
            LatePolicy::Drop => self.release(window_us),
        }
        Ok(())
    }

    /// The partials of one bucket of a window's groups.
    fn fold_bucket(&self, window_us: i64, bucket: usize, buckets: usize) -> DataFusionResult<Vec<RecordBatch>> {
        let mut partials = Vec::new();
        for (&pane_us, pane) in self.panes.range(window_us..self.end_us(window_us)) {
            partials.extend(pane.merged_bucket(&self.plan, pane_us, bucket, buckets)?);
        }
        Ok(partials)
    }

    /// The partials of a window, to be folded in this order.
    fn fold(&mut self, window_us: i64) -> DataFusionResult<Vec<RecordBatch>> {
        if self.is_pane() {
            return Ok(self
                .panes
                .get(&window_us)
                .map(|pane| pane.merged(&self.plan, window_us))
                .transpose()?
                .unwrap_or_default());
        }
        if self.slide_us == self.size_us {
            // Each pane is in one window: there is nothing to remember.
            let mut partials = Vec::new();
            for (&pane_us, pane) in self.panes.range(window_us..self.end_us(window_us)) {
                partials.extend(pane.merged(&self.plan, pane_us)?);
            }
            return Ok(partials);
        }
        let block_us = window_us.saturating_sub(window_us.rem_euclid(self.size_us));
        let next_us = block_us.saturating_add(self.size_us);
        let suffix = self.suffix(window_us, next_us)?;
        let prefix = if block_us == window_us { None } else { self.prefix(next_us, self.end_us(window_us))? };
        // Windows close in order but for late ones: what is before this one's start is seldom asked for again.
        let closed: Vec<i64> = self.folded.suffixes.range(block_us..=window_us).map(|(&pane_us, _)| pane_us).collect();
        closed.iter().for_each(|pane_us| self.folded.remove(*pane_us));
        Ok(suffix.into_iter().chain(prefix).collect())
    }

    /// Everything from this pane to the end of its block, as one partial.
    fn suffix(&mut self, from_us: i64, end_us: i64) -> DataFusionResult<Option<RecordBatch>> {
        // A suffix is remembered under its first pane that has partials.
        let at_hand = self.folded.suffixes.range(from_us..end_us).next().map(|(&us, partial)| (us, partial.clone()));
        let (until_us, mut suffix) = at_hand.map_or((end_us, None), |(us, partial)| (us, Some(partial)));
        let panes: Vec<i64> = self.panes.range(from_us..until_us).map(|(&us, _)| us).collect();
        for pane_us in panes.into_iter().rev() {
            let Some(pane) = self.panes.get(&pane_us) else { continue };
            let mut parts = vec![pane.folded(&self.plan, pane_us)?];
            parts.extend(suffix.take());
            let longer = closing::merge(&self.plan, &parts, pane_us)?;
            self.folded.remember(pane_us, &longer);
            suffix = Some(longer);
        }
        Ok(suffix)
    }

    /// Everything from the start of a block to before this pane, as one partial.
    fn prefix(&mut self, block_us: i64, until_us: i64) -> DataFusionResult<Option<RecordBatch>> {
        let at_hand = self.folded.prefix.take().filter(|p| p.block_us == block_us && p.until_us <= until_us);
        let (from_us, mut prefix) = at_hand.map_or((block_us, None), |p| (p.until_us, p.partial));
        for (&pane_us, pane) in self.panes.range(from_us..until_us) {
            let mut parts: Vec<RecordBatch> = prefix.take().into_iter().collect();
            parts.push(pane.folded(&self.plan, pane_us)?);
            prefix = Some(closing::merge(&self.plan, &parts, pane_us)?);
        }
        self.folded.prefix = Some(Prefix { block_us, until_us, partial: prefix.clone() });
        Ok(prefix)
    }

    /// Packs the panes of a closed window that no window waits for any more.
    fn pack(&mut self, window_us: i64) -> Result<(), ProcessorError> {
        let end_us = self.end_us(window_us);
        // The last window of a pane is the last to close, as a rule, so most panes are passed over at a glance.
        let done = self.panes.range(window_us..end_us).map(|(&pane_us, _)| pane_us).filter(|&pane_us| {
            self.is_window_closed(pane_us.saturating_sub(pane_us.rem_euclid(self.slide_us)))
                && self.plan.windows.of_pane(pane_us).all(|window_us| self.is_window_closed(window_us))
        });
        for pane_us in done.collect::<Vec<_>>() {
            let Some(pane) = self.panes.get_mut(&pane_us) else { continue };
            self.sizes.take(pane);
            let closed = pane.close(&self.plan, pane_us, self.bucket_rows);
            self.sizes.add(pane);
            closed?;
        }
        Ok(())
    }

    fn is_window_closed(&self, window_us: i64) -> bool {
        self.windows.get(&window_us).is_none_or(|window| matches!(window.phase, Phase::Closed(_)))
    }

    fn drop_closed(&mut self, since_us: i64, window_us: i64) {
        self.closed.remove(&(since_us, window_us));
        self.release(window_us);
        if self.gone.insert(window_us, window_us.saturating_add(self.slide_us)) {
            tracing::warn!(rollup = %self.plan.name,
                "closed windows lie too far apart to be remembered one by one; windows between some of them count as gone as well");
        }
    }

    /// Lets go of a window, and of the panes that only it held.
    fn release(&mut self, window_us: i64) {
        if self.windows.remove(&window_us).is_none() {
            return;
        }
        let end_us = self.end_us(window_us);
        let mut unheld = Vec::new();
        for (&pane_us, pane) in self.panes.range_mut(window_us..end_us) {
            pane.windows = pane.windows.saturating_sub(1);
            if pane.windows == 0 {
                unheld.push(pane_us);
            }
        }
        for pane_us in unheld {
            if let Some(pane) = self.panes.remove(&pane_us) {
                self.sizes.take(&pane);
                self.folded.remove(pane_us);
            }
        }
    }

    fn put(&mut self, pane_us: i64, held: Held, chunks: &mut std::vec::IntoIter<Chunk>) -> Result<(), ProcessorError> {
        let held_by: Vec<i64> =
            self.plan.windows.of_pane(pane_us).filter(|start| self.windows.contains_key(start)).collect();
        let is_closed = held_by.iter().all(|&window_us| self.is_window_closed(window_us));
        let pane = Pane::load(held, self.sources, held_by.len(), is_closed, chunks)?;
        let pane =
            pane.ok_or_else(|| ProcessorError::new(format!("state of rollup {} is incomplete", self.plan.name)))?;
        self.sizes.add(&pane);
        self.panes.insert(pane_us, pane);
        Ok(())
    }
}

impl Folding for FixedWindows {
    fn counts(&self) -> Counts {
        self.counts
    }

    fn open_bytes(&self) -> usize {
        self.sizes.open_bytes
    }

    fn loose_bytes(&self) -> usize {
        self.sizes.loose_bytes
    }

    fn pack_largest(&mut self) -> Result<bool, ProcessorError> {
        let loose = |(&pane_us, pane): (&i64, &Pane)| (pane.sizes().loose_bytes, pane_us);
        let Some((1.., pane_us)) = self.panes.iter().map(loose).max() else { return Ok(false) };
        let Some(pane) = self.panes.get_mut(&pane_us) else { return Ok(false) };
        self.sizes.take(pane);
        let packed = pane.pack();
        self.sizes.add(pane);
        packed.map(|()| true)
    }

    fn packed_in_memory_bytes(&self) -> usize {
        self.sizes.packed_in_memory_bytes
    }

    fn put_aside(&mut self, scratch: &dyn Scratch, bytes: usize) -> io::Result<()> {
        let in_memory = |(&pane_us, pane): (&i64, &Pane)| (pane.sizes().packed_in_memory_bytes, pane_us);
        let mut panes: Vec<(usize, i64)> = self.panes.iter().map(in_memory).filter(|(size, _)| *size > 0).collect();
        panes.sort_unstable_by(|a, b| b.cmp(a));
        let mut put_bytes = 0;
        for (size, pane_us) in panes {
            if put_bytes >= bytes {
                break;
            }
            let Some(pane) = self.panes.get_mut(&pane_us) else { continue };
            self.sizes.take(pane);
            let put = pane.put_aside(scratch);
            self.sizes.add(pane);
            put?;
            put_bytes += size;
        }
        Ok(())
    }

    fn stays_in_memory(&self) -> bool {
        false
    }

    fn fold_in(&mut self, bucket_rows: usize) {
        self.bucket_rows = bucket_rows.max(1);
    }

    fn kept_bytes(&self) -> usize {
        self.sizes.kept_bytes
    }

    fn take(&mut self, partial: Partial, merged_us: Option<i64>, now_us: i64) -> Result<(), ProcessorError> {
        let plan = Arc::clone(&self.plan);
        let (mut taken, mut late, mut too_late, mut dropped) = (0, false, false, false);
        for window_us in plan.windows.of_pane(partial.pane_us) {
            let is_late = merged_us.is_some_and(|merged_us| plan.closes_us(window_us) <= merged_us);
            if is_late && plan.late == LatePolicy::Drop {
                dropped = true;
                continue;
            }
            if !self.windows.contains_key(&window_us) {
                if self.is_gone(window_us) {
                    too_late = true;
                    continue;
                }
                let phase = if is_late { Phase::Late(now_us) } else { Phase::Open };
                self.windows.insert(window_us, Window { phase, revision: 0 });
            }
            taken += 1;
            late |= is_late;
            self.touch(window_us, now_us);
        }
        // Once each, however many of its windows it is late for.
        let rows = partial.rows;
        self.counts.late_rows += if late { rows } else { 0 };
        self.counts.too_late_rows += if too_late { rows } else { 0 };
        self.counts.dropped_rows += if dropped { rows } else { 0 };
        if taken > 0 { self.keep(partial, taken) } else { Ok(()) }
    }

    fn retract(
        &mut self,
        source: usize,
        pane_us: i64,
        merged_us: Option<i64>,
        now_us: i64,
    ) -> Result<(), ProcessorError> {
        let plan = Arc::clone(&self.plan);
        let is_closed = |start_us: i64| merged_us.is_some_and(|merged_us| plan.closes_us(start_us) <= merged_us);
        if plan.late == LatePolicy::Drop && plan.windows.of_pane(pane_us).any(is_closed) {
            return Ok(());
        }
        let Some(pane) = self.panes.get_mut(&pane_us) else { return Ok(()) };
        self.folded.forget(pane_us, self.size_us);
        self.sizes.take(pane);
        let cleared = pane.clear(&plan, source);
        self.sizes.add(pane);
        let had_rows = cleared?;
        if had_rows {
            let held: Vec<i64> = plan.windows.of_pane(pane_us).filter(|us| self.windows.contains_key(us)).collect();
            held.into_iter().for_each(|window_us| self.touch(window_us, now_us));
        }
        Ok(())
    }

    fn close_reached(&mut self, merged_us: i64, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        if self.underway.is_some() {
            return self.go_on(now_us);
        }
        match self.open.first() {
            Some(&window_us) if self.plan.closes_us(window_us) <= merged_us => self.close(window_us, now_us),
            _ => Ok(self.supersede_others(merged_us)),
        }
    }

    fn close_quiet(&mut self, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        if self.underway.is_some() {
            return self.go_on(now_us);
        }
        match self.late.first() {
            Some(&(since_us, window_us)) if since_us.saturating_add(QUIET_US) <= now_us => {
                self.close(window_us, now_us)
            }
            _ => Ok(None),
        }
    }

    fn longest_quiet(&self) -> Option<(i64, i64)> {
        self.late.first().copied()
    }

    fn close_quietest(&mut self, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        if self.underway.is_some() {
            return self.go_on(now_us);
        }
        match self.late.first() {
            Some(&(_, window_us)) => self.close(window_us, now_us),
            None => Ok(None),
        }
    }

    fn longest_closed(&self) -> Option<(i64, i64)> {
        self.closed.first().copied()
    }

    fn forget_longest_closed(&mut self) {
        if let Some((since_us, window_us)) = self.longest_closed() {
            self.drop_closed(since_us, window_us);
            self.counts.forgotten_windows += 1;
        }
    }

    fn pass(&mut self, now_us: i64) {
        while let Some((since_us, window_us)) = self.longest_closed()
            && since_us.saturating_add(self.plan.horizon_us) <= now_us
        {
            self.drop_closed(since_us, window_us);
        }
    }

    fn write(&self) -> Result<Framed, ProcessorError> {
        let mut chunks: Vec<Chunk> = Vec::with_capacity(self.panes.len());
        let mut panes = BTreeMap::new();
        for (&pane_us, pane) in &self.panes {
            panes.insert(pane_us, pane.save(&mut chunks)?);
        }
        let save = |(&window_us, window): (&i64, &Window)| {
            let held = if self.is_pane() { panes.remove(&window_us) } else { None };
            Saved { window_us, phase: window.phase, revision: window.revision, held }
        };
        let windows = self.windows.iter().map(save).collect();
        let (counts, width_us, gone) = (self.counts, self.slide_us, self.gone.clone());
        let panes = panes.into_iter().map(|(pane_us, held)| SavedPane { pane_us, held }).collect();
        let replaced = self.replaced.clone();
        let manifest = Manifest { counts, width_us, gone, replaced, windows, panes };
        Framed::new(&manifest, chunks)
    }

    fn restore(&mut self, section: &Section) -> Result<(), ProcessorError> {
        let (manifest, chunks): (Manifest, Vec<Chunk>) = Framed::decode(section)?;
        let mut chunks = chunks.into_iter();
        (self.counts, self.gone, self.replaced) = (manifest.counts, manifest.gone, manifest.replaced);
        let mut panes = manifest.panes;
        for Saved { window_us, phase, revision, held } in manifest.windows {
            match phase {
                Phase::Open => self.open.insert(window_us),
                Phase::Late(since_us) => self.late.insert((since_us, window_us)),
                Phase::Closed(since_us) => self.closed.insert((since_us, window_us)),
            };
            self.windows.insert(window_us, Window { phase, revision });
            panes.extend(held.map(|held| SavedPane { pane_us: window_us, held }));
        }
        for SavedPane { pane_us, held } in panes {
            self.put(pane_us, held, &mut chunks)?;
        }
        if chunks.next().is_some() {
            return Err(ProcessorError::new(format!("state of rollup {} is incomplete", self.plan.name)));
        }
        Ok(())
    }

    fn start_after(&mut self, body: &Bytes, is_filled: bool) {
        let Written { spans, slide_us } = gone_after(&self.plan, body);
        if is_filled && slide_us > 0 {
            self.replaced = Replaced { spans, slide_us, begun: false };
        } else {
            self.gone = spans;
        }
    }

    fn filled_from(&mut self, from_us: i64) {
        // A window that the first row is in is replaced as a whole.
        let from_us = self.plan.windows.of_pane(self.plan.windows.pane_of(from_us)).next().unwrap_or(from_us);
        for (start_us, end_us) in Vec::from(self.replaced.spans.take_before(from_us)) {
            self.gone.insert(start_us, end_us);
        }
        self.replaced.begun = true;
    }
}

impl Folded {
    fn remember(&mut self, pane_us: i64, suffix: &RecordBatch) {
        if self.suffix_rows + suffix.num_rows() > MAX_SUFFIX_ROWS {
            return;
        }
        self.remove(pane_us);
        self.suffix_rows += suffix.num_rows();
        self.suffixes.insert(pane_us, suffix.clone());
    }

    fn remove(&mut self, pane_us: i64) {
        if let Some(suffix) = self.suffixes.remove(&pane_us) {
            self.suffix_rows -= suffix.num_rows();
        }
    }

    /// A pane has another partial: what it was folded into does not hold.
    fn forget(&mut self, pane_us: i64, size_us: i64) {
        let block_us = pane_us.saturating_sub(pane_us.rem_euclid(size_us));
        let stale: Vec<i64> = self.suffixes.range(block_us..=pane_us).map(|(&us, _)| us).collect();
        stale.into_iter().for_each(|us| self.remove(us));
        self.prefix.take_if(|p| p.block_us == block_us && p.until_us > pane_us);
    }
}
