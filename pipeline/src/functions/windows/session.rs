//! Where a session begins, for a query engine: a row's time if the row before it, in its group, is the gap away or farther.

use std::sync::Arc;

use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::data::time;

/// `session_begin(timestamp, previous)` for a gap.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionBegin {
    gap_us: i64,
    signature: Signature,
}

impl SessionBegin {
    pub(super) fn new(gap_us: i64) -> Self {
        Self { gap_us, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SessionBegin {
    fn name(&self) -> &str {
        "session_begin"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(time::data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [instants, previous] = args.args.as_slice() else { return plan_err!("session_begin takes two instants") };
        let (instants, previous) = (instants.to_array(args.number_rows)?, previous.to_array(args.number_rows)?);
        let (Some(instants), Some(previous)) = (
            instants.as_primitive_opt::<TimestampMicrosecondType>(),
            previous.as_primitive_opt::<TimestampMicrosecondType>(),
        ) else {
            return plan_err!("session got {} instead of an instant", instants.data_type());
        };
        let begins = |(at, before): (Option<i64>, Option<i64>)| {
            at.filter(|&at| before.is_none_or(|before| at.saturating_sub(before) >= self.gap_us))
        };
        let begins: TimestampMicrosecondArray = instants.iter().zip(previous.iter()).map(begins).collect();
        Ok(ColumnarValue::Array(Arc::new(begins.with_timezone_opt(Some("UTC")))))
    }
}
