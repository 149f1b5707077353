//! The task that reads stored rows for rollups that are new: a slice in, its partials out, and the request for the next slice. See [`filling`]. For rules that
//! are new a slice goes on as it is, but for what they do not look at: see [`stored`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result as DataFusionResult;
use highwater_pipeline::data::Control;
use highwater_pipeline::runtime::snapshot::StateReader;
use highwater_pipeline::runtime::{
    At, Effects, Input, MAX_SLICE_ROWS, Processor, ProcessorError, SeriesRequest, Slice, SliceRequest,
};

use super::filling::{self, hex};
use super::groups::Groups;
use super::partials;
use super::plan::RollupPlan;
use super::prepared::Prepared;
use crate::rules::promql::stored;

/// The widest slice that is asked for, microseconds: a month.
const MAX_WIDTH_US: i64 = 30 * 24 * 60 * 60 * 1_000_000;
/// How much wider the next slice is where one was nearly empty.
const WIDER: i64 = 4;

/// Stage 1 of stored rows, for one partition of the topic of requests. Keeps nothing between two records.
pub struct BackfillProcessor {
    /// Of requests.
    topic: Arc<str>,
    partition: i32,
    partials_topic: Arc<str>,
    partitions: i32,
    plans: Vec<Arc<RollupPlan>>,
    /// The hashes of the rules, by the partition that they are in.
    rules: Vec<u64>,
}

impl BackfillProcessor {
    /// For partition `partition` of `topic`, writing to `partitions` partitions of `partials_topic`. `rules`: the hashes of the rules in PromQL, by partition of their topic.
    pub fn new(
        topic: &str,
        partition: i32,
        partials_topic: &str,
        partitions: i32,
        plans: impl IntoIterator<Item = Arc<RollupPlan>>,
        rules: Vec<u64>,
    ) -> Self {
        let plans = plans.into_iter().collect();
        Self { topic: topic.into(), partition, partials_topic: partials_topic.into(), partitions, plans, rules }
    }

    /// A slice for rules.
    fn samples(
        &self,
        request: &SliceRequest,
        series: &SeriesRequest,
        slice: &Slice,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        // Where rules were edited again meanwhile they ask again.
        let rules = usize::try_from(series.to_partition).ok().and_then(|place| self.rules.get(place));
        if !rules.is_some_and(|rules| request.readers.iter().any(|reader| reader.definition == hex(*rules))) {
            return Ok(());
        }
        let next_us = slice.next_us.filter(|next_us| series.until_us.is_none_or(|until_us| *next_us < until_us));
        stored::send(request, series, slice, next_us, effects)?;
        self.ask_next(request, slice, next_us, effects)
    }

    /// Asks for the slice that is next, where there is one.
    fn ask_next(
        &self,
        request: &SliceRequest,
        slice: &Slice,
        next_us: Option<i64>,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        let Some(next_us) = next_us else { return Ok(()) };
        let rows: usize = slice.batches.iter().map(RecordBatch::num_rows).sum();
        let width_us = slice.from_us.map_or(request.width_us, |from_us| slice.until_us.saturating_sub(from_us));
        let is_sparse = rows < MAX_SLICE_ROWS / 8;
        let width_us = if is_sparse { width_us.saturating_mul(WIDER).min(MAX_WIDTH_US) } else { width_us };
        let next = SliceRequest { from_us: Some(next_us), width_us, ..request.clone() };
        effects.push(&self.topic, self.partition, next.to_record()?);
        Ok(())
    }

    fn slice(&self, request: &SliceRequest, slice: &Slice, effects: &mut Effects) -> Result<(), ProcessorError> {
        let reads = |plan: &&Arc<RollupPlan>| {
            let same = |r: &&highwater_pipeline::runtime::SliceReader| {
                r.name == *plan.name && r.definition == hex(plan.definition)
            };
            request.readers.iter().any(|r| same(&r))
        };
        // Those that were edited again meanwhile have asked again.
        let plans: Vec<&Arc<RollupPlan>> = self.plans.iter().filter(reads).collect();
        if plans.is_empty() {
            return Ok(());
        }
        let partition = format!("{}/{}", request.table, request.partition);
        let source: Arc<str> = format!("{}{partition}", filling::SOURCE).into();
        for plan in &plans {
            let partials = accumulate(plan, &slice.batches).map_err(|e| plan.cannot_fold(e))?;
            if let Some(partials) = partials {
                partials::send(plan, &partials, &source, &self.partials_topic, self.partitions, effects)?;
            }
            let filled = Control::Filled {
                rollup: plan.name.to_string(),
                definition: hex(plan.definition),
                source: partition.clone(),
                // Of the first slice; later ones repeat what they were asked with.
                from_us: request.from_us.is_none().then_some(slice.from_us).flatten(),
                until_us: slice.next_us,
                done: slice.next_us.is_none(),
            };
            let record = filled.to_record();
            for partition in 0..self.partitions {
                effects.push(&self.partials_topic, partition, record.clone());
            }
        }
        let rows: usize = slice.batches.iter().map(RecordBatch::num_rows).sum();
        metrics::counter!("highwater_rollup_backfill_rows_total", "source" => partition).increment(rows as u64);
        self.ask_next(request, slice, slice.next_us, effects)
    }
}

/// The partials of rows, pane by pane.
fn accumulate(plan: &RollupPlan, batches: &[RecordBatch]) -> DataFusionResult<Option<RecordBatch>> {
    let mut panes: BTreeMap<i64, Groups> = BTreeMap::new();
    for batch in batches {
        let (prepared, failed) = Prepared::tolerant(plan, batch)?;
        if failed > 0 {
            metrics::counter!("highwater_rollup_failed_rows_total", "rollup" => plan.name.to_string())
                .increment(failed as u64);
            tracing::warn!(rollup = %plan.name, rows = failed, "stored rows are left out: an expression of the rollup fails for them");
        }
        for rows in prepared.all_panes()? {
            if let Some(groups) = panes.get_mut(&rows.pane_us) {
                groups.update(&rows.input)?;
                continue;
            }
            let mut groups = Groups::new(plan)?;
            groups.update(&rows.input)?;
            panes.insert(rows.pane_us, groups);
        }
    }
    let partials = panes.into_iter().map(|(pane_us, mut groups)| groups.take_partial(plan, pane_us));
    let partials = partials.collect::<DataFusionResult<Vec<_>>>()?;
    if partials.is_empty() {
        return Ok(None);
    }
    Ok(Some(concat_batches(&plan.partial_schema, &partials)?))
}

impl Processor for BackfillProcessor {
    fn process(&mut self, _at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Slice(request, slice) => match &request.series {
                Some(series) => self.samples(request, series, slice, effects),
                None => self.slice(request, slice, effects),
            },
            Input::Rows(_) | Input::Stage(_) | Input::Control(_) | Input::Barrier(_) => Ok(()),
        }
    }

    fn restore(&mut self, _state: &StateReader) -> Result<(), ProcessorError> {
        Ok(())
    }
}
