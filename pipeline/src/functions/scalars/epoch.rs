//! `epoch(t)` and its sisters: Unix time of a timestamp or date.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unit {
    /// Seconds, with a fraction.
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    pub(super) const ALL: [Self; 4] = [Self::Seconds, Self::Millis, Self::Micros, Self::Nanos];

    fn function(self) -> &'static str {
        match self {
            Self::Seconds => "epoch",
            Self::Millis => "epoch_ms",
            Self::Micros => "epoch_us",
            Self::Nanos => "epoch_ns",
        }
    }

    fn time_unit(self) -> TimeUnit {
        match self {
            Self::Seconds | Self::Micros => TimeUnit::Microsecond,
            Self::Millis => TimeUnit::Millisecond,
            Self::Nanos => TimeUnit::Nanosecond,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Epoch {
    unit: Unit,
    signature: Signature,
}

impl Epoch {
    pub(super) fn new(unit: Unit) -> Self {
        Self { unit, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Epoch {
    fn name(&self) -> &str {
        self.unit.function()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(if self.unit == Unit::Seconds { DataType::Float64 } else { DataType::Int64 })
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [DataType::Timestamp(..)] => Ok(arg_types.to_vec()),
            [DataType::Date32 | DataType::Date64 | DataType::Utf8 | DataType::Utf8View | DataType::Null] => {
                Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))])
            }
            [other] => plan_err!("{}: {other} is no time", self.name()),
            _ => plan_err!("{} takes one time", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some(time) = args.args.into_iter().next() else { return plan_err!("{} takes one time", self.name()) };
        let is_scalar = matches!(time, ColumnarValue::Scalar(_));
        let time = time.into_array(rows)?;
        let zone = match time.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let counted = cast(&cast(&time, &DataType::Timestamp(self.unit.time_unit(), zone))?, &DataType::Int64)?;
        let result: ArrayRef = match self.unit {
            Unit::Seconds => {
                let micros = counted.as_primitive::<Int64Type>();
                Arc::new(micros.unary::<_, arrow::datatypes::Float64Type>(|us| us as f64 / 1e6) as Float64Array)
            }
            _ => counted,
        };
        super::humanize::as_given(result, is_scalar)
    }
}
