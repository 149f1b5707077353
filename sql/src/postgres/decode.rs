//! Parameters as clients send them: text or binary of a Postgres type.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use chrono::DateTime;
use pgwire::api::Type;

use super::encode::numeric_from_binary;
use super::error::{PgError, code};
use super::{interval, types};
use crate::parameters::Parameter;

/// From 1970 to 2000, where Postgres counts from.
const EPOCH_US: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// A parameter of this type that has no value.
pub(crate) fn null(pg_type: &Type) -> Parameter {
    match arrow_type(pg_type) {
        Some(data_type) => Parameter::Typed(None, data_type),
        None => Parameter::Null,
    }
}

/// A parameter's value. `number` counts from 1, for messages.
///
/// # Errors
/// `22P02` where the text is no value of the type, `22P03` where the bytes are none, `22021` for text that is not UTF-8.
pub(crate) fn value(pg_type: &Type, binary: bool, bytes: Option<&[u8]>, number: usize) -> Result<Parameter, PgError> {
    let Some(bytes) = bytes else { return Ok(null(pg_type)) };
    match binary {
        true => from_binary(pg_type, bytes).ok_or_else(|| {
            PgError::new(
                code::INVALID_BINARY,
                format!("parameter ${number}: incorrect binary data for type {}", pg_type.name()),
            )
        }),
        false => {
            let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(|| {
                PgError::new(
                    code::NOT_IN_ENCODING,
                    format!("parameter ${number}: invalid byte sequence for encoding \"UTF8\""),
                )
            })?;
            from_text(pg_type, text).ok_or_else(|| {
                PgError::new(
                    code::INVALID_TEXT,
                    format!("parameter ${number}: invalid input syntax for type {}: \"{text}\"", pg_type.name()),
                )
            })
        }
    }
}

/// What values of the type are in the engine; `None` where the type says nothing: text, and what is none of ours.
pub(crate) fn arrow_type(pg_type: &Type) -> Option<DataType> {
    Some(match *pg_type {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 | Type::NUMERIC => DataType::Float64,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR => DataType::Utf8,
        _ => return None,
    })
}

fn from_text(pg_type: &Type, text: &str) -> Option<Parameter> {
    let trimmed = text.trim();
    Some(match *pg_type {
        Type::BOOL => Parameter::Bool(boolean(trimmed)?),
        Type::INT2 => Parameter::Int(i64::from(trimmed.parse::<i16>().ok()?)),
        Type::INT4 => Parameter::Int(i64::from(trimmed.parse::<i32>().ok()?)),
        Type::INT8 => Parameter::Int(trimmed.parse().ok()?),
        Type::OID => Parameter::Int(i64::from(trimmed.parse::<u32>().ok()?)),
        Type::FLOAT4 | Type::FLOAT8 => Parameter::Float(float(trimmed)?),
        Type::NUMERIC => number(trimmed)?,
        Type::BYTEA => Parameter::Bytes(bytea(text)?),
        Type::DATE => Parameter::Typed(Some(date_text(trimmed).to_string()), DataType::Date32),
        Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            Parameter::Typed(Some(time_text(trimmed)), arrow_type(pg_type)?)
        }
        Type::INTERVAL => Parameter::Typed(Some(interval::plain(trimmed)?), arrow_type(pg_type)?),
        _ => match types::element_of(pg_type) {
            Some(element) => array_from_text(&element, trimmed)?,
            None => Parameter::Text(text.to_string()),
        },
    })
}

/// A date without the zone that some clients write behind it: `2026-01-02 +00`.
pub(super) fn date_text(text: &str) -> &str {
    match text.split_once(' ') {
        Some((date, zone)) if is_zone(zone) && date.len() == 10 => date,
        _ => text,
    }
}

/// `+00`, `-05:30`, `+0100`.
fn is_zone(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or_default();
    (2..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || b == b':')
}

