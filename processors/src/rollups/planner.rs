//! From SQL to a plan that state can be kept for; and the refusal of everything else, with its place, the reason and the nearest that works.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, Projection};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use highwater_pipeline::data::time;
use highwater_pipeline::functions::{HOP, SESSION, TUMBLE, tumble_width_us};
use highwater_pipeline::tables::{REVISION_COLUMN, WINDOW_START_COLUMN};
use twox_hash::XxHash64;

use super::config::RollupConfig;
use super::place::{self, Place};
use super::plan::{GroupColumn, PlannedAggregate, ROWS, RollupPlan, SESSION_BOUNDS, Source};
use super::windows::Windows;
use super::{groups, mergeable, rewrite};
use crate::error::ProcessorsError;
use crate::planning;

/// Columns every rollup has; a query may not use these names for something else.
const WINDOW_END: &str = "window_end";
const TENANT: &str = "tenant";
/// The topics that rollups read, for people.
const TOPICS: &str = "logs, metrics, spans";
/// Part of the definition's hash; bumped when the meaning of partials changes.
const FORMAT: &str = "rollup 2";

/// Plans a rollup, or says why it cannot be one.
pub(super) fn plan(config: &RollupConfig, rollups: &[Arc<RollupPlan>]) -> Result<RollupPlan, ProcessorsError> {
    Planner { name: &config.name, sql: &config.sql, rollups }.plan(config)
}

/// Whether this SQL reads a table of this name.
pub(crate) fn reads(sql: &str, table: &str) -> bool {
    place::of_words(sql, &["FROM", table]).is_some()
}

