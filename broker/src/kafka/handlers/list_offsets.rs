//! ListOffsets (2), versions 1-7: the offset at the beginning, at the end, or at a time.
//!
//! | timestamp | answer |
//! |---|---|
//! | -1 | the end: the high watermark, or what readers of committed records see as the end |
//! | -2 | the log start |
//! | -3 (from version 7) | the first record of those with the largest timestamp, and that timestamp |
//! | 0 and above | the first record at or after it, and its timestamp; offset and timestamp -1 where there is none |
//!
//! Whatever else is negative is UNSUPPORTED_VERSION. A partition that is named twice is INVALID_REQUEST.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use futures::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use crate::kafka::Context;
use crate::kafka::context::LEADER_EPOCH;
use crate::kafka::errors;
use crate::kafka::readers::{check_leader_epoch, end_for, isolation};
use crate::raw::{Isolation, TimeQuery};

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 1..=7;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The first version that knows [`MAX_TIMESTAMP`].
const WITH_MAX_TIMESTAMP: i16 = 7;
/// The first version whose answer has a leader epoch.
const WITH_EPOCH: i16 = 4;
/// Where there is no timestamp to tell.
const NO_TIMESTAMP: i64 = -1;

pub(in crate::kafka) async fn handle(cx: &Context, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let isolation = isolation(request.isolation_level);
    let mut named: HashMap<_, usize> = HashMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *named.entry((topic.name.clone(), partition.partition_index)).or_default() += 1;
        }
    }
    let named = &named;
    let topics = request.topics.into_iter().map(|topic| async move {
        let partitions = topic.partitions.iter().map(|asked| async {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            let twice = named.get(&(topic.name.clone(), asked.partition_index)).is_some_and(|count| *count > 1);
            let found = match twice {
                true => Err(ResponseError::InvalidRequest.code()),
                false => look(cx, &topic.name, asked, isolation, version).await,
            };
            match found {
                Err(code) => answer.with_error_code(code),
                Ok(None) => answer,
                Ok(Some((offset, timestamp_ms))) => {
                    let answer = answer.with_offset(offset).with_timestamp(timestamp_ms);
                    if version >= WITH_EPOCH { answer.with_leader_epoch(LEADER_EPOCH) } else { answer }
                }
            }
        });
        let partitions = join_all(partitions).await;
        ListOffsetsTopicResponse::default().with_partitions(partitions).with_name(topic.name)
    });
    ListOffsetsResponse::default().with_topics(join_all(topics).await)
}

/// Offset and timestamp, or `None` where there is no such record; or an error code.
async fn look(
    cx: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
    version: i16,
) -> Result<Option<(i64, i64)>, i16> {
    let code = |error| errors::code(&error);
    let ends = cx.broker.ends(topic, asked.partition_index).map_err(code)?;
    check_leader_epoch(asked.current_leader_epoch).map_err(|error| error.code())?;
    let end = end_for(&ends, isolation);
    let query = match asked.timestamp {
        LATEST => return Ok(Some((end, NO_TIMESTAMP))),
        EARLIEST => return Ok(Some((ends.log_start, NO_TIMESTAMP))),
        MAX_TIMESTAMP if version >= WITH_MAX_TIMESTAMP => TimeQuery::Latest,
        timestamp_ms if timestamp_ms >= 0 => TimeQuery::At(timestamp_ms),
        _ => return Err(ResponseError::UnsupportedVersion.code()),
    };
    let found = cx.broker.timestamp_lookup(topic, asked.partition_index, query).await.map_err(code)?;
    // A record that this reader cannot see yet is not there for it.
    Ok(found.filter(|(offset, _)| *offset < end))
}
