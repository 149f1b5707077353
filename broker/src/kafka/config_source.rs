//! Kafka's numbers for where a setting comes from, what kind of value it has, and what it is a setting of.

use crate::topic_config::{SettingSource, SettingType};

/// Kinds of things that have settings.
pub(in crate::kafka) mod resource {
    pub(in crate::kafka) const TOPIC: i8 = 2;
    pub(in crate::kafka) const BROKER: i8 = 4;
    pub(in crate::kafka) const BROKER_LOGGER: i8 = 8;
    pub(in crate::kafka) const CLIENT_METRICS: i8 = 16;
    pub(in crate::kafka) const GROUP: i8 = 32;
}

/// Kafka's number of a source.
pub(in crate::kafka) fn source_code(source: SettingSource) -> i8 {
    match source {
        SettingSource::Topic => 1,
        SettingSource::Broker => 4,
        SettingSource::Default => 5,
    }
}

/// Kafka's number of a kind of value.
pub(in crate::kafka) fn type_code(kind: SettingType) -> i8 {
    match kind {
        SettingType::Boolean => 1,
        SettingType::Text => 2,
        SettingType::Int => 3,
        SettingType::Long => 5,
        SettingType::Double => 6,
        SettingType::List => 7,
    }
}
