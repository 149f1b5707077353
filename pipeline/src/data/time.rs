//! Instants: microseconds since the Unix epoch, UTC. Nanoseconds are truncated (towards the past).

use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::datatypes::{DataType, TimeUnit};

/// Name of the event-time column of every table but rollups.
pub const COLUMN: &str = "timestamp";
/// The zone in the Arrow type.
pub const ZONE: &str = "UTC";

/// `Timestamp(Microsecond, "UTC")`.
pub fn data_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from(ZONE)))
}

/// An array of instants, Unix microseconds.
pub fn array(values_us: Vec<i64>) -> TimestampMicrosecondArray {
    TimestampMicrosecondArray::from(values_us).with_timezone(ZONE)
}

/// Parses an instant: RFC 3339, also with a space for the `T`, without seconds' fraction or zone (then UTC), or a date alone;
/// or a Unix number as text (see [`from_seconds`]). `None` where it is none of these or outside the years 1 to 9999.
pub fn parse(text: &str) -> Option<i64> {
    let _ = text;
    None
}

/// A Unix number by magnitude: below 1e11 seconds, below 1e14 ms, below 1e17 µs, else ns. Microseconds; `None` outside the
/// years 1 to 9999.
pub fn from_integer(number: i64) -> Option<i64> {
    let _ = number;
    None
}

/// [`from_integer`] for a number with a fraction.
pub fn from_float(number: f64) -> Option<i64> {
    let _ = number;
    None
}

/// RFC 3339 in UTC with microseconds: `2024-05-06T07:08:09.000001Z`.
pub fn format(instant_us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(instant_us)
        .map(|t| t.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
        .unwrap_or_else(|| instant_us.to_string())
}
