//! What analyzer rules that change expressions have in common.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Puts each expression in a plan and its subqueries, inner ones first, through `change`, with what `context` says of the plan that it stands in. Columns keep
/// their names.
pub(crate) fn each_expression<C>(
    plan: LogicalPlan,
    context: impl Fn(&LogicalPlan) -> C,
    change: impl Fn(Expr, &C) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        let context = context(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| change(expr, &context))?;
            Ok(expr.update_data(|e| name.restore(e)))
        })
    })
    .data()
}
