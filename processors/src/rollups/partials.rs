//! Stage 1: the rows of one input partition into partials per pane and group. (A pane is a window of `tumble`, a slide of `hop`, a part of a `session`: see
//! [`windows`](super::windows).)
//!
//! What leads to which effect, per rollup of the topic:
//! - a row that carries the partition's watermark to where a pane is due (the end of the first window that holds it, plus lateness), or a clock record
//!   that does: the pane's partials, then progress;
//! - a row for a pane whose partials have gone: it is a supplement, which follows, behind progress, when the watermark reaches the next full
//!   second, or with the first record appended a second or more later;
//! - a watermark that has reached another second at the end of a record: progress;
//! - a clock record that says the partition is idle: everything that is open, then progress;
//! - the first record of a new or edited rollup: a request for the stored rows below it ([`filling`](super::filling)), and word of that.
//!
//! Progress always comes behind what was complete at that watermark and before the supplements to it, so that stage 2 sees a late row as late no
//! matter how rows are grouped into records.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result as DataFusionResult;
use highwater_pipeline::data::{Control, partitioner};
use highwater_pipeline::log::Record;
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::watermark::CLOCK_PERIOD_US;
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError, Rows, StageRows};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::filling;
use super::groups::Groups;
use super::plan::RollupPlan;
use super::prepared::Prepared;
use crate::frames::{self, Framed};

/// What the open groups of one task may take, by the estimate of their plans; beyond, all partials go to stage 2 early, which is correct and costs
/// records. An estimate, because what they really take depends on where the task was last restored, and what it emits must not.
const MAX_OPEN_BYTES: usize = 128 << 20;
/// Most rows of one partials record.
const MAX_ROWS: usize = 8_192;
/// Name of the section of what is not part of one rollup, and its version.
const SECTION: &str = "partials";
const SECTION_VERSION: u64 = 1;

/// Stage 1 of all rollups of one topic, for one input partition.
pub struct PartialsProcessor {
    source: Arc<str>,
    topic: Arc<str>,
    partitions: i32,
    rollups: Vec<Open>,
    progress: Progress,
    requests_topic: Arc<str>,
}

/// What has been passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    watermark_us: Option<i64>,
    idle: bool,
    reported: bool,
}

/// The open panes of a rollup.
struct Open {
    plan: Arc<RollupPlan>,
    panes: BTreeMap<i64, Pane>,
    /// Rows whose expressions failed, since the start of the log.
    failed_rows: u64,
    /// It is new, and has not asked for the stored rows yet.
    asks: bool,
}

struct Pane {
    groups: Groups,
    timing: Timing,
}

/// When a pane's partials are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Timing {
    #[serde(rename = "window_us")]
    pane_us: i64,
    /// The watermark at which they go.
    due_us: i64,
    supplement: bool,
    /// Append time of the first row.
    opened_us: i64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    failed_rows: u64,
    windows: Vec<Timing>,
}

impl PartialsProcessor {
    /// For the task `source` (e.g. `logs/2`), writing to `partitions` partitions of `topic`.
    ///
    /// Requests for stored rows go to `requests_topic`, which has as many partitions as its own topic.
    pub fn new(
        source: &str,
        topic: &str,
        requests_topic: &str,
        partitions: i32,
        plans: impl IntoIterator<Item = Arc<RollupPlan>>,
    ) -> Self {
        let open = |plan| Open { plan, panes: BTreeMap::new(), failed_rows: 0, asks: false };
        let rollups = plans.into_iter().map(open).collect();
        let (source, topic, requests_topic) = (source.into(), topic.into(), requests_topic.into());
        Self { source, topic, partitions, rollups, progress: Progress::default(), requests_topic }
    }

    /// Asks for the stored rows of rollups that begin with this record.
    fn ask(&mut self, at: At, effects: &mut Effects) -> Result<(), ProcessorError> {
        if !self.rollups.iter().any(|open| open.asks) {
            return Ok(());
        }
        let Some((table, partition)) = self.source.rsplit_once('/') else { return Ok(()) };
        let partition = partition.parse().unwrap_or(0);
        let new: Vec<&RollupPlan> = self.rollups.iter().filter(|open| open.asks).map(|open| &*open.plan).collect();
        let request = filling::first_request(table, partition, at.position, &new);
        // Word of it first: nothing that this task sends of the rollup is ahead of it.
        for plan in new {
            let (rollup, definition) = (plan.name.to_string(), filling::hex(plan.definition));
            let source = self.source.to_string();
            let filled = Control::Filled { rollup, definition, source, from_us: None, until_us: None, done: false };
            let record = filled.to_record();
            (0..self.partitions).for_each(|partition| effects.push(&self.topic, partition, record.clone()));
        }
        effects.push(&self.requests_topic, partition, request.to_record()?);
        self.rollups.iter_mut().for_each(|open| open.asks = false);
        Ok(())
    }

