//! Settings of the Kafka log, and the librdkafka configurations made from them.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use serde::Deserialize;

use super::error::KafkaError;

/// Properties that correctness depends on, with what to use instead of setting them.
const RESERVED: [(&str, &str); 18] = [
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("group.id", "use `group`"),
    ("group.instance.id", "use `instance_id`"),
    ("group.protocol", "the group runs on the classic protocol"),
    ("partition.assignment.strategy", "partitions move cooperatively"),
    ("transactional.id", "each task has its own"),
    ("enable.idempotence", "it is always on"),
    ("acks", "an acknowledged append is on all in-sync replicas; min.insync.replicas is set on the brokers"),
    ("request.required.acks", "an acknowledged append is on all in-sync replicas"),
    ("isolation.level", "readers never see open or aborted transactions"),
    ("enable.auto.commit", "progress is committed with what it caused"),
    ("enable.auto.offset.store", "progress is committed with what it caused"),
    ("auto.offset.reset", "a gap is reported, never skipped in silence"),
    ("enable.partition.eof", "it is always on"),
    ("allow.auto.create.topics", "topics are created with their settings"),
    ("message.max.bytes", "use `max_record_size_bytes`"),
    ("log.queue", "librdkafka's log goes where Highwater's goes"),
];

/// How to reach a Kafka (or Redpanda) cluster and what to be there.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Where the cluster answers, `host:port,host:port`.
    pub brokers: String,
    /// The consumer group of all Highwater processes of this installation. It also begins the names of the groups and the
    /// transactional ids Highwater uses, so an ACL on the prefix covers them.
    pub group: String,
    /// A name of this process that outlives its restarts (static membership): a restart within the session timeout then moves no
    /// partition. Must differ between processes.
    pub instance_id: Option<String>,
    /// Replicas of the topics Highwater makes; the broker's default where left out.
    pub replication_factor: Option<i32>,
    /// Largest record, in bytes. Topics are made to take it.
    pub max_record_size_bytes: usize,
    /// librdkafka properties for TLS and SASL: `security.protocol`, `sasl.*`, `ssl.*`.
    pub security: BTreeMap<String, Property>,
    /// Any other librdkafka properties.
    pub options: BTreeMap<String, Property>,
}

/// A librdkafka property as YAML has it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Property {
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<&str> for Property {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            group: "highwater".into(),
            instance_id: None,
            replication_factor: None,
            max_record_size_bytes: 32 << 20,
            security: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }
}

