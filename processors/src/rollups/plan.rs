//! From SQL to a plan that state can be kept for; and the refusal of everything else, by name.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection};
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use highwater_pipeline::data::{identity, logs, metrics, time};
use highwater_pipeline::functions::{TUMBLE, tumble_width_us};
use highwater_pipeline::runtime::ProcessorError;
use highwater_pipeline::tables::{REVISION_COLUMN, WINDOW_START_COLUMN};
use twox_hash::XxHash64;

use super::config::RollupConfig;
use crate::error::ProcessorsError;
use crate::planning;

/// The aggregates whose state survives a round trip through a snapshot to the bit, and merges in order.
const AGGREGATES: [&str; 7] = ["count", "sum", "min", "max", "avg", "bool_and", "bool_or"];
/// Columns every rollup has; a query may not use these names for something else.
const WINDOW_END: &str = "window_end";
const TENANT: &str = "tenant";
/// In partials: how many rows went into a group.
pub(super) const ROWS: &str = "_rows";
/// Part of the definition's hash; bumped when the meaning of partials changes.
const FORMAT: &str = "rollup 2";

/// Which topic a rollup reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Topic `logs`.
    Logs,
    /// Topic `metrics`.
    Metrics,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Logs, Self::Metrics];

    /// Name of the topic and of the table.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// Its table schema, identity included.
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Logs => logs::schema(),
            Self::Metrics => metrics::schema(),
        }
    }
}

/// One aggregate of a rollup.
#[derive(Debug, Clone)]
pub(super) struct PlannedAggregate {
    pub(super) function: Arc<AggregateFunctionExpr>,
    pub(super) arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// Number of columns of its state.
    pub(super) state_columns: usize,
}

/// A rollup, planned and checked. Cheap to share; holds no state.
#[derive(Debug)]
pub struct RollupPlan {
    pub(super) name: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) source: Source,
    pub(super) width_us: i64,
    pub(super) lateness_us: i64,
    /// How long the partials of a closed window are kept, in append time. No part of the definition: state means the same with another.
    pub(super) horizon_us: i64,
    pub(super) definition: u64,
    /// WHERE.
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// GROUP BY without the window and the tenant.
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) aggregates: Vec<PlannedAggregate>,
    /// tenant, keys.
    pub(super) group_schema: SchemaRef,
    /// window_start, tenant, keys, states, _rows.
    pub(super) partial_schema: SchemaRef,
    /// What HAVING and SELECT are evaluated over: GROUP BY expressions, aggregates.
    pub(super) aggregated_schema: SchemaRef,
    /// For each GROUP BY expression, where it comes from.
    pub(super) group_columns: Vec<GroupColumn>,
    pub(super) having: Option<Arc<dyn PhysicalExpr>>,
    /// SELECT, without the columns every rollup has.
    pub(super) select: Vec<Arc<dyn PhysicalExpr>>,
    output_schema: SchemaRef,
}

/// Where a GROUP BY expression comes from at close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupColumn {
    /// The window's start.
    Window,
    /// The tenant, named explicitly.
    Tenant,
    /// Key with this index.
    Key(usize),
}

impl RollupPlan {
    /// Plans a rollup, or says why it cannot be one.
    pub fn new(config: &RollupConfig) -> Result<Self, ProcessorsError> {
        Planner { name: &config.name }.plan(config)
    }

    /// Name of the rollup and of its table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Topic of its rows, `rollup.<name>`.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What it reads.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Width of its windows, in microseconds.
    pub fn width_us(&self) -> i64 {
        self.width_us
    }

    /// Hash of everything that gives its state a meaning.
    pub fn definition(&self) -> u64 {
        self.definition
    }

