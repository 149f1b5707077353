//! Topics of the cluster: created with our settings, described, deleted.
//!
//! A topic's id is a hash of the cluster's id and its name (librdkafka's bindings do not show Kafka's own topic id): a topic that was deleted and
//! made again under the same name cannot be told from its predecessor. Another Highwater's embedded log tells its own ids beside the settings
//! of topics: they are taken, so that tables written here are those that are read there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{CleanupPolicy, TOPIC_ID_SETTING, TimestampType, TopicConfig, TopicInfo};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as Rdkafka, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use tokio::sync::OnceCell;
use twox_hash::XxHash3_128;
use uuid::Uuid;

use super::cluster::{Cluster, TIMEOUT};
use super::context::Context;
use super::error::{KafkaError, is_unknown};
use crate::log::LogError;

/// How long a description is taken for true.
const FRESH_MS: u64 = 10_000;
/// Topics come and go a moment after the cluster has said yes: how often that is looked for, and how long between.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Topics {
    cluster: Arc<Cluster>,
    admin: AdminClient<Context>,
    cluster_id: OnceCell<String>,
    /// Descriptions and when each was made.
    known: Mutex<HashMap<Arc<str>, (TopicInfo, i64)>>,
}

/// A topic as the cluster's metadata has it.
struct Found {
    partitions: usize,
    /// Every partition has a leader.
    ready: bool,
}

impl Topics {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Result<Self, LogError> {
        let admin = cluster.create(&cluster.config.admin(), "admin")?;
        Ok(Self { cluster: Arc::clone(cluster), admin, cluster_id: OnceCell::new(), known: Mutex::default() })
    }

    /// All topics but Kafka's own, sorted by name.
    pub(super) async fn all(&self) -> Result<Vec<TopicInfo>, LogError> {
        let partitions = self
            .cluster
            .lookup("the list of topics", |client| {
                let metadata = client.fetch_metadata(None, TIMEOUT)?;
                let known = metadata.topics().iter().filter(|t| t.error().is_none() && !is_internal(t.name()));
                Ok(known.map(|t| (t.name().to_owned(), t.partitions().len())).collect::<Vec<_>>())
            })
            .await?;
        self.describe(partitions).await
    }

    /// One topic, or `None`.
    pub(super) async fn one(&self, name: &str) -> Result<Option<TopicInfo>, LogError> {
        if let Some(info) = self.fresh(name) {
            return Ok(Some(info));
        }
        match self.partitions(name).await? {
            Some(found) => Ok(self.describe(vec![(name.to_owned(), found.partitions)]).await?.pop()),
            None => Ok(None),
        }
    }

    /// Fails where there is no such partition. One that was there once is taken to be there, until a call that needs it says otherwise
    /// (see [`Self::forget`]), so that this costs nothing.
    pub(super) async fn check(&self, topic: &str, partition: i32) -> Result<(), LogError> {
        let has = |info: &TopicInfo| (0..info.config.partitions).contains(&partition);
        if self.known.lock().get(topic).is_some_and(|(info, _)| has(info)) {
            return Ok(());
        }
        self.forget(topic);
        match self.one(topic).await? {
            Some(info) if has(&info) => Ok(()),
            _ => Err(LogError::UnknownTopicOrPartition { topic: topic.to_owned(), partition }),
        }
    }

