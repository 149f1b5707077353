//! OffsetFetch (9), versions 1-9: how far a group has come. An offset nobody committed is -1, and no error.
//!
//! From version 2 without topics it is all of them; from 5 with the leader epoch; from 7 a client may ask that offsets which
//! an open transaction is about to change be held back (UNSTABLE_OFFSET_COMMIT: it asks again); from 8 for several groups at once.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

use super::text::{ours, theirs};
use crate::groups::FetchedOffset;
use crate::kafka::Context;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 1..=9;

/// What stands where there is no offset.
const NO_OFFSET: i64 = -1;
/// What stands where there is no leader epoch.
const NO_EPOCH: i32 = -1;

/// An offset of the answer.
struct Found {
    partition: i32,
    code: i16,
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

/// Topics with their offsets, in the order asked for.
type FoundTopics = Vec<(TopicName, Vec<Found>)>;

pub(in crate::kafka) async fn handle(cx: &Context, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let stable = version >= 7 && request.require_stable;
    if version >= 8 {
        let groups = request.groups.into_iter().map(|group| answer_group(cx, group, stable));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let asked = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    let topics = find(cx, &request.group_id, asked, stable).into_iter().map(|(name, offsets)| {
        let partitions = offsets.into_iter().map(|found| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(found.partition)
                .with_committed_offset(found.offset)
                .with_committed_leader_epoch(if version >= 5 { found.leader_epoch } else { NO_EPOCH })
                .with_metadata(Some(theirs(&found.metadata)))
                .with_error_code(found.code)
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn answer_group(cx: &Context, group: OffsetFetchRequestGroup, stable: bool) -> OffsetFetchResponseGroup {
    let asked = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    let topics = find(cx, &group.group_id, asked, stable).into_iter().map(|(name, offsets)| {
        let partitions = offsets.into_iter().map(|found| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(found.partition)
                .with_committed_offset(found.offset)
                .with_committed_leader_epoch(found.leader_epoch)
                .with_metadata(Some(theirs(&found.metadata)))
                .with_error_code(found.code)
        });
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
    });
    OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics.collect())
}

/// The offsets asked for, or all there are; where they are to be `stable`, without those that an open transaction is about to change.
fn find(cx: &Context, group: &str, asked: Option<Vec<(TopicName, Vec<i32>)>>, stable: bool) -> FoundTopics {
    // Asked first: a transaction that commits before the offsets are read is seen by one of the two.
    let pending = if stable { cx.transactions.pending(group) } else { BTreeSet::new() };
    let stable = |topic: &Arc<str>, found: Found| {
        let is_pending = pending.contains(&(Arc::clone(topic), found.partition));
        if is_pending { unstable(found.partition) } else { found }
    };
    match asked {
        Some(topics) => {
            let one = |(name, partitions): (TopicName, Vec<i32>)| {
                let topic = ours(&name);
                let found = |partition| {
                    let offset = cx.groups.fetch(group, &topic, partition);
                    stable(&topic, offset.map_or_else(|| nothing(partition), found))
                };
                (name, partitions.into_iter().map(found).collect())
            };
            topics.into_iter().map(one).collect()
        }
        None => {
            let mut topics: Vec<(Arc<str>, Vec<Found>)> = Vec::new();
            for offset in cx.groups.fetch_all(group) {
                let topic = Arc::clone(&offset.topic);
                let found = stable(&topic, found(offset));
                match topics.last_mut() {
                    Some((last, offsets)) if *last == topic => offsets.push(found),
                    _ => topics.push((topic, vec![found])),
                }
            }
            topics.into_iter().map(|(topic, offsets)| (TopicName(theirs(&topic)), offsets)).collect()
        }
    }
}

fn found(offset: FetchedOffset) -> Found {
    let FetchedOffset { partition, offset, leader_epoch, metadata, .. } = offset;
    Found { partition, code: 0, offset, leader_epoch, metadata }
}

fn unstable(partition: i32) -> Found {
    Found { code: ResponseError::UnstableOffsetCommit.code(), ..nothing(partition) }
}

fn nothing(partition: i32) -> Found {
    Found { partition, code: 0, offset: NO_OFFSET, leader_epoch: NO_EPOCH, metadata: String::new() }
}