    /// Its rows on the wire: the query's columns, `window_start`, `window_end`, `_revision`, `tenant`.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output_schema)
    }

    /// Its rows as a table's: [`Self::output_schema`] and the row identity.
    pub fn table_schema(&self) -> SchemaRef {
        let mut fields: Vec<FieldRef> = self.output_schema.fields().iter().map(Arc::clone).collect();
        fields.extend(identity::fields());
        Arc::new(Schema::new(fields))
    }

    /// When a window closes: its end plus the lateness, Unix microseconds.
    pub(super) fn closes_us(&self, window_start_us: i64) -> i64 {
        window_start_us.saturating_add(self.width_us).saturating_add(self.lateness_us)
    }

    /// The end of the last window that is closed at this watermark.
    pub(super) fn closed_until_us(&self, watermark_us: i64) -> i64 {
        highwater_pipeline::functions::tumble_start_us(watermark_us.saturating_sub(self.lateness_us), self.width_us)
    }

    /// For an error that ends a task of this rollup.
    pub(super) fn cannot_fold(&self, error: DataFusionError) -> ProcessorError {
        ProcessorError::caused(format!("rollup {} cannot be folded", self.name), error)
    }

    /// The columns every row has, in the order of the output schema behind the query's own.
    pub(super) fn common_columns(&self, window_start_us: i64, revision: i32, tenant: ArrayRef) -> [ArrayRef; 4] {
        let rows = tenant.len();
        [
            Arc::new(time::array(vec![window_start_us; rows])),
            Arc::new(time::array(vec![window_start_us.saturating_add(self.width_us); rows])),
            Arc::new(arrow::array::Int32Array::from(vec![revision; rows])),
            tenant,
        ]
    }
}

struct Planner<'a> {
    name: &'a str,
}

/// The parts of a query that is a rollup.
struct Parts<'a> {
    projection: &'a Projection,
    having: Option<&'a Expr>,
    aggregate: &'a Aggregate,
    filter: Option<&'a Expr>,
    table: &'a str,
}

