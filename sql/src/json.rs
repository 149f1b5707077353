//! Values made into JSON text: `to_json(x)`, `json_build_object('a', x, ...)`, `json_build_array(x, ...)`, and the same with `jsonb`. Lists, maps and structs
//! become arrays and objects; times are RFC 3339; what is JSON text already is a string.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::output::json_text;

/// Registers them.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for (what, names) in [
        (What::Value, ["to_json", "to_jsonb"]),
        (What::Object, ["json_build_object", "jsonb_build_object"]),
        (What::Array, ["json_build_array", "jsonb_build_array"]),
    ] {
        let [name, alias] = names;
        let signature = Signature::user_defined(Volatility::Immutable);
        let function = ScalarUDF::from(Json { what, name, signature }).with_aliases([alias]);
        registry.register_udf(Arc::new(function))?;
    }
    Ok(())
}

/// A column as JSON texts.
pub(crate) fn to_json(field: &FieldRef, array: &ArrayRef) -> Result<ArrayRef> {
    Ok(text(field, array)?)
}

/// `to_json(value)`.
pub(crate) fn value_as_json(value: Expr) -> Expr {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::from(Json { what: What::Value, name: "to_json", signature }).call(vec![value])
}

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Value,
    Object,
    Array,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Json {
    what: What,
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Json {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match self.what {
            What::Value if types.len() != 1 => plan_err!("to_json takes one value"),
            What::Object if !types.len().is_multiple_of(2) => {
                plan_err!("json_build_object takes keys and values in turn: json_build_object('key', value, ...)")
            }
            _ => Ok(types.to_vec()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays: Vec<ArrayRef> = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<_>>()?;
        let value = |at: usize| Ok::<_, datafusion::error::DataFusionError>(text(&args.arg_fields[at], &arrays[at])?);
        Ok(ColumnarValue::Array(match self.what {
            What::Value => value(0)?,
            What::Array => {
                let values = (0..arrays.len()).map(value).collect::<Result<Vec<_>>>()?;
                framed(rows, ['[', ']'], |row, out| {
                    for (i, value) in values.iter().enumerate() {
                        out.push_str(if i > 0 { ", " } else { "" });
                        push(value, row, out);
                    }
                    Ok(())
                })?
            }
            What::Object => {
                let pairs = (0..arrays.len() / 2)
                    .map(|i| Ok((cast(&arrays[2 * i], &DataType::Utf8)?, value(2 * i + 1)?)))
                    .collect::<Result<Vec<_>>>()?;
                framed(rows, ['{', '}'], |row, out| {
                    for (i, (keys, value)) in pairs.iter().enumerate() {
                        if keys.is_null(row) {
                            return exec_err!(
                                "argument {} of json_build_object is NULL, and a key cannot be",
                                2 * i + 1
                            );
                        }
                        out.push_str(if i > 0 { ", " } else { "" });
                        out.push_str(&serde_json::Value::from(keys.as_string::<i32>().value(row)).to_string());
                        out.push_str(" : ");
                        push(value, row, out);
                    }
                    Ok(())
                })?
            }
        }))
    }
}

fn text(field: &FieldRef, array: &ArrayRef) -> std::result::Result<ArrayRef, arrow::error::ArrowError> {
    match array.data_type() {
        // What has no type has no encoder either.
        DataType::Null => Ok(arrow::array::new_null_array(&DataType::Utf8, array.len())),
        _ => json_text(field, array),
    }
}

fn push(value: &ArrayRef, row: usize, out: &mut String) {
    out.push_str(if value.is_null(row) { "null" } else { value.as_string::<i32>().value(row) });
}

fn framed(
    rows: usize,
    [open, close]: [char; 2],
    inside: impl Fn(usize, &mut String) -> Result<()>,
) -> Result<ArrayRef> {
    let mut all = StringBuilder::with_capacity(rows, rows.saturating_mul(32));
    let mut one = String::new();
    for row in 0..rows {
        one.clear();
        one.push(open);
        inside(row, &mut one)?;
        one.push(close);
        all.append_value(&one);
    }
    Ok(Arc::new(all.finish()))
}
