//! Functions over JSON text that `datafusion-functions-json` has not: `json_typeof`, `jsonb_pretty`, `json_covers` (which is `@>`), `json_unquoted`, and
//! `json_pair` and `json_object_of`, of which `json_object_agg` is made.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, exec_err, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use serde_json::Value;

use crate::json::to_json;

/// Registers them.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for (what, names) in [
        (What::TypeOf, ["json_typeof", "jsonb_typeof"]),
        (What::Pretty, ["json_pretty", "jsonb_pretty"]),
        (What::Covers, ["json_covers", "jsonb_contains"]),
        (What::Unquoted, ["json_unquoted", "jsonb_unquoted"]),
        (What::Pair, ["json_pair", "jsonb_pair"]),
        (What::Object, ["json_object_of", "jsonb_object_of"]),
    ] {
        registry.register_udf(Arc::new(inside(what, names)))?;
    }
    registry.register_expr_planner(Arc::new(Covering))
}

fn inside(what: What, [name, alias]: [&'static str; 2]) -> ScalarUDF {
    ScalarUDF::from(Inside { what, name, signature: Signature::user_defined(Volatility::Immutable) })
        .with_aliases([alias])
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    TypeOf,
    Pretty,
    Covers,
    Unquoted,
    Pair,
    Object,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Inside {
    what: What,
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Inside {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.what, types) {
            (What::Pair, [_, value]) => Ok(vec![DataType::Utf8, value.clone()]),
            (What::Covers, [_, _]) => Ok(vec![DataType::Utf8; 2]),
            (What::Pair | What::Covers, _) => plan_err!("{} takes two arguments", self.name),
            (_, [_]) => Ok(vec![DataType::Utf8]),
            _ => plan_err!("{} takes one JSON text", self.name),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(if self.what == What::Covers { DataType::Boolean } else { DataType::Utf8 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays: Vec<ArrayRef> = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<_>>()?;
        let first = cast(&arrays[0], &DataType::Utf8)?;
        let first = first.as_string::<i32>();
        let each = |of: &dyn Fn(&str) -> Result<Option<String>>| {
            first.iter().map(|text| text.map_or(Ok(None), of)).collect::<Result<StringArray>>()
        };
        let made: ArrayRef = match self.what {
            What::TypeOf => Arc::new(each(&|text| Ok(Some(type_of(&self.parsed(text)?).to_string())))?),
            What::Pretty => Arc::new(each(&|text| Ok(pretty(&self.parsed(text)?)))?),
            What::Unquoted => Arc::new(each(&|text| {
                Ok(match self.parsed(text)? {
                    Value::String(inner) => Some(inner),
                    Value::Null => None,
                    _ => Some(text.to_string()),
                })
            })?),
            What::Object => Arc::new(each(&|pairs| Ok(Some(format!("{{ {pairs} }}"))))?),
            What::Pair => {
                let values = to_json(&args.arg_fields[1], &arrays[1])?;
                let values = values.as_string::<i32>();
                let pair = |(key, value): (Option<&str>, Option<&str>)| match key {
                    None => exec_err!("field name must not be null"),
                    Some(key) => Ok(format!("{} : {}", Value::from(key), value.unwrap_or("null"))),
                };
                Arc::new(first.iter().zip(values).map(pair).map(|p| p.map(Some)).collect::<Result<StringArray>>()?)
            }
            What::Covers => {
                let second = cast(&arrays[1], &DataType::Utf8)?;
                let mut parsed: Option<(&str, Value)> = None;
                let mut out = Vec::with_capacity(rows);
                for (whole, part) in first.iter().zip(second.as_string::<i32>()) {
                    let (Some(whole), Some(part)) = (whole, part) else {
                        out.push(None);
                        continue;
                    };
                    // One part for all rows, most of the time.
                    if parsed.as_ref().is_none_or(|(of, _)| *of != part) {
                        parsed = Some((part, self.parsed(part)?));
                    }
                    let Some((_, part)) = &parsed else { continue };
                    out.push(Some(covers(&self.parsed(whole)?, part, true)));
                }
                Arc::new(BooleanArray::from(out))
            }
        };
        Ok(ColumnarValue::Array(made))
    }
}

impl Inside {
    fn parsed(&self, text: &str) -> Result<Value> {
        serde_json::from_str(text).or_else(|e| exec_err!("{}: invalid JSON: {e}", self.name))
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// With four blanks for each level, as Postgres prints it.
fn pretty(value: &Value) -> Option<String> {
    use serde::Serialize;
    let mut out = Vec::new();
    let four = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, four)).ok()?;
    String::from_utf8(out).ok()
}

/// Whether a part is in the whole: every key of an object, every element of an array somewhere in it; at the top an array has a single value, too.
fn covers(whole: &Value, part: &Value, top: bool) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|own| covers(own, value, false)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|value| whole.iter().any(|own| covers(own, value, false)))
        }
        (Value::Array(whole), value) if top && !value.is_object() => whole.contains(value),
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (whole, part) => whole == part,
    }
}

/// `x @> y` and `y <@ x` over JSON text and maps.
#[derive(Debug)]
struct Covering;

impl ExprPlanner for Covering {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if !matches!(expr.op, BinaryOperator::AtArrow | BinaryOperator::ArrowAt) {
            return Ok(PlannerResult::Original(expr));
        }
        let as_text = |side: &Expr| match side.get_type(schema) {
            Ok(DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => Some(side.clone()),
            Ok(DataType::Map(..)) => Some(crate::json::value_as_json(side.clone())),
            _ => None,
        };
        let (Some(left), Some(right)) = (as_text(&expr.left), as_text(&expr.right)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let (whole, part) = if expr.op == BinaryOperator::AtArrow { (left, right) } else { (right, left) };
        let covers = inside(What::Covers, ["json_covers", "jsonb_contains"]);
        Ok(PlannerResult::Planned(covers.call(vec![whole, part])))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containment_is_that_of_postgres() {
        for (whole, part, is_in) in [
            (json!({"a": 1, "b": {"c": [1, 2]}}), json!({"b": {"c": [2]}}), true),
            (json!({"a": 1}), json!({"a": 2}), false),
            (json!({"a": 1}), json!({"a": 1.0}), true),
            (json!([1, 2, "x"]), json!("x"), true),
            (json!([[1]]), json!([1]), false),
            (json!([1, 2]), json!([2, 2, 1]), true),
            (json!("x"), json!(["x"]), false),
            (json!({}), json!({}), true),
        ] {
            assert_eq!(covers(&whole, &part, true), is_in, "{whole} @> {part}");
        }
    }
}
