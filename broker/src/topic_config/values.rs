//! How values of settings are read and written. Readers answer with what is wrong, to stand behind "..., but ".

use std::fmt::Display;
use std::str::FromStr;

use crate::batch::Compression;
use crate::config::TimestampType;

use super::CleanupPolicy;

/// Kafka's "no limit" for settings that have no -1.
const UNLIMITED: i64 = i64::MAX;
const PPM: f64 = 1_000_000.0;

/// A whole number within bounds.
pub(super) fn number<T: FromStr + PartialOrd + Display>(text: &str, min: T, max: T) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(value) if value < min => Err(format!("must be at least {min}")),
        Ok(value) if value > max => Err(format!("must be at most {max}")),
        Ok(value) => Ok(value),
        Err(_) => Err("must be a whole number".into()),
    }
}

/// A number of milliseconds or bytes, where what is negative means no limit.
pub(super) fn or_minus_one(text: &str) -> Result<Option<i64>, String> {
    number(text, -1, i64::MAX).map(|value| (value >= 0).then_some(value))
}

pub(super) fn show_or_minus_one(value: Option<i64>) -> String {
    value.unwrap_or(-1).to_string()
}

/// A number of milliseconds, where the largest there is means no limit.
pub(super) fn or_unlimited(text: &str, min: i64) -> Result<Option<i64>, String> {
    number(text, min, UNLIMITED).map(|value| (value != UNLIMITED).then_some(value))
}

pub(super) fn show_or_unlimited(value: Option<i64>) -> String {
    value.unwrap_or(UNLIMITED).to_string()
}

/// A share from 0 to 1, in millionths.
pub(super) fn ratio_ppm(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok((value * PPM).round() as u32),
        Ok(_) => Err("must be from 0 to 1".into()),
        Err(_) => Err("must be a number".into()),
    }
}

/// With a point, as Java writes it.
pub(super) fn show_ratio(ppm: u32) -> String {
    format!("{:?}", f64::from(ppm) / PPM)
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

/// The items of a comma-separated list.
pub(super) fn items(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

pub(super) fn cleanup(text: &str) -> Result<CleanupPolicy, String> {
    let items = items(text);
    let has = |name: &str| items.iter().any(|item| item == name);
    if items.is_empty() || items.iter().any(|item| item != "compact" && item != "delete") {
        return Err("must be delete, compact, or both with a comma between".into());
    }
    Ok(match (has("compact"), has("delete")) {
        (true, true) => CleanupPolicy::CompactAndDelete,
        (true, false) => CleanupPolicy::Compact,
        (false, _) => CleanupPolicy::Delete,
    })
}

pub(super) fn show_cleanup(policy: CleanupPolicy) -> &'static str {
    match policy {
        CleanupPolicy::Delete => "delete",
        CleanupPolicy::Compact => "compact",
        CleanupPolicy::CompactAndDelete => "compact,delete",
    }
}

/// `None` is `producer`.
pub(super) fn compression(text: &str) -> Result<Option<Compression>, String> {
    match text {
        "producer" => Ok(None),
        "uncompressed" => Ok(Some(Compression::None)),
        "gzip" => Ok(Some(Compression::Gzip)),
        "snappy" => Ok(Some(Compression::Snappy)),
        "lz4" => Ok(Some(Compression::Lz4)),
        "zstd" => Ok(Some(Compression::Zstd)),
        _ => Err("must be producer, uncompressed, gzip, snappy, lz4 or zstd".into()),
    }
}

pub(super) fn show_compression(compression: Option<Compression>) -> &'static str {
    match compression {
        None => "producer",
        Some(Compression::None) => "uncompressed",
        Some(Compression::Gzip) => "gzip",
        Some(Compression::Snappy) => "snappy",
        Some(Compression::Lz4) => "lz4",
        Some(Compression::Zstd) => "zstd",
    }
}

pub(super) fn timestamp_type(text: &str) -> Result<TimestampType, String> {
    match text {
        "CreateTime" => Ok(TimestampType::CreateTime),
        "LogAppendTime" => Ok(TimestampType::LogAppendTime),
        _ => Err("must be CreateTime or LogAppendTime".into()),
    }
}

pub(super) fn show_timestamp_type(kind: TimestampType) -> &'static str {
    match kind {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}
