//! Times as text beside columns of times: `timestamp >= '2026-01-02 03:04'`, which the engine wants to have seconds.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::expressions::each_expression;
use crate::guard::spelling::with_seconds;

/// The rule: goes behind the one that puts casts where types differ.
#[derive(Debug, Default)]
pub(crate) struct ShortTimes;

impl AnalyzerRule for ShortTimes {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        each_expression(plan, |_| (), |expr, ()| whole(expr))
    }

    fn name(&self) -> &str {
        "short_times"
    }
}

fn whole(expr: Expr) -> Result<Transformed<Expr>> {
    let (Expr::Cast(Cast { expr: of, field }) | Expr::TryCast(TryCast { expr: of, field })) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let (DataType::Timestamp(..), Some(text)) = (field.data_type(), text_of(of)) else {
        return Ok(Transformed::no(expr));
    };
    match with_seconds(text) {
        None => Ok(Transformed::no(expr)),
        Some(text) => expr.map_children(|_| Ok(Transformed::yes(lit(text.clone())))),
    }
}

/// The text of a literal.
pub(crate) fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}