/// Some value of this type, for what is planned before there is one and cannot be planned with none.
pub(crate) fn some(pg_type: &Type) -> Parameter {
    match *pg_type {
        Type::BOOL => Parameter::Bool(true),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID | Type::NUMERIC => Parameter::Int(1),
        Type::FLOAT4 | Type::FLOAT8 => Parameter::Float(1.0),
        Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            Parameter::Typed(Some("1970-01-01T00:00:00Z".to_string()), arrow_type(pg_type).unwrap_or(DataType::Utf8))
        }
        Type::INTERVAL => Parameter::Typed(Some("1 day".to_string()), DataType::Interval(IntervalUnit::MonthDayNano)),
        Type::TIME | Type::BYTEA => null(pg_type),
        _ => match types::element_of(pg_type) {
            Some(element) => Parameter::List(vec![some(&element)]),
            None => Parameter::Text("1".to_string()),
        },
    }
}

/// A time as the engine's parser wants it: `2026-01-02 03:04:05+00` has an offset in hours only.
fn time_text(text: &str) -> String {
    let Some(sign) = text.rfind(['+', '-']).filter(|at| *at > 10) else { return text.to_string() };
    match text.len() - sign {
        3 => format!("{text}:00"),
        _ => text.to_string(),
    }
}

fn from_binary(pg_type: &Type, bytes: &[u8]) -> Option<Parameter> {
    Some(match *pg_type {
        Type::BOOL => match bytes {
            [0] => Parameter::Bool(false),
            [1] => Parameter::Bool(true),
            _ => return None,
        },
        Type::INT2 => Parameter::Int(i64::from(i16::from_be_bytes(bytes.try_into().ok()?))),
        Type::INT4 => Parameter::Int(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
        Type::OID => Parameter::Int(i64::from(u32::from_be_bytes(bytes.try_into().ok()?))),
        Type::INT8 => Parameter::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
        Type::FLOAT4 => Parameter::Float(f64::from(f32::from_be_bytes(bytes.try_into().ok()?))),
        Type::FLOAT8 => Parameter::Float(f64::from_be_bytes(bytes.try_into().ok()?)),
        Type::NUMERIC => number(&numeric_from_binary(bytes)?)?,
        Type::BYTEA => Parameter::Bytes(bytes.to_vec()),
        Type::DATE => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_DAYS)?;
            let date = chrono::NaiveDate::from_epoch_days(days)?;
            Parameter::Typed(Some(date.to_string()), DataType::Date32)
        }
        Type::TIME => {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?);
            let time = DateTime::from_timestamp_micros(micros).filter(|_| micros >= 0)?.time();
            Parameter::Typed(Some(time.to_string()), arrow_type(pg_type)?)
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_US)?;
            let at = DateTime::from_timestamp_micros(micros)?;
            let text = match *pg_type {
                Type::TIMESTAMPTZ => at.to_rfc3339(),
                _ => at.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f").to_string(),
            };
            Parameter::Typed(Some(text), arrow_type(pg_type)?)
        }
        Type::INTERVAL => {
            let micros = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
            let days = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
            let months = i32::from_be_bytes(bytes.get(12..16)?.try_into().ok()?);
            let text = format!("{months} mons {days} days {micros} microseconds");
            Parameter::Typed(Some(text), arrow_type(pg_type)?)
        }
        Type::UUID => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            let [a, b, c, d, e] =
                [hex.get(..8)?, hex.get(8..12)?, hex.get(12..16)?, hex.get(16..20)?, hex.get(20..32)?];
            Parameter::Text(format!("{a}-{b}-{c}-{d}-{e}"))
        }
        Type::JSONB => Parameter::Text(utf8(bytes.strip_prefix(&[1])?)?),
        _ => match types::element_of(pg_type) {
            Some(element) => array_from_binary(&element, bytes)?,
            None => Parameter::Text(utf8(bytes)?),
        },
    })
}

fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).map(str::to_string)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn float(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// A decimal: an integer where it is one, a float otherwise.
fn number(text: &str) -> Option<Parameter> {
    let whole =
        text.split_once('.').map_or(text, |(whole, rest)| if rest.bytes().all(|b| b == b'0') { whole } else { text });
    match whole.parse::<i64>() {
        Ok(int) => Some(Parameter::Int(int)),
        Err(_) => Some(Parameter::Float(float(text)?)),
    }
}

fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        return digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                out.push(b'\\');
                tail
            }
            (b'\\', [a, b, c, tail @ ..]) => {
                let octal = std::str::from_utf8(&[*a, *b, *c]).ok().and_then(|d| u8::from_str_radix(d, 8).ok());
                out.push(octal?);
                tail
            }
            (b'\\', _) => return None,
            (byte, tail) => {
                out.push(*byte);
                tail
            }
        };
    }
    Some(out)
}

fn array_from_binary(element: &Type, bytes: &[u8]) -> Option<Parameter> {
    let int = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let dimensions = int(0)?;
    if dimensions == 0 {
        return Some(Parameter::List(Vec::new()));
    }
    if dimensions != 1 {
        return None;
    }
    let length = usize::try_from(int(12)?).ok()?;
    let mut at = 20;
    let mut items = Vec::new();
    for _ in 0..length {
        let size = int(at)?;
        at += 4;
        match usize::try_from(size) {
            Ok(size) => {
                items.push(from_binary(element, bytes.get(at..at.checked_add(size)?)?)?);
                at += size;
            }
            Err(_) => items.push(null(element)),
        }
    }
    Some(Parameter::List(items))
}

/// The elements of an array as text.
pub(crate) fn array(element: &Type, text: &str) -> Option<Vec<Parameter>> {
    match array_from_text(element, text.trim())? {
        Parameter::List(elements) => Some(elements),
        _ => None,
    }
}

