//! `x IN (1, 2) AND x IN (3)`, `x NOT IN (1, 2) OR x NOT IN (3)`, `(x = 1 OR x = 2) AND x = 3` where `x` is NULL.
//!
//! DataFusion makes one list of two over the same expression (and a list of `=` between OR), and where nothing is left of the two a constant: `false` for
//! the first and the last, `true` for the second. For a NULL all three are NULL: as a value they print otherwise, and under the second a filter lets the row
//! pass. Likewise it takes elements for different that are only written differently (`x NOT IN (a) OR x NOT IN (b)`), and forgets a NULL among them.
//! That rule cannot be taken out of its simplifier, so here, before it, such lists are put under `CASE WHEN x IS NOT NULL`, where what it does is
//! right, and elements that are not constants become comparisons.

use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, InList, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, lit};
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
            // A filter leaves out a row for false as for NULL.
            let asked = if matches!(plan, LogicalPlan::Filter(_)) { Asked::IfTrue } else { Asked::Value };
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_down(negation_inwards)?.transform_data(|e| mend(e, asked))?;
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

/// What is asked of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Whether it is true, false or NULL.
    Value,
    /// Whether it is true: false and NULL are the same.
    IfTrue,
}

/// `NOT (a AND b)` as `NOT a OR NOT b`, and so on down to lists and comparisons: the simplifier does the same and would find lists side by side that
/// were not before.
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
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => Transformed::yes((*left).not_eq(*right)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::NotEq, right }) => Transformed::yes((*left).eq(*right)),
        Expr::InList(list) => Transformed::yes(Expr::InList(InList { negated: !list.negated, ..list })),
        other => Transformed::no(Expr::Not(Box::new(other))),
    })
}

/// Mends all chains of AND and OR in an expression, the inner ones first.
fn mend(expr: Expr, asked: Asked) -> Result<Transformed<Expr>> {
    let op = match &expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) if matches!(op, Operator::And | Operator::Or) => *op,
        // The value of everything below matters.
        _ => return expr.map_children(|child| mend(child, Asked::Value)),
    };
    let mut links = Vec::new();
    let mut changed = false;
    for link in chain(&expr, op) {
        let link = mend(link.clone(), asked)?;
        changed |= link.transformed;
        links.push(link.data);
    }
    let groups = groups(&links, op);
    if groups.is_empty() && !changed {
        return Ok(Transformed::no(expr));
    }
    let mut links: Vec<Option<Expr>> = links.into_iter().map(Some).collect();
    for Group { over, members } in groups {
        let lists = members.iter().filter_map(|at| links[*at].take()).map(spelt_out);
        let lists = all(lists.collect::<Result<Vec<_>>>()?, op);
        let false_will_do = op == Operator::And && asked == Asked::IfTrue;
        links[members[0]] = Some(if false_will_do { lists } else { unless_null(over, lists) });
    }
    Ok(Transformed::yes(all(links.into_iter().flatten(), op)))
}

/// The chain of these links.
fn all(links: impl IntoIterator<Item = Expr>, op: Operator) -> Expr {
    let joined = if op == Operator::And { conjunction(links) } else { disjunction(links) };
    joined.unwrap_or_else(|| lit(op == Operator::And))
}

fn unless_null(over: Expr, lists: Expr) -> Expr {
    Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(over.is_not_null()), Box::new(lists))],
        else_expr: Some(Box::new(lit(ScalarValue::Boolean(None)))),
    })
}

/// `a`, `b` and `c` of `(a AND b) AND c`.
fn chain(expr: &Expr, op: Operator) -> Vec<&Expr> {
    let (mut links, mut left) = (Vec::new(), vec![expr]);
    while let Some(expr) = left.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left: a, op: of, right: b }) if *of == op => left.extend([b.as_ref(), a]),
            link => links.push(link),
        }
    }
    links
}

