//! `attributes['x']` where `x` is promoted: read from the column, which statistics and Bloom filters speak of, rather than from the map.
//!
//! The map has the attribute all the same, so whatever is not recognised here is right and only slower. What is recognised is `attributes['x']`, or
//! `attributes ->> 'x'`, where the way from the expression down to the table passes both the map and the column on: filters, joins, sorts, aliases,
//! windows, and projections that name both, as `SELECT *` does.

use std::any::Any;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::datasource::source_as_provider;
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use highwater_pipeline::tables::ATTRIBUTES_COLUMN;

use crate::expressions::each_expression;
use crate::scan::TenantTable;

/// The rule.
#[derive(Debug, Default)]
pub(crate) struct PromotedAttributes;

impl AnalyzerRule for PromotedAttributes {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let inputs = |plan: &LogicalPlan| plan.inputs().into_iter().cloned().collect::<Vec<_>>();
        each_expression(plan, inputs, |expr, inputs| Ok(from_column(expr, inputs)))
    }

    fn name(&self) -> &str {
        "promoted_attributes"
    }
}

fn from_column(expr: Expr, inputs: &[LogicalPlan]) -> Transformed<Expr> {
    let column = access(&expr).and_then(|(map, attribute)| inputs.iter().find_map(|plan| find(plan, map, attribute)));
    match column {
        Some(column) => Transformed::yes(Expr::Column(column)),
        None => Transformed::no(expr),
    }
}

/// The map and the attribute of `attributes['x']`.
fn access(expr: &Expr) -> Option<(&Column, &str)> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    let inner: &dyn Any = func.inner().as_ref();
    if !inner.is::<GetFieldFunc>() {
        return None;
    }
    match args.as_slice() {
        [Expr::Column(map), Expr::Literal(attribute, _)] => Some((map, attribute.try_as_str()??)),
        _ => None,
    }
}

/// The column of this plan's rows that holds the attribute, where `map` is the plan's column of the table's attributes.
fn find(plan: &LogicalPlan, map: &Column, attribute: &str) -> Option<Column> {
    let at = plan.schema().maybe_index_of_column(map)?;
    let column_at = |at: usize| Column::from(plan.schema().qualified_field(at));
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let provider: &dyn Any = provider.as_ref();
            let table = provider.downcast_ref::<TenantTable>()?;
            if map.name != ATTRIBUTES_COLUMN || !table.is_promoted(attribute) {
                return None;
            }
            let column = Column::new(Some(scan.table_name.clone()), attribute);
            plan.schema().has_column(&column).then_some(column)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = Column::from(alias.input.schema().qualified_field(at));
            let found = find(&alias.input, &inner, attribute)?;
            Some(column_at(alias.input.schema().maybe_index_of_column(&found)?))
        }
        LogicalPlan::Projection(projection) => {
            let inner = passed_on(projection.expr.get(at)?)?;
            let found = find(&projection.input, inner, attribute)?;
            let at = projection.expr.iter().position(|expr| passed_on(expr) == Some(&found))?;
            Some(column_at(at))
        }
        // What these pass on has the name it had.
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Window(_) => {
            let map = column_at(at);
            let found = plan.inputs().into_iter().find_map(|input| find(input, &map, attribute))?;
            plan.schema().has_column(&found).then_some(found)
        }
        _ => None,
    }
}

/// The column that an expression is, whatever it is called.
fn passed_on(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => passed_on(&alias.expr),
        _ => None,
    }
}
