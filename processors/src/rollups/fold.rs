//! Stage 2: the partials of all sources into the rows of closed windows.
//!
//! Per pane it keeps each source's partials apart, in the order they came, and folds them source by source when a window of it closes: one
//! ahead of the merged watermark once that reaches its end plus lateness, a late one once no row for it has come for 10 s of append time. See
//! [`folding`] for what becomes of a window; the time it goes by is the append time of the records read here.
//!
//! A rollup that reads another one is fed here as well: see [`chain`](super::chain).

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::{Control, content_type, ipc};
use highwater_pipeline::log::Record;
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::watermark::MergedWatermark;
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError, Scratch, StageRows};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::chain::Chain;
use super::filling::{self, Filled, Filling};
use super::folding::{self, Closing, Folding, Partial};
use super::plan::{ROWS, RollupPlan, Source};
use crate::frames::{self, Framed};

/// What partials of the open and late windows of one task may take as they are. Beyond, they are packed, a tenth to a third of that.
const MAX_LOOSE_BYTES: usize = 64 << 20;
/// What the open and late windows of one task may take in all, in memory and put aside. Beyond, late windows are closed early, which is correct and costs
/// revisions; where there is none, partials are dropped, counted and reported as errors.
const MAX_OPEN_BYTES: usize = 2 << 30;
/// The same of windows that cannot be put aside.
const MAX_OPEN_IN_MEMORY_BYTES: usize = 512 << 20;
/// What the closed windows of one task may take. Beyond, those closed longest ago are forgotten: rows that still come for them are too late.
const MAX_KEPT_BYTES: usize = 512 << 20;
/// The same of windows that cannot be put aside.
const MAX_KEPT_IN_MEMORY_BYTES: usize = 64 << 20;
/// What may be in memory for want of room to put it aside. Beyond, the task stops, with nothing lost.
const MAX_PACKED_IN_MEMORY_BYTES: usize = 512 << 20;
/// Most rows of partials that are folded at once.
const BUCKET_ROWS: usize = 262_144;
/// Most rows of one output record.
const MAX_ROWS: usize = 8_192;
/// Name of the section of what is not part of one rollup, and its version.
const SECTION: &str = "fold";
const SECTION_VERSION: u64 = 1;

/// The topics that stage 2 writes beside those of the rollups.
#[derive(Debug, Clone, Copy)]
pub struct FoldTopics<'a> {
    /// Where closed windows of rollups that a rule reads go.
    pub rules: &'a str,
    /// The topic it reads, where partials of rollups over rollups go.
    pub partials: &'a str,
}

/// Stage 2 of all rollups, for one partition of the partials topic.
pub struct FoldProcessor {
    task: Arc<str>,
    partition: i32,
    /// What rollups read, and how far each has come.
    inputs: Vec<FoldInput>,
    /// Input by input, so that a rollup is behind the one it reads.
    rollups: Vec<Rollup>,
    /// Where closed windows of rollups that a rule reads are sent.
    rules_topic: Arc<str>,
    /// Where the partials of rollups over rollups go: the topic that is read here.
    partials_topic: Arc<str>,
    /// Of that topic.
    partitions: i32,
    clock: Clock,
    /// While what stored rows have completed is closed.
    is_catching_up: bool,
    limits: FoldLimits,
    scratch: Option<Arc<dyn Scratch>>,
    /// How often something could not be put aside.
    refusals: u64,
}

/// What the windows of one task may take, in bytes. What is put aside counts as what is in memory does, so that effects do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldLimits {
    /// As they are; beyond, they are packed.
    pub loose_bytes: usize,
    /// In all; beyond, late windows are closed early, and then partials are dropped and counted.
    pub open_bytes: usize,
    /// The same of sessions, which stay in memory.
    pub open_in_memory_bytes: usize,
    /// What closed windows may take; beyond, those closed longest ago are forgotten.
    pub kept_bytes: usize,
    /// The same of sessions.
    pub kept_in_memory_bytes: usize,
    /// A window whose partials have more rows than this is folded in buckets of groups, and never merged as a whole; one of a hop from 16 times as many on.
    pub bucket_rows: usize,
}

