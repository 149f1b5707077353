//! `hop` and `session` in `GROUP BY`, as a query engine runs them.
//!
//! ```text
//! GROUP BY hop(t, slide, size), k      each row once for every window that spans it (unnest), then grouped by the window's start
//! GROUP BY session(t, gap), k          over the rows of each k by time: a row the gap or more behind the one before begins a session, and
//!                                      the greatest beginning so far is a row's session (two window functions), then grouped by it
//! ```
//! A rollup of the same text, which is kept up to date instead of computed, gives the same rows.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_window::lead_lag::lag;
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ScalarUDF, WindowFrame, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;

use super::hop::HopStarts;
use super::session::SessionBegin;
use super::{HOP, SESSION, tumble_width_us};

const STARTS: &str = "__window_starts";
const BEGIN: &str = "__session_begin";

/// The rule.
#[derive(Debug, Default)]
pub struct InGroupBy;

impl AnalyzerRule for InGroupBy {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan
            .transform_up_with_subqueries(|node| match node {
                LogicalPlan::Aggregate(aggregate) => rewrite(aggregate),
                other => Ok(Transformed::no(other)),
            })?
            .data)
    }

    fn name(&self) -> &str {
        "windows_in_group_by"
    }
}

fn rewrite(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let is_window =
        |expr: &Expr| matches!(unaliased(expr), Expr::ScalarFunction(f) if [HOP, SESSION].contains(&f.name()));
    let mut windows = (0..aggregate.group_expr.len()).filter(|&at| is_window(&aggregate.group_expr[at]));
    let Some(at) = windows.next() else { return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))) };
    if windows.next().is_some() {
        return plan_err!("GROUP BY has two of hop and session; a row's windows are of one kind");
    }
    let Aggregate { input, mut group_expr, aggr_expr, .. } = aggregate;
    let window = group_expr[at].clone();
    let name = window.schema_name().to_string();
    let Expr::ScalarFunction(ScalarFunction { func, args }) = unaliased(&window) else {
        return plan_err!("{name} is no window");
    };
    let Some((instant, widths)) = args.split_first() else { return plan_err!("{name} has no arguments") };
    let widths: Vec<i64> = widths.iter().map(width_us).collect::<Result<_>>()?;
    let (input, start) = match (func.name(), widths.as_slice()) {
        (HOP, &[slide_us, size_us]) => hop(&input, instant, slide_us, size_us)?,
        (SESSION, &[gap_us]) => {
            let keys = group_expr.iter().enumerate().filter(|(index, _)| *index != at);
            let keys = keys.map(|(_, key)| unaliased(key).clone()).collect();
            session(&input, instant, gap_us, keys)?
        }
        _ => return plan_err!("{name} has another number of arguments than it takes"),
    };
    group_expr[at] = start.alias(name);
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), group_expr, aggr_expr)?)))
}

/// The input with a row for each window of a row, and the window's start.
fn hop(input: &Arc<LogicalPlan>, instant: &Expr, slide_us: i64, size_us: i64) -> Result<(LogicalPlan, Expr)> {
    let starts = ScalarUDF::from(HopStarts::new(slide_us, size_us)).call(vec![instant.clone()]);
    let plan = LogicalPlanBuilder::from(Arc::clone(input))
        .project(columns(input).chain([starts.alias(STARTS)]))?
        .unnest_column(STARTS)?
        .build()?;
    Ok((plan, Expr::Column(Column::from_name(STARTS))))
}

/// The input with the start of each row's session, and that column.
fn session(input: &Arc<LogicalPlan>, instant: &Expr, gap_us: i64, keys: Vec<Expr>) -> Result<(LogicalPlan, Expr)> {
    let order = || vec![instant.clone().sort(true, false)];
    let previous = lag(instant.clone(), Some(1), None).partition_by(keys.clone()).order_by(order()).build()?;
    let previous_column = Expr::Column(Column::from_name(previous.schema_name().to_string()));
    let begin = ScalarUDF::from(SessionBegin::new(gap_us)).call(vec![instant.clone(), previous_column]);
    let so_far = WindowFunction::new(
        WindowFunctionDefinition::AggregateUDF(max_udaf()),
        vec![Expr::Column(Column::from_name(BEGIN))],
    );
    let start = Expr::from(so_far)
        .partition_by(keys)
        .order_by(order())
        // Up to this row, not to the last of its instant: they are in one session either way.
        .window_frame(WindowFrame::new(Some(true)))
        .build()?;
    let start_column = Expr::Column(Column::from_name(start.schema_name().to_string()));
    let plan = LogicalPlanBuilder::from(Arc::clone(input))
        .window(vec![previous])?
        .project(columns(input).chain([begin.alias(BEGIN)]))?
        .window(vec![start])?
        .build()?;
    Ok((plan, start_column))
}

