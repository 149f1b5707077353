//! A rollup as the configuration file has it.

use serde::{Deserialize, Deserializer, Serialize};

/// One rollup.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollupConfig {
    /// Name: table `<name>`, topic `rollup.<name>`. `[a-z_][a-z0-9_]*`, at most 64 characters.
    pub name: String,
    /// The query.
    pub sql: String,
    /// How far the watermark must be past a window's end before it closes, e.g. `5s`. In milliseconds here.
    #[serde(default = "default_lateness", deserialize_with = "duration_ms", rename = "lateness")]
    pub lateness_ms: i64,
    /// How long a closed window can still be corrected, in append time after its last closing, e.g. `24h`. In milliseconds here.
    #[serde(default = "default_horizon", deserialize_with = "duration_ms", rename = "correction_horizon")]
    pub correction_horizon_ms: i64,
    /// How long its table keeps rows, e.g. `90d`, by the later of window start and append time. For ever where it is not said, unless the settings of
    /// tables say something. In milliseconds here.
    #[serde(default, deserialize_with = "optional_duration_ms", rename = "retention")]
    pub retention_ms: Option<i64>,
    /// What becomes of rows that come when their window is closed: `correct` or `drop`.
    #[serde(default)]
    pub late: LatePolicy,
    /// Whether it takes in the stored rows when it is new or edited. Where not, it begins with the rows that come from then on.
    #[serde(default = "default_backfill")]
    pub backfill: bool,
    /// How often it was asked to begin anew, with the same query.
    #[serde(skip)]
    pub generation: u32,
}

/// What becomes of rows that come when their window is closed. Either way they are counted, and in the table of what the rollup reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatePolicy {
    /// They open it again, and its next closing replaces the one before; within the correction horizon.
    #[default]
    Correct,
    /// They are left out. A window is closed once, and nothing is kept of it.
    Drop,
}

impl RollupConfig {
    /// A rollup with the default lateness of 5 seconds and correction horizon of a day.
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Self {
        let (name, sql) = (name.into(), sql.into());
        Self {
            name,
            sql,
            lateness_ms: default_lateness(),
            correction_horizon_ms: default_horizon(),
            retention_ms: None,
            late: LatePolicy::default(),
            backfill: default_backfill(),
            generation: 0,
        }
    }
}

pub(crate) fn default_backfill() -> bool {
    true
}

fn default_lateness() -> i64 {
    5_000
}

/// A day, in milliseconds.
pub(crate) fn default_horizon() -> i64 {
    24 * 60 * 60 * 1_000
}

fn optional_duration_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    duration_ms(deserializer).map(Some)
}

fn duration_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::rules::parse_duration_ms(&text).map_err(serde::de::Error::custom)
}