impl Default for FoldLimits {
    fn default() -> Self {
        Self {
            loose_bytes: MAX_LOOSE_BYTES,
            open_bytes: MAX_OPEN_BYTES,
            open_in_memory_bytes: MAX_OPEN_IN_MEMORY_BYTES,
            kept_bytes: MAX_KEPT_BYTES,
            kept_in_memory_bytes: MAX_KEPT_IN_MEMORY_BYTES,
            bucket_rows: BUCKET_ROWS,
        }
    }
}

/// A topic that rollups read.
struct FoldInput {
    topic: Arc<str>,
    merged: MergedWatermark,
}

/// The windows of one rollup.
struct Rollup {
    plan: Arc<RollupPlan>,
    /// What it reads.
    input: usize,
    windows: Box<dyn Folding>,
    /// True where a rule reads it.
    to_rules: bool,
    /// The rollups that read it, if any do.
    chain: Option<Chain>,
    filling: Filling,
}

/// The append time that has been reached, Unix microseconds. It does not go back where the log's does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    now_us: i64,
}

impl FoldProcessor {
    /// For the task `task`, of this partition. `partitions` is the number of partitions of each input topic; `to_rules` says
    /// which rollups a rule reads.
    pub fn new(
        task: &str,
        partition: i32,
        partitions: i32,
        topics: FoldTopics<'_>,
        plans: &[Arc<RollupPlan>],
        to_rules: impl Fn(&str) -> bool,
    ) -> Self {
        let mut inputs: Vec<FoldInput> = Vec::new();
        let mut rollups: Vec<Rollup> = Vec::with_capacity(plans.len());
        let mut names: VecDeque<&str> = Source::ALL.iter().map(|source| source.topic()).collect();
        while let Some(topic) = names.pop_front() {
            let own: Vec<&Arc<RollupPlan>> = plans.iter().filter(|plan| plan.input() == topic).collect();
            if own.is_empty() {
                continue;
            }
            let merged = MergedWatermark::new((0..partitions).map(|p| format!("{topic}/{p}")));
            // The tasks of a rollup follow the watermark of what it reads, and speak up seldom: one that is behind is about to.
            let is_topic = Source::ALL.iter().any(|source| source.topic() == topic);
            let merged = if is_topic { merged } else { merged.waiting_for_all() };
            // The live ones, and their stored rows.
            let sources = 2 * merged.sources().len();
            for plan in own {
                names.push_back(&plan.topic);
                let readers = plans.iter().filter(|reader| reader.input() == &*plan.topic).map(Arc::clone);
                rollups.push(Rollup {
                    plan: Arc::clone(plan),
                    input: inputs.len(),
                    windows: folding::new(Arc::clone(plan), sources),
                    to_rules: to_rules(&plan.name),
                    chain: Chain::new(plan, partition, readers.collect(), plans),
                    filling: Filling::default(),
                });
            }
            inputs.push(FoldInput { topic: topic.into(), merged });
        }
        let (rules_topic, partials_topic) = (topics.rules.into(), topics.partials.into());
        let clock = Clock::default();
        let (task, is_catching_up, limits) = (task.into(), false, FoldLimits::default());
        Self {
            task,
            partition,
            inputs,
            rollups,
            rules_topic,
            partials_topic,
            partitions,
            clock,
            is_catching_up,
            limits,
            scratch: None,
            refusals: 0,
        }
    }

    /// What its open and late windows take: in all, and what of it is not packed.
    #[cfg(test)]
    pub(super) fn open_bytes(&self) -> (usize, usize) {
        let windows = || self.rollups.iter().map(|r| &r.windows);
        (windows().map(|w| w.open_bytes()).sum(), windows().map(|w| w.loose_bytes()).sum())
    }