/// `{a,"b c",NULL}`, of one dimension.
fn array_from_text(element: &Type, text: &str) -> Option<Parameter> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    let mut chars = inner.chars().peekable();
    while chars.peek().is_some_and(|c| c.is_whitespace()) {
        chars.next();
    }
    if chars.peek().is_none() {
        return Some(Parameter::List(items));
    }
    loop {
        while chars.peek().is_some_and(|c| c.is_whitespace()) {
            chars.next();
        }
        let mut item = String::new();
        let quoted = chars.peek() == Some(&'"');
        if quoted {
            chars.next();
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => item.push(chars.next()?),
                    c => item.push(c),
                }
            }
            while chars.peek().is_some_and(|c| c.is_whitespace()) {
                chars.next();
            }
        } else {
            while let Some(c) = chars.peek().filter(|c| **c != ',') {
                match c {
                    '{' | '}' | '"' => return None,
                    '\\' => {
                        chars.next();
                        item.push(*chars.peek()?);
                    }
                    c => item.push(*c),
                }
                chars.next();
            }
            item.truncate(item.trim_end().len());
        }
        items.push(match !quoted && item.eq_ignore_ascii_case("null") {
            true => null(element),
            false => from_text(element, &item)?,
        });
        match chars.next() {
            Some(',') => {}
            Some(_) => return None,
            None => return Some(Parameter::List(items)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn text(pg_type: &Type, text: &str) -> Parameter {
        value(pg_type, false, Some(text.as_bytes()), 1).unwrap()
    }

    fn binary(pg_type: &Type, bytes: &[u8]) -> Parameter {
        value(pg_type, true, Some(bytes), 1).unwrap()
    }

    #[test]
    fn text_of_every_type() {
        assert_eq!(text(&Type::BOOL, "on"), Parameter::Bool(true));
        assert_eq!(text(&Type::INT4, " 7 "), Parameter::Int(7));
        assert_eq!(text(&Type::FLOAT8, "-Infinity"), Parameter::Float(f64::NEG_INFINITY));
        assert_eq!(text(&Type::NUMERIC, "12.00"), Parameter::Int(12));
        assert_eq!(text(&Type::NUMERIC, "12.5"), Parameter::Float(12.5));
        assert_eq!(text(&Type::BYTEA, "\\x00ff"), Parameter::Bytes(vec![0, 255]));
        assert_eq!(text(&Type::BYTEA, "a\\\\b\\001"), Parameter::Bytes(vec![b'a', b'\\', b'b', 1]));
        assert_eq!(text(&Type::UNKNOWN, " x "), Parameter::Text(" x ".into()));
        let at = |text: &str| Parameter::Typed(Some(text.into()), arrow_type(&Type::TIMESTAMPTZ).unwrap());
        assert_eq!(text(&Type::TIMESTAMPTZ, "2026-01-02 03:04:05+00"), at("2026-01-02 03:04:05+00:00"));
        assert_eq!(text(&Type::TIMESTAMPTZ, "2026-01-02 03:04:05.6"), at("2026-01-02 03:04:05.6"));
        assert_eq!(
            text(&Type::TEXT_ARRAY, r#"{a, "b,\"c", NULL, "null"}"#),
            Parameter::List(vec![
                Parameter::Text("a".into()),
                Parameter::Text("b,\"c".into()),
                Parameter::Typed(None, DataType::Utf8),
                Parameter::Text("null".into()),
            ])
        );
        assert_eq!(text(&Type::INT8_ARRAY, "{}"), Parameter::List(vec![]));
        for (pg_type, bad) in [(Type::INT2, "40000"), (Type::BOOL, "maybe"), (Type::TEXT_ARRAY, "{a"), (Type::INT4, "")]
        {
            let error = value(&pg_type, false, Some(bad.as_bytes()), 3).unwrap_err();
            assert_eq!((error.code, error.message.contains("$3")), (code::INVALID_TEXT, true), "{bad}");
        }
        assert_eq!(value(&Type::TEXT, false, Some(b"a\xff"), 1).unwrap_err().code, code::NOT_IN_ENCODING);
        assert_eq!(value(&Type::TEXT, false, Some(b"a\0"), 1).unwrap_err().code, code::NOT_IN_ENCODING);
    }

    #[test]
    fn binary_of_every_type() {
        assert_eq!(binary(&Type::INT8, &(-5i64).to_be_bytes()), Parameter::Int(-5));
        assert_eq!(binary(&Type::FLOAT4, &0.5f32.to_be_bytes()), Parameter::Float(0.5));
        // 2000-01-01T00:00:01.5Z
        assert_eq!(
            binary(&Type::TIMESTAMPTZ, &1_500_000i64.to_be_bytes()),
            Parameter::Typed(Some("2000-01-01T00:00:01.500+00:00".into()), arrow_type(&Type::TIMESTAMPTZ).unwrap())
        );
        assert_eq!(
            binary(&Type::DATE, &(-1i32).to_be_bytes()),
            Parameter::Typed(Some("1999-12-31".into()), DataType::Date32)
        );
        let mut array = Vec::new();
        for word in [1i32, 0, 25, 2, 1, 1] {
            array.extend(word.to_be_bytes());
        }
        array.push(b'x');
        array.extend((-1i32).to_be_bytes());
        assert_eq!(
            binary(&Type::TEXT_ARRAY, &array),
            Parameter::List(vec![Parameter::Text("x".into()), Parameter::Typed(None, DataType::Utf8)])
        );
        assert_eq!(binary(&Type::UUID, &[0x12; 16]), Parameter::Text("12121212-1212-1212-1212-121212121212".into()));
        assert_eq!(value(&Type::INT4, true, Some(&[1, 2]), 1).unwrap_err().code, code::INVALID_BINARY);
        assert_eq!(value(&Type::INT4, true, None, 1).unwrap(), Parameter::Typed(None, DataType::Int32));
    }
}
