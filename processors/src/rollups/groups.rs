//! The state of one window: DataFusion's group values and accumulators, held across batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::{and, is_not_null};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use highwater_pipeline::data::time;

use super::extremes::{Extreme, FloatExtreme};
use super::plan::{PlannedAggregate, RollupPlan};
use super::variance::{Spread, Variance};

/// Columns of a batch that go into groups: one slice of rows, evaluated.
#[derive(Debug, Clone)]
pub(super) struct GroupInput {
    /// tenant, keys.
    pub(super) keys: Vec<ArrayRef>,
    /// For each aggregate, its arguments.
    pub(super) arguments: Vec<Vec<ArrayRef>>,
    /// For each aggregate, its FILTER.
    pub(super) filters: Vec<Option<BooleanArray>>,
}

impl GroupInput {
    /// Applies a kernel to every column.
    pub(super) fn map(&self, kernel: impl Fn(&ArrayRef) -> Result<ArrayRef>) -> Result<Self> {
        let all = |columns: &[ArrayRef]| columns.iter().map(&kernel).collect::<Result<Vec<_>>>();
        let filters = self.filters.iter().map(|filter| {
            let Some(filter) = filter else { return Ok(None) };
            let mapped = kernel(&(Arc::new(filter.clone()) as ArrayRef))?;
            Ok(Some(mapped.as_boolean().clone()))
        });
        Ok(Self {
            keys: all(&self.keys)?,
            arguments: self.arguments.iter().map(|columns| all(columns)).collect::<Result<_>>()?,
            filters: filters.collect::<Result<_>>()?,
        })
    }

    /// Rows `from..to`, without copying.
    pub(super) fn slice(&self, from: usize, to: usize) -> Result<Self> {
        self.map(|column| Ok(column.slice(from, to - from)))
    }
}

/// The groups of one window and the accumulators of their aggregates.
pub(super) struct Groups {
    /// The first column of a partial that is part of the group: the tenant, or the window's start before it.
    first: usize,
    values: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// Per group, how many rows went into it.
    rows: Vec<i64>,
    indices: Vec<usize>,
}

impl Groups {
    /// No groups yet, all of one window.
    pub(super) fn new(plan: &RollupPlan) -> Result<Self> {
        Self::grouped(plan, 1, Arc::clone(&plan.group_schema))
    }

    /// No groups yet; the windows that partials are of are told apart by their start.
    pub(super) fn of_windows(plan: &RollupPlan) -> Result<Self> {
        let groups = plan.group_schema.fields().len();
        let fields: Vec<_> = plan.partial_schema.fields()[..=groups].to_vec();
        Self::grouped(plan, 0, Arc::new(Schema::new(fields)))
    }

    fn grouped(plan: &RollupPlan, first: usize, schema: SchemaRef) -> Result<Self> {
        let accumulators = plan.aggregates.iter().map(accumulator).collect::<Result<_>>()?;
        let values = new_group_values(schema, &GroupOrdering::None)?;
        Ok(Self { first, values, accumulators, rows: Vec::new(), indices: Vec::new() })
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes rows, in log order.
    pub(super) fn update(&mut self, input: &GroupInput) -> Result<()> {
        self.intern(&input.keys)?;
        for &group in &self.indices {
            self.rows[group] += 1;
        }
        let total = self.rows.len();
        for ((accumulator, arguments), filter) in self.accumulators.iter_mut().zip(&input.arguments).zip(&input.filters)
        {
            accumulator.update_batch(arguments, &self.indices, filter.as_ref(), total)?;
        }
        Ok(())
    }

    /// Takes partials, in order: a batch of the plan's partial schema, of one window.
    pub(super) fn merge(&mut self, plan: &RollupPlan, partial: &RecordBatch) -> Result<()> {
        let groups = plan.group_schema.fields().len();
        let columns = partial.columns();
        self.intern(&columns[self.first..=groups])?;
        let rows = columns[columns.len() - 1].as_primitive::<Int64Type>();
        for (&group, &count) in self.indices.iter().zip(rows.values()) {
            self.rows[group] += count;
        }
        let total = self.rows.len();
        let mut at = 1 + groups;
        for (accumulator, aggregate) in self.accumulators.iter_mut().zip(&plan.aggregates) {
            accumulator.merge_batch(&columns[at..at + aggregate.state_columns], &self.indices, total)?;
            at += aggregate.state_columns;
        }
        Ok(())
    }

    /// All groups as a batch of the plan's partial schema, leaving none. Groups [of windows](Self::of_windows) have their own starts.
    pub(super) fn take_partial(&mut self, plan: &RollupPlan, window_start_us: i64) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(plan.partial_schema.fields().len());
        if self.first > 0 {
            columns.push(Arc::new(time::array(vec![window_start_us; self.rows.len()])));
        }
        columns.extend(self.values.emit(EmitTo::All)?);
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.rows))));
        Ok(RecordBatch::try_new(Arc::clone(&plan.partial_schema), columns)?)
    }

    /// All groups as [`Self::take_partial`] gives them, leaving them in place: what a snapshot holds.
    pub(super) fn copy_partial(&mut self, plan: &RollupPlan, window_start_us: i64) -> Result<RecordBatch> {
        let partial = self.take_partial(plan, window_start_us)?;
        *self = Self::new(plan)?;
        self.merge(plan, &partial)?;
        Ok(partial)
    }

    /// The group columns (the window's start where windows are told apart; tenant, keys) and the value of each aggregate, leaving nothing.
    pub(super) fn take_values(&mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        self.rows.clear();
        let keys = self.values.emit(EmitTo::All)?;
        let values = self.accumulators.iter_mut().map(|a| a.evaluate(EmitTo::All)).collect::<Result<_>>()?;
        Ok((keys, values))
    }

    fn intern(&mut self, keys: &[ArrayRef]) -> Result<()> {
        self.indices.clear();
        self.values.intern(keys, &mut self.indices)?;
        self.rows.resize(self.values.len(), 0);
        Ok(())
    }
}

/// The state of an aggregate, with no groups. The error says what is wrong with its arguments.
pub(super) fn accumulator(aggregate: &PlannedAggregate) -> Result<Box<dyn GroupsAccumulator>> {
    let function = &aggregate.function;
    if *function.field().data_type() == DataType::Float64 {
        match function.fun().name() {
            "min" => return Ok(Box::new(FloatExtreme::new(Extreme::Min))),
            "max" => return Ok(Box::new(FloatExtreme::new(Extreme::Max))),
            _ => {}
        }
    }
    if let Some(spread) = Spread::of(function.fun().name()) {
        return Ok(Box::new(Variance::new(spread)));
    }
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

/// A FILTER's result as a mask: NULL is false.
pub(super) fn mask(filter: &ArrayRef) -> Result<BooleanArray> {
    let filter = filter.as_boolean();
    if filter.null_count() == 0 {
        return Ok(filter.clone());
    }
    let (values, _) = filter.clone().into_parts();
    Ok(and(&BooleanArray::new(values, None), &is_not_null(filter)?)?)
}
