//! `attributes -> 'key'`, `attributes ->> 'key'` and `attributes ? 'key'` on maps, as on JSON: clients that are told a map is `jsonb` write them.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::functions::core::get_field;
use datafusion::functions_nested::expr_fn::{array_has, map_keys};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::BinaryOperator;

#[derive(Debug)]
pub(super) struct MapArrows;

impl ExprPlanner for MapArrows {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_ours = matches!(expr.op, BinaryOperator::Arrow | BinaryOperator::LongArrow | BinaryOperator::Question);
        if !is_ours || !matches!(expr.left.get_type(schema), Ok(DataType::Map(..))) {
            return Ok(PlannerResult::Original(expr));
        }
        let RawBinaryExpr { op, left, right } = expr;
        let planned: Expr = match op {
            BinaryOperator::Question => array_has(map_keys(left), right),
            _ => get_field().call(vec![left, right]),
        };
        Ok(PlannerResult::Planned(planned))
    }
}
