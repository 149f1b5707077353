//! From the partials of a window to its rows: fold, HAVING, SELECT.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use highwater_pipeline::data::time;

use super::groups::{Groups, mask};
use super::plan::{GroupColumn, RollupPlan, SESSION_BOUNDS};

/// Merges partials, in order, into one.
pub(super) fn merge(plan: &RollupPlan, partials: &[RecordBatch], window_us: i64) -> Result<RecordBatch> {
    let mut groups = Groups::new(plan)?;
    for partial in partials {
        groups.merge(plan, partial)?;
    }
    groups.take_partial(plan, window_us)
}

/// Folds partials, in order, into the rows of one window.
pub(super) fn close(plan: &RollupPlan, partials: &[RecordBatch], window_us: i64, revision: i32) -> Result<RecordBatch> {
    let mut groups = Groups::new(plan)?;
    for partial in partials {
        groups.merge(plan, partial)?;
    }
    let (keys, values) = groups.take_values()?;
    let rows = keys.first().map_or(0, |tenants| tenants.len());
    let end_us = window_us.saturating_add(plan.width_us());
    let common = Common {
        starts: Arc::new(time::array(vec![window_us; rows])),
        ends: Arc::new(time::array(vec![end_us; rows])),
        revisions: Arc::new(Int32Array::from(vec![revision; rows])),
    };
    select(plan, &keys, values, common)
}

/// Folds partials whose `window_start` is that of their session, in order, into the rows of those sessions. `revision` is that of all rows of a start.
pub(super) fn close_sessions(
    plan: &RollupPlan,
    partials: &[RecordBatch],
    revision: impl Fn(i64) -> i32,
) -> Result<RecordBatch> {
    let mut groups = Groups::of_windows(plan)?;
    for partial in partials {
        groups.merge(plan, partial)?;
    }
    let (mut keys, mut values) = groups.take_values()?;
    let starts = keys.remove(0);
    let bounds = values.split_off(values.len() - SESSION_BOUNDS);
    let starts_us = starts.as_primitive::<TimestampMicrosecondType>();
    let revisions: Int32Array = starts_us.values().iter().map(|&start_us| Some(revision(start_us))).collect();
    let last = bounds[1].as_primitive::<TimestampMicrosecondType>();
    let gap_us = plan.width_us();
    let ends = time::array(last.values().iter().map(|last_us| last_us.saturating_add(gap_us)).collect());
    select(plan, &keys, values, Common { starts, ends: Arc::new(ends), revisions: Arc::new(revisions) })
}

/// Merges partials whose `window_start` is that of their session, in order, into one.
pub(super) fn merge_sessions(plan: &RollupPlan, partials: &[RecordBatch]) -> Result<RecordBatch> {
    let mut groups = Groups::of_windows(plan)?;
    for partial in partials {
        groups.merge(plan, partial)?;
    }
    groups.take_partial(plan, 0)
}

/// Per row: the columns every rollup has, but the tenant.
struct Common {
    starts: ArrayRef,
    ends: ArrayRef,
    revisions: ArrayRef,
}

/// HAVING and SELECT. `keys` are the tenant and the keys.
fn select(plan: &RollupPlan, keys: &[ArrayRef], values: Vec<ArrayRef>, common: Common) -> Result<RecordBatch> {
    let tenant = Arc::clone(&keys[0]);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(plan.group_columns.len() + values.len());
    for column in &plan.group_columns {
        columns.push(match column {
            GroupColumn::Window => Arc::clone(&common.starts),
            GroupColumn::Tenant => Arc::clone(&tenant),
            GroupColumn::Key(key) => Arc::clone(&keys[1 + key]),
        });
    }
    columns.extend(values);
    let aggregated = RecordBatch::try_new(nullable(plan), columns)?;
    let common = vec![common.starts, common.ends, common.revisions, tenant];
    let selection = Selection { plan, common: RecordBatch::try_new(common_schema(plan), common)? };
    match selection.select(0, &aggregated) {
        Ok(rows) => Ok(rows),
        Err(error) => selection.row_by_row(&aggregated, &error),
    }
}

/// The columns every rollup has, behind the query's own.
fn common_schema(plan: &RollupPlan) -> SchemaRef {
    Arc::new(Schema::new(plan.output_schema.fields()[plan.select.len()..].to_vec()))
}

/// The columns that HAVING and SELECT see, all nullable: what the planner promises and what an accumulator gives can differ.
fn nullable(plan: &RollupPlan) -> SchemaRef {
    let fields: Vec<_> =
        plan.aggregated_schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

struct Selection<'a> {
    plan: &'a RollupPlan,
    common: RecordBatch,
}

impl Selection<'_> {
    /// Of the rows aggregated, which begin at `from`.
    fn select(&self, from: usize, aggregated: &RecordBatch) -> Result<RecordBatch> {
        let common = self.common.slice(from, aggregated.num_rows());
        let (aggregated, common) = match &self.plan.having {
            None => (aggregated.clone(), common),
            Some(having) => {
                let kept = mask(&having.evaluate(aggregated)?.into_array(aggregated.num_rows())?)?;
                (filter_record_batch(aggregated, &kept)?, filter_record_batch(&common, &kept)?)
            }
        };
        let rows = aggregated.num_rows();
        let mut columns: Vec<ArrayRef> =
            self.plan.select.iter().map(|e| e.evaluate(&aggregated)?.into_array(rows)).collect::<Result<_>>()?;
        columns.extend(common.columns().iter().map(Arc::clone));
        Ok(RecordBatch::try_new(self.plan.output_schema(), columns)?)
    }

    /// Rows for which an expression fails (a division by zero, say) are left out and counted; the others stay.
    fn row_by_row(&self, aggregated: &RecordBatch, error: &DataFusionError) -> Result<RecordBatch> {
        let mut kept = Vec::new();
        for row in 0..aggregated.num_rows() {
            kept.extend(self.select(row, &aggregated.slice(row, 1)).ok());
        }
        let left_out = aggregated.num_rows() - kept.len();
        metrics::counter!("highwater_rollup_failed_groups_total", "rollup" => self.plan.name.to_string())
            .increment(left_out as u64);
        tracing::warn!(rollup = %self.plan.name, groups = left_out, %error, "groups are left out: an expression of the rollup fails for them");
        Ok(concat_batches(&self.plan.output_schema(), &kept)?)
    }
}
