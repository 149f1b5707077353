//! A rule's SQL, planned once and run over the rows of one window and tenant.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, plan_err};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, collect};
use highwater_pipeline::data::time;
use parking_lot::Mutex;
use serde_json::{Map, Number, Value};

use crate::planning;

/// Polls after which an evaluation is given up. Operators that yield make progress at every poll, and a window's rows are few.
const MAX_POLLS: usize = 1_000_000;

/// One row of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instance {
    /// String columns that are not NULL.
    pub(super) labels: BTreeMap<String, String>,
    /// The first numeric column; NaN where it is NULL.
    pub(super) value: f64,
    /// The whole row, by column.
    pub(super) row: Map<String, Value>,
}

/// A planned query.
pub(super) struct Query {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    rows: Arc<Slot>,
    /// Held while it runs: the slot has the rows of one evaluation.
    turn: Mutex<()>,
    label_columns: Vec<(usize, String)>,
    value_column: usize,
    /// Per column of the answer: its name, and the column of the table that it is unchanged.
    origins: Vec<(String, Option<String>)>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("label_columns", &self.label_columns).finish_non_exhaustive()
    }
}

/// The table's rows at this evaluation.
#[derive(Debug)]
struct Slot {
    schema: SchemaRef,
    batches: Mutex<Vec<RecordBatch>>,
}

impl PartitionStream for Slot {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        // Only a projection can fail here, and there is none.
        match MemoryStream::try_new(self.batches.lock().clone(), Arc::clone(&self.schema), None) {
            Ok(stream) => Box::pin(stream),
            Err(_) => Box::pin(datafusion::physical_plan::EmptyRecordBatchStream::new(Arc::clone(&self.schema))),
        }
    }
}