    /// With other limits than the default.
    #[must_use]
    pub fn within(mut self, limits: FoldLimits) -> Self {
        self.rollups.iter_mut().for_each(|rollup| rollup.windows.fold_in(limits.bucket_rows));
        Self { limits, ..self }
    }

    fn partials(&mut self, rows: &StageRows, effects: &mut Effects) -> Result<(), ProcessorError> {
        let same = |r: &Rollup| *r.plan.name == *rows.name && r.plan.definition == rows.definition;
        let known = self.rollups.iter().position(same).and_then(|rollup| {
            let merged = &self.inputs[self.rollups[rollup].input].merged;
            let source = match rows.source.strip_prefix(filling::SOURCE) {
                Some(stored) => merged.sources().len() + merged.index(stored)?,
                None => merged.index(&rows.source)?,
            };
            Some((rollup, source, self.watermark_us(rollup)))
        });
        let Some((rollup, source, merged_us)) = known else {
            // Of a rollup that has been edited or removed since.
            metrics::counter!("highwater_rollup_stale_partials_total", "rollup" => rows.name.to_string()).increment(1);
            return Ok(());
        };
        let plan = Arc::clone(&self.rollups[rollup].plan);
        if rows.batch.schema_ref() != &plan.partial_schema {
            let reason = format!("partials of rollup {} from {} do not have its columns", rows.name, rows.source);
            return Err(ProcessorError::new(reason));
        }
        for (pane_us, batch) in by_pane(&rows.batch)? {
            let count = row_count(&batch);
            if !self.make_room(effects)? {
                metrics::counter!("highwater_rollup_dropped_rows_total", "rollup" => rows.name.to_string())
                    .increment(count);
                tracing::error!(rollup = %rows.name, task = %self.task, rows = count, limit_bytes = self.limits.open_bytes,
                    "too many open groups; rows are missing from the rollup (they are in the table). Group by fewer columns or use narrower windows");
                continue;
            }
            let partial = Partial { source, pane_us, batch, rows: count };
            self.rollups[rollup].windows.take(partial, merged_us, self.clock.now_us)?;
        }
        self.report(rollup);
        Ok(())
    }

    /// Packs partials, puts them aside, and closes late windows, the quietest first, until a batch more finds room. False where that is not enough.
    fn make_room(&mut self, effects: &mut Effects) -> Result<bool, ProcessorError> {
        while self.rollups.iter().map(|r| r.windows.loose_bytes()).sum::<usize>() > self.limits.loose_bytes {
            let largest = self.rollups.iter_mut().max_by_key(|r| r.windows.loose_bytes());
            if !largest.map_or(Ok(false), |r| r.windows.pack_largest())? {
                break;
            }
        }
        self.put_aside()?;
        while let Some(in_memory) =
            self.over(|windows| windows.open_bytes(), self.limits.open_bytes, self.limits.open_in_memory_bytes)
        {
            let of = |r: &usize| !in_memory || self.rollups[*r].windows.stays_in_memory();
            let quietest = (0..self.rollups.len())
                .filter(of)
                .filter_map(|r| Some((self.rollups[r].windows.longest_quiet()?, r)))
                .min();
            let Some((_, rollup)) = quietest else { return Ok(false) };
            let closing = self.rollups[rollup].windows.close_quietest(self.clock.now_us)?;
            self.closed(rollup, closing, effects)?;
        }
        Ok(true)
    }

    /// Whether windows take more than they may: false where all of them do, true where those do that stay in memory.
    fn over(&self, size: impl Fn(&dyn Folding) -> usize, all: usize, in_memory: usize) -> Option<bool> {
        let sum = |of: &dyn Fn(&dyn Folding) -> bool| -> usize {
            self.rollups.iter().map(|r| &*r.windows).filter(|w| of(*w)).map(&size).sum()
        };
        if sum(&|windows| windows.stays_in_memory()) > in_memory {
            return Some(true);
        }
        (sum(&|_| true) > all).then_some(false)
    }

