//! Stage 2: the partials of all sources into the rows of closed windows.
//!
//! Per window it keeps each source's partials apart, in the order they came, and folds them source by source when the merged watermark
//! reaches the window's end plus lateness. What comes for a closed window is late: counted, not folded.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{concat_batches, filter, filter_record_batch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use highwater_pipeline::data::{Control, content_type, ipc, time};
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::watermark::MergedWatermark;
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError, StageRows};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::groups::{Groups, mask};
use super::plan::{GroupColumn, ROWS, RollupPlan, Source};
use crate::frames;

/// A source with more batches than this in one window has them merged into one.
const MAX_BATCHES: usize = 16;
/// Most partial rows that are kept in one task. Beyond, partials are dropped, counted and reported as errors.
const MAX_PARTIAL_ROWS: usize = 4_000_000;
/// Most rows of one output record.
const MAX_ROWS: usize = 8_192;

/// Stage 2 of all rollups, for one partition of the partials topic.
pub struct FoldProcessor {
    task: Arc<str>,
    partition: i32,
    topics: Vec<Topic>,
    /// Where closed windows of rollups that a rule reads are sent.
    rules_topic: Arc<str>,
    partial_rows: usize,
}

/// The rollups of one input topic; they share its watermark.
struct Topic {
    source: Source,
    merged: MergedWatermark,
    rollups: Vec<Folding>,
}

struct Folding {
    plan: Arc<RollupPlan>,
    /// True where a rule reads it.
    to_rules: bool,
    windows: BTreeMap<i64, Window>,
    late_rows: u64,
}

/// Per source, in source order, its partials in the order they came.
struct Window {
    partials: Vec<Vec<RecordBatch>>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    late_rows: u64,
    /// Per batch: window start and index of the source.
    batches: Vec<(i64, usize)>,
}

impl FoldProcessor {
    /// For the task `task`, of this partition. `partitions` is the number of partitions of each input topic; `to_rules` says
    /// which rollups a rule reads.
    pub fn new(
        task: &str,
        partition: i32,
        partitions: i32,
        rules_topic: &str,
        plans: &[Arc<RollupPlan>],
        to_rules: impl Fn(&str) -> bool,
    ) -> Self {
        let topics = Source::ALL.into_iter().filter_map(|source| {
            let rollups: Vec<Folding> = plans
                .iter()
                .filter(|plan| plan.source == source)
                .map(|plan| Folding {
                    plan: Arc::clone(plan),
                    to_rules: to_rules(&plan.name),
                    windows: BTreeMap::new(),
                    late_rows: 0,
                })
                .collect();
            let sources = (0..partitions).map(|p| format!("{}/{p}", source.topic()));
            (!rollups.is_empty()).then(|| Topic { source, merged: MergedWatermark::new(sources), rollups })
        });
        let topics = topics.collect();
        Self { task: task.into(), partition, topics, rules_topic: rules_topic.into(), partial_rows: 0 }
    }

