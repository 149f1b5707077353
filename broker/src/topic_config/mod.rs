//! Settings of a topic: ours by field, Kafka's by name.
//!
//! [`TopicConfig`] is what counts. Kafka's names for its fields, how they are written, what they may be and what they are unless set are
//! in one table (`table.rs`), which creating, describing and altering a topic all go by. Three kinds of setting are there:
//!
//! - **live**: a field of [`TopicConfig`]; alterations take effect on running partitions;
//! - **noted**: allowed and told back, with nothing to do, because the broker does more than it asks (`flush.ms`: every append is
//!   synced anyway) or has no such limit;
//! - **fixed**: what the broker does in any case (`min.insync.replicas` is 1, there is one node). Setting it to that is
//!   allowed, to anything else refused.
//!
//! A name that is not in the table is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::batch::Compression;
use crate::config::{BrokerConfig, TimestampType, check_segment_size};
use crate::error::BrokerError;

mod described;
mod table;
#[cfg(test)]
mod tests;
mod values;

pub use described::{DescribedSetting, SettingSource, SettingSynonym, SettingType, TOPIC_ID_SETTING};

use table::{Effect, Setting, find};

/// Partitions a topic may have at most.
pub(crate) const MAX_PARTITIONS: i32 = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Kafka's `max.message.bytes` unless told otherwise: 1 MiB and the 12 bytes in front of a batch.
const KAFKA_MAX_MESSAGE_SIZE_BYTES: usize = (1 << 20) + 12;

/// What becomes of old records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CleanupPolicy {
    /// Whole segments go, by age and size. The default.
    #[default]
    Delete,
    /// The newest record of each key stays, for ever.
    Compact,
    /// Both: the newest record of each key stays until its segment is too old or the partition too large.
    CompactAndDelete,
}

impl CleanupPolicy {
    /// True where age and size take segments away.
    pub fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }

    /// True where only the newest record of each key is kept.
    pub fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }
}

/// Settings of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicConfig {
    /// Number of partitions, 1 to 10,000.
    pub partitions: i32,
    /// What becomes of old records.
    pub cleanup: CleanupPolicy,
    /// Closed segments go once their newest record is older than this, in milliseconds. `None`: never. Default 7 days.
    pub retention_ms: Option<i64>,
    /// Oldest closed segments go while a partition is larger than this, in bytes. `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// Size at which a segment is closed, in bytes; `None` takes the broker's.
    pub segment_size_bytes: Option<u64>,
    /// A segment is closed this long after its first append, in milliseconds. `None`: only by size.
    pub segment_ms: Option<i64>,
    /// Largest batch, in bytes; `None` takes the broker's limit.
    pub max_batch_size_bytes: Option<usize>,
    /// Whose time records carry.
    pub timestamp_type: TimestampType,
    /// Under `CreateTime`, how far a record's time may lie before its append, in milliseconds. `None`: any distance.
    pub timestamp_before_max_ms: Option<i64>,
    /// Under `CreateTime`, how far a record's time may lie after its append, in milliseconds. `None`: any distance.
    pub timestamp_after_max_ms: Option<i64>,
    /// How the broker compresses the batches it makes itself. Highwater's Arrow records are compressed inside already, so `None`.
    pub compression: Compression,
    /// How batches of Kafka clients are compressed; `None` leaves them as their producer made them.
    pub recompression: Option<Compression>,
    /// Compaction keeps a tombstone this long after it first came upon it, in milliseconds, so that readers on their way see it.
    pub delete_retention_ms: i64,
    /// A partition is compacted once this share of it, in millionths, was written since the last time.
    pub min_dirty_ratio_ppm: u32,
    /// Records younger than this are not compacted, in milliseconds.
    pub min_compaction_lag_ms: i64,
    /// A partition is compacted no later than this after a record was written, in milliseconds, however little there is to
    /// gain. `None`: no limit.
    pub max_compaction_lag_ms: Option<i64>,
    /// Settings as a client gave them, by Kafka's names. They are described as set, also where they equal what holds anyway.
    pub explicit: BTreeMap<String, String>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            cleanup: CleanupPolicy::Delete,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            segment_size_bytes: None,
            segment_ms: None,
            max_batch_size_bytes: None,
            timestamp_type: TimestampType::LogAppendTime,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: None,
            compression: Compression::None,
            recompression: None,
            delete_retention_ms: DAY_MS,
            min_dirty_ratio_ppm: 500_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: None,
            explicit: BTreeMap::new(),
        }
    }
}

/// One change of a setting, by Kafka's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingChange {
    /// Sets it.
    Set {
        /// Kafka's name.
        name: String,
        /// The value, as Kafka writes it.
        value: String,
    },
    /// Goes back to what a topic made by a Kafka client has unless told otherwise.
    Reset {
        /// Kafka's name.
        name: String,
    },
    /// Adds to a list.
    Append {
        /// Kafka's name.
        name: String,
        /// What to add, separated by commas.
        value: String,
    },
    /// Takes from a list.
    Subtract {
        /// Kafka's name.
        name: String,
        /// What to take away, separated by commas.
        value: String,
    },
}

impl SettingChange {
    /// Sets `name` to `value`.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Set { name: name.into(), value: value.into() }
    }

    /// The setting's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Set { name, .. } | Self::Reset { name } | Self::Append { name, .. } | Self::Subtract { name, .. } => {
                name
            }
        }
    }
}