/// Links of a chain that the simplifier may make one of, wrongly.
struct Group {
    over: Expr,
    members: Vec<usize>,
}

fn groups(links: &[Expr], op: Operator) -> Vec<Group> {
    let mut found: Vec<(Group, usize)> = Vec::new();
    for (at, link) in links.iter().enumerate() {
        let Some(list) = list_of(link) else { continue };
        // Lists of what may be under AND are cut, as are lists of what may not under OR; the others are put together, which is right.
        let is_cut = list.negated != (op == Operator::And);
        let of_same = found.iter_mut().find(|(group, _)| without_casts(&group.over) == without_casts(list.over));
        match of_same {
            Some((group, cut)) => {
                group.members.push(at);
                *cut += usize::from(is_cut);
            }
            None if list.over.is_volatile() => {}
            None => found.push((Group { over: list.over.clone(), members: vec![at] }, usize::from(is_cut))),
        }
    }
    let is_wrong = |(group, cut): (Group, usize)| {
        let wrong = group.members.len() > 1 && cut > usize::from(op == Operator::Or);
        wrong.then_some(group)
    };
    found.into_iter().filter_map(is_wrong).collect()
}

/// What a link says of one expression: that it is, or is not, one of some.
struct List<'a> {
    over: &'a Expr,
    negated: bool,
}

fn list_of(expr: &Expr) -> Option<List<'_>> {
    match expr {
        Expr::InList(list) => Some(List { over: &list.expr, negated: list.negated }),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::NotEq), right }) => {
            let over = match (is_constant(left), is_constant(right)) {
                (false, true) => left,
                (true, false) => right,
                _ => return None,
            };
            Some(List { over, negated: *op == Operator::NotEq })
        }
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
            // `x = 1 OR x = 2` is a list, and `x NOT IN (1) AND x NOT IN (2)`; so they are, and any list, with what a constant adds or takes away.
            let mut lists = chain(expr, *op).into_iter().filter(|link| !is_constant(link)).map(list_of);
            let first = lists.next()??;
            let Some(second) = lists.next() else { return Some(first) };
            let same = |list: Option<List<'_>>| {
                list.is_some_and(|list| {
                    list.negated == first.negated && without_casts(list.over) == without_casts(first.over)
                })
            };
            (first.negated == (*op == Operator::And) && same(second) && lists.all(same)).then_some(first)
        }
        _ => None,
    }
}

/// Whether nothing in it depends on the row.
fn is_constant(expr: &Expr) -> bool {
    let mut constant = true;
    let walked = expr.apply(|e| {
        constant &= !matches!(
            e,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
        );
        Ok(if constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    walked.is_ok() && constant && !expr.is_volatile()
}

fn without_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => without_casts(expr),
        expr => expr,
    }
}

/// Lists whose elements are constants and not NULL; others become comparisons, and a NULL what it does to a list.
fn spelt_out(expr: Expr) -> Result<Expr> {
    expr.transform_up(|expr| {
        let Expr::InList(InList { expr, list, negated }) = expr else { return Ok(Transformed::no(expr)) };
        let is_value = |e: &Expr| match without_casts(e) {
            Expr::Literal(value, _) => !value.is_null(),
            _ => false,
        };
        if list.iter().all(is_value) {
            return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
        }
        let (values, others): (Vec<Expr>, Vec<Expr>) = list.into_iter().partition(is_value);
        let mut parts = Vec::with_capacity(1 + others.len());
        if !values.is_empty() {
            parts.push(Expr::InList(InList { expr: expr.clone(), list: values, negated }));
        }
        for other in others {
            let compared = Expr::clone(&expr);
            parts.push(match other {
                Expr::Literal(value, _) if value.is_null() => lit(ScalarValue::Boolean(None)),
                other if negated => compared.not_eq(other),
                other => compared.eq(other),
            });
        }
        Ok(Transformed::yes(all(parts, if negated { Operator::And } else { Operator::Or })))
    })
    .data()
}