/// The names of the tables a query reads.
pub(super) fn tables(sql: &str, known: Vec<(&str, SchemaRef)>) -> Result<Vec<String>> {
    let session = planning::session(known.into_iter().map(|(n, s)| (n, planning::schema_only(s))).collect())?;
    let logical = planning::plan(&session, sql)?;
    let mut names = Vec::new();
    logical.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.push(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

impl Query {
    /// Plans a query over one table.
    pub(super) fn new(sql: &str, table: &str, schema: &SchemaRef) -> Result<Self> {
        let rows = Arc::new(Slot { schema: Arc::clone(schema), batches: Mutex::new(Vec::new()) });
        let stream: Arc<dyn PartitionStream> = Arc::<Slot>::clone(&rows);
        let provider = StreamingTable::try_new(Arc::clone(schema), vec![stream])?;
        let session = planning::session(vec![(table, Arc::new(provider))])?;
        let logical = planning::plan(&session, sql)?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&logical)?;
        let mut impure = None;
        logical.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                impure = impure.take().or_else(|| planning::clock_or_chance(expr));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if let Some(reason) = impure {
            return plan_err!("{reason}");
        }
        let answer = Arc::new(logical.schema().as_arrow().clone());
        let fields = || answer.fields().iter().enumerate();
        let label_columns = fields()
            .filter(|(_, f)| {
                matches!(f.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
                    && f.name() != "tenant"
            })
            .map(|(i, f)| (i, f.name().clone()))
            .collect();
        let value = fields().find(|(_, f)| f.data_type().is_numeric() && !f.name().starts_with('_'));
        let Some((value_column, _)) = value else {
            return plan_err!(
                "it selects no numeric column, and an alert needs a value; select the number that is compared as well"
            );
        };
        let origins = fields().map(|(i, f)| (f.name().clone(), origin(&logical, i))).collect();
        let optimized = session.optimize(&logical)?;
        let plan = drive(session.query_planner().create_physical_plan(&optimized, &session))?;
        Ok(Self { plan, context: session.task_ctx(), rows, turn: Mutex::new(()), label_columns, value_column, origins })
    }

    /// Names of the columns that become labels.
    pub(super) fn label_columns(&self) -> impl Iterator<Item = &str> {
        self.label_columns.iter().map(|(_, name)| name.as_str())
    }

    /// Per column of the answer: its name, and the column of the table that it is unchanged, where it is one.
    pub(super) fn origins(&self) -> &[(String, Option<String>)] {
        &self.origins
    }

    /// The name of the column that is an alert's value.
    pub(super) fn value_column(&self) -> &str {
        self.origins.get(self.value_column).map_or("", |(name, _)| name)
    }

    /// Runs over these rows.
    pub(super) fn run(&self, rows: Vec<RecordBatch>) -> Result<Vec<Instance>> {
        let _turn = self.turn.lock();
        *self.rows.batches.lock() = rows;
        let plan = reset_plan_states(Arc::clone(&self.plan))?;
        let answer = drive(tokio::task::unconstrained(collect(plan, Arc::clone(&self.context))));
        self.rows.batches.lock().clear();
        let mut instances = Vec::new();
        for batch in answer? {
            let values = cast(batch.column(self.value_column), &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            let texts = self.label_columns.iter().map(|(i, _)| cast(batch.column(*i), &DataType::Utf8));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let labels = self.label_columns.iter().zip(&texts).filter(|(_, text)| text.is_valid(row));
                let labels =
                    labels.map(|((_, name), text)| (name.clone(), text.as_string::<i32>().value(row).to_owned()));
                // A label with an empty value is no label, as in Prometheus.
                let labels = labels.filter(|(_, value)| !value.is_empty()).collect();
                let value = if values.is_valid(row) { values.value(row) } else { f64::NAN };
                instances.push(Instance { labels, value, row: json_row(&batch, row) });
            }
        }
        Ok(instances)
    }
}

/// The column of the table that this column of a plan's answer is unchanged.
fn origin(plan: &LogicalPlan, column: usize) -> Option<String> {
    let named = |expr: &Expr, input: &LogicalPlan| match unaliased(expr) {
        Expr::Column(named) => origin(input, input.schema().maybe_index_of_column(named)?),
        _ => None,
    };
    match plan {
        LogicalPlan::Projection(projection) => named(projection.expr.get(column)?, &projection.input),
        LogicalPlan::Aggregate(aggregate) => named(aggregate.group_expr.get(column)?, &aggregate.input),
        LogicalPlan::Window(window) if column < window.input.schema().fields().len() => origin(&window.input, column),
        LogicalPlan::Filter(filter) => origin(&filter.input, column),
        LogicalPlan::Sort(sort) => origin(&sort.input, column),
        LogicalPlan::Limit(limit) => origin(&limit.input, column),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, column),
        LogicalPlan::Distinct(Distinct::All(input)) => origin(input, column),
        LogicalPlan::TableScan(scan) => scan.projected_schema.fields().get(column).map(|field| field.name().clone()),
        _ => None,
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// A row as JSON: numbers, booleans and texts as such, everything else as its text.
fn json_row(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let cell = |column: &ArrayRef| {
        if column.is_null(row) {
            return Value::Null;
        }
        let text = || array_value_to_string(column, row).unwrap_or_default();
        match column.data_type() {
            DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                time::format(column.as_primitive::<TimestampMicrosecondType>().value(row)).into()
            }
            // What JSON has no number for (NaN) is text, as everywhere.
            numeric if numeric.is_numeric() => {
                let text = text();
                serde_json::from_str::<Number>(&text).map_or_else(|_| Value::String(text), Value::Number)
            }
            _ => text().into(),
        }
    };
    batch.schema().fields().iter().zip(batch.columns()).map(|(f, column)| (f.name().clone(), cell(column))).collect()
}

/// Polls a future to its end. Everything it waits for is in memory, so a poll always makes progress.
fn drive<T, F: Future<Output = Result<T>>>(future: F) -> Result<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(futures::task::noop_waker_ref());
    for _ in 0..MAX_POLLS {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
    }
    Err(DataFusionError::Execution("the query did not finish".to_owned()))
}
