//! Parts of a date, in UTC.

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};

use super::math::each;
use crate::engine::eval::Evaluator;
use crate::engine::rows::Row;
use crate::error::Error;
use crate::labels::Labels;
use crate::options::Steps;
use crate::parser::Call;

pub(super) fn eval(ev: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let part: fn(DateTime<Utc>) -> f64 = match call.function.name {
        "day_of_month" => |t| f64::from(t.day()),
        "day_of_week" => |t| f64::from(t.weekday().num_days_from_sunday()),
        "day_of_year" => |t| f64::from(t.ordinal()),
        "days_in_month" => |t| f64::from(days_in_month(t.year(), t.month())),
        "hour" => |t| f64::from(t.hour()),
        "minute" => |t| f64::from(t.minute()),
        "month" => |t| f64::from(t.month()),
        _ => |t| f64::from(t.year()),
    };
    // What lies beyond the calendar is taken for its last moment; a NaN for its beginning, as in Go on common machines.
    let of = move |seconds: f64| part(DateTime::from_timestamp(seconds as i64, 0).unwrap_or(DateTime::<Utc>::MAX_UTC));
    let Some(arg) = call.args.first() else {
        let values = (0..steps.count()).map(|i| of((steps.time(i) / 1000) as f64)).collect();
        return Ok(vec![Row::floats(Labels::empty(), values)]);
    };
    let rows = ev.vector(arg, steps)?;
    each(ev, rows, steps, |v, _| Some(of(v)))
}

fn days_in_month(year: i32, month: u32) -> u32 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    NaiveDate::from_ymd_opt(next_year, next_month, 1).and_then(|d| d.pred_opt()).map_or(31, |d| d.day())
}