impl TopicConfig {
    /// The defaults with this many partitions.
    pub fn with_partitions(partitions: i32) -> Self {
        Self { partitions, ..Self::default() }
    }

    /// What a topic made by a Kafka client has unless told otherwise: Kafka's own defaults.
    pub fn kafka(partitions: i32) -> Self {
        Self {
            partitions,
            segment_ms: Some(7 * DAY_MS),
            max_batch_size_bytes: Some(KAFKA_MAX_MESSAGE_SIZE_BYTES),
            timestamp_type: TimestampType::CreateTime,
            timestamp_after_max_ms: Some(60 * 60 * 1000),
            ..Self::default()
        }
    }

    /// These settings with some changed, in order. The number of partitions stays as it is.
    pub fn altered(&self, changes: &[SettingChange]) -> Result<Self, BrokerError> {
        let mut config = self.clone();
        for change in changes {
            config.apply(change).map_err(|what| BrokerError::InvalidConfig { what })?;
        }
        config.validate()?;
        Ok(config)
    }

    fn apply(&mut self, change: &SettingChange) -> Result<(), String> {
        let name = change.name();
        let setting = find(name).ok_or_else(|| format!("there is no topic setting {name:?}"))?;
        match change {
            SettingChange::Set { value, .. } => self.set(setting, value),
            SettingChange::Reset { .. } => {
                self.explicit.remove(setting.name);
                if let Effect::Live { copy, .. } = setting.effect {
                    copy(self, &Self::kafka(self.partitions));
                }
                Ok(())
            }
            SettingChange::Append { value, .. } => {
                let mut items = self.list_of(setting)?;
                for item in values::items(value) {
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
                self.set(setting, &items.join(","))
            }
            SettingChange::Subtract { value, .. } => {
                let mut items = self.list_of(setting)?;
                items.retain(|item| !values::items(value).contains(item));
                self.set(setting, &items.join(","))
            }
        }
    }

    fn set(&mut self, setting: &Setting, value: &str) -> Result<(), String> {
        let value = value.trim();
        let refused = |reason: String| format!("{} is {value:?}, but {reason}", setting.name);
        let canonical = match setting.effect {
            Effect::Live { write, .. } => write(self, value).map_err(refused)?,
            Effect::Noted { check } => check(value).map_err(refused)?,
            Effect::Fixed { .. } if value == setting.default => value.to_owned(),
            Effect::Fixed { because } => {
                return Err(refused(format!("it is always {:?} here: {because}", setting.default)));
            }
        };
        self.explicit.insert(setting.name.to_owned(), canonical);
        Ok(())
    }

    fn list_of(&self, setting: &Setting) -> Result<Vec<String>, String> {
        match (setting.kind, setting.effect) {
            (SettingType::List, Effect::Live { read, .. }) => Ok(values::items(&read(self, &BrokerConfig::default()))),
            _ => Err(format!("{} is not a list, so nothing can be added to it or taken from it", setting.name)),
        }
    }

    /// Refuses settings that are out of bounds or contradict each other.
    pub fn validate(&self) -> Result<(), BrokerError> {
        let refuse = |what: String| Err(BrokerError::InvalidConfig { what });
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return refuse(format!("a topic has 1 to {MAX_PARTITIONS} partitions, not {}", self.partitions));
        }
        let never = [
            ("retention_ms", self.retention_ms, 0),
            ("segment_ms", self.segment_ms, 1),
            ("timestamp_before_max_ms", self.timestamp_before_max_ms, 0),
            ("timestamp_after_max_ms", self.timestamp_after_max_ms, 0),
            ("max_compaction_lag_ms", self.max_compaction_lag_ms, 1),
            ("delete_retention_ms", Some(self.delete_retention_ms), 0),
            ("min_compaction_lag_ms", Some(self.min_compaction_lag_ms), 0),
        ];
        if let Some((name, Some(value), min)) =
            never.into_iter().find(|(_, value, min)| value.is_some_and(|v| v < *min))
        {
            return refuse(format!("{name} is {value}, but must be at least {min}; leave it out for its default"));
        }
        if self.min_dirty_ratio_ppm > 1_000_000 {
            return refuse(format!(
                "min_dirty_ratio_ppm is {}, but must be at most 1,000,000",
                self.min_dirty_ratio_ppm
            ));
        }
        if let Some(max) = self.max_compaction_lag_ms.filter(|max| self.min_compaction_lag_ms > *max) {
            return refuse(format!(
                "min.compaction.lag.ms ({}) is above max.compaction.lag.ms ({max}): records would have to be \
                 compacted before they may be",
                self.min_compaction_lag_ms
            ));
        }
        self.segment_size_bytes.map_or(Ok(()), check_segment_size)
    }

    /// [`Self::validate`], and what only this broker refuses.
    pub(crate) fn validate_for(&self, broker: &BrokerConfig) -> Result<(), BrokerError> {
        self.validate()?;
        let limit = broker.max_batch_size_bytes;
        match self.max_batch_size_bytes.filter(|size| *size > limit) {
            Some(size) => Err(BrokerError::InvalidConfig {
                what: format!("max.message.bytes is {size}, above this broker's limit of {limit} bytes"),
            }),
            None => Ok(()),
        }
    }
}
