//! One record's rows, made ready for one rollup: filtered, expressions evaluated, each row's pane known.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::{filter_record_batch, take, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;

use super::groups::{GroupInput, mask};
use super::plan::RollupPlan;

/// The rows of a record that a rollup counts.
pub(super) struct Prepared {
    input: GroupInput,
    /// Per counted row: its index in the record.
    pub(super) row: Vec<u32>,
    /// Per counted row: the start of its pane.
    pub(super) pane_us: Vec<i64>,
}

/// Rows of one pane.
pub(super) struct PaneRows {
    pub(super) pane_us: i64,
    /// Index in the record of the first of them.
    pub(super) first_row: u32,
    pub(super) input: GroupInput,
}

impl Prepared {
    /// Evaluates everything once for the whole record.
    pub(super) fn new(plan: &RollupPlan, batch: &RecordBatch) -> Result<Self> {
        let (batch, row) = match &plan.filter {
            None => (batch.clone(), (0..index(batch.num_rows())?).collect()),
            Some(filter) => {
                let selected = mask(&evaluate(filter, batch)?)?;
                let rows = selected.values().set_indices_u32().collect();
                (filter_record_batch(batch, &selected)?, rows)
            }
        };
        let tenant = column(&batch, "tenant")?;
        let mut keys = vec![Arc::clone(tenant)];
        for key in &plan.keys {
            keys.push(evaluate(key, &batch)?);
        }
        let mut arguments = Vec::with_capacity(plan.aggregates.len());
        let mut filters = Vec::with_capacity(plan.aggregates.len());
        for aggregate in &plan.aggregates {
            arguments.push(aggregate.arguments.iter().map(|a| evaluate(a, &batch)).collect::<Result<_>>()?);
            let filter = aggregate.filter.as_ref().map(|f| mask(&evaluate(f, &batch)?)).transpose()?;
            filters.push(filter);
        }
        let times = column(&batch, plan.time_column())?.as_primitive::<TimestampMicrosecondType>();
        let pane_us = times.values().iter().map(|&t| plan.windows.pane_of(t)).collect();
        Ok(Self { input: GroupInput { keys, arguments, filters }, row, pane_us })
    }

    /// As [`Self::new`], but rows for which an expression fails are left out and counted: one bad value must not stop a partition.
    pub(super) fn tolerant(plan: &RollupPlan, batch: &RecordBatch) -> Result<(Self, usize)> {
        match Self::new(plan, batch) {
            Ok(ready) => return Ok((ready, 0)),
            Err(error) => tracing::debug!(rollup = %plan.name, %error, "an expression fails; trying row by row"),
        }
        let good: Vec<u32> = (0..index(batch.num_rows())?)
            .filter(|&row| Self::new(plan, &batch.slice(row as usize, 1)).is_ok())
            .collect();
        let failed = batch.num_rows() - good.len();
        let kept = take_record_batch(batch, &UInt32Array::from(good.clone()))?;
        let mut ready = Self::new(plan, &kept)?;
        for row in &mut ready.row {
            *row = good[*row as usize];
        }
        Ok((ready, failed))
    }

    /// The counted rows, by pane.
    pub(super) fn all_panes(&self) -> Result<Vec<PaneRows>> {
        self.panes(0, usize::MAX)
    }

    /// The counted rows with record indexes in `from..to`, by pane, each pane's rows in order.
    pub(super) fn panes(&self, from: usize, to: usize) -> Result<Vec<PaneRows>> {
        let from = self.row.partition_point(|&r| (r as usize) < from);
        let to = self.row.partition_point(|&r| (r as usize) < to);
        let Some(&first) = self.pane_us[from..to].first() else { return Ok(Vec::new()) };
        if self.pane_us[from..to].iter().all(|&w| w == first) {
            let input = self.input.slice(from, to)?;
            return Ok(vec![PaneRows { pane_us: first, first_row: self.row[from], input }]);
        }
        let mut by_pane: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for at in from..to {
            by_pane.entry(self.pane_us[at]).or_default().push(index(at)?);
        }
        let mut panes = Vec::with_capacity(by_pane.len());
        for (pane_us, rows) in by_pane {
            let first_row = rows.first().map_or(0, |&at| self.row[at as usize]);
            let rows = UInt32Array::from(rows);
            let input = self.input.map(|column| Ok(take(column, &rows, None)?))?;
            panes.push(PaneRows { pane_us, first_row, input });
        }
        Ok(panes)
    }
}

fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    expr.evaluate(batch)?.into_array(batch.num_rows())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| DataFusionError::Plan(format!("rows have no column {name}")))
}

fn index(at: usize) -> Result<u32> {
    u32::try_from(at).map_err(|_| DataFusionError::Plan(format!("a record cannot hold {at} rows")))
}
