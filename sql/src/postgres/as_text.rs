//! `x::text`, and `x || ''`, with `x` as Postgres prints it: `2026-01-02 03:00:00+00` in the zone of the session, `1` for the float 1, `1 day` for an interval.
//!
//! The engine's own casts print these as the HTTP door does. A rule puts a function in their place, in sessions of Postgres clients only.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::expressions::each_expression;

use super::encode;
use super::settings::Zone;

/// The rule, for a session with this zone.
#[derive(Debug)]
pub(super) struct AsPostgresPrints {
    print: Arc<ScalarUDF>,
}

impl AsPostgresPrints {
    pub(super) fn new(zone: Zone) -> Self {
        let signature = Signature::any(1, Volatility::Immutable);
        let zone_name = format!("{zone:?}");
        Self { print: Arc::new(ScalarUDF::from(Print { zone, zone_name, signature })) }
    }

    fn printed(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        let (value, to) = match &expr {
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => (expr, field.data_type()),
            _ => return Transformed::no(expr),
        };
        let is_text = matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        if !is_text || !value.get_type(schema).is_ok_and(|value| prints_otherwise(&value)) {
            return Transformed::no(expr);
        }
        let (value, to) = (Expr::clone(value), to.clone());
        let text = self.print.call(vec![value]);
        Transformed::yes(if to == DataType::Utf8 { text } else { datafusion::logical_expr::cast(text, to) })
    }
}

fn prints_otherwise(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Timestamp(..) | DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Interval(_)
    )
}

impl AnalyzerRule for AsPostgresPrints {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let schema = |plan: &LogicalPlan| merge_schema(&plan.inputs());
        each_expression(plan, schema, |expr, schema| Ok(self.printed(expr, schema)))
    }

    fn name(&self) -> &str {
        "as_postgres_prints"
    }
}

/// The function.
#[derive(Debug)]
struct Print {
    zone: Zone,
    /// What the zone says of itself: it cannot be compared.
    zone_name: String,
    signature: Signature,
}

impl PartialEq for Print {
    fn eq(&self, other: &Self) -> bool {
        self.zone_name == other.zone_name
    }
}

impl Eq for Print {}

impl Hash for Print {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.zone_name.hash(state);
    }
}

impl ScalarUDFImpl for Print {
    fn name(&self) -> &'static str {
        "printed"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [value] = args.args.as_slice() else {
            return datafusion::common::internal_err!("printed takes one value");
        };
        let array = value.to_array(rows)?;
        Ok(ColumnarValue::Array(encode::printed(&args.arg_fields[0], &array, &self.zone)?))
    }
}
