//! DataFusion as the parser, planner and checker of configured SQL.
//!
//! The session knows the tables it is given and nothing else: no files, no catalogs. Nothing in it waits, so
//! planning is finished in one poll.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::empty::EmptyTable;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::DFParserBuilder;
use futures::FutureExt;
use highwater_pipeline::functions::{self, HighwaterDialect};

/// A session with these tables.
pub(crate) fn session(tables: Vec<(&str, Arc<dyn TableProvider>)>) -> Result<SessionState> {
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    let mut context = SessionContext::new_with_config(config);
    functions::register(&mut context)?;
    for (name, table) in tables {
        context.register_table(name, table)?;
    }
    let mut state = context.state();
    for rule in functions::analyzer_rules(functions::Windows::Kept) {
        state.add_analyzer_rule(rule);
    }
    Ok(state)
}

/// A table that is there to be planned against.
pub(crate) fn schema_only(schema: SchemaRef) -> Arc<dyn TableProvider> {
    Arc::new(EmptyTable::new(schema))
}

/// Parses, plans and type-checks one query.
pub(crate) fn plan(session: &SessionState, sql: &str) -> Result<LogicalPlan> {
    plan_with(session, sql, Ok)
}

/// The same, with a change made before types are settled.
pub(crate) fn plan_with(
    session: &SessionState,
    sql: &str,
    change: impl FnOnce(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<LogicalPlan> {
    // The dialect of ad-hoc queries, so that a rollup and the same query over its table mean the same.
    let mut statements = DFParserBuilder::new(sql).with_dialect(&HighwaterDialect).build()?.parse_statements()?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return plan_err!("there must be exactly one statement");
    };
    let planned =
        session.statement_to_plan(statement).now_or_never().unwrap_or_else(|| plan_err!("planning did not finish"));
    session.analyzer().execute_and_check(change(planned?)?, session.config_options(), |_, _| {})
}

/// What DataFusion found wrong, with its place in the SQL where it knows it.
pub(crate) fn explain(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    match error.diagnostic().and_then(|d| d.span) {
        Some(span) => format!("line {}, column {}: {text}", span.start.line, span.start.column),
        None => text,
    }
}

/// What keeps an expression out of a rollup.
pub(crate) struct Impure {
    /// The part of it; none where it is a subquery.
    pub(crate) part: Option<Expr>,
    pub(crate) reason: String,
}

/// Why an expression cannot be part of a rollup: its value must be a function of one row.
pub(crate) fn impure(expr: &Expr) -> Option<Impure> {
    find(expr, |e| match e {
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
            let reason = "subqueries are not supported; write the condition out, or roll up in two steps".to_owned();
            Some(Impure { part: None, reason })
        }
        other => clock_or_chance_here(other),
    })
}

/// Why an expression's value does not follow from the rows alone.
pub(crate) fn clock_or_chance(expr: &Expr) -> Option<String> {
    find(expr, clock_or_chance_here).map(|impure| impure.reason)
}

fn clock_or_chance_here(expr: &Expr) -> Option<Impure> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let name = function.func.name();
    (function.func.signature().volatility != Volatility::Immutable).then(|| Impure {
        part: Some(expr.clone()),
        reason: format!(
            "{name}() depends on the clock or on chance, and results must follow from the rows alone; use the rows' timestamps, or leave it to the query that reads the table"
        ),
    })
}

fn find(expr: &Expr, mut reason_of: impl FnMut(&Expr) -> Option<Impure>) -> Option<Impure> {
    let mut reason = None;
    let walked = expr.apply(|e| {
        reason = reason_of(e);
        Ok(if reason.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match walked {
        Ok(_) => reason,
        Err(error) => Some(Impure { part: None, reason: explain(&error) }),
    }
}