    fn rows(&mut self, at: At, rows: Rows<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        if self.rollups.is_empty() {
            return Ok(());
        }
        self.flush_old_supplements(at, effects)?;
        let running = rows.watermarks_us;
        let mut prepared = Vec::with_capacity(self.rollups.len());
        // Per row of the record: the earliest watermark at which a window it belongs to is due.
        let mut due = vec![i64::MAX; running.len()];
        for open in &mut self.rollups {
            let (ready, failed) = Prepared::tolerant(&open.plan, rows.batch).map_err(|e| open.error(e))?;
            open.count_failed(failed);
            for (&row, &pane_us) in ready.row.iter().zip(&ready.pane_us) {
                let row = row as usize;
                due[row] = due[row].min(due_us(open.plan.due_us(pane_us), running[row]).0);
            }
            prepared.push(ready);
        }
        let mut next_due = self.next_due_us();
        let mut from = 0;
        for row in 0..running.len() {
            if running[row] >= next_due {
                self.update(at, &prepared, running, from, row)?;
                self.flush(at, running[row], effects)?;
                next_due = self.next_due_us();
                from = row;
            }
            next_due = next_due.min(due[row]);
        }
        self.update(at, &prepared, running, from, running.len())?;
        if self.rollups.iter().map(Open::size_bytes).sum::<usize>() > MAX_OPEN_BYTES {
            metrics::counter!("highwater_rollup_early_flushes_total", "task" => self.source.to_string()).increment(1);
            tracing::warn!(task = %self.source, limit_bytes = MAX_OPEN_BYTES, "too many open groups; partials are passed on early");
            self.emit(|_| true, effects)?;
        }
        self.report(at, at.watermark_us, false, effects);
        Ok(())
    }

    /// Adds rows `from..to` of the record to their windows. The watermark reaches nothing that is due within them.
    fn update(
        &mut self,
        at: At,
        prepared: &[Prepared],
        running: &[i64],
        from: usize,
        to: usize,
    ) -> Result<(), ProcessorError> {
        for (open, prepared) in self.rollups.iter_mut().zip(prepared) {
            let Open { plan, panes, .. } = open;
            let mut add = || -> DataFusionResult<()> {
                for rows in prepared.panes(from, to)? {
                    if let Some(pane) = panes.get_mut(&rows.pane_us) {
                        pane.groups.update(&rows.input)?;
                        continue;
                    }
                    let (due_us, supplement) = due_us(plan.due_us(rows.pane_us), running[rows.first_row as usize]);
                    let timing = Timing { pane_us: rows.pane_us, due_us, supplement, opened_us: at.append_time_us };
                    let mut groups = Groups::new(plan)?;
                    groups.update(&rows.input)?;
                    panes.insert(rows.pane_us, Pane { groups, timing });
                }
                Ok(())
            };
            add().map_err(|e| open.error(e))?;
        }
        Ok(())
    }

    /// The watermark has reached something that is due.
    fn flush(&mut self, at: At, watermark_us: i64, effects: &mut Effects) -> Result<(), ProcessorError> {
        let complete = self.emit(|t| !t.supplement && t.due_us <= watermark_us, effects)?;
        self.report(at, Some(watermark_us), complete, effects);
        self.emit(|t| t.due_us <= watermark_us, effects)?;
        Ok(())
    }

    /// Silence. An idle partition passes on all it has, open windows as well: it holds nobody back from now on, and what it
    /// has must be there when the others close the window.
    fn clock(&mut self, at: At, effects: &mut Effects) -> Result<(), ProcessorError> {
        let reached = |t: &Timing| at.watermark_us.is_some_and(|watermark_us| t.due_us <= watermark_us);
        self.emit(|t| !t.supplement && (at.idle || reached(t)), effects)?;
        self.report(at, at.watermark_us, true, effects);
        self.emit(|t| t.supplement, effects)?;
        Ok(())
    }

    /// Supplements do not wait longer than a second of append time either: event time may stand still.
    fn flush_old_supplements(&mut self, at: At, effects: &mut Effects) -> Result<(), ProcessorError> {
        let old = |t: &Timing| t.supplement && at.append_time_us.saturating_sub(t.opened_us) >= CLOCK_PERIOD_US;
        if self.rollups.iter().flat_map(|open| open.panes.values()).any(|pane| old(&pane.timing)) {
            // Without the rows of the record in hand, which are not counted yet.
            let reached = self.progress.watermark_us;
            self.report(at, reached, false, effects);
            self.emit(old, effects)?;
        }
        Ok(())
    }

