//! Values as Postgres prints them.

use std::fmt::Write;

use arrow::datatypes::IntervalMonthDayNano;
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone, Timelike, Utc};

use super::super::settings::Zone;

/// Writing into memory does not fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => { write!($out, $($arg)*).unwrap_or_default() };
}

pub(super) fn put_int(value: i64, out: &mut BytesMut) {
    put!(out, "{value}");
}

pub(super) fn put_float64(value: f64, out: &mut BytesMut) {
    put_float(value, &format!("{value:e}"), 15, out);
}

pub(super) fn put_float32(value: f32, out: &mut BytesMut) {
    put_float(f64::from(value), &format!("{value:e}"), 6, out);
}

/// The shortest digits that mean this number, with an exponent where it is below -4 or at least `large`.
fn put_float(value: f64, scientific: &str, large: i32, out: &mut BytesMut) {
    if value.is_nan() {
        out.put_slice(b"NaN");
        return;
    }
    if value.is_infinite() {
        out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
        return;
    }
    let Some((digits, exponent)) = scientific.split_once('e') else { return };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= large {
        let sign = if exponent < 0 { '-' } else { '+' };
        put!(out, "{digits}e{sign}{:02}", exponent.abs());
        return;
    }
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let (first, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{first}{rest}");
    out.put_slice(sign.as_bytes());
    match usize::try_from(exponent) {
        Ok(exponent) if exponent + 1 >= digits.len() => put!(out, "{digits:0<width$}", width = exponent + 1),
        Ok(exponent) => {
            let (whole, fraction) = digits.split_at(exponent + 1);
            put!(out, "{whole}.{fraction}");
        }
        Err(_) => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            put!(out, "0.{}{digits}", "0".repeat(zeros));
        }
    }
}

pub(super) fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    out.put_slice(b"\\x");
    for byte in bytes {
        put!(out, "{byte:02x}");
    }
}

/// Days since 1970.
pub(super) fn put_date(days: i64, out: &mut BytesMut) {
    match i32::try_from(days).ok().and_then(NaiveDate::from_epoch_days) {
        Some(date) => put_day(date, out),
        None => put!(out, "{}", if days < 0 { "-infinity" } else { "infinity" }),
    }
}

fn put_day(date: NaiveDate, out: &mut BytesMut) {
    // There is no year 0: 1 BC is before 1.
    let year = date.year();
    let shown = if year > 0 { year } else { 1 - year };
    put!(out, "{shown:04}-{:02}-{:02}", date.month(), date.day());
}

fn put_era(date: NaiveDate, out: &mut BytesMut) {
    if date.year() <= 0 {
        out.put_slice(b" BC");
    }
}

/// Microseconds since midnight.
pub(super) fn put_time(micros: i64, out: &mut BytesMut) {
    let seconds = micros.div_euclid(1_000_000);
    put!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    put_fraction(micros.rem_euclid(1_000_000), out);
}

fn put_fraction(micros: i64, out: &mut BytesMut) {
    if micros > 0 {
        let digits = format!("{micros:06}");
        put!(out, ".{}", digits.trim_end_matches('0'));
    }
}

pub(super) fn put_timestamp(micros: i64, out: &mut BytesMut) {
    let Some(at) = DateTime::from_timestamp_micros(micros) else {
        put!(out, "{}", if micros < 0 { "-infinity" } else { "infinity" });
        return;
    };
    let at = at.naive_utc();
    put_day(at.date(), out);
    put!(out, " {:02}:{:02}:{:02}", at.hour(), at.minute(), at.second());
    put_fraction(i64::from(at.nanosecond() / 1000), out);
    put_era(at.date(), out);
}

/// An instant, in this zone and with its offset.
pub(super) fn put_timestamp_in(micros: i64, zone: &Zone, out: &mut BytesMut) {
    let Some(at) = DateTime::from_timestamp_micros(micros) else {
        put!(out, "{}", if micros < 0 { "-infinity" } else { "infinity" });
        return;
    };
    let offset = match zone {
        None => Utc.fix(),
        Some(zone) => zone.offset_from_utc_datetime(&at.naive_utc()).fix(),
    };
    let local = at.with_timezone(&offset).naive_local();
    put_day(local.date(), out);
    put!(out, " {:02}:{:02}:{:02}", local.hour(), local.minute(), local.second());
    put_fraction(i64::from(local.nanosecond() / 1000), out);
    let seconds = offset.local_minus_utc();
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
    put!(out, "{sign}{hours:02}");
    if minutes != 0 || rest != 0 {
        put!(out, ":{minutes:02}");
    }
    if rest != 0 {
        put!(out, ":{rest:02}");
    }
    put_era(local.date(), out);
}

/// `1 year 2 mons -3 days 04:05:06.7`, each part with its own sign.
pub(super) fn put_interval(interval: IntervalMonthDayNano, out: &mut BytesMut) {
    let begin = out.len();
    let mut before_negative = false;
    let mut part = |n: i64, unit: &str, out: &mut BytesMut| {
        if n == 0 {
            return;
        }
        if out.len() > begin {
            out.put_u8(b' ');
        }
        let plus = if before_negative && n > 0 { "+" } else { "" };
        put!(out, "{plus}{n} {unit}{}", if n == 1 { "" } else { "s" });
        before_negative = n < 0;
    };
    part(i64::from(interval.months / 12), "year", out);
    part(i64::from(interval.months % 12), "mon", out);
    part(i64::from(interval.days), "day", out);
    let micros = interval.nanoseconds / 1000;
    if micros == 0 && out.len() > begin {
        return;
    }
    if out.len() > begin {
        out.put_u8(b' ');
    }
    if micros < 0 {
        out.put_u8(b'-');
    } else if before_negative {
        out.put_u8(b'+');
    }
    put_time(micros.saturating_abs(), out);
}

/// Puts quotes around the element of an array that begins here, where it needs them.
pub(super) fn quote_element(begin: usize, out: &mut BytesMut) {
    let element = &out[begin..];
    let plain = !element.is_empty()
        && !element.eq_ignore_ascii_case(b"null")
        && !element.iter().any(|b| matches!(b, b'{' | b'}' | b',' | b'"' | b'\\') || b.is_ascii_whitespace());
    if plain {
        return;
    }
    let element = element.to_vec();
    out.truncate(begin);
    out.put_u8(b'"');
    for byte in element {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}