    /// Creates it if it is missing.
    pub(super) async fn ensure(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, LogError> {
        if let Some(info) = self.one(name).await? {
            if info.config.timestamp_type != TimestampType::LogAppendTime
                && config.timestamp_type == TimestampType::LogAppendTime
            {
                tracing::warn!(
                    topic = name,
                    "this topic carries the senders' times, not append times; set message.timestamp.type=LogAppendTime on it"
                );
            }
            return Ok(info);
        }
        let settings = settings(&config, self.cluster.config.topic_message_max_bytes());
        let replicas = self.cluster.config.replication_factor.unwrap_or(-1);
        let mut new = NewTopic::new(name, config.partitions, TopicReplication::Fixed(replicas));
        for (key, value) in &settings {
            new = new.set(key, value);
        }
        let doing = format!("creation of topic {name}");
        let results = self.admin.create_topics([&new], &options()).await;
        for result in self.cluster.outcome(&doing, results)? {
            match result {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(self.cluster.failed(&doing, &Rdkafka::AdminOp(code))),
            }
        }
        for _ in 0..LOOKS {
            if self.partitions(name).await?.is_some_and(|found| found.ready)
                && let Some(info) = self.one(name).await?
            {
                return Ok(info);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(self.cluster.unavailable(&doing, "it has no leaders yet"))
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), LogError> {
        let doing = format!("deletion of topic {name}");
        let results = self.admin.delete_topics(&[name], &options()).await;
        for result in self.cluster.outcome(&doing, results)? {
            if let Err((_, code)) = result {
                return self.cluster.outcome_of(&doing, name, 0, Err(Rdkafka::AdminOp(code)));
            }
        }
        // Brokers forget it one after the other.
        for _ in 0..LOOKS {
            if self.partitions(name).await?.is_none() {
                self.forget(name);
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(self.cluster.unavailable(&doing, "it is still there"))
    }

    /// Nothing known about a topic stays known.
    pub(super) fn forget(&self, name: &str) {
        self.known.lock().remove(name);
    }

    /// The partitions of all topics, for look-ups that need them all.
    pub(super) async fn all_partitions(&self) -> Result<Vec<(String, i32)>, LogError> {
        self.cluster
            .lookup("the list of partitions", |client| {
                let metadata = client.fetch_metadata(None, TIMEOUT)?;
                let known = metadata.topics().iter().filter(|t| t.error().is_none() && !is_internal(t.name()));
                Ok(known.flat_map(|t| t.partitions().iter().map(|p| (t.name().to_owned(), p.id()))).collect())
            })
            .await
    }

    fn fresh(&self, name: &str) -> Option<TopicInfo> {
        let now_ms = self.cluster.clock.now_ms();
        let known = self.known.lock();
        known.get(name).filter(|(_, seen_ms)| now_ms.abs_diff(*seen_ms) < FRESH_MS).map(|(info, _)| info.clone())
    }

    async fn partitions(&self, name: &str) -> Result<Option<Found>, LogError> {
        let doing = format!("a look at topic {name}");
        let topic = name.to_owned();
        self.cluster
            .lookup(&doing, move |client| {
                let metadata = client.fetch_metadata(Some(&topic), TIMEOUT)?;
                let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
                match found.error().map(Code::from) {
                    None => Ok(Some(Found { partitions: found.partitions().len(), ready: has_leaders(found) })),
                    Some(code) if is_unknown(code) => Ok(None),
                    Some(code) => Err(Rdkafka::MetadataFetch(code)),
                }
            })
            .await
    }

    async fn describe(&self, topics: Vec<(String, usize)>) -> Result<Vec<TopicInfo>, LogError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let cluster_id = self.cluster_id().await?;
        let resources: Vec<_> = topics.iter().map(|(name, _)| ResourceSpecifier::Topic(name)).collect();
        let described = self.admin.describe_configs(&resources, &options()).await;
        let described = self.cluster.outcome("the settings of topics", described)?;
        let now_ms = self.cluster.clock.now_ms();
        let mut infos = Vec::with_capacity(topics.len());
        for ((name, partitions), resource) in topics.iter().zip(described) {
            let resource = match resource {
                Ok(resource) => resource,
                // Deleted between the two looks.
                Err(code) if is_unknown(code) => continue,
                Err(code) => {
                    return Err(self.cluster.failed(&format!("the settings of topic {name}"), &Rdkafka::AdminOp(code)));
                }
            };
            infos.push(TopicInfo {
                name: name.as_str().into(),
                id: own_id(&resource).unwrap_or_else(|| topic_id(cluster_id, name)),
                config: config_of(&resource, i32::try_from(*partitions).unwrap_or(i32::MAX)),
            });
        }
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        let mut known = self.known.lock();
        known.extend(infos.iter().map(|info| (Arc::clone(&info.name), (info.clone(), now_ms))));
        Ok(infos)
    }

    async fn cluster_id(&self) -> Result<&str, LogError> {
        let fetch = || async {
            let id =
                self.cluster.lookup("the cluster's id", |client| Ok(client.client().fetch_cluster_id(TIMEOUT))).await?;
            id.ok_or_else(|| self.cluster.unavailable("the cluster's id", "no answer"))
        };
        Ok(self.cluster_id.get_or_try_init(fetch).await?)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

/// Kafka's own book-keeping.
fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state" | "__cluster_metadata")
}

fn has_leaders(topic: &MetadataTopic) -> bool {
    !topic.partitions().is_empty() && topic.partitions().iter().all(|p| p.error().is_none() && p.leader() >= 0)
}

/// The id that an embedded log tells.
fn own_id(resource: &ConfigResource) -> Option<Uuid> {
    resource.get(TOPIC_ID_SETTING)?.value.as_deref()?.parse().ok()
}

fn topic_id(cluster_id: &str, name: &str) -> Uuid {
    let hash = XxHash3_128::oneshot(format!("{cluster_id}\0{name}").as_bytes());
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

fn settings(config: &TopicConfig, max_message_bytes: usize) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("cleanup.policy", cleanup_name(config.cleanup).into()),
        ("max.message.bytes", max_message_bytes.to_string()),
        ("message.timestamp.type", timestamp_name(config.timestamp_type).into()),
        ("retention.ms", config.retention_ms.map_or("-1".into(), |ms| ms.to_string())),
        ("retention.bytes", config.retention_bytes.map_or("-1".into(), |bytes| bytes.to_string())),
    ];
    if config.cleanup.compacts() {
        settings.push(("min.compaction.lag.ms", config.min_compaction_lag_ms.to_string()));
    }
    if let Some(bytes) = config.segment_size_bytes {
        settings.push(("segment.bytes", bytes.to_string()));
    }
    settings
}

fn cleanup_name(policy: CleanupPolicy) -> &'static str {
    match policy {
        CleanupPolicy::Delete => "delete",
        CleanupPolicy::Compact => "compact",
        CleanupPolicy::CompactAndDelete => "compact,delete",
    }
}

fn timestamp_name(kind: TimestampType) -> &'static str {
    match kind {
        TimestampType::LogAppendTime => "LogAppendTime",
        TimestampType::CreateTime => "CreateTime",
    }
}

fn config_of(resource: &ConfigResource, partitions: i32) -> TopicConfig {
    let text = |name: &str| resource.get(name).and_then(|entry| entry.value.as_deref());
    let number = |name: &str| text(name).and_then(|value| value.parse::<i64>().ok());
    let policies = text("cleanup.policy").unwrap_or_default();
    let has = |policy: &str| policies.split(',').any(|p| p.trim() == policy);
    TopicConfig {
        partitions,
        cleanup: match (has("compact"), has("delete")) {
            (true, true) => CleanupPolicy::CompactAndDelete,
            (true, false) => CleanupPolicy::Compact,
            (false, _) => CleanupPolicy::Delete,
        },
        min_compaction_lag_ms: number("min.compaction.lag.ms").unwrap_or(0),
        retention_ms: number("retention.ms").filter(|ms| *ms >= 0),
        retention_bytes: number("retention.bytes").and_then(|bytes| u64::try_from(bytes).ok()),
        segment_size_bytes: number("segment.bytes").and_then(|bytes| u64::try_from(bytes).ok()),
        timestamp_type: match text("message.timestamp.type") {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        ..TopicConfig::default()
    }
}

/// Refuses what no Kafka takes for a topic's name.
pub(super) fn check_name(name: &str) -> Result<(), KafkaError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=249).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".." {
        return Ok(());
    }
    Err(KafkaError::InvalidRequest {
        topic: name.chars().take(300).collect(),
        partition: 0,
        reason: "a topic's name is 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and neither \".\" nor \"..\"".into(),
    })
}