    fn partials(&mut self, rows: &StageRows) -> Result<(), ProcessorError> {
        let known = self.topics.iter_mut().find_map(|topic| {
            let source = topic.merged.index(&rows.source)?;
            let folding = topic.rollups.iter_mut().find(|f| *f.plan.name == *rows.name)?;
            (folding.plan.definition == rows.definition).then_some((
                source,
                topic.merged.sources().len(),
                topic.merged.watermark_us(),
                folding,
            ))
        });
        let Some((source, sources, merged_us, folding)) = known else {
            // Of a rollup that has been edited or removed since.
            metrics::counter!("highwater_rollup_stale_partials_total", "rollup" => rows.name.to_string()).increment(1);
            return Ok(());
        };
        if rows.batch.schema_ref() != &folding.plan.partial_schema {
            let reason = format!("partials of rollup {} from {} do not have its columns", rows.name, rows.source);
            return Err(ProcessorError::new(reason));
        }
        for (window_us, partial) in by_window(&rows.batch)? {
            if merged_us.is_some_and(|merged_us| folding.plan.closes_us(window_us) <= merged_us) {
                folding.late(&partial, self.partition);
                continue;
            }
            if self.partial_rows + partial.num_rows() > MAX_PARTIAL_ROWS {
                let dropped = row_count(&partial);
                metrics::counter!("highwater_rollup_dropped_rows_total", "rollup" => rows.name.to_string())
                    .increment(dropped);
                tracing::error!(rollup = %rows.name, task = %self.task, rows = dropped, limit = MAX_PARTIAL_ROWS,
                    "too many open groups; rows are missing from the rollup (they are in the table). Group by fewer columns or use narrower windows");
                continue;
            }
            let window =
                folding.windows.entry(window_us).or_insert_with(|| Window { partials: vec![Vec::new(); sources] });
            let kept = &mut window.partials[source];
            self.partial_rows += partial.num_rows();
            kept.push(partial);
            if kept.len() > MAX_BATCHES {
                self.partial_rows -= kept.iter().map(RecordBatch::num_rows).sum::<usize>();
                let merged = merge(&folding.plan, kept, window_us).map_err(|e| cannot_fold(&folding.plan, e))?;
                self.partial_rows += merged.num_rows();
                *kept = vec![merged];
            }
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
        for topic in &mut self.topics {
            let Some(index) = topic.merged.index(source) else { continue };
            let before = topic.merged.watermark_us();
            let Some(merged_us) = topic.merged.report(index, watermark_us, idle) else { continue };
            for folding in &mut topic.rollups {
                let due: Vec<i64> =
                    folding.windows.keys().copied().take_while(|&w| folding.plan.closes_us(w) <= merged_us).collect();
                for window_us in due {
                    let Some(window) = folding.windows.remove(&window_us) else { continue };
                    self.partial_rows -= window.partials.iter().flatten().map(RecordBatch::num_rows).sum::<usize>();
                    let rows = close(&folding.plan, &window, window_us).map_err(|e| cannot_fold(&folding.plan, e))?;
                    let mut from = 0;
                    while from < rows.num_rows() {
                        let size = MAX_ROWS.min(rows.num_rows() - from);
                        folding.emit(
                            &rows.slice(from, size),
                            self.partition,
                            &self.task,
                            &self.rules_topic,
                            effects,
                        )?;
                        from += size;
                    }
                }
                let closed_us = folding.plan.closed_until_us(merged_us);
                if folding.to_rules && before.map(|b| folding.plan.closed_until_us(b)) < Some(closed_us) {
                    let source = format!("{}/{}", folding.plan.name, self.partition);
                    let control =
                        Control::Progress { source, position: at.position, watermark_us: Some(closed_us), idle: false };
                    effects.push(&self.rules_topic, 0, control.to_record());
                }
            }
        }
        Ok(())
    }

    fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        for topic in &self.topics {
            writer.put(merged_section(topic), sources_hash(&topic.merged), frames::encode(&topic.merged, &[])?);
            for folding in &topic.rollups {
                let mut manifest = Manifest { late_rows: folding.late_rows, batches: Vec::new() };
                let mut batches = Vec::new();
                for (&window_us, window) in &folding.windows {
                    for (source, partials) in window.partials.iter().enumerate() {
                        manifest.batches.extend(partials.iter().map(|_| (window_us, source)));
                        batches.extend(partials.iter().cloned());
                    }
                }
                writer.put(section(&folding.plan), folding.plan.definition, frames::encode(&manifest, &batches)?);
            }
        }
        Ok(())
    }
}

impl Processor for FoldProcessor {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Stage(rows) => self.partials(&rows),
            Input::Control(Control::Progress { source, watermark_us, idle, .. }) => {
                self.progress(at, source, *watermark_us, *idle, effects)
            }
            Input::Control(Control::Clock { .. }) | Input::Rows(_) => Ok(()),
            Input::Barrier(writer) => self.write(writer),
        }
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        for topic in &mut self.topics {
            let sources = topic.merged.sources().len();
            if let Some(body) = state.get(&merged_section(topic), sources_hash(&topic.merged)) {
                topic.merged = frames::decode::<MergedWatermark>(body)?.0;
            }
            for folding in &mut topic.rollups {
                let Some(body) = state.get(&section(&folding.plan), folding.plan.definition) else { continue };
                let (manifest, batches): (Manifest, Vec<RecordBatch>) = frames::decode(body)?;
                if manifest.batches.len() != batches.len() || manifest.batches.iter().any(|&(_, s)| s >= sources) {
                    return Err(ProcessorError::new(format!("state of rollup {} is incomplete", folding.plan.name)));
                }
                folding.late_rows = manifest.late_rows;
                for ((window_us, source), batch) in manifest.batches.into_iter().zip(batches) {
                    self.partial_rows += batch.num_rows();
                    let window = folding
                        .windows
                        .entry(window_us)
                        .or_insert_with(|| Window { partials: vec![Vec::new(); sources] });
                    window.partials[source].push(batch);
                }
            }
        }
        Ok(())
    }

    fn merged_watermark_us(&self) -> Option<i64> {
        self.topics.iter().filter_map(|topic| topic.merged.watermark_us()).min()
    }
}

impl Folding {
    fn late(&mut self, partial: &RecordBatch, partition: i32) {
        self.late_rows += row_count(partial);
        // Absolute, and a function of the log: replay does not count twice.
        metrics::counter!("highwater_rollup_late_rows_total", "rollup" => self.plan.name.to_string(), "partition" => partition.to_string())
            .absolute(self.late_rows);
    }

