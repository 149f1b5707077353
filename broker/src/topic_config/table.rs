//! The table of settings: Kafka's name, where the value lives, what it may be, what it is unless set, and what it means.

use crate::config::{BrokerConfig, MAX_SEGMENT_SIZE_BYTES};

use super::values::{
    boolean, cleanup, compression, number, or_minus_one, or_unlimited, ratio_ppm, show_cleanup, show_compression,
    show_or_minus_one, show_or_unlimited, show_ratio, show_timestamp_type, timestamp_type,
};
use super::{SettingType, TopicConfig};

/// Kafka's smallest `segment.bytes`.
const MIN_SEGMENT_SIZE_BYTES: u64 = 1 << 20;

/// One setting.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    /// Kafka's name.
    pub(super) name: &'static str,
    /// What the setting of the broker is called that holds for topics that do not say.
    pub(super) broker_name: &'static str,
    pub(super) kind: SettingType,
    /// Kafka's default.
    pub(super) default: &'static str,
    pub(super) effect: Effect,
    pub(super) doc: &'static str,
}

/// What a setting does.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// It is a field.
    Live {
        /// Its value, as Kafka writes it.
        read: fn(&TopicConfig, &BrokerConfig) -> String,
        /// Sets it, and answers with the value as Kafka writes it.
        write: fn(&mut TopicConfig, &str) -> Result<String, String>,
        /// Takes it over from other settings.
        copy: fn(&mut TopicConfig, &TopicConfig),
    },
    /// It is told back. The check answers with the value as Kafka writes it.
    Noted { check: fn(&str) -> Result<String, String> },
    /// It cannot be anything but the default.
    Fixed { because: &'static str },
}

/// The setting of this name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// A live setting: the field, how it is shown given its value (and the broker's settings), and how it is read.
macro_rules! live {
    ($field:ident, |$value:ident, $broker:ident| $show:expr, |$text:ident| $parse:expr) => {
        Effect::Live {
            read: |config, $broker| {
                let $value = config.$field;
                $show
            },
            write: |config, $text| {
                config.$field = $parse?;
                let $value = config.$field;
                // A value that was given needs nothing of the broker's.
                let $broker = &BrokerConfig::default();
                Ok($show)
            },
            copy: |to, from| to.$field = from.$field,
        }
    };
}

fn any_number(min: i64, text: &str) -> Result<String, String> {
    number(text, min, i64::MAX).map(|value| value.to_string())
}

