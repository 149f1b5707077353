//! OffsetCommit (8), versions 2-9: how far a group has come; answered when it is durable.
//!
//! A client that assigns itself commits without member and generation (-1), which the group lets it do while it has no members. Up to version 4
//! a client may say how long to keep the offsets. Partitions that do not exist, and metadata that is too long, are refused one by one; what
//! the group refuses, it refuses for all.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::groups::{CommitRequest, GroupError, OffsetToCommit};
use crate::kafka::Context;
use crate::kafka::errors::{code, group_code};

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 2..=9;

/// What stands where the client does not say how long to keep its offsets.
const DEFAULT_RETENTION: i64 = -1;

pub(in crate::kafka) async fn handle(cx: &Context, request: OffsetCommitRequest, version: i16) -> OffsetCommitResponse {
    let mut offsets = Vec::new();
    // Per topic and partition: what is wrong with it, or nothing.
    let mut verdicts: Vec<Vec<Verdict>> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let judge = |partition: &OffsetCommitRequestPartition| {
            let (name, topic_id) = match cx.broker.topic_id_of(&topic.name, partition.partition_index) {
                Ok(found) => found,
                Err(error) => return Verdict::Refused(code(&error)),
            };
            let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
            // Kafka counts the characters of Java's strings.
            if metadata.encode_utf16().count() > cx.groups.settings().max_offset_metadata_size_bytes {
                return Verdict::ForTheGroup(ResponseError::OffsetMetadataTooLarge.code());
            }
            offsets.push(OffsetToCommit {
                topic: name,
                topic_id,
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: metadata.to_owned(),
            });
            Verdict::ForTheGroup(0)
        };
        verdicts.push(topic.partitions.iter().map(judge).collect());
    }
    let asks_group = verdicts.iter().flatten().any(|verdict| matches!(verdict, Verdict::ForTheGroup(_)));
    let commit = CommitRequest {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        generation: request.generation_id_or_member_epoch,
        retention_ms: Some(request.retention_time_ms)
            .filter(|ms| (2..=4).contains(&version) && *ms != DEFAULT_RETENTION),
        offsets,
    };
    let group_error = match cx.groups.check_own(&request.group_id) {
        Err(error) => Some(error),
        Ok(()) if asks_group => cx.groups.commit(&request.group_id, commit).await.err(),
        Ok(()) => None,
    };
    // Clients before version 9 do not know the error of a group that is not there.
    let group_error = group_error.map(|error| match error {
        GroupError::GroupIdNotFound if version < 9 => GroupError::IllegalGeneration,
        error => error,
    });
    let topics = request.topics.into_iter().zip(verdicts).map(|(topic, verdicts)| {
        let partitions = topic.partitions.iter().zip(verdicts).map(|(partition, verdict)| {
            let code = match (group_error, verdict) {
                (Some(GroupError::GroupAuthorizationFailed), _) => group_code(GroupError::GroupAuthorizationFailed),
                (_, Verdict::Refused(code)) => code,
                (Some(error), Verdict::ForTheGroup(_)) => group_code(error),
                (None, Verdict::ForTheGroup(code)) => code,
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// What becomes of a partition of the request.
#[derive(Clone, Copy)]
enum Verdict {
    /// It is refused with this code, whatever the group says.
    Refused(i16),
    /// It has this code, unless the group refuses.
    ForTheGroup(i16),
}
