//! `x NOT IN (1, 2) OR x NOT IN (3)` where `x` is NULL.
//!
//! DataFusion makes one list of two over the same expression, and where nothing is left of the two a constant: `true` for the above, `false` for
//! `x IN (1) AND x IN (2)`. For a NULL both are NULL, and under the former a filter lets the row pass. Likewise it takes elements for different that are
//! only written differently (`x NOT IN (a) OR x NOT IN (b)`), and forgets a NULL among them. That rule cannot be taken out of its simplifier, so
//! here, before it, such pairs become what it does not mistake.

use std::collections::HashSet;

use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, lit, when};
use datafusion::optimizer::AnalyzerRule;

/// The rule.
#[derive(Debug, Default)]
pub(super) struct InLists;

impl AnalyzerRule for InLists {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        // What may be NULL changes with it, and so do the columns of all that lies above.
        let mut changed = false;
        plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_down(negation_inwards)?.transform_data(|e| e.transform_up(pair))?;
                Ok(expr.update_data(|e| name.restore(e)))
            })?;
            changed |= plan.transformed;
            if changed { plan.map_data(LogicalPlan::recompute_schema) } else { Ok(plan) }
        })
        .data()
    }

    fn name(&self) -> &str {
        "in_lists"
    }
}

/// `NOT (a AND b)` as `NOT a OR NOT b`, and so on down to the lists: the simplifier does the same and would find pairs that were none before.
fn negation_inwards(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::Not(inner) = expr else { return Ok(Transformed::no(expr)) };
    Ok(match *inner {
        Expr::Not(twice) => Transformed::yes(negation_inwards(*twice)?.data),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            Transformed::yes(Expr::Not(left).or(Expr::Not(right)))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Transformed::yes(Expr::Not(left).and(Expr::Not(right)))
        }
        Expr::InList(list) => Transformed::yes(Expr::InList(InList { negated: !list.negated, ..list })),
        other => Transformed::no(Expr::Not(Box::new(other))),
    })
}

/// Two lists over one expression that the simplifier would make one of, wrongly.
fn pair(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return Ok(Transformed::no(expr)) };
    let (left, right) = match (*left, *right) {
        (Expr::InList(left), Expr::InList(right)) if left.expr == right.expr && !left.expr.is_volatile() => {
            (left, right)
        }
        (left, right) => {
            let (left, right) = (Box::new(left), Box::new(right));
            return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
        }
    };
    let left_in: HashSet<&Expr> = left.list.iter().collect();
    let right_in: HashSet<&Expr> = right.list.iter().collect();
    let both = |list: &InList, other: &HashSet<&Expr>, wanted: bool| -> Vec<Expr> {
        list.list.iter().filter(|e| other.contains(e) == wanted).cloned().collect()
    };
    // What is left of the two lists, whether it is one of what must not be, and what it comes to where nothing is left.
    let (list, negated, nothing_left) = match (op, left.negated, right.negated) {
        (Operator::Or, true, true) => (both(&left, &right_in, true), true, true),
        (Operator::And, false, false) => (both(&left, &right_in, true), false, false),
        (Operator::And, false, true) => (both(&left, &right_in, false), false, false),
        (Operator::And, true, false) => (both(&right, &left_in, false), false, false),
        _ => return Ok(Transformed::no(joined(Expr::InList(left), op, Expr::InList(right)))),
    };
    let are_values = left.list.iter().chain(&right.list).all(is_value);
    drop((left_in, right_in));
    if !are_values {
        return Ok(Transformed::yes(joined(Expr::InList(left), op, one_by_one(right))));
    }
    Ok(Transformed::yes(if list.is_empty() {
        when(left.expr.is_not_null(), lit(nothing_left)).otherwise(lit(ScalarValue::Boolean(None)))?
    } else {
        Expr::InList(InList { expr: left.expr, list, negated })
    }))
}

fn joined(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
}

fn is_value(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if !value.is_null())
}

/// A list as comparisons.
fn one_by_one(list: InList) -> Expr {
    let InList { expr, list, negated } = list;
    let compared = list.into_iter().map(|element| {
        let expr = Expr::clone(&expr);
        if negated { expr.not_eq(element) } else { expr.eq(element) }
    });
    let all = compared.reduce(if negated { Expr::and } else { Expr::or });
    all.unwrap_or_else(|| lit(negated))
}