    /// Tells every partition of stage 2 how far this source has come, if it has come further by a second, or `force`.
    fn report(&mut self, at: At, watermark_us: Option<i64>, force: bool, effects: &mut Effects) {
        let second = |us: Option<i64>| us.map(|us| us.div_euclid(CLOCK_PERIOD_US));
        let next = Progress { watermark_us, idle: at.idle, reported: true };
        let news = second(watermark_us) > second(self.progress.watermark_us)
            || next.idle != self.progress.idle
            || !self.progress.reported;
        if self.rollups.is_empty() || !(news || force) {
            return;
        }
        self.progress = next;
        let control = Control::Progress {
            source: self.source.to_string(),
            position: at.position,
            watermark_us,
            idle: at.idle,
            rules: None,
        };
        let record: Record = control.to_record();
        for partition in 0..self.partitions {
            effects.push(&self.topic, partition, record.clone());
        }
    }

    /// Passes on the partials of the panes chosen. True where there were any.
    fn emit(&mut self, chosen: impl Fn(&Timing) -> bool, effects: &mut Effects) -> Result<bool, ProcessorError> {
        let mut any = false;
        for open in &mut self.rollups {
            let batches = open.take(&chosen).map_err(|e| open.error(e))?;
            let Some(partials) = batches else { continue };
            any = true;
            send(&open.plan, &partials, &self.source, &self.topic, self.partitions, effects)?;
        }
        Ok(any)
    }

    fn next_due_us(&self) -> i64 {
        self.rollups
            .iter()
            .flat_map(|open| open.panes.values())
            .map(|pane| pane.timing.due_us)
            .min()
            .unwrap_or(i64::MAX)
    }

    fn write(&mut self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        writer.put(SECTION, SECTION_VERSION, frames::encode(&self.progress, &[])?);
        // One that has not asked yet has no state either, and is new for whoever restores this.
        for open in self.rollups.iter_mut().filter(|open| !open.asks) {
            let mut manifest = Manifest { failed_rows: open.failed_rows, windows: Vec::new() };
            let mut chunks = Vec::with_capacity(open.panes.len());
            for (&pane_us, pane) in &mut open.panes {
                manifest.windows.push(pane.timing);
                let partial = pane.groups.copy_partial(&open.plan, pane_us);
                let partial = partial.map_err(|e| ProcessorError::caused("window state cannot be written", e))?;
                chunks.push(frames::chunk(&partial)?);
            }
            let Framed { body, chunks } = Framed::new(&manifest, chunks)?;
            writer.put_chunks(section(&open.plan), open.plan.definition, body, chunks);
        }
        Ok(())
    }
}

impl Processor for PartialsProcessor {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Rows(rows) => {
                self.ask(at, effects)?;
                self.rows(at, rows, effects)
            }
            Input::Control(Control::Clock { .. }) => {
                self.ask(at, effects)?;
                self.clock(at, effects)
            }
            // Of stages; whoever writes one into an input topic means nothing by it.
            Input::Control(Control::Progress { .. } | Control::Superseded { .. } | Control::Filled { .. })
            | Input::Stage(_)
            | Input::Slice(..) => Ok(()),
            Input::Barrier(writer) => self.write(writer),
        }
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        if let Some(body) = state.get(SECTION, SECTION_VERSION) {
            self.progress = frames::decode::<Progress>(body)?.0;
        }
        for open in &mut self.rollups {
            let Some(saved) = state.section(&section(&open.plan), open.plan.definition) else {
                tracing::info!(rollup = %open.plan.name, task = %self.source, "new or changed rollup; it starts here");
                open.asks = open.plan.is_filled();
                continue;
            };
            let (manifest, chunks): (Manifest, _) = Framed::decode(saved)?;
            if manifest.windows.len() != chunks.len() {
                return Err(ProcessorError::new(format!("state of rollup {} is incomplete", open.plan.name)));
            }
            open.failed_rows = manifest.failed_rows;
            for (timing, chunk) in manifest.windows.into_iter().zip(chunks) {
                let batch = frames::batch_of(&chunk)?;
                let mut groups = Groups::new(&open.plan).map_err(|e| open.error(e))?;
                groups.merge(&open.plan, &batch).map_err(|e| open.error(e))?;
                open.panes.insert(timing.pane_us, Pane { groups, timing });
            }
        }
        Ok(())
    }
}

impl Open {
    fn size_bytes(&self) -> usize {
        self.panes.values().map(|pane| pane.groups.len()).sum::<usize>() * self.plan.group_size_bytes()
    }

