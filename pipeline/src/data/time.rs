//! Instants: microseconds since the Unix epoch, UTC. Nanoseconds are truncated, towards the past.

use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::datatypes::{DataType, TimeUnit};

#[cfg(test)]
mod tests;

/// Name of the event-time column of every table but rollups.
pub const COLUMN: &str = "timestamp";
/// The zone in the Arrow type.
pub const ZONE: &str = "UTC";
/// What [`parse`] takes, for messages.
pub(crate) const WANTED: &str = "a time (RFC 3339, or a Unix number in s, ms, µs or ns) in the years 1 to 9999";

/// 0001-01-01T00:00:00Z.
const MIN_US: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z.
const MAX_US: i64 = 253_402_300_799_999_999;

const SECOND_US: i64 = 1_000_000;

/// `Timestamp(Microsecond, "UTC")`.
pub fn data_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from(ZONE)))
}

/// An array of instants, Unix microseconds.
pub fn array(values_us: Vec<i64>) -> TimestampMicrosecondArray {
    TimestampMicrosecondArray::from(values_us).with_timezone(ZONE)
}

/// True for instants in the years 1 to 9999, the only ones that are stored.
pub fn in_range(instant_us: i64) -> bool {
    (MIN_US..=MAX_US).contains(&instant_us)
}

/// Parses an instant, Unix microseconds: RFC 3339, also with a space for the `T`, a comma for the point, or without seconds or
/// zone (then UTC), or a date alone; or a Unix number (see [`from_number`]). `None` where it is none of these, or outside the
/// years 1 to 9999.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.trim_ascii().as_bytes();
    let dated = matches!(bytes, [y1, y2, y3, y4, b'-', ..] if [y1, y2, y3, y4].iter().all(|y| y.is_ascii_digit()));
    let instant_us = if dated { date_time(bytes)? } else { number(bytes)? };
    in_range(instant_us).then_some(instant_us)
}

/// A Unix number by magnitude: below 1e11 seconds, below 1e14 ms, below 1e17 µs, else ns. Unix microseconds; `None` where it is
/// not finite or outside the years 1 to 9999.
pub fn from_number(number: f64) -> Option<i64> {
    if !number.is_finite() {
        return None;
    }
    let magnitude = number.abs();
    let instant_us = if magnitude < 1e11 {
        number * 1e6
    } else if magnitude < 1e14 {
        number * 1e3
    } else if magnitude < 1e17 {
        number
    } else {
        number / 1e3
    };
    // The cast saturates, and the ends are out of range.
    let instant_us = instant_us.floor() as i64;
    in_range(instant_us).then_some(instant_us)
}

/// RFC 3339 in UTC with microseconds: `2024-05-06T07:08:09.000001Z`.
pub fn format(instant_us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(instant_us)
        .map(|t| t.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
        .unwrap_or_else(|| instant_us.to_string())
}

/// A Unix number as text. Plain decimals are exact; with an exponent they go through `f64`.
fn number(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, bytes),
    };
    let (whole, rest) = take_digits(digits);
    if whole.is_empty() {
        return None;
    }
    let fraction = match rest.split_first() {
        None => &[][..],
        Some((b'.', rest)) if take_digits(rest).1.is_empty() && !rest.is_empty() => rest,
        Some((b'.' | b'e' | b'E', [.., b'0'..=b'9'])) => {
            return from_number(std::str::from_utf8(bytes).ok()?.parse().ok()?);
        }
        Some(_) => return None,
    };
    if whole.len() > 19 {
        return None;
    }
    let whole = whole.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    let whole = i64::try_from(whole).ok()?;
    let nanos = fraction_nanos(fraction);
    // `floor` of the magnitude, then towards the past for negative numbers.
    let (magnitude_us, cut) = if whole < 100_000_000_000 {
        (whole * SECOND_US + nanos / 1_000, nanos % 1_000 != 0)
    } else if whole < 100_000_000_000_000 {
        (whole * 1_000 + nanos / SECOND_US, nanos % SECOND_US != 0)
    } else if whole < 100_000_000_000_000_000 {
        (whole, nanos != 0)
    } else {
        (whole / 1_000, whole % 1_000 != 0 || nanos != 0)
    };
    Some(if negative { -magnitude_us - i64::from(cut) } else { magnitude_us })
}

/// `YYYY-MM-DD`, and behind it optionally a time of day and a zone.
fn date_time(bytes: &[u8]) -> Option<i64> {
    let date = bytes.first_chunk::<10>()?;
    if date[7] != b'-' {
        return None;
    }
    let year = pair(date[0], date[1])? * 100 + pair(date[2], date[3])?;
    let (month, day) = (pair(date[5], date[6])?, pair(date[8], date[9])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let midnight_us = days_from_civil(year, month, day) * 86_400 * SECOND_US;
    match bytes[10..].split_first() {
        None => Some(midnight_us),
        Some((b'T' | b't' | b' ', time)) => Some(midnight_us + time_of_day(time)?),
        Some(_) => None,
    }
}

/// `HH:MM[:SS[.fraction]][zone]`, microseconds since midnight UTC of the date before it.
fn time_of_day(bytes: &[u8]) -> Option<i64> {
    let clock = bytes.first_chunk::<5>()?;
    let (hour, minute) = (pair(clock[0], clock[1])?, pair(clock[3], clock[4])?);
    if clock[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let mut rest = &bytes[5..];
    let (mut second, mut nanos) = (0, 0);
    if let [b':', tens, ones, after @ ..] = rest {
        second = pair(*tens, *ones)?;
        rest = after;
        // 60 is a leap second: it reads as the second after it.
        if second > 60 {
            return None;
        }
        if let [b'.' | b',', after @ ..] = rest {
            let (digits, after) = take_digits(after);
            if digits.is_empty() {
                return None;
            }
            nanos = fraction_nanos(digits);
            rest = after;
        }
    }
    Some(((hour * 60 + minute) * 60 + second - zone_seconds(rest)?) * SECOND_US + nanos / 1_000)
}

/// Seconds east of UTC: nothing, `Z`, ` UTC`, `+HH`, `+HHMM` or `+HH:MM`.
fn zone_seconds(bytes: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match bytes.trim_ascii_start() {
        [] | b"Z" | b"z" | b"UTC" | b"GMT" => return Some(0),
        [sign, h1, h2] => (sign, pair(*h1, *h2)?, 0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, pair(*h1, *h2)?, pair(*m1, *m2)?),
        _ => return None,
    };
    let seconds = (hours * 60 + minutes) * 60;
    match sign {
        _ if hours > 23 || minutes > 59 => None,
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn take_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// The digits behind a decimal point as nanoseconds; digits past the ninth are dropped.
fn fraction_nanos(digits: &[u8]) -> i64 {
    (0..9).fold(0, |value, i| value * 10 + digits.get(i).map_or(0, |digit| i64::from(digit - b'0')))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. The year starts in March, so that the leap day is its last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}
