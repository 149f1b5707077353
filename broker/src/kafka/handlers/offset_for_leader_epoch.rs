//! OffsetForLeaderEpoch (23), versions 2-4: where an epoch of a partition's leader ended.
//!
//! There is one node, and one epoch, 0, which is not over: its end is the end of the log. Clients ask after a change of leaders, to
//! find out whether records they have read are gone. They never are.

use std::ops::RangeInclusive;

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::kafka::Context;
use crate::kafka::context::LEADER_EPOCH;
use crate::kafka::errors;
use crate::kafka::readers::check_leader_epoch;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 2..=4;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: OffsetForLeaderEpochRequest,
    _: i16,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| end_of_epoch(cx, &topic.topic, asked)).collect();
        OffsetForLeaderTopicResult::default().with_partitions(partitions).with_topic(topic.topic)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn end_of_epoch(cx: &Context, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(asked.partition);
    let end = cx.broker.offsets(topic, asked.partition).map_err(|error| errors::code(&error)).and_then(|offsets| {
        check_leader_epoch(asked.current_leader_epoch).map_err(|error| error.code())?;
        Ok(offsets.high_watermark)
    });
    match end {
        Err(code) => answer.with_error_code(code),
        Ok(end) if asked.leader_epoch == LEADER_EPOCH => answer.with_leader_epoch(LEADER_EPOCH).with_end_offset(end),
        // An epoch that never was has no end: the defaults say so.
        Ok(_) => answer,
    }
}
