//! TxnOffsetCommit (28), versions 0-3: offsets that count once the transaction commits; answered when they are durably pending.
//!
//! From version 3 a client says as which member, of which generation, it commits, and is refused where the group has moved on (KIP-447). A
//! fenced producer reads INVALID_PRODUCER_EPOCH in all versions. Partitions that do not exist, and metadata that is too long, are refused
//! one by one; what the group or the transaction refuses, it refuses for all. From version 5 on the group would be added to the
//! transaction on the way (transactions version 2).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use crate::coordinator::{Committed, CommittedOffset};
use crate::kafka::Context;
use crate::kafka::errors::{code, group_code, transaction_error};
use crate::transactions::{PendingOffsets, Producer};

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=3;

pub(in crate::kafka) async fn handle(cx: &Context, request: TxnOffsetCommitRequest, _: i16) -> TxnOffsetCommitResponse {
    let now_ms = cx.broker.clock().now_ms();
    let mut offsets = PendingOffsets::new();
    // Per topic and partition: what is wrong with it, or nothing.
    let mut verdicts: BTreeMap<(&str, i32), i16> = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let verdict = match judge(cx, &topic.name, partition, now_ms) {
                Ok(offset) => {
                    offsets.insert((Arc::clone(&offset.topic), offset.partition), offset);
                    0
                }
                Err(code) => code,
            };
            verdicts.insert((&topic.name, partition.partition_index), verdict);
        }
    }
    let refused = match cx.groups.check_own(&request.group_id) {
        Err(error) => Some(group_code(error)),
        Ok(()) if offsets.is_empty() => None,
        Ok(()) => commit(cx, &request, offsets).await.err(),
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let own = verdicts.get(&(&topic.name, partition.partition_index)).copied().unwrap_or(0);
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(if own == 0 { refused.unwrap_or(0) } else { own })
        });
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// Checks one partition of the request; refused with the code that it is answered with.
fn judge(
    cx: &Context,
    topic: &TopicName,
    partition: &TxnOffsetCommitRequestPartition,
    now_ms: i64,
) -> Result<CommittedOffset, i16> {
    let index = partition.partition_index;
    let (topic, topic_id) = cx.broker.topic_id_of(topic, index).map_err(|error| code(&error))?;
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    // Kafka counts the characters of Java's strings.
    if metadata.encode_utf16().count() > cx.groups.settings().max_offset_metadata_size_bytes {
        return Err(ResponseError::OffsetMetadataTooLarge.code());
    }
    let committed = Committed {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.to_owned(),
        committed_at_ms: Some(now_ms.max(0)),
        expires_at_ms: None,
    };
    Ok(CommittedOffset { topic, topic_id, partition: index, committed })
}

/// Makes the offsets pending, if the group and the transaction agree.
async fn commit(cx: &Context, request: &TxnOffsetCommitRequest, offsets: PendingOffsets) -> Result<(), i16> {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let pending = cx
        .groups
        .in_generation(
            &request.group_id,
            &request.member_id,
            request.group_instance_id.as_deref(),
            request.generation_id,
            || cx.transactions.add_offsets(&request.transactional_id, producer, &request.group_id, offsets),
        )
        .map_err(group_code)?;
    pending.await.map_err(|error| transaction_error(&error, false).code())
}
