//! OffsetDelete (47), version 0: committed offsets of a group are forgotten, but for topics that its members read just now.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::text::ours;
use crate::groups::{GroupError, OffsetDeletion};
use crate::kafka::Context;
use crate::kafka::errors::group_code;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: OffsetDeleteRequest,
    _version: i16,
) -> OffsetDeleteResponse {
    let refused = |error| OffsetDeleteResponse::default().with_error_code(group_code(error));
    if request.group_id.is_empty() {
        return refused(GroupError::InvalidGroupId);
    }
    let mut known: Vec<(Arc<str>, i32)> = Vec::new();
    for topic in &request.topics {
        let exists = |partition: &i32| cx.broker.topic_id_of(&topic.name, *partition).is_ok();
        let partitions = topic.partitions.iter().map(|p| p.partition_index).filter(exists);
        known.extend(partitions.map(|partition| (ours(&topic.name), partition)));
    }
    let outcomes = match cx.groups.delete_offsets(&request.group_id, known.clone()).await {
        Ok(outcomes) => outcomes,
        Err(error) => return refused(error),
    };
    let outcomes: BTreeMap<(Arc<str>, i32), OffsetDeletion> = known.into_iter().zip(outcomes).collect();
    let topics = request.topics.into_iter().map(|topic| {
        let name = ours(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let code = match outcomes.get(&(Arc::clone(&name), partition.partition_index)) {
                Some(OffsetDeletion::Allowed) => 0,
                Some(OffsetDeletion::Subscribed) => ResponseError::GroupSubscribedToTopic.code(),
                None => ResponseError::UnknownTopicOrPartition.code(),
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
