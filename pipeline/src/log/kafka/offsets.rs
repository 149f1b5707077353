//! Committed offsets of groups.
//!
//! All of Highwater's groups begin with the configured one: [`TASKS_GROUP`] *is* it, so ordinary tools show the lag of the tasks,
//! and `__highwater.<rest>` is `<group>.<rest>`, so two installations on one cluster do not meet.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError as Rdkafka;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{Cluster, Lookup, TIMEOUT};
use super::membership::MemberContext;
use super::topics::Topics;
use crate::log::{CommittedOffset, LogError, TASKS_GROUP};

/// Begins the metadata of a task's offset: the epoch of the run that committed it.
const EPOCH: &str = "epoch=";

pub(super) struct Offsets {
    cluster: Arc<Cluster>,
    topics: Arc<Topics>,
    /// One client per group; they never join.
    groups: Mutex<HashMap<String, Arc<Lookup>>>,
    /// This process's member of the group, if it has joined.
    member: Mutex<Weak<BaseConsumer<MemberContext>>>,
}

impl Offsets {
    pub(super) fn new(cluster: &Arc<Cluster>, topics: &Arc<Topics>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            topics: Arc::clone(topics),
            groups: Mutex::default(),
            member: Mutex::new(Weak::new()),
        }
    }

    pub(super) fn joined(&self, member: &Arc<BaseConsumer<MemberContext>>) {
        *self.member.lock() = Arc::downgrade(member);
    }

    /// Kafka's name of a group.
    pub(super) fn group_name(&self, group: &str) -> String {
        let ours = &self.cluster.config.group;
        if group == TASKS_GROUP {
            return ours.clone();
        }
        match group.strip_prefix("__highwater.") {
            Some(rest) => format!("{ours}.{rest}"),
            None => group.to_owned(),
        }
    }

    /// The name by which [`Self::group_name`] finds a group of the cluster.
    fn own_name(&self, name: &str) -> String {
        let ours = &self.cluster.config.group;
        match name.strip_prefix(ours.as_str()) {
            Some("") => TASKS_GROUP.to_owned(),
            Some(rest) if rest.starts_with('.') => format!("__highwater{rest}"),
            _ => name.to_owned(),
        }
    }

    /// The groups that the cluster lists, sorted.
    pub(super) async fn groups(&self) -> Result<Vec<String>, LogError> {
        let client = self.client(TASKS_GROUP)?;
        let result = self.cluster.blocking(move || {
            let list = client.fetch_group_list(None, TIMEOUT)?;
            Ok(list.groups().iter().map(|group| group.name().to_owned()).collect::<Vec<_>>())
        });
        let names = self.cluster.outcome("the groups of the cluster", result.await?)?;
        let mut names: Vec<String> = names.iter().map(|name| self.own_name(name)).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What a transaction says about who commits an offset. For the group of the tasks that is this process's member, so that
    /// a commit of a generation that is over is refused.
    pub(super) fn group_metadata(&self, group: &str) -> Result<ConsumerGroupMetadata, LogError> {
        let member = (group == TASKS_GROUP).then(|| self.member.lock().upgrade()).flatten();
        let metadata = match member {
            Some(member) => member.group_metadata(),
            None => self.client(group)?.group_metadata(),
        };
        metadata.ok_or_else(|| self.cluster.unavailable("the group's generation", "librdkafka has none"))
    }

    /// All committed offsets of a group, sorted by topic and partition.
    pub(super) async fn all(&self, group: &str) -> Result<Vec<CommittedOffset>, LogError> {
        let partitions = self.topics.all_partitions().await?;
        let mut committed: Vec<_> = self.of(group, partitions).await?.into_iter().map(|(offset, _)| offset).collect();
        committed.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(committed)
    }

    /// The committed offsets of these partitions, where there are any, with the epochs of the runs that committed them.
    pub(super) async fn of(
        &self,
        group: &str,
        partitions: Vec<(String, i32)>,
    ) -> Result<Vec<(CommittedOffset, Option<i32>)>, LogError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (client, doing) =
            (self.client(group)?, format!("the committed offsets of group {}", self.group_name(group)));
        let result = self
            .cluster
            .blocking(move || {
                let mut asked = TopicPartitionList::with_capacity(partitions.len());
                for (topic, partition) in &partitions {
                    asked.add_partition(topic, *partition);
                }
                let answer = client.committed_offsets(asked, TIMEOUT)?;
                let mut committed = Vec::new();
                for element in answer.elements() {
                    element.error()?;
                    if let Offset::Offset(offset) = element.offset() {
                        let (epoch, metadata) = split_epoch(element.metadata());
                        let (topic, partition) = (element.topic().into(), element.partition());
                        committed.push((CommittedOffset { topic, partition, offset, metadata }, epoch));
                    }
                }
                Ok(committed)
            })
            .await?;
        self.cluster.outcome(&doing, result)
    }

    /// Commits offsets of a group that nobody is a member of, or of ours as its member.
    pub(super) async fn commit(&self, group: &str, offsets: &[CommittedOffset]) -> Result<(), LogError> {
        if offsets.is_empty() {
            return Ok(());
        }
        for offset in offsets {
            self.topics.check(&offset.topic, offset.partition).await?;
        }
        let list = list(offsets, None).map_err(|error| self.cluster.failed("a commit of offsets", &error))?;
        let doing = format!("a commit of offsets of group {}", self.group_name(group));
        let member = (group == TASKS_GROUP).then(|| self.member.lock().upgrade()).flatten();
        let client = self.client(group)?;
        let result = self.cluster.blocking(move || match member {
            Some(member) => member.commit(&list, CommitMode::Sync),
            None => client.commit(&list, CommitMode::Sync),
        });
        self.cluster.outcome(&doing, result.await?)
    }

    fn client(&self, group: &str) -> Result<Arc<Lookup>, LogError> {
        let name = self.group_name(group);
        let mut groups = self.groups.lock();
        if let Some(client) = groups.get(&name) {
            return Ok(Arc::clone(client));
        }
        let client = self.cluster.create(&self.cluster.config.lookups(&name), &format!("group {name}"))?;
        let client: Arc<Lookup> = Arc::new(client);
        groups.insert(name, Arc::clone(&client));
        Ok(client)
    }

    /// Serves the clients' queues, which hold log lines and errors.
    pub(super) fn tend(&self) {
        let clients: Vec<_> = self.groups.lock().values().cloned().collect();
        for client in clients {
            while client.poll(Duration::ZERO).is_some() {}
        }
    }
}

