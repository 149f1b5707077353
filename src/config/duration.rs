//! Durations as people write them in a config file: `5s`, `500ms`, `1m 30s`, `7d`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Reads a duration from text.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// Parses `5s`, `500ms`, `1m 30s`, `7d`; the unit is required.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("`{text}` is not a duration ({error}); write 500ms, 5s, 1m or 7d"))
}