    /// Takes the panes chosen out, in order, as one batch of partials.
    fn take(&mut self, chosen: impl Fn(&Timing) -> bool) -> DataFusionResult<Option<RecordBatch>> {
        let starts: Vec<i64> =
            self.panes.values().filter(|pane| chosen(&pane.timing)).map(|pane| pane.timing.pane_us).collect();
        let mut batches = Vec::with_capacity(starts.len());
        for start in starts {
            if let Some(mut pane) = self.panes.remove(&start) {
                batches.push(pane.groups.take_partial(&self.plan, start)?);
            }
        }
        match batches.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            many => Ok(Some(concat_batches(&self.plan.partial_schema, many)?)),
        }
    }

    fn count_failed(&mut self, rows: usize) {
        if rows > 0 {
            self.failed_rows += rows as u64;
            metrics::counter!("highwater_rollup_failed_rows_total", "rollup" => self.plan.name.to_string())
                .increment(rows as u64);
            tracing::warn!(rollup = %self.plan.name, rows, "rows are left out: an expression of the rollup fails for them");
        }
    }

    fn error(&self, error: datafusion::error::DataFusionError) -> ProcessorError {
        ProcessorError::caused(format!("rollup {} cannot go on", self.plan.name), error)
    }
}

fn section(plan: &RollupPlan) -> String {
    format!("rollup/{}", plan.name)
}

/// The watermark at which a row's partials go, and whether they are a supplement, given the watermark with the row counted.
fn due_us(closes_us: i64, watermark_us: i64) -> (i64, bool) {
    if closes_us > watermark_us {
        (closes_us, false)
    } else {
        let second = watermark_us.div_euclid(CLOCK_PERIOD_US).saturating_add(1);
        (second.saturating_mul(CLOCK_PERIOD_US), true)
    }
}

/// Sends partials of a rollup to the partitions that their groups belong to.
pub(super) fn send(
    plan: &RollupPlan,
    partials: &RecordBatch,
    source: &Arc<str>,
    topic: &Arc<str>,
    partitions: i32,
    effects: &mut Effects,
) -> Result<(), ProcessorError> {
    let split = split_by_partition(plan, partials, partitions).map_err(|e| plan.cannot_fold(e))?;
    for (partition, batch) in (0..).zip(split) {
        let mut from = 0;
        while from < batch.num_rows() {
            let size = MAX_ROWS.min(batch.num_rows() - from);
            let rows = StageRows {
                name: Arc::clone(&plan.name),
                definition: plan.definition,
                source: Arc::clone(source),
                batch: batch.slice(from, size),
            };
            effects.push(topic, partition, rows.to_record()?);
            from += size;
        }
    }
    Ok(())
}

/// Splits partials by the partition their group belongs to, keeping their order.
///
/// The key is the text of the group's columns: tenant, then each key behind a NUL, with `\x01` for NULL. It must never change:
/// a group that moves would be in two partitions of one window.
fn split_by_partition(
    plan: &RollupPlan,
    partials: &RecordBatch,
    partitions: i32,
) -> DataFusionResult<Vec<RecordBatch>> {
    if partitions == 1 {
        return Ok(vec![partials.clone()]);
    }
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); usize::try_from(partitions).unwrap_or(1)];
    each_key(plan, partials, |row, key| {
        let partition = usize::try_from(partitioner::partition(key, partitions)).unwrap_or(0);
        rows[partition].push(row);
    })?;
    rows.into_iter().map(|rows| Ok(take_record_batch(partials, &UInt32Array::from(rows))?)).collect()
}

/// The rows of one of so many buckets, into which groups fall by their key.
pub(super) fn bucket(
    plan: &RollupPlan,
    partials: &RecordBatch,
    number: usize,
    buckets: usize,
) -> DataFusionResult<RecordBatch> {
    let mut rows: Vec<u32> = Vec::with_capacity(partials.num_rows() / buckets + 1);
    each_key(plan, partials, |row, key| {
        // Not the hash that chose the partition: all groups here have that in common.
        if XxHash64::oneshot(0, key) % buckets as u64 == number as u64 {
            rows.push(row);
        }
    })?;
    Ok(take_record_batch(partials, &UInt32Array::from(rows))?)
}

/// Calls with the index and the key of every row.
fn each_key(plan: &RollupPlan, partials: &RecordBatch, mut each: impl FnMut(u32, &[u8])) -> DataFusionResult<()> {
    let groups = plan.group_schema.fields().len();
    let texts: Vec<ArrayRef> =
        partials.columns()[1..=groups].iter().map(|c| cast(c, &DataType::Utf8)).collect::<Result<_, _>>()?;
    let mut key = Vec::new();
    for row in 0..partials.num_rows() {
        key.clear();
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                key.push(0);
            }
            match text.is_valid(row) {
                true => key.extend_from_slice(text.as_string::<i32>().value(row).as_bytes()),
                false => key.push(1),
            }
        }
        each(u32::try_from(row).unwrap_or(u32::MAX), &key);
    }
    Ok(())
}
