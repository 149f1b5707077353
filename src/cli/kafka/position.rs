//! A place in a partition as people name it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat};
use highwater_broker::{Clock, SystemClock};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::{Reader, TIMEOUT};
use crate::config::parse_duration;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// At the first record held.
    Earliest,
    /// Behind the last record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// So many offsets before the end.
    BeforeEnd(i64),
    /// At the first record of this time or later, Unix milliseconds.
    Time(i64),
    /// At the first record no older than this, in milliseconds.
    Age(i64),
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(number) = text.parse::<i64>() {
            return Ok(if text.starts_with('-') {
                Self::BeforeEnd(number.saturating_neg())
            } else {
                Self::Offset(number)
            });
        }
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(time.timestamp_millis()));
        }
        if let Ok(age) = parse_duration(text) {
            return Ok(Self::Age(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        }
        Err(format!(
            "`{text}` is none of earliest, latest, an offset, -N (so many before the end), a time (2026-03-01T12:00:00Z) and an age (15m)"
        ))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::BeforeEnd(count) => write!(f, "-{count}"),
            Self::Time(ms) => match DateTime::from_timestamp_millis(*ms) {
                Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
                None => write!(f, "{ms} ms"),
            },
            Self::Age(ms) => write!(f, "{ms}ms"),
        }
    }
}

impl Position {
    /// The offset in this partition, within what is there. Blocks.
    pub(crate) fn resolve(self, consumer: &Reader, topic: &str, partition: i32) -> Result<i64, KafkaError> {
        let (start, end) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        let offset = match self {
            Self::Earliest => start,
            Self::Latest => end,
            Self::Offset(offset) => offset,
            Self::BeforeEnd(count) => end.saturating_sub(count),
            Self::Time(ms) => at_time(consumer, topic, partition, ms)?.unwrap_or(end),
            Self::Age(ms) => {
                at_time(consumer, topic, partition, SystemClock.now_ms().saturating_sub(ms))?.unwrap_or(end)
            }
        };
        Ok(offset.clamp(start, end.max(start)))
    }
}

fn at_time(consumer: &Reader, topic: &str, partition: i32, ms: i64) -> Result<Option<i64>, KafkaError> {
    let mut asked = TopicPartitionList::with_capacity(1);
    // Negative times mean something else to Kafka.
    asked.add_partition_offset(topic, partition, Offset::Offset(ms.max(0)))?;
    let answer = consumer.offsets_for_times(asked, TIMEOUT)?;
    let elements = answer.elements();
    let Some(found) = elements.first() else { return Ok(None) };
    found.error()?;
    Ok(match found.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_in_many_ways() {
        for (text, position) in [
            ("earliest", Position::Earliest),
            ("latest", Position::Latest),
            ("0", Position::Offset(0)),
            ("17", Position::Offset(17)),
            ("-10", Position::BeforeEnd(10)),
            ("-0", Position::BeforeEnd(0)),
            ("2026-03-01T12:00:00Z", Position::Time(1_772_366_400_000)),
            ("2026-03-01T13:00:00.5+01:00", Position::Time(1_772_366_400_500)),
            ("15m", Position::Age(900_000)),
        ] {
            assert_eq!(text.parse(), Ok(position), "{text}");
        }
        assert_eq!("2026-03-01T13:00:00.5+01:00".parse::<Position>().unwrap().to_string(), "2026-03-01T12:00:00.500Z");
        for bad in ["", "begin", "1.5", "2026-03-01"] {
            assert!(bad.parse::<Position>().unwrap_err().contains("is none of"), "{bad}");
        }
    }
}
