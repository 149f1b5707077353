//! What a file's Delta statistics say about its rows, as far as upkeep needs it.

use chrono::{DateTime, NaiveDate};
use highwater_pipeline::data::identity;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::tables::delta::ActiveFile;

const DAY_MS: i64 = 86_400_000;

/// A file and what is known of its rows.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) file: ActiveFile,
    pub(super) size_bytes: u64,
    /// Earliest event, Unix microseconds; `None` where the statistics do not tell.
    pub(super) first_us: Option<i64>,
    /// Lowest offset.
    pub(super) first_offset: Option<i64>,
    /// When the youngest of its rows was young: the later of the end of its day and its last append, Unix milliseconds.
    pub(super) newest_ms: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    min_values: Map<String, Value>,
    max_values: Map<String, Value>,
}

impl Facts {
    /// `time_column`: the column that `date` is the day of.
    pub(super) fn new(file: ActiveFile, time_column: &str) -> Self {
        let stats: Stats = file.stats.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let instant_us = |values: &Map<String, Value>, column: &str| {
            let text = values.get(column)?.as_str()?;
            DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
        };
        // Without statistics a row counts as appended when its file was added: later than it was, never sooner.
        let appended_ms =
            instant_us(&stats.max_values, identity::APPEND_TIME).map_or(file.added_ms, |us| us.div_euclid(1000) + 1);
        let day_end_ms = file.date.as_deref().and_then(day_end_ms).unwrap_or(i64::MIN);
        Self {
            size_bytes: u64::try_from(file.size_bytes).unwrap_or(0),
            first_us: instant_us(&stats.min_values, time_column),
            first_offset: stats.min_values.get(identity::OFFSET).and_then(Value::as_i64),
            newest_ms: appended_ms.max(day_end_ms),
            file,
        }
    }
}

/// The first millisecond after a day.
fn day_end_ms(date: &str) -> Option<i64> {
    Some((i64::from(date.parse::<NaiveDate>().ok()?.to_epoch_days()) + 1) * DAY_MS)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file of the tests' table.
    pub(crate) fn file(path: &str, date: &str, size_bytes: i64, added_ms: i64, stats: Option<&str>) -> ActiveFile {
        let (tenant, date) = (Some("t".to_string()), Some(date.to_string()));
        ActiveFile { path: path.to_string(), tenant, date, size_bytes, added_ms, stats: stats.map(str::to_string) }
    }

    #[test]
    fn age_is_the_later_of_event_and_append() {
        let day_end = 20_413 * DAY_MS;
        let appended = |text: &str| format!(r#"{{"numRecords":5,"maxValues":{{"_append_time":"{text}"}}}}"#);
        let newest = |stats: Option<&str>| Facts::new(file("f", "2025-11-20", 1, 7, stats), "timestamp").newest_ms;
        assert_eq!(
            newest(Some(&appended("2025-11-20T10:00:00.000000Z"))),
            day_end,
            "an event of the day's last second"
        );
        let late = newest(Some(&appended("2025-12-01T00:00:00.000000Z")));
        assert_eq!(late, day_end + 10 * DAY_MS + 1, "loaded ten days later");
        assert_eq!(newest(None), day_end);
        assert_eq!(Facts::new(file("f", "2025-11-20", 1, day_end + 5, None), "timestamp").newest_ms, day_end + 5);
        assert_eq!(Facts::new(file("f", "no day", 1, 9, None), "timestamp").newest_ms, 9);
    }

    #[test]
    fn statistics_are_read_and_may_be_missing() {
        let stats = r#"{"numRecords":5,"minValues":{"timestamp":"2025-11-20T00:00:01.000Z","_offset":42}}"#;
        let facts = Facts::new(file("f", "2025-11-20", 10, 0, Some(stats)), "timestamp");
        assert_eq!((facts.first_us, facts.first_offset), (Some(1_763_596_801_000_000), Some(42)));
        let facts = Facts::new(file("f", "2025-11-20", -1, 0, Some("not json")), "timestamp");
        assert_eq!((facts.first_us, facts.size_bytes), (None, 0));
    }
}