struct Planner<'a> {
    name: &'a str,
    sql: &'a str,
    /// Those that it may read, beside the topics.
    rollups: &'a [Arc<RollupPlan>],
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
        if config.retention_ms.is_some_and(|retention_ms| retention_ms <= 0) {
            return Err(self
                .refuse("retention must be longer than zero: nothing would stay; leave it out to keep rows for ever"));
        }
        if config.correction_horizon_ms < 0 {
            return Err(self.refuse("correction_horizon must not be negative"));
        }
        let topics = Source::ALL.iter().map(|s| (s.topic(), planning::schema_only(s.schema())));
        let rollups = self.rollups.iter().map(|r| (r.name(), planning::schema_only(r.read_schema())));
        let tables = topics.chain(rollups).collect();
        let session = planning::session(tables).map_err(|e| self.planner(&e))?;
        let mergeable = |plan| rewrite::mergeable(&session, plan);
        let logical = planning::plan_with(&session, &config.sql, mergeable).map_err(|e| self.planner(&e))?;
        let parts = self.parts(&logical)?;
        let upstream = self.rollups.iter().find(|r| r.name() == parts.table);
        let source = match upstream {
            Some(upstream) => Some(upstream.source),
            None => Source::ALL.into_iter().find(|s| s.topic() == parts.table),
        };
        let source = source.ok_or_else(|| {
            let place = place::of_words(self.sql, &[parts.table]);
            self.refuse_at(place, format!("FROM {}: a rollup reads {TOPICS} or another rollup", parts.table))
        })?;
        self.check_expressions(&parts)?;

        let input = parts.aggregate.input.schema();
        let time_column = if upstream.is_some() { WINDOW_START_COLUMN } else { time::COLUMN };
        let (windows, window) = self.windows(parts.aggregate, time_column)?;
        let windows = match upstream {
            None => windows,
            Some(upstream) => self.windows_over(windows, upstream)?,
        };
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
                return Err(self.refuse_at(place::of(self.sql, expr), reason));
            }
            group_columns.push(GroupColumn::Key(keys.len()));
            group_fields.push(Arc::new(Field::new(format!("key{}", keys.len()), data_type, true)));
            keys.push(key);
        }
        let mut aggregates = self.aggregates(parts.aggregate)?;
        if matches!(windows, Windows::Session { .. }) {
            aggregates.extend(self.session_bounds(input)?);
        }
        let filter = parts.filter.map(|e| self.physical(e, input)).transpose()?;

        let aggregated = &parts.aggregate.schema;
        let having = parts.having.map(|e| self.physical(e, aggregated)).transpose()?;
        let (select, output_schema) = self.select(parts.projection, parts.aggregate, window)?;
        let partial_schema = self.partial_schema(&group_fields, &aggregates)?;
        let lateness_us = config.lateness_ms.saturating_mul(1_000);
        let definition = definition(config, upstream.map(|u| u.definition), &partial_schema, &output_schema);
        Ok(RollupPlan {
            name: Arc::from(self.name),
            topic: Arc::from(format!("rollup.{}", self.name)),
            sql: Arc::from(self.sql),
            source,
            upstream: upstream.map(Arc::clone),
            windows,
            lateness_us,
            late: config.late,
            horizon_us: config.correction_horizon_ms.saturating_mul(1_000),
            retention_ms: config.retention_ms,
            backfill: config.backfill,
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
        if ["logs", "metrics", "metric_metadata", "spans", "alerts", "dead_letter"].contains(&self.name) {
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
        let words = |words: &[&str]| place::of_last_words(self.sql, words);
        let (place, reason) = match plan {
            LogicalPlan::Sort(_) => (
                words(&["ORDER", "BY"]),
                "ORDER BY: a window's rows have no order; order in the query that reads the table",
            ),
            LogicalPlan::Limit(_) => (
                words(&["LIMIT"]).or_else(|| words(&["OFFSET"])),
                "LIMIT: every group of a window is kept; limit in the query that reads the table",
            ),
            LogicalPlan::Distinct(_) => (
                place::of_words(self.sql, &["DISTINCT"]),
                "SELECT DISTINCT: the rows of a GROUP BY are distinct; leave DISTINCT out",
            ),
            LogicalPlan::Join(_) => (
                words(&["JOIN"]).or_else(|| words(&["FROM"])),
                "JOIN: a rollup reads one topic; join the tables in the query that reads them",
            ),
            LogicalPlan::Union(_) => (words(&["UNION"]), "UNION: write one rollup for each side"),
            LogicalPlan::Window(_) => (
                words(&["OVER"]),
                "OVER (...): window functions over rows are for queries; use aggregates with GROUP BY tumble(timestamp, INTERVAL '1 minute')",
            ),
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => (
                place::of_second(self.sql, "SELECT"),
                "FROM (...): subqueries are not supported; select from logs or metrics directly, or make a rollup of it and select from that",
            ),
            LogicalPlan::TableScan(_) | LogicalPlan::Filter(_) => (
                place::of_words(self.sql, &["SELECT"]),
                "there is no aggregate: a rollup is SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, count(*) AS n FROM logs GROUP BY 1",
            ),
            _ => (
                None,
                "only SELECT ... FROM logs|metrics|<rollup> [WHERE ...] GROUP BY tumble(timestamp, INTERVAL '...'), ... [HAVING ...] is supported",
            ),
        };
        self.refuse_at(place, reason)
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
                let alone = clause == "GROUP BY" && is_grouped_window(unaliased(expr));
                if !alone && expr.exists(|part| Ok(is_grouped_window(part))).unwrap_or(false) {
                    let reason = "hop and session stand by themselves in GROUP BY, as an expression of their own; the window's start is the column window_start, and tumble(timestamp, width) may stand anywhere";
                    return Err(self.refuse_at(place::of(self.sql, expr), format!("{clause} {expr}: {reason}")));
                }
                if let Some(planning::Impure { part, reason }) = planning::impure(expr) {
                    let place =
                        part.map_or_else(|| place::of_second(self.sql, "SELECT"), |part| place::of(self.sql, &part));
                    return Err(self.refuse_at(place, format!("{clause} {expr}: {reason}")));
                }
            }
        }
        Ok(())
    }

    /// Finds the windows among the GROUP BY expressions, and the index of their expression.
    fn windows(&self, aggregate: &Aggregate, time_column: &str) -> Result<(Windows, usize), ProcessorsError> {
        let mut found: Option<(Windows, usize)> = None;
        for (index, expr) in aggregate.group_expr.iter().enumerate() {
            if matches!(expr, Expr::GroupingSet(_)) {
                return Err(self.refuse_at(
                    place::of_words(self.sql, &["GROUP", "BY"]),
                    "GROUP BY: ROLLUP, CUBE and GROUPING SETS are not supported; write one rollup for each grouping",
                ));
            }
            let Expr::ScalarFunction(function) = unaliased(expr) else { continue };
            if ![TUMBLE, HOP, SESSION].contains(&function.name()) {
                continue;
            }
            let windows = self
                .windows_of(expr, function, time_column)
                .map_err(|reason| self.refuse_at(place::of(self.sql, expr), format!("GROUP BY {expr}: {reason}")))?;
            if found.is_some() {
                let reason = "GROUP BY: a rollup has one window; write one rollup for each width";
                return Err(self.refuse_at(place::of(self.sql, expr), reason));
            }
            found = Some((windows, index));
        }
        found.ok_or_else(|| {
            let reason = format!("GROUP BY has no window: group by tumble({time_column}, INTERVAL '1 minute'), hop({time_column}, slide, size) or session({time_column}, gap), and select it AS window_start");
            let place = place::of_words(self.sql, &["GROUP", "BY"]).or_else(|| place::of_words(self.sql, &["SELECT"]));
            self.refuse_at(place, reason)
        })
    }

    /// These windows over the rows of a rollup.
    fn windows_over(&self, windows: Windows, upstream: &RollupPlan) -> Result<Windows, ProcessorsError> {
        let over =
            match upstream.slide_us() {
                Some(slide_us) => windows.over(slide_us),
                None => Err("its windows are sessions, which begin anywhere and are joined later; read what it reads"
                    .to_owned()),
            };
        over.map_err(|reason| {
            let place = place::of_words(self.sql, &["FROM", &upstream.name]);
            self.refuse_at(place, format!("FROM {}: {reason}", upstream.name))
        })
    }

    fn windows_of(
        &self,
        expr: &Expr,
        ScalarFunction { func, args }: &ScalarFunction,
        time_column: &str,
    ) -> Result<Windows, String> {
        let Some((instant, widths)) = args.split_first() else { return Err("it has no arguments".to_owned()) };
        if !matches!(unaliased(instant), Expr::Column(c) if c.name == time_column) {
            return Err(format!("the window must be over the column {time_column}, which carries event time"));
        }
        let widths: Vec<i64> = widths
            .iter()
            .map(|width| match unaliased(width) {
                Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(width)), _) => tumble_width_us(*width),
                _ => Err("the window's width must be a constant such as INTERVAL '1 minute'".to_owned()),
            })
            .collect::<Result<_, _>>()?;
        match (func.name(), widths.as_slice()) {
            (TUMBLE, [width_us]) => Ok(Windows::tumble(*width_us)),
            (HOP, [slide_us, size_us]) => Windows::hop(*slide_us, *size_us),
            (SESSION, [gap_us]) => Ok(Windows::session(*gap_us)),
            _ => Err(format!("{expr} has another number of arguments than it takes")),
        }
    }

    fn aggregates(&self, aggregate: &Aggregate) -> Result<Vec<PlannedAggregate>, ProcessorsError> {
        let input = aggregate.input.schema();
        let mut planned = Vec::with_capacity(aggregate.aggr_expr.len());
        for expr in &aggregate.aggr_expr {
            let at = |reason: String| self.refuse_at(place::of(self.sql, expr), format!("SELECT {expr}: {reason}"));
            let Expr::AggregateFunction(function) = unaliased(expr) else {
                return Err(at("not an aggregate".to_owned()));
            };
            let types = function.params.args.iter().map(|arg| arg.get_type(input).unwrap_or(DataType::Null));
            if let Err(reason) = mergeable::check(function, &types.collect::<Vec<_>>()) {
                return Err(at(reason));
            }
            let aggregate = self.aggregate(expr, input)?;
            // Constants among the arguments are looked at only here.
            groups::accumulator(&aggregate).map_err(|e| at(planning::explain(&e)))?;
            planned.push(aggregate);
        }
        Ok(planned)
    }

    /// The first and the last time of a session's rows.
    fn session_bounds(&self, input: &DFSchema) -> Result<[PlannedAggregate; SESSION_BOUNDS], ProcessorsError> {
        let (table, _) = input.qualified_field_with_unqualified_name(time::COLUMN).map_err(|e| self.planner(&e))?;
        let time = || Expr::Column(Column::new(table.cloned(), time::COLUMN));
        Ok([
            self.aggregate(&min_udaf().call(vec![time()]), input)?,
            self.aggregate(&max_udaf().call(vec![time()]), input)?,
        ])
    }

    fn aggregate(&self, expr: &Expr, input: &DFSchema) -> Result<PlannedAggregate, ProcessorsError> {
        let props = ExecutionProps::new();
        let context = PhysicalPlanningContext::default();
        // Its arguments and its FILTER; what it is itself stays.
        let simple = |part: Expr| -> Result<Transformed<Expr>, DataFusionError> {
            let Expr::AggregateFunction(mut function) = part else { return Ok(Transformed::no(part)) };
            let params = &mut function.params;
            params.args = std::mem::take(&mut params.args)
                .into_iter()
                .map(|argument| simplified(argument, input))
                .collect::<Result<_, _>>()?;
            params.filter = params.filter.take().map(|filter| simplified(*filter, input).map(Box::new)).transpose()?;
            Ok(Transformed::yes(Expr::AggregateFunction(function)))
        };
        let expr = &expr.clone().transform_up(simple).map_err(|e| self.planner(&e))?.data;
        let lowered = LoweredAggregateBuilder::new(expr, input, input.as_arrow(), &props, &context)
            .build()
            .map_err(|e| self.planner(&e))?;
        let state_columns = lowered.aggregate.state_fields().map_err(|e| self.planner(&e))?.len();
        Ok(PlannedAggregate {
            arguments: lowered.aggregate.expressions(),
            function: lowered.aggregate,
            filter: lowered.filter,
            state_columns,
        })
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
            let refuse = |reason: String| {
                let place = place::of_last_words(self.sql, &["AS", name]).or_else(|| place::of(self.sql, expr));
                self.refuse_at(place, format!("SELECT {expr}: {reason}"))
            };
            if [WINDOW_START_COLUMN, WINDOW_END, TENANT, "date"].contains(&name) || name.starts_with('_') {
                return Err(refuse(format!(
                    "the name {name} is taken (every rollup has window_start, window_end, tenant, date, and names with _ in front are internal); choose another with AS"
                )));
            }
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !plain || name.len() > 128 {
                let place = aggregate_of(aggregate, expr).and_then(|expr| place::of(self.sql, expr));
                let place = place.or_else(|| place::of(self.sql, expr));
                let reason =
                    format!("SELECT {expr}: give it a name of letters, digits and _ with AS, e.g. {expr} AS n");
                return Err(self.refuse_at(place, reason));
            }
            if fields.iter().any(|f| f.name().eq_ignore_ascii_case(name)) {
                return Err(refuse(format!("there is another column {name}; choose another name with AS")));
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
        let expr = simplified(expr.clone(), schema).map_err(|e| self.planner(&e))?;
        create_physical_expr(&expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .map_err(|e| self.planner(&e))
    }

    fn planner(&self, error: &DataFusionError) -> ProcessorsError {
        self.refuse(planning::explain(error))
    }

    /// A refusal that says where.
    fn refuse_at(&self, place: Option<Place>, reason: impl fmt::Display) -> ProcessorsError {
        match place {
            Some(place) => self.refuse(format!("{place}: {reason}")),
            None => self.refuse(reason.to_string()),
        }
    }

    fn refuse(&self, reason: impl Into<String>) -> ProcessorsError {
        ProcessorsError::rollup(self.name, reason)
    }
}

/// The expression as it can be evaluated: some functions (`coalesce`, `nvl2`) are only another way of writing others.
fn simplified(expr: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    ExprSimplifier::new(context).simplify(expr)
}

/// The aggregate behind a column of the projection.
fn aggregate_of<'a>(aggregate: &'a Aggregate, expr: &Expr) -> Option<&'a Expr> {
    let Expr::Column(column) = unaliased(expr) else { return None };
    let index = aggregate.schema.index_of_column(column).ok()?;
    aggregate.aggr_expr.get(index.checked_sub(aggregate.group_expr.len())?)
}

fn is_grouped_window(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if [HOP, SESSION].contains(&function.name()))
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The hash that partials, snapshots and rows between tasks are marked with. Layout may change in an SQL text; so may the order of
/// columns: only what is written decides, so that a state is never read with another meaning.
fn definition(config: &RollupConfig, upstream: Option<u64>, partial: &Schema, output: &Schema) -> u64 {
    let mut text =
        format!("{FORMAT}\0{}\0{}\0{}\0{partial:?}\0{output:?}", config.name, config.sql.trim(), config.lateness_ms);
    if config.generation > 0 {
        text.push_str(&format!("\0again {}", config.generation));
    }
    if let Some(upstream) = upstream {
        // Rows of another meaning give other rows.
        text.push_str(&format!("\0{upstream:016x}"));
    }
    XxHash64::oneshot(0, text.as_bytes())
}
