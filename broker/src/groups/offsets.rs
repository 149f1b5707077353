//! Offsets of clients: committed, fetched, deleted.

use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::driver::{Groups, Written, refusal};
use super::error::GroupError;
use super::machine::{GroupMachine, OffsetDeletion};
use crate::coordinator::{Committed, CommittedOffset, Entry};

/// Offsets that a client commits, all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitRequest {
    /// Empty where the client assigns itself.
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    /// -1 where the client assigns itself.
    pub(crate) generation: i32,
    /// How long to keep them, in milliseconds, where an old client says so.
    pub(crate) retention_ms: Option<i64>,
    pub(crate) offsets: Vec<OffsetToCommit>,
}

/// One offset of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetToCommit {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// -1 where the client does not say.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// An offset as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchedOffset {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

impl Groups {
    /// Commits offsets, durably once this returns. A group that does not exist comes to be by it, if the client assigns itself.
    pub(crate) async fn commit(&self, group: &str, request: CommitRequest) -> Result<(), GroupError> {
        let answer = self.hand_over(group, request)?;
        // The sender is dropped where the broker shuts down.
        answer.await.unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    /// Checks a commit and hands it to the journal, both under the lock under which generations change.
    pub(super) fn hand_over(&self, group: &str, request: CommitRequest) -> Result<Written, GroupError> {
        self.check_own(group)?;
        let CommitRequest { member_id, instance_id, generation, retention_ms, offsets } = request;
        let now = self.now();
        let mut state = self.lock();
        let check = |machine: &mut GroupMachine| {
            machine.check_commit(&member_id, instance_id.as_deref(), generation, false)?;
            machine.has_committed(now, &member_id);
            Ok(())
        };
        match self.change(&mut state, group, now, check) {
            Some(checked) => checked?,
            // Nobody has ever joined it.
            None if generation < 0 => {}
            None if self.journal.view().has_offsets(group) => return Err(GroupError::UnknownMemberId),
            None => return Err(GroupError::GroupIdNotFound),
        }
        let offsets: Vec<_> = offsets
            .into_iter()
            .map(|offset| CommittedOffset {
                topic: offset.topic,
                topic_id: offset.topic_id,
                partition: offset.partition,
                committed: Committed {
                    offset: offset.offset,
                    leader_epoch: offset.leader_epoch,
                    metadata: offset.metadata,
                    committed_at_ms: Some(now.wall_ms.max(0)),
                    expires_at_ms: retention_ms.map(|ms| now.wall_ms.saturating_add(ms).max(0)),
                },
            })
            .collect();
        let (sender, receiver) = oneshot::channel();
        if offsets.is_empty() {
            sender.send(Ok(())).ok();
            return Ok(receiver);
        }
        metrics::counter!("highwater_broker_group_offsets_committed_total").increment(offsets.len() as u64);
        let name: Arc<str> = group.into();
        let entry = Entry::Commit { group: Arc::clone(&name), offsets };
        let done = Box::new(move |written: Result<(), crate::BrokerError>| {
            sender.send(written.map_err(|error| refusal(&name, &error))).ok();
        });
        self.journal.record(entry, done).map_err(|error| refusal(group, &error))?;
        Ok(receiver)
    }

    /// All offsets of a group, by topic and partition.
    pub(crate) fn fetch_all(&self, group: &str) -> Vec<FetchedOffset> {
        let fetched = |CommittedOffset { topic, partition, committed, .. }| FetchedOffset {
            topic,
            partition,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata,
        };
        self.journal.view().offsets(group).into_iter().map(fetched).collect()
    }

    /// One offset of a group.
    pub(crate) fn fetch(&self, group: &str, topic: &Arc<str>, partition: i32) -> Option<FetchedOffset> {
        let committed = self.journal.view().offset(group, topic, partition)?;
        Some(FetchedOffset {
            topic: Arc::clone(topic),
            partition,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata,
        })
    }

    /// Deletes offsets of a group, durably once this returns. Answers per partition; those of topics that the group reads stay.
    pub(crate) async fn delete_offsets(
        &self,
        group: &str,
        partitions: Vec<(Arc<str>, i32)>,
    ) -> Result<Vec<OffsetDeletion>, GroupError> {
        let (answers, written) = self.hand_over_deletion(group, partitions)?;
        written.await.unwrap_or(Err(GroupError::CoordinatorNotAvailable))?;
        Ok(answers)
    }

    fn hand_over_deletion(
        &self,
        group: &str,
        partitions: Vec<(Arc<str>, i32)>,
    ) -> Result<(Vec<OffsetDeletion>, Written), GroupError> {
        self.check_own(group)?;
        let state = self.lock();
        let answers: Vec<OffsetDeletion> = match state.machine(group) {
            Some(machine) => {
                machine.check_offset_delete()?;
                partitions.iter().map(|(topic, _)| machine.offset_deletion(topic)).collect()
            }
            None if self.journal.view().has_offsets(group) => {
                partitions.iter().map(|_| OffsetDeletion::Allowed).collect()
            }
            None => return Err(GroupError::GroupIdNotFound),
        };
        let (sender, receiver) = oneshot::channel();
        let allowed = answers.iter().zip(partitions).filter(|(answer, _)| **answer == OffsetDeletion::Allowed);
        let partitions: Vec<_> = allowed.map(|(_, key)| key).collect();
        if partitions.is_empty() {
            sender.send(Ok(())).ok();
            return Ok((answers, receiver));
        }
        let name: Arc<str> = group.into();
        let entry = Entry::ForgetOffsets { group: Arc::clone(&name), partitions };
        let done = Box::new(move |written: Result<(), crate::BrokerError>| {
            sender.send(written.map_err(|error| refusal(&name, &error))).ok();
        });
        self.journal.record(entry, done).map_err(|error| refusal(group, &error))?;
        Ok((answers, receiver))
    }
}
