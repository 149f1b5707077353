//! Sizes and durations for people.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, DurationNanosecondType, Float64Type, TimeUnit};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Style {
    /// `1.5 GiB`.
    Bytes,
    /// As Postgres has it: `1536 MB`.
    PgSize,
    /// `1d 2h 3m 4s`, `12.3ms`, of seconds.
    Duration,
}

impl Style {
    pub(super) const ALL: [Self; 3] = [Self::Bytes, Self::PgSize, Self::Duration];

    fn write(self, value: f64) -> String {
        match self {
            Self::Bytes => bytes(value),
            Self::PgSize => pg_size(value),
            Self::Duration => duration(value),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Humanize {
    style: Style,
    signature: Signature,
}

impl Humanize {
    pub(super) fn new(style: Style) -> Self {
        Self { style, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Humanize {
    fn name(&self) -> &str {
        match self.style {
            Style::Bytes => "humanize_bytes",
            Style::PgSize => "pg_size_pretty",
            Style::Duration => "humanize_duration",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [DataType::Duration(_)] if self.style == Style::Duration => {
                Ok(vec![DataType::Duration(TimeUnit::Nanosecond)])
            }
            [number] if number.is_numeric() || number.is_null() => Ok(vec![DataType::Float64]),
            [other] => plan_err!("{}: {other} is no number", self.name()),
            _ => plan_err!("{} takes one number", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some(value) = args.args.into_iter().next() else { return plan_err!("{} takes one number", self.name()) };
        let is_scalar = matches!(value, ColumnarValue::Scalar(_));
        let value = value.into_array(rows)?;
        let text: StringArray = match value.data_type() {
            DataType::Duration(_) => {
                let nanos = value.as_primitive::<DurationNanosecondType>();
                nanos.iter().map(|ns| ns.map(|ns| self.style.write(ns as f64 / 1e9))).collect()
            }
            _ => {
                let numbers = cast(&value, &DataType::Float64)?;
                numbers.as_primitive::<Float64Type>().iter().map(|n| n.map(|n| self.style.write(n))).collect()
            }
        };
        as_given(Arc::new(text), is_scalar)
    }
}

/// One value where one was given.
pub(super) fn as_given(result: ArrayRef, is_scalar: bool) -> Result<ColumnarValue> {
    match is_scalar && !result.is_empty() {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
        false => Ok(ColumnarValue::Array(result)),
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if !value.is_finite() {
        return value.to_string();
    }
    let mut size = value;
    let mut unit = 0;
    while size.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{} {}", digits(size), UNITS[unit])
}

/// At most three digits after the point of small numbers, fewer of large ones, and no zeros at the end.
fn digits(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

fn pg_size(value: f64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut size = value.trunc();
    let mut unit = 0;
    while size.abs() >= 10_240.0 && unit + 1 < UNITS.len() {
        size = (size / 1024.0).round();
        unit += 1;
    }
    format!("{size:.0} {}", UNITS[unit])
}

fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return seconds.to_string();
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let seconds = seconds.abs();
    if seconds < 1.0 {
        let (value, unit) = match seconds {
            0.0 => (0.0, "s"),
            s if s >= 1e-3 => (s * 1e3, "ms"),
            s if s >= 1e-6 => (s * 1e6, "us"),
            s => (s * 1e9, "ns"),
        };
        return format!("{sign}{}{unit}", digits(value));
    }
    if seconds < 60.0 {
        return format!("{sign}{}s", digits(seconds));
    }
    let whole = seconds.round() as u64;
    let parts = [(whole / 86_400, "d"), (whole / 3600 % 24, "h"), (whole / 60 % 60, "m"), (whole % 60, "s")];
    let shown: Vec<String> = parts.iter().skip_while(|(n, _)| *n == 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    format!("{sign}{}", shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let all = [0.0, 1023.0, 1536.0, 1e9, -2048.0, f64::MAX].map(bytes);
        assert_eq!(all[..5], ["0 B", "1023 B", "1.5 KiB", "954 MiB", "-2 KiB"]);
        assert!(all[5].ends_with(" EiB"));
        assert_eq!([0.0, 10_239.0, 10_240.0, 1e9].map(pg_size), ["0 bytes", "10239 bytes", "10 kB", "954 MB"]);
    }

    #[test]
    fn durations() {
        assert_eq!(
            [0.0, 0.0123, 4.56, 61.0, 93_784.0, -3600.0, 1.5e-7].map(duration),
            ["0s", "12.3ms", "4.56s", "1m 1s", "1d 2h 3m 4s", "-1h 0m 0s", "150ns"]
        );
    }
}
