//! `a IS DISTINCT FROM b AND c` means `(a IS DISTINCT FROM b) AND c`. The parser takes everything that follows for the right-hand side; here it is given back.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr};

/// Puts the comparisons of a statement right.
pub(super) fn bind_tightly(statement: &mut ast::Statement) {
    let _all: ControlFlow<()> = ast::visit_expressions_mut(statement, |expr| {
        if let Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) = expr
            && is_chain(right)
        {
            rotate(expr);
        }
        ControlFlow::Continue(())
    });
}

fn is_chain(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. })
}

/// The chain takes the comparison's place, and the comparison that of the chain's first operand.
fn rotate(expr: &mut Expr) {
    let nothing = || Expr::Value(ast::Value::Null.with_empty_span());
    let (left, mut chain, is) = match std::mem::replace(expr, nothing()) {
        Expr::IsDistinctFrom(left, right) => (left, *right, true),
        Expr::IsNotDistinctFrom(left, right) => (left, *right, false),
        other => {
            *expr = other;
            return;
        }
    };
    let mut first = &mut chain;
    while is_chain(first) {
        let Expr::BinaryOp { left, .. } = first else { break };
        first = left;
    }
    let right = Box::new(std::mem::replace(first, nothing()));
    *first = if is { Expr::IsDistinctFrom(left, right) } else { Expr::IsNotDistinctFrom(left, right) };
    *expr = chain;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use datafusion::sql::parser::Statement;
    use highwater_pipeline::functions::HighwaterDialect;

    use super::*;
    use crate::guard;

    /// The statement with parentheses around every such comparison.
    fn nested(sql: &str) -> String {
        let Statement::Statement(mut inner) = guard::parse(sql, &HighwaterDialect).unwrap() else { panic!("{sql}") };
        let _all: ControlFlow<()> = ast::visit_expressions_mut(inner.as_mut(), |expr| {
            if matches!(expr, Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..)) {
                *expr = Expr::Nested(Box::new(expr.clone()));
            }
            ControlFlow::Continue(())
        });
        inner.to_string()
    }

    #[test]
    fn what_follows_is_no_part_of_it() {
        for (condition, expected) in [
            ("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c"),
            ("a IS NOT DISTINCT FROM b OR c AND d", "(a IS NOT DISTINCT FROM b) OR c AND d"),
            ("x AND a IS DISTINCT FROM 'b' AND c OR d", "x AND (a IS DISTINCT FROM 'b') AND c OR d"),
            ("a IS DISTINCT FROM (b AND c)", "(a IS DISTINCT FROM (b AND c))"),
            ("a IS DISTINCT FROM b", "(a IS DISTINCT FROM b)"),
            (
                "a IS DISTINCT FROM b AND c IS DISTINCT FROM d AND e",
                "(a IS DISTINCT FROM b) AND (c IS DISTINCT FROM d) AND e",
            ),
        ] {
            assert_eq!(nested(&format!("SELECT 1 WHERE {condition}")), format!("SELECT 1 WHERE {expected}"));
        }
    }
}
