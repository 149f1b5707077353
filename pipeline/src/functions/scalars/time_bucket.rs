//! `time_bucket(width, t [, origin])`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// A Monday, 2000-01-03, microseconds since 1970.
const MONDAY_US: i64 = 946_857_600_000_000;
/// The first of a year, 2000-01-01, for buckets of months.
const NEW_YEAR_US: i64 = 946_684_800_000_000;
const NANOS_OF: [(&str, f64); 6] = [("s", 1e9), ("ms", 1e6), ("us", 1e3), ("m", 60e9), ("h", 3600e9), ("d", 86_400e9)];

/// `date_bin` with an origin of its own, and widths as text too.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &'static str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [_, time, ..] => Ok(time.clone()),
            _ => plan_err!("time_bucket takes a width and a time, such as time_bucket('5 minutes', timestamp)"),
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (width, time, origin) = match arg_types {
            [width, time] => (width, time, None),
            [width, time, origin] => (width, time, Some(origin)),
            _ => return plan_err!("time_bucket takes a width, a time, and perhaps an origin"),
        };
        let width = match width {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
            DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            other => return plan_err!("time_bucket: a width is an interval or text such as '5 minutes', not {other}"),
        };
        let time = match time {
            DataType::Timestamp(..) => time.clone(),
            DataType::Date32
            | DataType::Date64
            | DataType::Utf8
            | DataType::Utf8View
            | DataType::LargeUtf8
            | DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            other => return plan_err!("time_bucket: {other} is no time"),
        };
        let mut types = vec![width, time.clone()];
        types.extend(origin.map(|_| time));
        Ok(types)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(ColumnarValue::Scalar(width)) = args.args.first() else {
            return plan_err!("time_bucket: the width has to be the same for all rows");
        };
        let width = match width {
            ScalarValue::Utf8(Some(text)) => Some(interval(text)?),
            ScalarValue::IntervalMonthDayNano(width) => *width,
            _ => None,
        };
        let time = args.return_field.data_type().clone();
        if let Some(width) = width {
            let origin_us = if width.months == 0 { MONDAY_US } else { NEW_YEAR_US };
            if args.args.len() < 3 {
                let origin = ScalarValue::TimestampMicrosecond(Some(origin_us), Some("UTC".into()));
                args.args.push(ColumnarValue::Scalar(origin));
                args.arg_fields.push(Arc::new(Field::new("origin", time.clone(), true)));
            }
            // The engine wants origins in nanoseconds, whatever the times are in.
            let zone = match &time {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let in_nanos = DataType::Timestamp(TimeUnit::Nanosecond, zone);
            if let (Some(ColumnarValue::Scalar(origin)), Some(field)) =
                (args.args.get_mut(2), args.arg_fields.get_mut(2))
            {
                *origin = origin.cast_to(&in_nanos)?;
                *field = Arc::new(Field::new("origin", in_nanos, true));
            }
        }
        let width = ScalarValue::IntervalMonthDayNano(width);
        if let Some(field) = args.arg_fields.first_mut() {
            *field = Arc::new(Field::new("width", width.data_type(), true));
        }
        if width.is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_field.data_type())?));
        }
        if let Some(first) = args.args.first_mut() {
            *first = ColumnarValue::Scalar(width);
        }
        date_bin().inner().invoke_with_args(args)
    }
}

/// A width as text: `5 minutes` and whatever else is an interval, `5m`, `300.000s`.
fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    let trimmed = text.trim();
    let number = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &trimmed[number.len()..];
    if let (Ok(number), Some((_, nanos))) = (number.parse::<f64>(), NANOS_OF.iter().find(|(name, _)| *name == unit)) {
        return Ok(IntervalMonthDayNano::new(0, 0, (number * nanos).round() as i64));
    }
    let parsed = ScalarValue::Utf8(Some(trimmed.to_string())).cast_to(&DataType::Interval(IntervalUnit::MonthDayNano));
    match parsed {
        Ok(ScalarValue::IntervalMonthDayNano(Some(width))) => Ok(width),
        _ => Err(DataFusionError::Plan(format!("time_bucket: {text:?} is not a width such as '5 minutes' or '1h'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_as_people_and_grafana_write_them() {
        let minutes = |n: i64| IntervalMonthDayNano::new(0, 0, n * 60_000_000_000);
        assert_eq!(interval("300.000s").unwrap(), minutes(5));
        assert_eq!(interval("5m").unwrap(), minutes(5));
        assert_eq!(interval("5 minutes").unwrap(), minutes(5));
        assert_eq!(interval("1 month").unwrap(), IntervalMonthDayNano::new(1, 0, 0));
        assert!(interval("soon").unwrap_err().to_string().contains("\"soon\" is not a width"));
    }
}
