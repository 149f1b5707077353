//! Changing topics: creating one that must be new, altering settings, adding partitions. Each change is durable before it takes effect,
//! and takes effect on the running partitions before it is answered.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::inner::{Inner, Topic};
use super::writer::Command;
use super::{Broker, HOLDING_GROUP_PREFIX};
use crate::config::BrokerConfig;
use crate::error::BrokerError;
use crate::log::LogSettings;
use crate::topic::{TopicInfo, check_name};
use crate::topic_config::{DescribedSetting, SettingChange, TopicConfig};

impl Broker {
    /// Creates a topic, durably; refused as [`BrokerError::TopicExists`] where there is one of this name.
    pub async fn create_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, BrokerError> {
        self.check_new_topic(name, &config)?;
        self.check_writable("create a topic")?;
        let changes = Arc::clone(&self.topic_changes).lock_owned().await;
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        let create = move || {
            let _changes = changes;
            match inner.topic(&name) {
                Some(_) => Err(BrokerError::TopicExists { topic: name }),
                None => inner.create_topic(&name, config),
            }
        };
        self.inner.crew.blocking(create).await
    }

    /// Refuses what [`Self::create_topic`] would refuse at this moment.
    pub fn check_new_topic(&self, name: &str, config: &TopicConfig) -> Result<(), BrokerError> {
        check_name(name)?;
        config.validate_for(&self.inner.config)?;
        match self.inner.topic(name) {
            Some(_) => Err(BrokerError::TopicExists { topic: name.to_owned() }),
            None => self.inner.check_room(config.partitions),
        }
    }

    /// Changes settings of a topic, all of them or none. They hold for its running partitions, and after a restart, once this returns.
    pub async fn alter_topic(&self, name: &str, changes: &[SettingChange]) -> Result<TopicInfo, BrokerError> {
        self.check_writable("alter a topic")?;
        let lock = Arc::clone(&self.topic_changes).lock_owned().await;
        let topic = self.inner.topic(name).ok_or_else(|| unknown(name))?;
        let config = self.check_altered(name, changes)?;
        let inner = Arc::clone(&self.inner);
        let alter = move || {
            let _lock = lock;
            let info = TopicInfo { config, ..topic.info.clone() };
            inner.store.rewrite(&info)?;
            let settings = LogSettings::new(&inner.config, &info.config);
            let mut answers = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let (reply, answer) = oneshot::channel();
                let key = (info.id, partition.id.partition);
                let settings = Box::new(settings.clone());
                inner.send(partition.writer, Command::Configure { key, settings, reply })?;
                answers.push(answer);
            }
            inner.replace(Topic { info: info.clone(), partitions: topic.partitions.clone() });
            Ok((info, answers))
        };
        let (info, answers) = self.inner.crew.blocking(alter).await?;
        for answer in answers {
            answer.await.map_err(|_| BrokerError::Closed)??;
        }
        Ok(info)
    }

    /// The settings that [`Self::alter_topic`] would make of a topic's, if it would not be refused at this moment.
    pub fn check_altered(&self, name: &str, changes: &[SettingChange]) -> Result<TopicConfig, BrokerError> {
        let topic = self.inner.topic(name).ok_or_else(|| unknown(name))?;
        let config = topic.info.config.altered(changes)?;
        config.validate_for(&self.inner.config)?;
        Ok(config)
    }

    /// Gives a topic more partitions, so that it has `total`, durably. What is in the others stays where it is.
    pub async fn add_partitions(&self, name: &str, total: i32) -> Result<TopicInfo, BrokerError> {
        self.check_writable("add partitions")?;
        let lock = Arc::clone(&self.topic_changes).lock_owned().await;
        let config = self.check_more_partitions(name, total)?;
        let topic = self.inner.topic(name).ok_or_else(|| unknown(name))?;
        let inner = Arc::clone(&self.inner);
        let add = move || {
            let _lock = lock;
            inner.add_partitions(&topic, config)
        };
        self.inner.crew.blocking(add).await
    }

    /// The settings that [`Self::add_partitions`] would make of a topic's, if it would not be refused at this moment.
    pub fn check_more_partitions(&self, name: &str, total: i32) -> Result<TopicConfig, BrokerError> {
        let topic = self.inner.topic(name).ok_or_else(|| unknown(name))?;
        let now = topic.info.config.partitions;
        let config = TopicConfig { partitions: total, ..topic.info.config.clone() };
        if total <= now || config.validate().is_err() {
            return Err(BrokerError::InvalidPartitions { topic: name.to_owned(), now, asked: total });
        }
        self.inner.check_room(total - now)?;
        Ok(config)
    }

    /// The settings of a topic, described by Kafka's names; and its id, as [`TOPIC_ID_SETTING`].
    pub fn describe_settings(&self, name: &str) -> Result<Vec<DescribedSetting>, BrokerError> {
        let topic = self.inner.topic(name).ok_or_else(|| unknown(name))?;
        let mut described = self.describe_config(&topic.info.config);
        described.push(DescribedSetting::identity(topic.info.id));
        described.sort_by_key(|setting| setting.name);
        Ok(described)
    }

    /// Settings that a topic has or may be given, described by Kafka's names.
    pub fn describe_config(&self, config: &TopicConfig) -> Vec<DescribedSetting> {
        config.describe(&self.inner.config)
    }

    /// The settings of the broker itself.
    pub fn config(&self) -> &BrokerConfig {
        &self.inner.config
    }

    /// The lowest offset of a partition that a group of [`HOLDING_GROUP_PREFIX`] stands at: retention and compaction stop there.
    pub fn held_back(&self, topic: &str, partition: i32) -> Option<i64> {
        self.inner.coordinator.lowest(HOLDING_GROUP_PREFIX, &Arc::from(topic), partition)
    }
}

impl Inner {
    /// Refuses more partitions than the broker takes on.
    pub(super) fn check_room(&self, asked: i32) -> Result<(), BrokerError> {
        let limit = self.config.max_partitions;
        let now: usize = self.topics.read().values().map(|topic| topic.partitions.len()).sum();
        match usize::try_from(asked) {
            Ok(more) if now + more <= limit => Ok(()),
            _ => Err(BrokerError::TooManyPartitions { asked, limit }),
        }
    }

    fn replace(&self, topic: Topic) {
        self.topics.write().insert(Arc::clone(&topic.info.name), Arc::new(topic));
    }

    /// The new partitions are there, and opened, before the topic counts them: a crash in between leaves directories that the next
    /// attempt uses.
    fn add_partitions(&self, topic: &Topic, config: TopicConfig) -> Result<TopicInfo, BrokerError> {
        let info = TopicInfo { config, ..topic.info.clone() };
        let new = topic.info.config.partitions..info.config.partitions;
        self.store.add_partition_dirs(&info.name, new.clone())?;
        let logs = self.open_partitions(&info, new)?;
        self.store.rewrite(&info)?;
        let mut partitions = topic.partitions.clone();
        partitions.extend(self.hand_over(&info, logs)?);
        self.replace(Topic { info: info.clone(), partitions });
        Ok(info)
    }
}

fn unknown(topic: &str) -> BrokerError {
    BrokerError::UnknownTopicOrPartition { topic: topic.to_owned(), partition: 0 }
}