    /// Puts packed partials aside once they take more memory than they may: so much that it need not be done again soon.
    fn put_aside(&mut self) -> Result<(), ProcessorError> {
        let Some(scratch) = self.scratch.clone() else { return Ok(()) };
        let in_memory = |rollups: &[Rollup]| rollups.iter().map(|r| r.windows.packed_in_memory_bytes()).sum::<usize>();
        let limit = scratch.memory_bytes();
        if in_memory(&self.rollups) <= limit {
            return Ok(());
        }
        let mut largest: Vec<usize> = (0..self.rollups.len()).collect();
        largest.sort_by_key(|&r| std::cmp::Reverse(self.rollups[r].windows.packed_in_memory_bytes()));
        for rollup in largest {
            let over = in_memory(&self.rollups).saturating_sub(limit / 4 * 3);
            let Err(error) = self.rollups[rollup].windows.put_aside(&*scratch, over) else { continue };
            metrics::counter!("highwater_rollup_put_aside_failures_total", "task" => self.task.to_string())
                .increment(1);
            let in_memory_bytes = in_memory(&self.rollups);
            if in_memory_bytes > MAX_PACKED_IN_MEMORY_BYTES.max(limit.saturating_mul(4)) {
                let reason = "there is no room to put state aside, and too much of it for memory; make room on the disk (state.directory) and start again";
                return Err(ProcessorError::caused(reason, error));
            }
            self.refusals += 1;
            if self.refusals.is_power_of_two() {
                tracing::warn!(task = %self.task, %error, in_memory_bytes, "state stays in memory, as it cannot be put aside");
            }
            break;
        }
        Ok(())
    }

    fn progress(
        &mut self,
        at: At,
        source: &str,
        watermark_us: Option<i64>,
        idle: bool,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        for input in 0..self.inputs.len() {
            let merged = &mut self.inputs[input].merged;
            let Some(index) = merged.index(source) else { continue };
            let before = merged.watermark_us();
            if merged.report(index, watermark_us, idle).is_none() {
                continue;
            }
            for rollup in 0..self.rollups.len() {
                if self.rollups[rollup].input == input {
                    let Rollup { plan, filling, .. } = &self.rollups[rollup];
                    let before = filling.watermark_us(before, plan);
                    self.advance(at, rollup, before, effects)?;
                }
            }
        }
        Ok(())
    }

    /// The watermark that holds for a rollup.
    fn watermark_us(&self, rollup: usize) -> Option<i64> {
        let Rollup { plan, filling, input, .. } = &self.rollups[rollup];
        filling.watermark_us(self.inputs[*input].merged.watermark_us(), plan)
    }

    /// The watermark of a rollup may have moved on from `before`: closes what it has reached, and says so to whoever waits for it.
    fn advance(
        &mut self,
        at: At,
        rollup: usize,
        before: Option<i64>,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        let Some(merged_us) = self.watermark_us(rollup) else { return Ok(()) };
        loop {
            let closing = self.rollups[rollup].windows.close_reached(merged_us, self.clock.now_us)?;
            if !self.closed(rollup, closing, effects)? {
                break;
            }
        }
        let Rollup { plan, to_rules, .. } = &self.rollups[rollup];
        let closed_us = plan.closed_until_us(merged_us);
        if *to_rules && !self.is_filling(rollup) && before.map(|b| plan.closed_until_us(b)) < Some(closed_us) {
            let source = self.name_of(rollup);
            let control = Control::Progress {
                source,
                position: at.position,
                watermark_us: Some(closed_us),
                idle: false,
                rules: None,
            };
            effects.push(&self.rules_topic, 0, control.to_record());
        }
        if let Some(chain) = &mut self.rollups[rollup].chain
            && let Some(progress) = chain.progress(at.position, merged_us)
        {
            self.tell_all(&progress.to_record(), effects);
        }
        Ok(())
    }

