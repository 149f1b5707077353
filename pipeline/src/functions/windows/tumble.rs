//! `tumble(timestamp, INTERVAL '1 minute')` is the start of the window that an instant falls into.
//!
//! Windows are aligned to the Unix epoch, so a width that divides a day gives windows that begin at midnight UTC. A width is
//! a fixed time: days, hours, minutes, seconds, down to a microsecond; months and years have no fixed length and are refused.

use std::sync::Arc;

use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::data::time;

/// The function's name in SQL.
pub const TUMBLE: &str = "tumble";

/// Microseconds of a day.
const DAY_US: i64 = 86_400 * 1_000_000;

/// The function, to register in a session.
pub fn tumble() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Tumble::new()))
}

/// Start of the window of this width that holds the instant, both in microseconds. `width_us` must be positive.
pub fn tumble_start_us(instant_us: i64, width_us: i64) -> i64 {
    instant_us.saturating_sub(instant_us.rem_euclid(width_us))
}

/// An interval as a window's width in microseconds; the error says why it cannot be one.
pub fn tumble_width_us(interval: IntervalMonthDayNano) -> Result<i64, String> {
    if interval.months != 0 {
        return Err(
            "a window's width must be a fixed time, and months are not; use days, e.g. INTERVAL '30 days'".to_owned()
        );
    }
    if interval.nanoseconds % 1_000 != 0 {
        return Err("a window's width must be whole microseconds".to_owned());
    }
    let width_us =
        i64::from(interval.days).checked_mul(DAY_US).and_then(|d| d.checked_add(interval.nanoseconds / 1_000));
    match width_us {
        Some(width_us) if width_us > 0 => Ok(width_us),
        _ => Err("a window's width must be positive, e.g. INTERVAL '1 minute'".to_owned()),
    }
}

/// `tumble(timestamp, width)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Tumble {
    signature: Signature,
}

impl Tumble {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for Tumble {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for Tumble {
    fn name(&self) -> &str {
        TUMBLE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [instant, width] = arg_types else {
            return plan_err!("tumble takes an instant and a width: tumble(timestamp, INTERVAL '1 minute')");
        };
        if !matches!(instant, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null) {
            return plan_err!("the first argument of tumble must be an instant, not {instant}");
        }
        if !matches!(width, DataType::Interval(_)) {
            return plan_err!(
                "the second argument of tumble must be an interval such as INTERVAL '1 minute', not {width}"
            );
        }
        Ok(vec![time::data_type(), DataType::Interval(IntervalUnit::MonthDayNano)])
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(time::data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [instant, width] = args.args.as_slice() else {
            return plan_err!("tumble takes two arguments");
        };
        let ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(width)) = width else {
            return plan_err!("the width of tumble must be a constant such as INTERVAL '1 minute'");
        };
        let Some(width) = width else {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(&time::data_type())?));
        };
        let width_us = tumble_width_us(*width).map_err(DataFusionError::Plan)?;
        let zone = || Some(Arc::from("UTC"));
        match instant {
            ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(instant, _)) => Ok(ColumnarValue::Scalar(
                ScalarValue::TimestampMicrosecond(instant.map(|t| tumble_start_us(t, width_us)), zone()),
            )),
            ColumnarValue::Array(instants) => {
                let Some(instants) = instants.as_primitive_opt::<TimestampMicrosecondType>() else {
                    return plan_err!("tumble got {} instead of an instant", instants.data_type());
                };
                let starts: TimestampMicrosecondArray = instants.unary(|t| tumble_start_us(t, width_us));
                Ok(ColumnarValue::Array(Arc::new(starts.with_timezone_opt(zone()))))
            }
            ColumnarValue::Scalar(other) => plan_err!("tumble got {} instead of an instant", other.data_type()),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn windows_are_aligned_to_the_epoch_on_both_sides_of_it() {
        assert_eq!(tumble_start_us(59, 60), 0);
        assert_eq!(tumble_start_us(60, 60), 60);
        assert_eq!(tumble_start_us(-1, 60), -60);
        assert_eq!(tumble_start_us(-60, 60), -60);
        assert_eq!(tumble_start_us(i64::MIN, 60), i64::MIN, "the edge of time is its own window");
    }

    #[test]
    fn a_width_is_a_fixed_positive_time() {
        let width = |months, days, nanoseconds| tumble_width_us(IntervalMonthDayNano { months, days, nanoseconds });
        assert_eq!(width(0, 1, 1_000), Ok(DAY_US + 1));
        assert!(width(1, 0, 0).unwrap_err().contains("months"));
        assert!(width(0, 0, 0).unwrap_err().contains("positive"));
        assert!(width(0, 0, -60_000).unwrap_err().contains("positive"));
        assert!(width(0, 0, 1).unwrap_err().contains("whole microseconds"));
    }

    async fn answer(sql: &str) -> Result<String> {
        let context = SessionContext::new();
        context.register_udf((*tumble()).clone());
        let batches = context.sql(sql).await?.collect().await?;
        Ok(arrow::util::display::array_value_to_string(batches[0].column(0), 0)?)
    }

    #[tokio::test]
    async fn it_works_in_sql_on_columns_and_constants() {
        let sql = "SELECT tumble(timestamp '2024-03-01 12:34:56.789', INTERVAL '5 minutes')";
        assert_eq!(answer(sql).await.unwrap(), "2024-03-01T12:30:00Z");
        let sql =
            "SELECT max(tumble(t, INTERVAL '1 day')) FROM (VALUES (timestamp '2024-03-01 12:34:56'), (NULL)) AS v(t)";
        assert_eq!(answer(sql).await.unwrap(), "2024-03-01T00:00:00Z");
        let error = answer("SELECT tumble(timestamp '2024-03-01', INTERVAL '1 month')").await.unwrap_err().to_string();
        assert!(error.contains("months"), "{error}");
        let error = answer("SELECT tumble(timestamp '2024-03-01', 5)").await.unwrap_err().to_string();
        assert!(error.contains("INTERVAL '1 minute'"), "{error}");
    }
}