/// All settings there are.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        broker_name: "log.cleanup.policy",
        kind: SettingType::List,
        default: "delete",
        effect: live!(cleanup, |v, _b| show_cleanup(v).to_owned(), |text| cleanup(text)),
        doc: "What becomes of old records: delete takes whole segments by age and size, compact keeps the newest record of \
              each key, and compact,delete does both.",
    },
    Setting {
        name: "retention.ms",
        broker_name: "log.retention.ms",
        kind: SettingType::Long,
        default: "604800000",
        effect: live!(retention_ms, |v, _b| show_or_minus_one(v), |text| or_minus_one(text)),
        doc: "Under cleanup.policy delete, closed segments go once their newest record is older than this, in milliseconds. \
              -1: never.",
    },
    Setting {
        name: "retention.bytes",
        broker_name: "log.retention.bytes",
        kind: SettingType::Long,
        default: "-1",
        effect: live!(
            retention_bytes,
            |v, _b| show_or_minus_one(v.and_then(|bytes| i64::try_from(bytes).ok())),
            |text| or_minus_one(text).map(|bytes| bytes.map(i64::unsigned_abs))
        ),
        doc: "Under cleanup.policy delete, the oldest closed segments go while a partition is larger than this, in bytes. \
              -1: no limit.",
    },
    Setting {
        name: "segment.bytes",
        broker_name: "log.segment.bytes",
        kind: SettingType::Int,
        default: "1073741824",
        effect: live!(segment_size_bytes, |v, b| v.unwrap_or(b.segment_size_bytes).to_string(), |text| number(
            text,
            MIN_SEGMENT_SIZE_BYTES,
            MAX_SEGMENT_SIZE_BYTES
        )
        .map(Some)),
        doc: "Size at which a segment is closed, in bytes: 1 MiB to 1 GiB. Only closed segments are deleted or compacted.",
    },
    Setting {
        name: "segment.ms",
        broker_name: "log.roll.ms",
        kind: SettingType::Long,
        default: "604800000",
        effect: live!(segment_ms, |v, _b| show_or_unlimited(v), |text| or_unlimited(text, 1)),
        doc: "A segment is closed this long after its first append, in milliseconds, also where it is not full.",
    },
    Setting {
        name: "max.message.bytes",
        broker_name: "message.max.bytes",
        kind: SettingType::Int,
        default: "1048588",
        effect: live!(max_batch_size_bytes, |v, b| v.unwrap_or(b.max_batch_size_bytes).to_string(), |text| number(
            text,
            0,
            i32::MAX as usize
        )
        .map(Some)),
        doc: "Largest batch of records, as it is sent, in bytes.",
    },
    Setting {
        name: "message.timestamp.type",
        broker_name: "log.message.timestamp.type",
        kind: SettingType::Text,
        default: "CreateTime",
        effect: live!(timestamp_type, |v, _b| show_timestamp_type(v).to_owned(), |text| timestamp_type(text)),
        doc: "Whose time records carry: CreateTime is their producer's, LogAppendTime the broker's when it appends them.",
    },
    Setting {
        name: "message.timestamp.before.max.ms",
        broker_name: "log.message.timestamp.before.max.ms",
        kind: SettingType::Long,
        default: "9223372036854775807",
        effect: live!(timestamp_before_max_ms, |v, _b| show_or_unlimited(v), |text| or_unlimited(text, 0)),
        doc: "Under CreateTime, records whose time lies further before their append are refused, in milliseconds.",
    },
    Setting {
        name: "message.timestamp.after.max.ms",
        broker_name: "log.message.timestamp.after.max.ms",
        kind: SettingType::Long,
        default: "3600000",
        effect: live!(timestamp_after_max_ms, |v, _b| show_or_unlimited(v), |text| or_unlimited(text, 0)),
        doc: "Under CreateTime, records whose time lies further after their append are refused, in milliseconds.",
    },
    Setting {
        name: "compression.type",
        broker_name: "compression.type",
        kind: SettingType::Text,
        default: "producer",
        effect: live!(recompression, |v, _b| show_compression(v).to_owned(), |text| compression(text)),
        doc: "How batches are compressed in the log: producer leaves them as they come, the others are uncompressed, gzip, \
              snappy, lz4 and zstd.",
    },
    Setting {
        name: "delete.retention.ms",
        broker_name: "log.cleaner.delete.retention.ms",
        kind: SettingType::Long,
        default: "86400000",
        effect: live!(delete_retention_ms, |v, _b| v.to_string(), |text| number(text, 0, i64::MAX)),
        doc: "Under cleanup.policy compact, how long a tombstone stays once compaction has come upon it, in milliseconds.",
    },
    Setting {
        name: "min.cleanable.dirty.ratio",
        broker_name: "log.cleaner.min.cleanable.ratio",
        kind: SettingType::Double,
        default: "0.5",
        effect: live!(min_dirty_ratio_ppm, |v, _b| show_ratio(v), |text| ratio_ppm(text)),
        doc: "Under cleanup.policy compact, a partition is compacted once more than this share of it was written since the \
              last time, from 0 to 1.",
    },
    Setting {
        name: "min.compaction.lag.ms",
        broker_name: "log.cleaner.min.compaction.lag.ms",
        kind: SettingType::Long,
        default: "0",
        effect: live!(min_compaction_lag_ms, |v, _b| v.to_string(), |text| number(text, 0, i64::MAX)),
        doc: "Under cleanup.policy compact, records younger than this are left alone, in milliseconds.",
    },
    Setting {
        name: "max.compaction.lag.ms",
        broker_name: "log.cleaner.max.compaction.lag.ms",
        kind: SettingType::Long,
        default: "9223372036854775807",
        effect: live!(max_compaction_lag_ms, |v, _b| show_or_unlimited(v), |text| or_unlimited(text, 1)),
        doc: "Under cleanup.policy compact, records are compacted no later than this after they were written, in \
              milliseconds, whatever their share.",
    },
    Setting {
        name: "min.insync.replicas",
        broker_name: "min.insync.replicas",
        kind: SettingType::Int,
        default: "1",
        effect: Effect::Fixed { because: "there is one node, and an answer means that it has synced" },
        doc: "Replicas that must have a batch before acks=all is answered.",
    },
    Setting {
        name: "unclean.leader.election.enable",
        broker_name: "unclean.leader.election.enable",
        kind: SettingType::Boolean,
        default: "false",
        effect: Effect::Fixed { because: "there is one node, so no leader is elected" },
        doc: "Whether a replica that lags behind may become leader.",
    },
    Setting {
        name: "preallocate",
        broker_name: "log.preallocate",
        kind: SettingType::Boolean,
        default: "false",
        effect: Effect::Noted { check: |text| boolean(text).map(|value| value.to_string()) },
        doc: "Whether all room of a segment is reserved at once. Told back only: room is always reserved, in steps, so that a full \
              disk shows before a write.",
    },
    Setting {
        name: "index.interval.bytes",
        broker_name: "log.index.interval.bytes",
        kind: SettingType::Int,
        default: "4096",
        effect: Effect::Fixed { because: "it is part of the format" },
        doc: "Bytes of a segment between two entries of its index.",
    },
    Setting {
        name: "segment.jitter.ms",
        broker_name: "log.roll.jitter.ms",
        kind: SettingType::Long,
        default: "0",
        effect: Effect::Fixed { because: "segments are closed when segment.ms says" },
        doc: "Most that a segment is closed before segment.ms says, at random.",
    },
    Setting {
        name: "remote.storage.enable",
        broker_name: "remote.storage.enable",
        kind: SettingType::Boolean,
        default: "false",
        effect: Effect::Fixed { because: "there is no tiered storage" },
        doc: "Whether closed segments are moved to remote storage.",
    },
    Setting {
        name: "flush.messages",
        broker_name: "log.flush.interval.messages",
        kind: SettingType::Long,
        default: "9223372036854775807",
        effect: Effect::Noted { check: |text| any_number(1, text) },
        doc: "Records after which the log is synced. Told back only: every append is synced before it is acknowledged, unless \
              the broker's durability is relaxed.",
    },
    Setting {
        name: "flush.ms",
        broker_name: "log.flush.interval.ms",
        kind: SettingType::Long,
        default: "9223372036854775807",
        effect: Effect::Noted { check: |text| any_number(0, text) },
        doc: "Milliseconds after which the log is synced. Told back only: every append is synced before it is acknowledged, \
              unless the broker's durability is relaxed.",
    },
    Setting {
        name: "segment.index.bytes",
        broker_name: "log.index.size.max.bytes",
        kind: SettingType::Int,
        default: "10485760",
        effect: Effect::Noted { check: |text| number(text, 4, i32::MAX).map(|value| value.to_string()) },
        doc: "Largest index of a segment, in bytes. Told back only: an index is as large as its segment needs.",
    },
    Setting {
        name: "file.delete.delay.ms",
        broker_name: "log.segment.delete.delay.ms",
        kind: SettingType::Long,
        default: "60000",
        effect: Effect::Noted { check: |text| any_number(0, text) },
        doc: "How long files stay after their segment is deleted, in milliseconds. Told back only: they go at once, and readers that \
              have them open are not disturbed.",
    },
    Setting {
        name: "message.downconversion.enable",
        broker_name: "log.message.downconversion.enable",
        kind: SettingType::Boolean,
        default: "true",
        effect: Effect::Noted { check: |text| boolean(text).map(|value| value.to_string()) },
        doc: "Whether records are converted for clients older than Kafka 0.11. Told back only: such clients are not served.",
    },
];