fn columns(input: &LogicalPlan) -> impl Iterator<Item = Expr> {
    input.schema().columns().into_iter().map(Expr::Column)
}

fn width_us(width: &Expr) -> Result<i64> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(width)), _) = unaliased(width) else {
        return plan_err!("a window's width must be a constant such as INTERVAL '1 minute'");
    };
    tumble_width_us(*width).map_err(DataFusionError::Plan)
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    use crate::functions;

    async fn run(sql: &str) -> Result<String, String> {
        let mut context = SessionContext::new();
        functions::register(&mut context).unwrap();
        functions::analyzer_rules(functions::Windows::Unfolded).into_iter().for_each(|r| context.add_analyzer_rule(r));
        let rows = "(VALUES ('a', timestamp '2024-05-06 12:00:00'), ('a', timestamp '2024-05-06 12:00:09'), ('b', timestamp '2024-05-06 12:00:09'), \
                    ('a', timestamp '2024-05-06 12:00:19'), ('b', timestamp '2024-05-06 12:00:18')) AS v(k, t)";
        let sql = sql.replace("ROWS", rows);
        let batches = context.sql(&sql).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
        Ok(pretty_format_batches(&batches).unwrap().to_string())
    }

    fn lines(table: &str) -> Vec<String> {
        let cells = |line: &str| line.split('|').map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>().join(" ");
        table.lines().filter(|l| l.starts_with('|')).skip(1).map(cells).collect()
    }

    #[tokio::test]
    async fn a_row_is_counted_in_every_window_that_spans_it() {
        let sql = "SELECT hop(t, INTERVAL '5 seconds', INTERVAL '10 seconds') AS s, count(*) AS n FROM ROWS GROUP BY 1 ORDER BY 1";
        let expected = [
            "2024-05-06T11:59:55Z 1",
            "2024-05-06T12:00:00Z 3",
            "2024-05-06T12:00:05Z 2",
            "2024-05-06T12:00:10Z 2",
            "2024-05-06T12:00:15Z 2",
        ];
        assert_eq!(lines(&run(sql).await.unwrap()), expected);
    }

    #[tokio::test]
    async fn a_session_is_its_groups_own_and_ends_a_gap_behind_its_last_row() {
        let sql =
            "SELECT k, session(t, INTERVAL '10 seconds') AS s, count(*) AS n FROM ROWS GROUP BY k, 2 ORDER BY 1, 2";
        let expected = ["a 2024-05-06T12:00:00Z 2", "a 2024-05-06T12:00:19Z 1", "b 2024-05-06T12:00:09Z 2"];
        assert_eq!(lines(&run(sql).await.unwrap()), expected);
        let alone = "SELECT session(t, INTERVAL '11 seconds') AS s, count(*) AS n FROM ROWS WHERE k = 'a' GROUP BY 1 HAVING count(*) > 1";
        assert_eq!(lines(&run(alone).await.unwrap()), ["2024-05-06T12:00:00Z 3"]);
    }

    #[tokio::test]
    async fn elsewhere_they_are_refused() {
        let error = run("SELECT hop(t, INTERVAL '5 seconds', INTERVAL '10 seconds') FROM ROWS").await.unwrap_err();
        assert!(error.contains("stands by itself in GROUP BY"), "{error}");
        let error = run("SELECT hop(t, INTERVAL '5 seconds'), count(*) FROM ROWS GROUP BY 1").await.unwrap_err();
        assert!(error.contains("slide first, then size"), "{error}");
    }
}