impl Planner<'_> {
    fn plan(&self, config: &RollupConfig) -> Result<RollupPlan, ProcessorsError> {
        self.check_name()?;
        if config.lateness_ms < 0 {
            return Err(self.refuse("lateness must not be negative"));
        }
        if config.correction_horizon_ms < 0 {
            return Err(self.refuse("correction_horizon must not be negative"));
        }
        let tables = Source::ALL.iter().map(|s| (s.topic(), planning::schema_only(s.schema()))).collect();
        let session = planning::session(tables).map_err(|e| self.planner(&e))?;
        let logical = planning::plan(&session, &config.sql).map_err(|e| self.planner(&e))?;
        let parts = self.parts(&logical)?;
        let source = Source::ALL
            .into_iter()
            .find(|s| s.topic() == parts.table)
            .ok_or_else(|| self.refuse(format!("FROM {}: a rollup reads logs or metrics", parts.table)))?;
        self.check_expressions(&parts)?;

        let input = parts.aggregate.input.schema();
        let (width_us, window) = self.window(parts.aggregate)?;
        let mut keys = Vec::new();
        let mut group_fields: Vec<FieldRef> = vec![Arc::new(Field::new(TENANT, DataType::Utf8, false))];
        let mut group_columns = Vec::new();
        for (index, expr) in parts.aggregate.group_expr.iter().enumerate() {
            if index == window {
                group_columns.push(GroupColumn::Window);
                continue;
            }
            if matches!(unaliased(expr), Expr::Column(c) if c.name == TENANT) {
                group_columns.push(GroupColumn::Tenant);
                continue;
            }
            let key = self.physical(expr, input)?;
            let data_type = key.data_type(input.as_arrow()).map_err(|e| self.planner(&e))?;
            if data_type.is_nested() {
                let reason = format!("GROUP BY {expr}: a group cannot be a {data_type}; group by one of its parts");
                return Err(self.refuse(reason));
            }
            group_columns.push(GroupColumn::Key(keys.len()));
            group_fields.push(Arc::new(Field::new(format!("key{}", keys.len()), data_type, true)));
            keys.push(key);
        }
        let aggregates = self.aggregates(parts.aggregate)?;
        let filter = parts.filter.map(|e| self.physical(e, input)).transpose()?;

        let aggregated = &parts.aggregate.schema;
        let having = parts.having.map(|e| self.physical(e, aggregated)).transpose()?;
        let (select, output_schema) = self.select(parts.projection, parts.aggregate, window)?;
        let partial_schema = self.partial_schema(&group_fields, &aggregates)?;
        let lateness_us = config.lateness_ms.saturating_mul(1_000);
        let definition = definition(config, &partial_schema, &output_schema);
        Ok(RollupPlan {
            name: Arc::from(self.name),
            topic: Arc::from(format!("rollup.{}", self.name)),
            source,
            width_us,
            lateness_us,
            horizon_us: config.correction_horizon_ms.saturating_mul(1_000),
            definition,
            filter,
            keys,
            aggregates,
            group_schema: Arc::new(Schema::new(group_fields)),
            partial_schema,
            aggregated_schema: Arc::new(aggregated.as_arrow().clone()),
            group_columns,
            having,
            select,
            output_schema,
        })
    }

    fn check_name(&self) -> Result<(), ProcessorsError> {
        let mut chars = self.name.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
        let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !first || !rest || self.name.len() > 64 {
            return Err(self.refuse(
                "a name is a SQL table: lower-case letters, digits and _, at most 64, not beginning with a digit",
            ));
        }
        if ["logs", "metrics", "spans", "alerts", "dead_letter"].contains(&self.name) {
            return Err(self.refuse("a built-in table has this name; choose another"));
        }
        Ok(())
    }

    /// Takes the plan apart, or names the clause that does not fit.
    fn parts<'p>(&self, plan: &'p LogicalPlan) -> Result<Parts<'p>, ProcessorsError> {
        let LogicalPlan::Projection(projection) = plan else { return Err(self.unsupported(plan)) };
        let (having, below) = match &*projection.input {
            LogicalPlan::Filter(filter) => (Some(&filter.predicate), &*filter.input),
            other => (None, other),
        };
        let LogicalPlan::Aggregate(aggregate) = below else { return Err(self.unsupported(below)) };
        let (filter, below) = match &*aggregate.input {
            LogicalPlan::Filter(filter) => (Some(&filter.predicate), &*filter.input),
            other => (None, other),
        };
        let below = match below {
            LogicalPlan::SubqueryAlias(alias) => &*alias.input,
            other => other,
        };
        let LogicalPlan::TableScan(scan) = below else { return Err(self.unsupported(below)) };
        Ok(Parts { projection, having, aggregate, filter, table: scan.table_name.table() })
    }

    fn unsupported(&self, plan: &LogicalPlan) -> ProcessorsError {
        self.refuse(match plan {
            LogicalPlan::Sort(_) => "ORDER BY: a window's rows have no order; order in the query that reads the table",
            LogicalPlan::Limit(_) => "LIMIT: every group of a window is kept; limit in the query that reads the table",
            LogicalPlan::Distinct(_) => "SELECT DISTINCT: the rows of a GROUP BY are distinct; leave DISTINCT out",
            LogicalPlan::Join(_) => "JOIN: a rollup reads one topic; join the tables in the query that reads them",
            LogicalPlan::Union(_) => "UNION: write one rollup for each side",
            LogicalPlan::Window(_) => "OVER (...): window functions over rows are for queries; use aggregates with GROUP BY tumble(timestamp, INTERVAL '1 minute')",
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => "FROM (...): subqueries are not supported; select from logs or metrics directly",
            LogicalPlan::TableScan(_) | LogicalPlan::Filter(_) => "there is no aggregate: a rollup is SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, count(*) AS n FROM logs GROUP BY 1",
            _ => "only SELECT ... FROM logs|metrics [WHERE ...] GROUP BY tumble(timestamp, INTERVAL '...'), ... [HAVING ...] is supported",
        })
    }

    fn check_expressions(&self, parts: &Parts<'_>) -> Result<(), ProcessorsError> {
        let clauses = [
            ("WHERE", parts.filter.into_iter().collect::<Vec<_>>()),
            ("GROUP BY", parts.aggregate.group_expr.iter().collect()),
            ("SELECT", parts.aggregate.aggr_expr.iter().chain(&parts.projection.expr).collect()),
            ("HAVING", parts.having.into_iter().collect()),
        ];
        for (clause, expressions) in clauses {
            for expr in expressions {
                if let Some(reason) = planning::impure(expr) {
                    return Err(self.refuse(format!("{clause} {expr}: {reason}")));
                }
            }
        }
        Ok(())
    }

    /// Finds the window among the GROUP BY expressions: its width and its index.
    fn window(&self, aggregate: &Aggregate) -> Result<(i64, usize), ProcessorsError> {
        let mut found = None;
        for (index, expr) in aggregate.group_expr.iter().enumerate() {
            if matches!(expr, Expr::GroupingSet(_)) {
                return Err(self.refuse(
                    "GROUP BY: ROLLUP, CUBE and GROUPING SETS are not supported; write one rollup for each grouping",
                ));
            }
            let Expr::ScalarFunction(ScalarFunction { func, args }) = unaliased(expr) else { continue };
            if func.name() != TUMBLE {
                continue;
            }
            if found.is_some() {
                return Err(self.refuse("GROUP BY: a rollup has one window; write one rollup for each width"));
            }
            let [instant, width] = args.as_slice() else { continue };
            if !matches!(unaliased(instant), Expr::Column(c) if c.name == time::COLUMN) {
                return Err(self.refuse(format!(
                    "GROUP BY {expr}: the window must be over the column timestamp, which carries event time"
                )));
            }
            let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(width)), _) = unaliased(width) else {
                return Err(self.refuse(format!(
                    "GROUP BY {expr}: the window's width must be a constant such as INTERVAL '1 minute'"
                )));
            };
            found = Some((
                tumble_width_us(*width).map_err(|reason| self.refuse(format!("GROUP BY {expr}: {reason}")))?,
                index,
            ));
        }
        found.ok_or_else(|| {
            self.refuse("GROUP BY has no window: group by tumble(timestamp, INTERVAL '1 minute'), and select it AS window_start")
        })
    }

    fn aggregates(&self, aggregate: &Aggregate) -> Result<Vec<PlannedAggregate>, ProcessorsError> {
        let input = aggregate.input.schema();
        let mut planned = Vec::with_capacity(aggregate.aggr_expr.len());
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(function) = unaliased(expr) else {
                return Err(self.refuse(format!("SELECT {expr}: not an aggregate")));
            };
            let name = function.func.name();
            if !AGGREGATES.contains(&name) {
                let reason =
                    format!("SELECT {expr}: {name} is not supported yet; these are: {}", AGGREGATES.join(", "));
                return Err(self.refuse(reason));
            }
            if function.params.distinct {
                let reason = format!(
                    "SELECT {expr}: DISTINCT cannot be merged across partitions yet; add the column to GROUP BY and count in the query that reads the table"
                );
                return Err(self.refuse(reason));
            }
            if !function.params.order_by.is_empty() {
                return Err(self.refuse(format!("SELECT {expr}: ORDER BY has no meaning in {name}; leave it out")));
            }
            let props = ExecutionProps::new();
            let context = PhysicalPlanningContext::default();
            let lowered = LoweredAggregateBuilder::new(expr, input, input.as_arrow(), &props, &context)
                .build()
                .map_err(|e| self.planner(&e))?;
            let state_columns = lowered.aggregate.state_fields().map_err(|e| self.planner(&e))?.len();
            planned.push(PlannedAggregate {
                arguments: lowered.aggregate.expressions(),
                function: lowered.aggregate,
                filter: lowered.filter,
                state_columns,
            });
        }
        Ok(planned)
    }

    fn partial_schema(
        &self,
        group: &[FieldRef],
        aggregates: &[PlannedAggregate],
    ) -> Result<SchemaRef, ProcessorsError> {
        let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new(WINDOW_START_COLUMN, time::data_type(), false))];
        fields.extend(group.iter().map(Arc::clone));
        for (index, aggregate) in aggregates.iter().enumerate() {
            let state = aggregate.function.state_fields().map_err(|e| self.planner(&e))?;
            for (part, field) in state.iter().enumerate() {
                fields.push(Arc::new(Field::new(format!("state{index}_{part}"), field.data_type().clone(), true)));
            }
        }
        fields.push(Arc::new(Field::new(ROWS, DataType::Int64, false)));
        Ok(Arc::new(Schema::new(fields)))
    }

    fn select(
        &self,
        projection: &Projection,
        aggregate: &Aggregate,
        window: usize,
    ) -> Result<(Vec<Arc<dyn PhysicalExpr>>, SchemaRef), ProcessorsError> {
        let window_column = aggregate.schema.qualified_field(window);
        let mut select = Vec::new();
        let mut fields: Vec<FieldRef> = Vec::new();
        for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
            let name = field.name().as_str();
            let column = match unaliased(expr) {
                Expr::Column(c) => Some(c),
                _ => None,
            };
            if column.is_some_and(|c| c.name == *window_column.1.name()) && name == WINDOW_START_COLUMN {
                continue;
            }
            if name == TENANT && column.is_some_and(|c| c.name == TENANT) {
                continue;
            }
            if [WINDOW_START_COLUMN, WINDOW_END, TENANT, "date"].contains(&name) || name.starts_with('_') {
                let reason = format!(
                    "SELECT {expr}: the name {name} is taken (every rollup has window_start, window_end, tenant, date, and names with _ in front are internal); choose another with AS"
                );
                return Err(self.refuse(reason));
            }
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !plain || name.len() > 128 {
                return Err(self.refuse(format!(
                    "SELECT {expr}: give it a name of letters, digits and _ with AS, e.g. {expr} AS n"
                )));
            }
            if fields.iter().any(|f| f.name().eq_ignore_ascii_case(name)) {
                return Err(
                    self.refuse(format!("SELECT {expr}: there is another column {name}; choose another name with AS"))
                );
            }
            select.push(self.physical(expr, &aggregate.schema)?);
            fields.push(Arc::new(Field::new(name, field.data_type().clone(), true)));
        }
        fields.push(Arc::new(Field::new(WINDOW_START_COLUMN, time::data_type(), false)));
        fields.push(Arc::new(Field::new(WINDOW_END, time::data_type(), false)));
        fields.push(Arc::new(Field::new(REVISION_COLUMN, DataType::Int32, false)));
        fields.push(Arc::new(Field::new(TENANT, DataType::Utf8, false)));
        Ok((select, Arc::new(Schema::new(fields))))
    }

    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, ProcessorsError> {
        create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .map_err(|e| self.planner(&e))
    }

    fn planner(&self, error: &DataFusionError) -> ProcessorsError {
        self.refuse(planning::explain(error))
    }

    fn refuse(&self, reason: impl Into<String>) -> ProcessorsError {
        ProcessorsError::rollup(self.name, reason)
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The hash that partials, snapshots and rows between tasks are marked with. Layout may change in an SQL text; so may the order of
/// columns: only what is written decides, so that a state is never read with another meaning.
fn definition(config: &RollupConfig, partial: &Schema, output: &Schema) -> u64 {
    let text =
        format!("{FORMAT}\0{}\0{}\0{}\0{partial:?}\0{output:?}", config.name, config.sql.trim(), config.lateness_ms);
    XxHash64::oneshot(0, text.as_bytes())
}