    /// Whether a rollup, or one that it reads, is still being filled with stored rows: what it closes is no news for rules.
    fn is_filling(&self, rollup: usize) -> bool {
        if self.is_catching_up {
            return true;
        }
        let mut plan = Some(&self.rollups[rollup].plan);
        while let Some(one) = plan {
            if self.rollups.iter().any(|r| r.plan.name == one.name && r.filling.is_on()) {
                return true;
            }
            plan = one.upstream();
        }
        false
    }

    /// A slice of stored rows has been passed on, or will be.
    fn filled(
        &mut self,
        at: At,
        rollup: &str,
        definition: &str,
        source: &str,
        filled: Filled,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        let same = |r: &Rollup| *r.plan.name == *rollup && filling::hex(r.plan.definition) == definition;
        let Some(rollup) = self.rollups.iter().position(same) else { return Ok(()) };
        let before = self.watermark_us(rollup);
        let partitions = self.inputs[self.rollups[rollup].input].merged.sources().len();
        let filling = &mut self.rollups[rollup].filling;
        filling.report(source, filled);
        if let Some(from_us) = filling.begin(partitions) {
            let name = Arc::clone(&self.rollups[rollup].plan.name);
            self.rollups.iter_mut().filter(|r| r.plan.stands_on(&name)).for_each(|r| r.windows.filled_from(from_us));
        }
        // What the last slice lets close is no news either: it was over before.
        self.is_catching_up = true;
        let advanced = self.advance(at, rollup, before, effects);
        self.is_catching_up = false;
        advanced
    }

    /// A rollup has closed a window again: its readers take what they have of it back.
    fn superseded(&mut self, source: &str, window_start_us: i64) -> Result<(), ProcessorError> {
        for rollup in 0..self.rollups.len() {
            let index = self.inputs[self.rollups[rollup].input].merged.index(source);
            let (Some(index), merged_us) = (index, self.watermark_us(rollup)) else { continue };
            let Rollup { plan, windows, .. } = &mut self.rollups[rollup];
            windows.retract(index, plan.windows.pane_of(window_start_us), merged_us, self.clock.now_us)?;
        }
        Ok(())
    }

    fn tell_all(&self, record: &Record, effects: &mut Effects) {
        for partition in 0..self.partitions {
            effects.push(&self.partials_topic, partition, record.clone());
        }
    }

    /// Append time has come this far: late windows that are quiet close, and closed ones are forgotten.
    fn pass_time(&mut self, at: At, effects: &mut Effects) -> Result<(), ProcessorError> {
        self.clock.now_us = self.clock.now_us.max(at.append_time_us);
        for rollup in 0..self.rollups.len() {
            loop {
                let closing = self.rollups[rollup].windows.close_quiet(self.clock.now_us)?;
                if !self.closed(rollup, closing, effects)? {
                    break;
                }
            }
            self.rollups[rollup].windows.pass(self.clock.now_us);
        }
        Ok(())
    }

    /// Emits a closing, and makes room for what is kept of it. False where there is none.
    fn closed(
        &mut self,
        rollup: usize,
        closing: Option<Closing>,
        effects: &mut Effects,
    ) -> Result<bool, ProcessorError> {
        let Some(closing) = closing else { return Ok(false) };
        self.emit(rollup, &closing, effects)?;
        while let Some(in_memory) =
            self.over(|windows| windows.kept_bytes(), self.limits.kept_bytes, self.limits.kept_in_memory_bytes)
        {
            let of = |r: &usize| !in_memory || self.rollups[*r].windows.stays_in_memory();
            let oldest = (0..self.rollups.len())
                .filter(of)
                .filter_map(|r| Some((self.rollups[r].windows.longest_closed()?, r)))
                .min();
            let Some((_, oldest)) = oldest else { break };
            self.rollups[oldest].windows.forget_longest_closed();
            let forgotten = self.rollups[oldest].windows.counts().forgotten_windows;
            if forgotten.is_power_of_two() {
                tracing::warn!(rollup = %self.rollups[oldest].plan.name, task = %self.task, windows = forgotten, limit_bytes = self.limits.kept_bytes,
                    "closed windows are forgotten before their correction_horizon, for want of room; rows that still come for them are too late");
            }
            self.report(oldest);
        }
        self.put_aside()?;
        self.report(rollup);
        Ok(true)
    }

