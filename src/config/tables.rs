//! `tables:` how tables are written, kept in shape, and for how long rows are kept.

use std::time::Duration;

use highwater_pipeline::tables::{TableSpec, built_in_tables};
use highwater_sinks::tables::{RetentionRule, TablesConfig};
use serde::{Deserialize, Deserializer};

use super::duration;
use super::error::ConfigError;

/// How tables are written and kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TablesSection {
    /// A table commits at least this often while rows arrive.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) commit_interval: Duration,
    /// A table commits once it holds this much, uncompressed.
    pub(crate) commit_size_bytes: usize,
    /// Whether small files are merged in the background.
    pub(crate) compaction: bool,
    /// Files of this size are left alone; none is made of more than twice as much.
    pub(crate) compaction_target_bytes: u64,
    /// How much of files is read for it in a second, at most.
    pub(crate) compaction_bytes_per_s: u64,
    /// How long a file stays once it is out of the table: readers of older versions need it.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) vacuum_after: Duration,
    /// How long the commits of a table stay.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) history: Duration,
    /// Whether floats are stored as `BYTE_STREAM_SPLIT`.
    pub(crate) byte_stream_split: bool,
    /// What is kept, where it is not 31 days of logs and everything else for ever.
    pub(crate) retention: Vec<RetentionSection>,
    /// Attributes that are columns, too.
    pub(crate) promote: Vec<PromoteSection>,
}

/// An attribute that has a column of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromoteSection {
    /// The table: `logs` or `spans`.
    pub(crate) table: String,
    /// The attribute, and the name of the column.
    pub(crate) attribute: String,
}

/// What is kept of a table, or of one tenant's rows in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionSection {
    /// The table.
    pub(crate) table: String,
    /// The tenant; all where it is missing.
    #[serde(default)]
    pub(crate) tenant: Option<String>,
    /// Rows older than this go; never where it is missing.
    #[serde(default, deserialize_with = "optional_duration")]
    pub(crate) age: Option<Duration>,
    /// The oldest files go where a tenant's come to more; however large where it is missing.
    #[serde(default)]
    pub(crate) size_bytes: Option<u64>,
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

impl Default for TablesSection {
    fn default() -> Self {
        let defaults = TablesConfig::default();
        Self {
            commit_interval: Duration::from_millis(defaults.commit_interval_ms),
            commit_size_bytes: defaults.commit_size_bytes,
            compaction: defaults.compaction,
            compaction_target_bytes: defaults.compaction_target_bytes,
            compaction_bytes_per_s: defaults.compaction_bytes_per_s,
            vacuum_after: Duration::from_millis(defaults.vacuum_after_ms),
            history: Duration::from_millis(defaults.history_ms),
            byte_stream_split: defaults.byte_stream_split,
            retention: Vec::new(),
            promote: Vec::new(),
        }
    }
}

impl TablesSection {
    /// As the table writers take it.
    pub(crate) fn settings(&self) -> TablesConfig {
        let rule = |rule: &RetentionSection| RetentionRule {
            table: rule.table.clone(),
            tenant: rule.tenant.clone(),
            age_ms: rule.age.map(ms),
            size_bytes: rule.size_bytes,
        };
        TablesConfig {
            commit_interval_ms: ms(self.commit_interval),
            commit_size_bytes: self.commit_size_bytes,
            compaction: self.compaction,
            compaction_target_bytes: self.compaction_target_bytes,
            compaction_bytes_per_s: self.compaction_bytes_per_s,
            vacuum_after_ms: ms(self.vacuum_after),
            history_ms: ms(self.history),
            byte_stream_split: self.byte_stream_split,
            retention: self.retention.iter().map(rule).collect(),
            ..TablesConfig::default()
        }
    }

    /// Gives the attributes that are promoted their columns.
    pub(crate) fn promote(&self, tables: &mut [TableSpec]) -> Result<(), ConfigError> {
        for PromoteSection { table, attribute } in &self.promote {
            let bad = |reason: String| ConfigError::in_key("tables.promote", reason);
            let Some(spec) = tables.iter_mut().find(|spec| spec.name == *table) else {
                return Err(bad(format!("there is no table {table} with attributes; there are logs and spans")));
            };
            spec.promote([attribute.as_str()]).map_err(|error| bad(error.to_string()))?;
        }
        Ok(())
    }

    /// Refuses what cannot be used. `query_timeout`: how long a query may read files of an older version.
    pub(super) fn check(&self, query_timeout: Duration) -> Result<(), ConfigError> {
        if self.commit_interval.is_zero() {
            return Err(ConfigError::in_key("tables.commit_interval", "must be longer than zero; 1s is short"));
        }
        if self.vacuum_after < query_timeout {
            let reason =
                format!("{:?} is shorter than sql.timeout: queries would lose the files they read", self.vacuum_after);
            return Err(ConfigError::in_key("tables.vacuum_after", reason));
        }
        if let Some(rule) = self.retention.iter().find(|rule| rule.age.is_some_and(|age| age.is_zero())) {
            let reason = format!("the age of {} is zero: nothing would stay", rule.table);
            return Err(ConfigError::in_key("tables.retention", reason));
        }
        self.promote(&mut built_in_tables())?;
        match self.settings().problem() {
            Some(problem) => Err(ConfigError::in_key("tables", problem)),
            None => Ok(()),
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