    fn emit(
        &self,
        rows: &RecordBatch,
        partition: i32,
        task: &Arc<str>,
        rules_topic: &Arc<str>,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        let value = ipc::encode(rows)
            .map_err(|e| ProcessorError::caused(format!("rows of rollup {} cannot be encoded", self.plan.name), e))?;
        effects.push_value(&self.plan.topic, partition, None, content_type::header(content_type::ARROW), value);
        if self.to_rules {
            let rows = StageRows {
                name: Arc::clone(&self.plan.name),
                definition: self.plan.definition,
                source: Arc::clone(task),
                batch: rows.clone(),
            };
            effects.push(rules_topic, 0, rows.to_record()?);
        }
        Ok(())
    }
}

fn cannot_fold(plan: &RollupPlan, error: DataFusionError) -> ProcessorError {
    ProcessorError::caused(format!("rollup {} cannot be folded", plan.name), error)
}

/// Folds all partials of a window, in source order, and evaluates HAVING and SELECT.
fn close(plan: &RollupPlan, window: &Window, window_us: i64) -> DataFusionResult<RecordBatch> {
    let mut groups = Groups::new(plan)?;
    for partial in window.partials.iter().flatten() {
        groups.merge(plan, partial)?;
    }
    let (keys, values) = groups.take_values()?;
    let tenant = Arc::clone(&keys[0]);
    let starts: ArrayRef = Arc::new(time::array(vec![window_us; tenant.len()]));
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(plan.group_columns.len() + values.len());
    for column in &plan.group_columns {
        columns.push(match column {
            GroupColumn::Window => Arc::clone(&starts),
            GroupColumn::Tenant => Arc::clone(&tenant),
            GroupColumn::Key(key) => Arc::clone(&keys[1 + key]),
        });
    }
    columns.extend(values);
    let aggregated = RecordBatch::try_new(nullable(plan), columns)?;
    match select(plan, &aggregated, &tenant, window_us) {
        Ok(rows) => Ok(rows),
        Err(error) => select_row_by_row(plan, &aggregated, &tenant, window_us, &error),
    }
}

/// The columns that HAVING and SELECT see, all nullable: what the planner promises and what an accumulator gives can differ.
fn nullable(plan: &RollupPlan) -> arrow::datatypes::SchemaRef {
    let fields: Vec<_> =
        plan.aggregated_schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

fn select(
    plan: &RollupPlan,
    aggregated: &RecordBatch,
    tenant: &ArrayRef,
    window_us: i64,
) -> DataFusionResult<RecordBatch> {
    let (aggregated, tenant) = match &plan.having {
        None => (aggregated.clone(), Arc::clone(tenant)),
        Some(having) => {
            let kept = mask(&having.evaluate(aggregated)?.into_array(aggregated.num_rows())?)?;
            (filter_record_batch(aggregated, &kept)?, filter(tenant, &kept)?)
        }
    };
    let rows = aggregated.num_rows();
    let mut columns: Vec<ArrayRef> =
        plan.select.iter().map(|e| e.evaluate(&aggregated)?.into_array(rows)).collect::<DataFusionResult<_>>()?;
    columns.extend(plan.common_columns(window_us, tenant));
    Ok(RecordBatch::try_new(plan.output_schema(), columns)?)
}

/// Rows for which an expression fails (a division by zero, say) are left out and counted; the others stay.
fn select_row_by_row(
    plan: &RollupPlan,
    aggregated: &RecordBatch,
    tenant: &ArrayRef,
    window_us: i64,
    error: &DataFusionError,
) -> DataFusionResult<RecordBatch> {
    let mut kept = Vec::new();
    for row in 0..aggregated.num_rows() {
        kept.extend(select(plan, &aggregated.slice(row, 1), &tenant.slice(row, 1), window_us).ok());
    }
    let left_out = aggregated.num_rows() - kept.len();
    metrics::counter!("highwater_rollup_failed_groups_total", "rollup" => plan.name.to_string())
        .increment(left_out as u64);
    tracing::warn!(rollup = %plan.name, window_us, groups = left_out, %error, "groups are left out: an expression of the rollup fails for them");
    Ok(concat_batches(&plan.output_schema(), &kept)?)
}

/// Merges the batches of one source into one.
fn merge(plan: &RollupPlan, partials: &[RecordBatch], window_us: i64) -> DataFusionResult<RecordBatch> {
    let mut groups = Groups::new(plan)?;
    for partial in partials {
        groups.merge(plan, partial)?;
    }
    groups.take_partial(plan, window_us)
}

/// Splits partials into runs of one window.
fn by_window(partials: &RecordBatch) -> Result<Vec<(i64, RecordBatch)>, ProcessorError> {
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

fn merged_section(topic: &Topic) -> String {
    format!("merged/{}", topic.source.topic())
}

fn sources_hash(merged: &MergedWatermark) -> u64 {
    let names: Vec<&str> = merged.sources().iter().map(|s| &*s.source).collect();
    XxHash64::oneshot(1, names.join("\0").as_bytes())
}