    /// A closing's records: what supersedes the one before, then its rows.
    fn emit(&self, rollup: usize, closing: &Closing, effects: &mut Effects) -> Result<(), ProcessorError> {
        let Rollup { plan, to_rules, chain, .. } = &self.rollups[rollup];
        let to_rules = *to_rules && !self.is_filling(rollup);
        for &(window_start_us, revision) in &closing.superseded {
            let control = Control::Superseded { source: self.name_of(rollup), window_start_us, revision }.to_record();
            effects.push(&plan.topic, self.partition, control.clone());
            if to_rules {
                effects.push(&self.rules_topic, 0, control);
            }
            if let Some(chain) = chain {
                self.tell_all(&chain.superseded(window_start_us, revision).to_record(), effects);
            }
        }
        let mut from = 0;
        while from < closing.rows.num_rows() {
            let size = MAX_ROWS.min(closing.rows.num_rows() - from);
            let rows = closing.rows.slice(from, size);
            from += size;
            let value = ipc::encode(&rows)
                .map_err(|e| ProcessorError::caused(format!("rows of rollup {} cannot be encoded", plan.name), e))?;
            effects.push_value(&plan.topic, self.partition, None, content_type::header(content_type::ARROW), value);
            if to_rules {
                let (name, source) = (Arc::clone(&plan.name), Arc::clone(&self.task));
                let rows = StageRows { name, definition: plan.definition, source, batch: rows };
                effects.push(&self.rules_topic, 0, rows.to_record()?);
            }
        }
        if let Some(chain) = chain {
            chain.emit(closing, &self.partials_topic, self.partitions, effects)?;
        }
        Ok(())
    }

    /// What gives the merged watermark of an input its meaning: its sources, and of a rollup its definition, as one that begins anew goes through all of
    /// its time again.
    fn merged_hash(&self, input: &FoldInput) -> u64 {
        let hash = sources_hash(&input.merged);
        let rollup = self.rollups.iter().find(|r| *r.plan.topic == *input.topic);
        rollup.map_or(hash, |r| hash ^ r.plan.definition)
    }

    /// What control records of a rollup are signed with.
    fn name_of(&self, rollup: usize) -> String {
        format!("{}/{}", self.rollups[rollup].plan.name, self.partition)
    }

    /// Counts what is late. Absolute, and a function of the log: replay does not count twice.
    fn report(&self, rollup: usize) {
        let counts = self.rollups[rollup].windows.counts();
        let name = &self.rollups[rollup].plan.name;
        for (metric, count) in [
            ("highwater_rollup_late_rows_total", counts.late_rows),
            ("highwater_rollup_too_late_rows_total", counts.too_late_rows),
            ("highwater_rollup_late_dropped_rows_total", counts.dropped_rows),
            ("highwater_rollup_corrections_total", counts.corrections),
            ("highwater_rollup_forgotten_windows_total", counts.forgotten_windows),
        ] {
            metrics::counter!(metric, "rollup" => name.to_string(), "partition" => self.partition.to_string())
                .absolute(count);
        }
    }

    fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        writer.put(SECTION, SECTION_VERSION, frames::encode(&self.clock, &[])?);
        for input in &self.inputs {
            writer.put(merged_section(&input.topic), self.merged_hash(input), frames::encode(&input.merged, &[])?);
        }
        for Rollup { plan, windows, chain, filling, .. } in &self.rollups {
            let Framed { body, chunks } = windows.write()?;
            writer.put_chunks(section(plan), plan.definition, body, chunks);
            if *filling != Filling::default() {
                writer.put(filling_section(plan), plan.definition, frames::encode(filling, &[])?);
            }
            if let Some(chain) = chain {
                chain.write(writer)?;
            }
        }
        Ok(())
    }
}