/// Values may be secrets, so only the names of properties are shown.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("instance_id", &self.instance_id)
            .field("replication_factor", &self.replication_factor)
            .field("max_record_size_bytes", &self.max_record_size_bytes)
            .field("security", &self.security.keys().collect::<Vec<_>>())
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl KafkaConfig {
    /// The defaults against this cluster.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), ..Self::default() }
    }

    /// Refuses what cannot work, naming the key.
    pub fn validate(&self) -> Result<(), KafkaError> {
        let refuse = |reason: String| Err(KafkaError::Config { reason });
        if self.brokers.trim().is_empty() {
            return refuse("`brokers` is empty: name at least one host:port".into());
        }
        if self.group.is_empty() {
            return refuse("`group` is empty: name the consumer group of this installation".into());
        }
        if self.replication_factor.is_some_and(|r| r < 1) {
            return refuse("`replication_factor` must be 1 or more; leave it out for the broker's default".into());
        }
        if !(1 << 20..=512 << 20).contains(&self.max_record_size_bytes) {
            return refuse(format!(
                "`max_record_size_bytes` is {}, but must be 1 MiB to 512 MiB",
                self.max_record_size_bytes
            ));
        }
        for key in self.security.keys() {
            if key != "security.protocol"
                && !["sasl.", "ssl.", "enable.ssl.", "https."].iter().any(|p| key.starts_with(p))
            {
                return refuse(format!("`security` holds {key}, which is not about TLS or SASL: move it to `options`"));
            }
        }
        for key in self.options.keys() {
            if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == key) {
                return refuse(format!("`options` may not set {key}: {instead}"));
            }
        }
        // librdkafka knows which properties there are and what they take.
        let client = self.client(&[], &[]);
        match client.create_native_config() {
            Ok(_) => Ok(()),
            // The value is left out: it may be a password.
            Err(rdkafka::error::KafkaError::ClientConfig(_, what, key, _)) => {
                refuse(format!("property {key} is not accepted: {what}"))
            }
            Err(other) => refuse(other.to_string()),
        }
    }

    /// For [`rdkafka::admin::AdminClient`], whose log nobody reads.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut client = self.client(&[], &[]);
        client.set_log_level(RDKafkaLogLevel::Critical);
        client
    }

    /// Plain appends.
    pub(super) fn producer(&self) -> ClientConfig {
        let size = self.message_max_bytes();
        // Memory on the way is bounded by the callers' permits; this is the second line.
        let queue_kbytes = (2 * MAX_IN_FLIGHT_BYTES / 1024).to_string();
        self.client(
            &[("linger.ms", "2"), ("message.timeout.ms", "30000"), ("queue.buffering.max.kbytes", &queue_kbytes)],
            &[("enable.idempotence", "true"), ("message.max.bytes", &size)],
        )
    }

    /// The transactions of one task.
    pub(super) fn task_producer(&self, task: &str) -> ClientConfig {
        let size = self.message_max_bytes();
        let id = format!("{}-{task}", self.group);
        self.client(
            &[("linger.ms", "2"), ("transaction.timeout.ms", "10000"), ("message.timeout.ms", "10000")],
            &[("transactional.id", &id), ("enable.idempotence", "true"), ("message.max.bytes", &size)],
        )
    }

    /// Looks things up: metadata, watermarks, offsets by time, committed offsets of `group`. Never joins it.
    pub(super) fn lookups(&self, group: &str) -> ClientConfig {
        self.client(
            &[],
            &[
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("isolation.level", "read_committed"),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }

    /// Reads partitions assigned by hand.
    pub(super) fn reader(&self, isolation: &str) -> ClientConfig {
        let receive = (self.max_record_size_bytes + (64 << 20)).max(100_000_000).to_string();
        let group = format!("{}.readers", self.group);
        self.client(
            &[
                // A new assignment waits for the long poll in flight, so it is short.
                ("fetch.wait.max.ms", "50"),
                ("fetch.queue.backoff.ms", "10"),
                ("fetch.error.backoff.ms", "100"),
                ("max.partition.fetch.bytes", "4194304"),
                // Per partition: what is fetched ahead.
                ("queued.min.messages", "10000"),
                ("queued.max.messages.kbytes", "8192"),
                ("receive.message.max.bytes", &receive),
                ("check.crcs", "true"),
            ],
            &[
                ("group.id", &group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                ("enable.partition.eof", "true"),
                ("isolation.level", isolation),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }

    /// A member of the group. It never fetches.
    pub(super) fn member(&self) -> ClientConfig {
        let mut fixed = vec![
            ("group.id", self.group.as_str()),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("isolation.level", "read_committed"),
            ("allow.auto.create.topics", "false"),
        ];
        if let Some(instance) = &self.instance_id {
            fixed.push(("group.instance.id", instance));
        }
        self.client(
            &[
                ("session.timeout.ms", "10000"),
                ("heartbeat.interval.ms", "2000"),
                ("max.poll.interval.ms", "300000"),
                ("topic.metadata.refresh.interval.ms", "10000"),
                ("queued.min.messages", "1"),
                ("queued.max.messages.kbytes", "1"),
            ],
            &fixed,
        )
    }

    /// Largest message librdkafka lets through: the record with its framing.
    fn message_max_bytes(&self) -> String {
        self.topic_message_max_bytes().to_string()
    }

    /// What topics must take for the largest record.
    pub(super) fn topic_message_max_bytes(&self) -> usize {
        self.max_record_size_bytes + (64 << 10)
    }

    /// What is fixed goes over what the user chose, and that over our defaults.
    fn client(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("client.id", "highwater")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("log.connection.close", "false");
        for (key, value) in defaults {
            client.set(*key, *value);
        }
        for (key, value) in self.security.iter().chain(&self.options) {
            client.set(key, value.to_string());
        }
        for (key, value) in fixed {
            client.set(*key, *value);
        }
        client.set("bootstrap.servers", &self.brokers);
        client.set_log_level(RDKafkaLogLevel::Warning);
        client
    }
}

/// Bytes of plain appends that may be on their way at once; beyond them callers wait.
pub(super) const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &KafkaConfig) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn properties_pass_through_and_the_fixed_ones_stay() {
        let mut config = KafkaConfig::new("k1:9092");
        config.security.insert("security.protocol".into(), "SASL_SSL".into());
        config.security.insert("sasl.mechanism".into(), "SCRAM-SHA-512".into());
        config.options.insert("linger.ms".into(), Property::Number(9));
        config.options.insert("session.timeout.ms".into(), Property::Number(6000));
        config.validate().unwrap();
        let producer = config.task_producer("logs/2");
        assert_eq!(producer.get("linger.ms"), Some("9"));
        assert_eq!(producer.get("transactional.id"), Some("highwater-logs/2"));
        assert_eq!(producer.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(config.member().get("session.timeout.ms"), Some("6000"));
        assert_eq!(config.member().get("partition.assignment.strategy"), Some("cooperative-sticky"));
        assert_eq!(config.reader("read_committed").get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn what_would_break_a_promise_is_refused_by_name() {
        let mut config = KafkaConfig::new("k1:9092");
        config.options.insert("acks".into(), Property::Number(1));
        assert!(refused(&config).contains("acks"), "{}", refused(&config));
        let mut config = KafkaConfig::new("k1:9092");
        config.options.insert("no.such.property".into(), Property::Flag(true));
        assert!(refused(&config).contains("no.such.property"), "{}", refused(&config));
        let mut config = KafkaConfig::new("k1:9092");
        config.security.insert("linger.ms".into(), Property::Number(1));
        assert!(refused(&config).contains("`options`"), "{}", refused(&config));
        assert!(refused(&KafkaConfig::new(" ")).contains("brokers"));
    }

    #[test]
    fn secrets_are_neither_shown_nor_in_errors() {
        let mut config = KafkaConfig::new("k1:9092");
        config.security.insert("sasl.password".into(), "hunter2".into());
        assert!(!format!("{config:?}").contains("hunter2"));
        config.security.insert("sasl.mechanism-typo".into(), "hunter2".into());
        assert!(!refused(&config).contains("hunter2"), "{}", refused(&config));
    }
}