/// As librdkafka takes them; with the epoch of the run that commits.
pub(super) fn list(offsets: &[CommittedOffset], epoch: Option<i32>) -> Result<TopicPartitionList, Rdkafka> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for offset in offsets {
        let mut element = list.add_partition(&offset.topic, offset.partition);
        element.set_offset(Offset::Offset(offset.offset))?;
        match epoch {
            Some(epoch) => element.set_metadata(format!("{EPOCH}{epoch} {}", offset.metadata).trim_end()),
            None if offset.metadata.is_empty() => {}
            None => element.set_metadata(&offset.metadata),
        }
    }
    Ok(list)
}

/// True where the metadata of a committed offset say that a run of a task has committed it.
pub fn is_progress_of_task(metadata: &str) -> bool {
    split_epoch(metadata).0.is_some()
}

/// The epoch in an offset's metadata, and the rest of it.
fn split_epoch(metadata: &str) -> (Option<i32>, String) {
    let split = metadata.strip_prefix(EPOCH).and_then(|rest| {
        let (epoch, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        Some((epoch.parse().ok()?, rest.to_owned()))
    });
    match split {
        Some((epoch, rest)) => (Some(epoch), rest),
        None => (None, metadata.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_goes_in_front_of_the_metadata_and_comes_off_again() {
        let offset = |metadata: &str| CommittedOffset {
            topic: "logs".into(),
            partition: 2,
            offset: 7,
            metadata: metadata.to_owned(),
        };
        for (metadata, epoch, stored) in [
            ("", Some(3), "epoch=3"),
            ("a b", Some(12), "epoch=12 a b"),
            ("free text", None, "free text"),
            ("", None, ""),
        ] {
            let list = list(&[offset(metadata)], epoch).unwrap();
            let elements = list.elements();
            assert_eq!(elements[0].metadata(), stored);
            assert_eq!(elements[0].offset(), Offset::Offset(7));
            assert_eq!(split_epoch(elements[0].metadata()), (epoch, metadata.to_owned()));
        }
        assert_eq!(split_epoch("epoch=soon"), (None, "epoch=soon".to_owned()));
    }
}
