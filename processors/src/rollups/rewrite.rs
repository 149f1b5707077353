//! Aggregates that do not merge, turned into those of ours that do and mean the same: before types are settled, so that the result has the type of
//! what it became.
//!
//! | written | kept as |
//! |---|---|
//! | `count(DISTINCT x)` | `count_distinct(x)`, exact up to 2,047 values of a group |
//! | `approx_percentile_cont(x, q)`, `approx_percentile_cont(q) WITHIN GROUP (ORDER BY x)` | `quantile(x, q)` |
//! | `approx_median(x)` | `quantile(x, 0.5)` |

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, LogicalPlan, lit};

/// The plan with such aggregates replaced; columns keep the names they were written with.
pub(super) fn mergeable(session: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let functions = Functions { quantile: session.udaf("quantile")?, count_distinct: session.udaf("count_distinct")? };
    let rewritten = plan.transform_up(|node| match node {
        LogicalPlan::Aggregate(aggregate) => functions.aggregate(aggregate),
        // What stands above has to learn the new types.
        other if other.inputs().is_empty() => Ok(Transformed::no(other)),
        other => other.recompute_schema().map(Transformed::yes),
    });
    Ok(rewritten?.data)
}

struct Functions {
    quantile: Arc<AggregateUDF>,
    count_distinct: Arc<AggregateUDF>,
}

impl Functions {
    fn aggregate(&self, aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
        let Aggregate { input, group_expr, mut aggr_expr, .. } = aggregate;
        for expr in &mut aggr_expr {
            let name = expr.schema_name().to_string();
            let written = match &*expr {
                Expr::Alias(alias) => &*alias.expr,
                other => other,
            };
            let Expr::AggregateFunction(function) = written else { continue };
            if let Some((replaced, arguments)) = self.replaced(function) {
                let mut function = function.clone();
                function.func = replaced;
                function.params.args = arguments;
                function.params.distinct = false;
                function.params.order_by = Vec::new();
                *expr = Expr::AggregateFunction(function).alias(name);
            }
        }
        Aggregate::try_new(input, group_expr, aggr_expr).map(|a| Transformed::yes(LogicalPlan::Aggregate(a)))
    }

    fn replaced(
        &self,
        AggregateFunction { func, params }: &AggregateFunction,
    ) -> Option<(Arc<AggregateUDF>, Vec<Expr>)> {
        let quantile = |arguments| Some((Arc::clone(&self.quantile), arguments));
        match (func.name(), params.args.as_slice()) {
            ("count", [value]) if params.distinct && params.order_by.is_empty() => {
                Some((Arc::clone(&self.count_distinct), vec![value.clone()]))
            }
            ("approx_median", [value]) if !params.distinct => quantile(vec![value.clone(), lit(0.5)]),
            ("approx_percentile_cont", [value, rank] | [value, rank, _]) if !params.distinct => {
                let rank = match params.order_by.as_slice() {
                    [order] if !order.asc => from_above(rank)?,
                    _ => rank.clone(),
                };
                quantile(vec![value.clone(), rank])
            }
            _ => None,
        }
    }
}

/// The rank counted from the greatest value, where it is a constant.
fn from_above(rank: &Expr) -> Option<Expr> {
    let Expr::Literal(rank, _) = rank else { return None };
    match rank.cast_to(&arrow::datatypes::DataType::Float64) {
        Ok(ScalarValue::Float64(Some(rank))) => Some(lit(1.0 - rank)),
        _ => None,
    }
}
