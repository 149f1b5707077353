//! Settings as they are told to those who ask: value, where it comes from, and what it means.

use uuid::Uuid;

use crate::config::BrokerConfig;

use super::TopicConfig;
use super::table::{Effect, SETTINGS, Setting};

/// Under this name a topic's id is told beside its settings. The protocol has it in other places, which clients built on librdkafka are not
/// shown; tables name by it what they have read, so whoever works on this log from elsewhere needs it.
pub const TOPIC_ID_SETTING: &str = "highwater.topic.id";

/// A setting, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedSetting {
    /// Kafka's name.
    pub name: &'static str,
    /// Its value, as Kafka writes it.
    pub value: String,
    /// Where the value comes from.
    pub source: SettingSource,
    /// True where it cannot be altered.
    pub read_only: bool,
    /// What kind of value it is.
    pub kind: SettingType,
    /// What it does.
    pub doc: &'static str,
    /// The values it has at each level, the one in force first.
    pub synonyms: Vec<SettingSynonym>,
}

impl DescribedSetting {
    /// A topic's id as a setting that cannot be altered.
    pub(crate) fn identity(id: Uuid) -> Self {
        let (name, value, source) = (TOPIC_ID_SETTING, id.to_string(), SettingSource::Default);
        Self {
            name,
            value: value.clone(),
            source,
            read_only: true,
            kind: SettingType::Text,
            doc: "The topic's identity: one deleted and made again under its name is another.",
            synonyms: vec![SettingSynonym { name, value, source }],
        }
    }
}

/// The value of a setting at one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingSynonym {
    /// Its name at that level: topics and brokers name things differently.
    pub name: &'static str,
    /// Its value there.
    pub value: String,
    /// The level.
    pub source: SettingSource,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingSource {
    /// It was set for the topic.
    Topic,
    /// It is this broker's, and differs from Kafka's default.
    Broker,
    /// It is Kafka's default.
    Default,
}

/// What kind of value a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingType {
    /// true or false.
    Boolean,
    /// Text.
    Text,
    /// A 32-bit number.
    Int,
    /// A 64-bit number.
    Long,
    /// A number with a fraction.
    Double,
    /// Items separated by commas.
    List,
}

impl TopicConfig {
    /// All settings, sorted by name. `broker` tells what holds where the topic does not say.
    pub fn describe(&self, broker: &BrokerConfig) -> Vec<DescribedSetting> {
        let mut described: Vec<_> = SETTINGS.iter().map(|setting| self.describe_one(setting, broker)).collect();
        described.sort_by_key(|setting| setting.name);
        described
    }

    fn describe_one(&self, setting: &Setting, broker: &BrokerConfig) -> DescribedSetting {
        let explicit = self.explicit.get(setting.name).cloned();
        let mut synonyms = Vec::new();
        let mut synonym = |name, value, source| synonyms.push(SettingSynonym { name, value, source });
        // What holds for topics that do not say: this broker's, or Kafka's default.
        let base = match setting.effect {
            Effect::Live { read, .. } => {
                let base = read(&Self::kafka(1), broker);
                let value = read(self, broker);
                if explicit.is_some() || value != base {
                    synonym(setting.name, value, SettingSource::Topic);
                }
                base
            }
            Effect::Noted { .. } | Effect::Fixed { .. } => {
                if let Some(value) = explicit {
                    synonym(setting.name, value, SettingSource::Topic);
                }
                setting.default.to_owned()
            }
        };
        if base != setting.default {
            synonym(setting.broker_name, base, SettingSource::Broker);
        }
        synonym(setting.broker_name, setting.default.to_owned(), SettingSource::Default);
        DescribedSetting {
            name: setting.name,
            value: synonyms[0].value.clone(),
            source: synonyms[0].source,
            read_only: matches!(setting.effect, Effect::Fixed { .. }),
            kind: setting.kind,
            doc: setting.doc,
            synonyms,
        }
    }
}