impl Processor for FoldProcessor {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Stage(rows) => {
                self.pass_time(at, effects)?;
                self.partials(&rows, effects)
            }
            Input::Control(Control::Progress { source, watermark_us, idle, .. }) => {
                self.pass_time(at, effects)?;
                self.progress(at, source, *watermark_us, *idle, effects)
            }
            Input::Control(Control::Superseded { source, window_start_us, .. }) => {
                self.pass_time(at, effects)?;
                self.superseded(source, *window_start_us)
            }
            Input::Control(Control::Filled { rollup, definition, source, from_us, until_us, done }) => {
                self.pass_time(at, effects)?;
                let filled = Filled { from_us: *from_us, until_us: *until_us, done: *done };
                self.filled(at, rollup, definition, source, filled, effects)
            }
            Input::Control(Control::Clock { .. }) | Input::Rows(_) | Input::Slice(..) => Ok(()),
            Input::Barrier(writer) => self.write(writer),
        }
    }

    fn use_scratch(&mut self, scratch: &Arc<dyn Scratch>) {
        self.scratch = Some(Arc::clone(scratch));
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        if let Some(body) = state.get(SECTION, SECTION_VERSION) {
            self.clock = frames::decode::<Clock>(body)?.0;
        }
        let hashes: Vec<u64> = self.inputs.iter().map(|input| self.merged_hash(input)).collect();
        for (FoldInput { topic, merged }, hash) in self.inputs.iter_mut().zip(hashes) {
            if let Some(body) = state.get(&merged_section(topic), hash) {
                *merged = frames::decode::<MergedWatermark>(body)?.0;
            }
        }
        // Those that begin here and are given what was before, directly or by the rollup they read.
        let mut anew: Vec<Arc<str>> = Vec::new();
        for Rollup { plan, windows, chain, filling, .. } in &mut self.rollups {
            if let Some(chain) = chain {
                chain.restore(state)?;
            }
            if let Some(body) = state.get(&filling_section(plan), plan.definition) {
                *filling = frames::decode::<Filling>(body)?.0;
            }
            let is_filled = match plan.upstream() {
                Some(upstream) => anew.contains(&upstream.name),
                None => plan.is_filled(),
            };
            if is_filled && state.get(&section(plan), plan.definition).is_none() {
                anew.push(Arc::clone(&plan.name));
            }
            let name = section(plan);
            if let Some(saved) = state.section(&name, plan.definition) {
                windows.restore(saved)?;
            } else if let Some(other) = state.sections().iter().find(|section| section.name == name) {
                windows.start_after(&other.body, is_filled);
            }
        }
        Ok(())
    }

    fn merged_watermark_us(&self) -> Option<i64> {
        self.inputs.iter().filter_map(|input| input.merged.watermark_us()).min()
    }
}

/// Splits partials into runs of one pane.
fn by_pane(partials: &RecordBatch) -> Result<Vec<(i64, RecordBatch)>, ProcessorError> {
    let starts = partials
        .column(0)
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| ProcessorError::new("partials do not begin with window_start"))?
        .values();
    let mut runs = Vec::new();
    let mut from = 0;
    for run in starts.chunk_by(|a, b| a == b) {
        runs.push((run[0], partials.slice(from, run.len())));
        from += run.len();
    }
    Ok(runs)
}

fn row_count(partial: &RecordBatch) -> u64 {
    let counts = partial.column_by_name(ROWS).and_then(|c| c.as_primitive_opt::<Int64Type>());
    counts.map_or(0, |c| c.values().iter().map(|n| n.unsigned_abs()).sum())
}

fn section(plan: &RollupPlan) -> String {
    format!("rollup/{}", plan.name)
}

fn filling_section(plan: &RollupPlan) -> String {
    format!("filling/{}", plan.name)
}

fn merged_section(topic: &str) -> String {
    format!("merged/{topic}")
}

fn sources_hash(merged: &MergedWatermark) -> u64 {
    let names: Vec<&str> = merged.sources().iter().map(|s| &*s.source).collect();
    XxHash64::oneshot(1, names.join("\0").as_bytes())
}
