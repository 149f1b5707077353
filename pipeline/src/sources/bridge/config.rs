//! What the config file says of topics to bridge.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::BridgeError;
use crate::data::Tenant;
use crate::log::TopicPartition;
use crate::log::kafka::Property;

/// One Kafka cluster, and the topics of it that come in.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSourceConfig {
    /// Names the source in tasks and committed offsets: change it, and everything is read anew. 1 to 64 of `a-z A-Z 0-9 . _ -`.
    #[serde(default = "default_name")]
    pub name: String,
    /// `host:port`, several with commas between.
    pub brokers: String,
    /// The topics.
    pub topics: Vec<String>,
    /// How values are read.
    #[serde(default)]
    pub format: Format,
    /// What they become.
    #[serde(default)]
    pub signal: BridgedSignal,
    /// The service of rows that name none.
    pub service: Option<String>,
    /// Whose rows they are. Never taken from the data.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Where a partition begins that was never read before.
    #[serde(default)]
    pub start: Start,
    /// librdkafka properties for TLS and SASL: `security.protocol`, `sasl.*`, `ssl.*`.
    #[serde(default)]
    pub security: BTreeMap<String, Property>,
    /// Any other librdkafka properties.
    #[serde(default)]
    pub options: BTreeMap<String, Property>,
}

/// Values of properties may be secrets, so only their names are shown.
impl fmt::Debug for KafkaSourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSourceConfig")
            .field("name", &self.name)
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("format", &self.format)
            .field("signal", &self.signal)
            .field("service", &self.service)
            .field("tenant", &self.tenant)
            .field("start", &self.start)
            .field("security", &self.security.keys().collect::<Vec<_>>())
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// How the values of a bridged topic are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As the record's `content-type` header says; without one by the first bytes.
    #[default]
    Auto,
    /// JSON: an object, an array, a wrapper, or one object per line.
    Json,
    /// One log line, time and level found as the log agent finds them.
    Text,
    /// An OTLP export request of the source's signal, protobuf.
    Otlp,
    /// An Arrow IPC stream with columns of the table.
    Arrow,
}

/// What the records of a bridged topic become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BridgedSignal {
    /// Rows of `logs`.
    #[default]
    Logs,
    /// Rows of `metrics`.
    Metrics,
    /// Rows of `spans`.
    Spans,
}

/// Where a partition begins that was never read before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At its first record.
    #[default]
    Earliest,
    /// At its end.
    Latest,
}

fn default_name() -> String {
    "kafka".to_owned()
}

fn default_tenant() -> String {
    Tenant::DEFAULT.to_owned()
}

/// Longest name of a source.
const MAX_NAME_SIZE_BYTES: usize = 64;
/// Longest name of a topic, as Kafka has it.
const MAX_TOPIC_SIZE_BYTES: usize = 249;

impl KafkaSourceConfig {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`BridgeError::Config`], naming the key.
    pub fn validate(&self) -> Result<(), BridgeError> {
        let refuse = |key: &str, reason: String| {
            Err(BridgeError::Config { key: format!("sources.kafka[{}].{key}", self.name), reason })
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=MAX_NAME_SIZE_BYTES).contains(&self.name.len()) || !self.name.bytes().all(allowed) {
            return refuse("name", "use 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'".to_owned());
        }
        if self.brokers.trim().is_empty() {
            return refuse("brokers", "name at least one host:port".to_owned());
        }
        if self.topics.is_empty() {
            return refuse("topics", "name at least one topic".to_owned());
        }
        for topic in &self.topics {
            if topic.is_empty() || !topic.bytes().all(allowed) {
                return refuse("topics", format!("{topic:?} is not a name that a topic can have"));
            }
            let claim = self.claim_topic(topic, 999);
            if claim.len() > MAX_TOPIC_SIZE_BYTES {
                return refuse(
                    "topics",
                    format!(
                        "progress of {topic} would be kept under {claim}, which is above 249 bytes: shorten `name`"
                    ),
                );
            }
        }
        if self.signal == BridgedSignal::Metrics && self.format == Format::Text {
            return refuse("format", "a line of text is no metric: use json, otlp or arrow".to_owned());
        }
        if self.signal == BridgedSignal::Spans && !matches!(self.format, Format::Auto | Format::Otlp | Format::Arrow) {
            return refuse("format", "spans come as otlp or arrow".to_owned());
        }
        match Tenant::new(&self.tenant) {
            Ok(_) => Ok(()),
            Err(error) => refuse("tenant", error.to_string()),
        }
    }

    /// The partition of ours that stands for one of a bridged topic; see [`super::claims`].
    pub(super) fn claim(&self, topic: &str, partition: i32) -> TopicPartition {
        let (block, partition) = (partition / CLAIMS_PER_TOPIC, partition % CLAIMS_PER_TOPIC);
        TopicPartition { topic: self.claim_topic(topic, block).into(), partition }
    }

    /// The topic of ours whose partitions stand for this block of partitions of a bridged topic.
    pub(super) fn claim_topic(&self, topic: &str, block: i32) -> String {
        format!("{CLAIM_PREFIX}{}.{topic}.{block}", self.name)
    }
}

/// What the names of claim topics begin with.
pub const CLAIM_PREFIX: &str = "__highwater.bridge.";
/// How many partitions of a bridged topic one claim topic stands for. Topics of ours do not grow, so that a bridged topic that does gets
/// another one.
pub(super) const CLAIMS_PER_TOPIC: i32 = 16;

/// Checks all sources together: no topic may come in twice under one name.
///
/// # Errors
/// [`BridgeError::Config`], naming the key.
pub fn validate_all(sources: &[KafkaSourceConfig]) -> Result<(), BridgeError> {
    let mut seen = BTreeMap::new();
    for source in sources {
        source.validate()?;
        for topic in &source.topics {
            if seen.insert((&source.name, topic), ()).is_some() {
                let key = format!("sources.kafka[{}].topics", source.name);
                let reason = format!(
                    "{topic} is there twice under the source name {}: give one of them another `name`",
                    source.name
                );
                return Err(BridgeError::Config { key, reason });
            }
        }
    }
    Ok(())
}
