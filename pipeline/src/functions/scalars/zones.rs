//! `timezone(zone, t)`: what the clocks of a zone show, and back. `t AT TIME ZONE zone` is written so.
//!
//! A time with a zone becomes the local time there, without a zone; a time without one is taken for local time there and becomes a time. Where clocks go
//! back an hour is there twice, and the later one is meant; where they go forward the missing hour goes on by the clock of before, as in Postgres.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, AsArray, PrimitiveBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, TimeZone};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::humanize::as_given;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Timezone {
    signature: Signature,
}

impl Timezone {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

const LOCAL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

impl ScalarUDFImpl for Timezone {
    fn name(&self) -> &'static str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [_, DataType::Timestamp(_, Some(_))] => Ok(LOCAL),
            [_, _] => Ok(utc()),
            _ => plan_err!("timezone takes a zone and a time, such as timezone('Europe/Zurich', timestamp)"),
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let time = match arg_types {
            [_, DataType::Timestamp(_, Some(_))] => utc(),
            // Text says a time, as it does beside a column of times.
            [_, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8] => utc(),
            [_, DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 | DataType::Null] => LOCAL,
            [_, other] => return plan_err!("AT TIME ZONE: {other} is no time"),
            _ => return plan_err!("timezone takes a zone and a time, such as timezone('Europe/Zurich', timestamp)"),
        };
        Ok(vec![DataType::Utf8, time])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> = args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<_>>()?;
        let [zones, times] = arrays.as_slice() else { return plan_err!("timezone takes a zone and a time") };
        let (zones, to_local) =
            (cast(zones, &DataType::Utf8)?, matches!(times.data_type(), DataType::Timestamp(_, Some(_))));
        let zones = zones.as_string::<i32>();
        let times = cast(times, &if to_local { utc() } else { LOCAL })?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut out = PrimitiveBuilder::<TimestampMicrosecondType>::with_capacity(rows);
        let mut parsed: Option<(String, Tz)> = None;
        for (zone, time) in zones.iter().zip(times) {
            let (Some(zone), Some(time)) = (zone, time) else {
                out.append_null();
                continue;
            };
            // One zone for all rows, most of the time.
            if parsed.as_ref().is_none_or(|(of, _)| of != zone) {
                parsed = Some((zone.to_string(), zone_of(zone)?));
            }
            let Some((_, tz)) = &parsed else { continue };
            out.append_option(if to_local { local(time, tz) } else { global(time, tz) });
        }
        let out = out.finish().with_data_type(if to_local { LOCAL } else { utc() });
        as_given(Arc::new(out), is_scalar)
    }
}

fn zone_of(name: &str) -> Result<Tz> {
    let name = name.trim();
    let known = match name.to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "z" | "zulu" | "etc/utc" => Tz::from_str("+00:00"),
        _ => Tz::from_str(name),
    };
    known.or_else(|_| exec_err!("time zone \"{name}\" not recognized"))
}

fn offset_us(offset: impl Offset) -> i64 {
    i64::from(offset.fix().local_minus_utc()) * 1_000_000
}

/// What the clocks there show; `None` where no calendar has it.
fn local(time_us: i64, tz: &Tz) -> Option<i64> {
    let at = DateTime::from_timestamp_micros(time_us)?.naive_utc();
    time_us.checked_add(offset_us(tz.offset_from_utc_datetime(&at)))
}

fn global(local_us: i64, tz: &Tz) -> Option<i64> {
    let local = DateTime::from_timestamp_micros(local_us)?.naive_utc();
    let offset = match tz.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset,
        LocalResult::None => before(&local, tz)?,
    };
    local_us.checked_sub(offset_us(offset))
}

/// The offset before the clocks went forward.
fn before(local: &NaiveDateTime, tz: &Tz) -> Option<<Tz as TimeZone>::Offset> {
    tz.offset_from_local_datetime(&local.checked_sub_signed(Duration::hours(4))?).latest()
}
