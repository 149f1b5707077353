//! Intervals and times from their parts: `age(a, b)`, `make_interval(years, months, weeks, days, hours, mins, secs)`, `make_timestamp(y, m, d, h, mi, s)`,
//! `make_timestamptz(...)` (in UTC), and an interval times or over a number.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveBuilder};
use arrow::datatypes::{
    DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime};
use datafusion::common::{DFSchema, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::humanize::as_given;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DAY_US: i64 = 86_400_000_000;
const DAY_NS: f64 = 86_400e9;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Made {
    /// Years, months, days and time between two times.
    Age,
    Interval,
    Timestamp,
    TimestampTz,
    /// An interval times a number.
    Times,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Calendar {
    made: Made,
    signature: Signature,
}

impl Made {
    pub(super) const ALL: [Self; 5] = [Self::Age, Self::Interval, Self::Timestamp, Self::TimestampTz, Self::Times];

    /// How many arguments it takes.
    fn arity(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Age | Self::Times => 2..=2,
            Self::Interval => 0..=7,
            Self::Timestamp | Self::TimestampTz => 6..=6,
        }
    }
}

impl Calendar {
    pub(super) fn new(made: Made) -> Self {
        Self { made, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Calendar {
    fn name(&self) -> &str {
        match self.made {
            Made::Age => "age",
            Made::Interval => "make_interval",
            Made::Timestamp => "make_timestamp",
            Made::TimestampTz => "make_timestamptz",
            Made::Times => "interval_times",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.made {
            Made::Age | Made::Interval | Made::Times => INTERVAL,
            Made::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Made::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        })
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !self.made.arity().contains(&arg_types.len()) {
            return plan_err!("{} does not take {} arguments", self.name(), arg_types.len());
        }
        Ok(match self.made {
            Made::Age => vec![DataType::Timestamp(TimeUnit::Microsecond, None); 2],
            Made::Times => vec![INTERVAL, DataType::Float64],
            _ => vec![DataType::Float64; arg_types.len()],
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> = args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<_>>()?;
        let known = |row: usize| arrays.iter().all(|array| array.is_valid(row));
        let number = |at: usize, row: usize| arrays[at].as_primitive::<Float64Type>().value(row);
        if let Made::Timestamp | Made::TimestampTz = self.made {
            let mut out = PrimitiveBuilder::<TimestampMicrosecondType>::with_capacity(rows);
            for row in 0..rows {
                let parts = || [0, 1, 2, 3, 4, 5].map(|at| number(at, row));
                out.append_option(if known(row) { Some(self.time(parts())?) } else { None });
            }
            let out = out.finish().with_data_type(args.return_field.data_type().clone());
            return as_given(Arc::new(out), is_scalar);
        }
        let mut out = PrimitiveBuilder::<IntervalMonthDayNanoType>::with_capacity(rows);
        for row in 0..rows {
            if !known(row) {
                out.append_null();
                continue;
            }
            let made = match self.made {
                Made::Age => {
                    let time = |at: usize| arrays[at].as_primitive::<TimestampMicrosecondType>().value(row);
                    age(time(0), time(1))
                }
                Made::Times => times(arrays[0].as_primitive::<IntervalMonthDayNanoType>().value(row), number(1, row)),
                _ => {
                    let part = |at: usize| if at < arrays.len() { number(at, row) } else { 0.0 };
                    interval([0, 1, 2, 3, 4, 5, 6].map(part))
                }
            };
            match made {
                Some(made) => out.append_value(made),
                None => return exec_err!("{}: interval out of range", self.name()),
            }
        }
        as_given(Arc::new(out.finish()), is_scalar)
    }
}

impl Calendar {
    fn time(&self, [year, month, day, hour, minute, second]: [f64; 6]) -> Result<i64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what does not fit is no date")]
        let date = NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32);
        let in_day = (0.0..=24.0).contains(&hour) && (0.0..60.0).contains(&minute) && (0.0..=60.0).contains(&second);
        let Some(date) = date.filter(|_| in_day && [year, month, day, hour, minute].iter().all(|p| p.fract() == 0.0))
        else {
            return exec_err!(
                "{}: date/time field value out of range: {year}-{month}-{day} {hour}:{minute}:{second}",
                self.name()
            );
        };
        let days = i64::from(date.num_days_from_ce()) - i64::from(NaiveDate::default().num_days_from_ce());
        Ok(days * DAY_US + whole((hour * 3600.0 + minute * 60.0 + second) * 1e6))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, which is out of range for all that follows")]
fn whole(number: f64) -> i64 {
    number.round() as i64
}

fn checked(months: f64, days: f64, nanos: f64) -> Option<IntervalMonthDayNano> {
    let fits = |number: f64, most: f64| number.is_finite() && number.abs() < most;
    if !fits(months, 2e9) || !fits(days, 2e9) || !fits(nanos, 9e18) {
        return None;
    }
    let small = |number: f64| i32::try_from(whole(number)).ok();
    Some(IntervalMonthDayNano::new(small(months)?, small(days)?, whole(nanos)))
}

fn interval([years, months, weeks, days, hours, minutes, seconds]: [f64; 7]) -> Option<IntervalMonthDayNano> {
    let nanos = (hours * 3600.0 + minutes * 60.0) * 1e9 + (seconds * 1e6).round() * 1e3;
    checked(years.trunc() * 12.0 + months.trunc(), weeks.trunc() * 7.0 + days.trunc(), nanos)
}

/// Fractions of a month become days, those of a day time, as in Postgres.
fn times(interval: IntervalMonthDayNano, by: f64) -> Option<IntervalMonthDayNano> {
    let months = f64::from(interval.months) * by;
    let days = f64::from(interval.days) * by + months.fract() * 30.0;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of some centuries fit")]
    let nanos = interval.nanoseconds as f64 * by + days.fract() * DAY_NS;
    checked(months.trunc(), days.trunc(), (nanos / 1e3).round() * 1e3)
}

/// Whole months from the earlier to the later, then days, then what is left.
fn age(a_us: i64, b_us: i64) -> Option<IntervalMonthDayNano> {
    let at = |us: i64| Some(DateTime::from_timestamp_micros(us)?.naive_utc());
    let (early, late) = (at(a_us.min(b_us))?, at(a_us.max(b_us))?);
    let mut months = (late.year() - early.year()) * 12 + late.month().cast_signed() - early.month().cast_signed();
    let within_month = |t: &NaiveDateTime| (t.day(), t.time());
    if within_month(&late) < within_month(&early) {
        months -= 1;
    }
    // Days are those of the month in which the earlier one lies.
    let mut days = i64::from(late.day()) - i64::from(early.day());
    let mut nanos = (late.time() - early.time()).num_nanoseconds()?;
    if nanos < 0 {
        nanos += 86_400_000_000_000;
        days -= 1;
    }
    if days < 0 {
        let first = early.date().with_day(1)?;
        days += (first.checked_add_months(Months::new(1))? - first).num_days();
    }
    let sign = if a_us < b_us { -1 } else { 1 };
    Some(IntervalMonthDayNano::new(sign * months, sign * i32::try_from(days).ok()?, i64::from(sign) * nanos))
}

/// `interval * number`, `number * interval` and `interval / number`, which the engine cannot plan.
#[derive(Debug)]
pub(super) struct IntervalArithmetic;

impl ExprPlanner for IntervalArithmetic {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if !matches!(expr.op, BinaryOperator::Multiply | BinaryOperator::Divide) {
            return Ok(PlannerResult::Original(expr));
        }
        let (left, right) = (expr.left.get_type(schema), expr.right.get_type(schema));
        let (Ok(left), Ok(right)) = (left, right) else { return Ok(PlannerResult::Original(expr)) };
        let is_interval = |data_type: &DataType| matches!(data_type, DataType::Interval(_));
        let (interval, by) = match &expr.op {
            BinaryOperator::Multiply if is_interval(&left) && right.is_numeric() => (expr.left, expr.right),
            BinaryOperator::Multiply if left.is_numeric() && is_interval(&right) => (expr.right, expr.left),
            BinaryOperator::Divide if is_interval(&left) && right.is_numeric() => {
                let by = datafusion::logical_expr::cast(expr.right, DataType::Float64);
                (expr.left, lit(1.0) / by)
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let times = ScalarUDF::from(Calendar::new(Made::Times));
        Ok(PlannerResult::Planned(times.call(vec![interval, by])))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn at(text: &str) -> i64 {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc().timestamp_micros()
    }

    #[test]
    fn ages_count_months_then_days() {
        const HOUR: i64 = 3_600_000_000_000;
        for (a, b, months, days, nanos) in [
            // As PostgreSQL 15 answers.
            ("2026-03-01 00:00", "2025-01-15 00:00", 13, 17, 0),
            ("2026-03-01 10:00", "2026-02-28 12:00", 0, 0, 22 * HOUR),
            ("2026-02-28 12:00", "2026-03-01 10:00", 0, 0, -22 * HOUR),
            ("2026-01-31 00:00", "2026-01-31 00:00", 0, 0, 0),
            ("2026-03-15 06:00", "2026-01-31 12:00", 1, 14, 18 * HOUR),
        ] {
            assert_eq!(age(at(a), at(b)), Some(IntervalMonthDayNano::new(months, days, nanos)), "{a} {b}");
        }
    }

    #[test]
    fn intervals_times_numbers() {
        let month = IntervalMonthDayNano::new(1, 0, 0);
        assert_eq!(times(month, 1.5), Some(IntervalMonthDayNano::new(1, 15, 0)));
        assert_eq!(times(IntervalMonthDayNano::new(0, 1, 0), 0.5).unwrap().nanoseconds, 43_200_000_000_000);
        assert_eq!(times(month, f64::INFINITY), None);
        assert_eq!(interval([1.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.5]).unwrap().months, 14);
    }
}
