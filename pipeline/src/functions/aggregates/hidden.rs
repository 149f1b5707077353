//! Puts in the arguments of an aggregate that every row has: `first(x)` becomes `first(x, timestamp, _partition, _offset, _row)`, and `rate(value)`
//! becomes `rate(value, timestamp, series_id)`. The column keeps the name it was written with.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use crate::data::{identity, time};

const SERIES: &str = "series_id";

/// The rule.
#[derive(Debug, Default)]
pub(crate) struct HiddenArguments;

impl AnalyzerRule for HiddenArguments {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan
            .transform_up_with_subqueries(|node| match node {
                LogicalPlan::Aggregate(aggregate) => rewrite(aggregate),
                other => Ok(Transformed::no(other)),
            })?
            .data)
    }

    fn name(&self) -> &str {
        "hidden_arguments"
    }
}

fn rewrite(mut aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut changed = false;
    let schema = Arc::clone(aggregate.input.schema());
    for expr in &mut aggregate.aggr_expr {
        let name = expr.schema_name().to_string();
        let Expr::AggregateFunction(function) = unaliased(expr) else { continue };
        let missing = missing(function.func.name(), function.params.args.len(), &schema);
        if missing.is_empty() {
            continue;
        }
        let mut function = function.clone();
        function.params.args.extend(missing);
        *expr = Expr::AggregateFunction(function).alias(name);
        changed = true;
    }
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let aggregate = LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?);
    Ok(if changed { Transformed::yes(aggregate) } else { Transformed::no(aggregate) })
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The columns to put in, where the rows have them all.
fn missing(function: &str, given: usize, schema: &DFSchema) -> Vec<Expr> {
    let columns = |names: &[&str]| -> Vec<Expr> {
        let found = names.iter().map(|name| {
            let (table, field) = schema.qualified_field_with_unqualified_name(name).ok()?;
            Some(Expr::Column(Column::new(table.cloned(), field.name())))
        });
        found.collect::<Option<_>>().unwrap_or_default()
    };
    let identity = [identity::PARTITION, identity::OFFSET, identity::ROW];
    match (function, given) {
        ("first" | "last", 1) => {
            let mut all = columns(&[time::COLUMN]);
            if !all.is_empty() {
                all.extend(columns(&identity));
            }
            all
        }
        ("first" | "last", 2) => columns(&identity),
        ("increase" | "rate", 1) | ("histogram_quantile", 3) => columns(&[time::COLUMN, SERIES]),
        _ => Vec::new(),
    }
}
