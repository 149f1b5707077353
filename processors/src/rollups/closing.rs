//! From the partials of a window to its rows: fold, HAVING, SELECT.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{concat_batches, filter, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use highwater_pipeline::data::time;

use super::groups::{Groups, mask};
use super::plan::{GroupColumn, RollupPlan};

/// Merges the partials of one source, in the order they came, into one.
pub(super) fn merge(plan: &RollupPlan, partials: &[RecordBatch], window_us: i64) -> Result<RecordBatch> {
    let mut groups = Groups::new(plan)?;
    for partial in partials {
        groups.merge(plan, partial)?;
    }
    groups.take_partial(plan, window_us)
}

/// Folds one partial per source, in source order, into the rows of a window.
pub(super) fn close(plan: &RollupPlan, partials: &[RecordBatch], window_us: i64, revision: i32) -> Result<RecordBatch> {
    let mut groups = Groups::new(plan)?;
    for partial in partials {
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
    let window = Window { plan, start_us: window_us, revision };
    match window.select(&aggregated, &tenant) {
        Ok(rows) => Ok(rows),
        Err(error) => window.select_row_by_row(&aggregated, &tenant, &error),
    }
}

/// The columns that HAVING and SELECT see, all nullable: what the planner promises and what an accumulator gives can differ.
fn nullable(plan: &RollupPlan) -> SchemaRef {
    let fields: Vec<_> =
        plan.aggregated_schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

struct Window<'a> {
    plan: &'a RollupPlan,
    start_us: i64,
    revision: i32,
}

impl Window<'_> {
    fn select(&self, aggregated: &RecordBatch, tenant: &ArrayRef) -> Result<RecordBatch> {
        let (aggregated, tenant) = match &self.plan.having {
            None => (aggregated.clone(), Arc::clone(tenant)),
            Some(having) => {
                let kept = mask(&having.evaluate(aggregated)?.into_array(aggregated.num_rows())?)?;
                (filter_record_batch(aggregated, &kept)?, filter(tenant, &kept)?)
            }
        };
        let rows = aggregated.num_rows();
        let mut columns: Vec<ArrayRef> =
            self.plan.select.iter().map(|e| e.evaluate(&aggregated)?.into_array(rows)).collect::<Result<_>>()?;
        columns.extend(self.plan.common_columns(self.start_us, self.revision, tenant));
        Ok(RecordBatch::try_new(self.plan.output_schema(), columns)?)
    }

    /// Rows for which an expression fails (a division by zero, say) are left out and counted; the others stay.
    fn select_row_by_row(
        &self,
        aggregated: &RecordBatch,
        tenant: &ArrayRef,
        error: &DataFusionError,
    ) -> Result<RecordBatch> {
        let mut kept = Vec::new();
        for row in 0..aggregated.num_rows() {
            kept.extend(self.select(&aggregated.slice(row, 1), &tenant.slice(row, 1)).ok());
        }
        let left_out = aggregated.num_rows() - kept.len();
        metrics::counter!("highwater_rollup_failed_groups_total", "rollup" => self.plan.name.to_string())
            .increment(left_out as u64);
        tracing::warn!(rollup = %self.plan.name, window_us = self.start_us, groups = left_out, %error, "groups are left out: an expression of the rollup fails for them");
        Ok(concat_batches(&self.plan.output_schema(), &kept)?)
    }
}
