//! DeleteRecords (21), versions 0-2: moves the log start of partitions up, durably. -1 deletes all there is.
//!
//! Refused for topics that only compact (their records go when newer ones of their key come), and beyond what a table or task of
//! Highwater's has still to read.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::kafka::Context;
use crate::kafka::refusal::Refusal;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=2;

/// The offset that stands for the high watermark.
const ALL: i64 = -1;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: DeleteRecordsRequest,
    _version: i16,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            partitions.push(match delete(cx, topic.name.as_str(), partition).await {
                Ok(log_start) => result.with_low_watermark(log_start),
                Err(refusal) => {
                    tracing::debug!(topic = topic.name.as_str(), reason = refusal.message, "records not deleted");
                    result.with_low_watermark(-1).with_error_code(refusal.code())
                }
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete(cx: &Context, topic: &str, asked: &DeleteRecordsPartition) -> Result<i64, Refusal> {
    let partition = asked.partition_index;
    let offsets = cx.broker.offsets(topic, partition)?;
    if !cx.may_alter(topic) {
        return Err(Refusal::not_writable(topic));
    }
    if cx.broker.topic(topic).is_some_and(|info| !info.config.cleanup.deletes()) {
        let message = format!("topic {topic} only compacts: write tombstones instead");
        return Err(Refusal::new(ResponseError::PolicyViolation, message));
    }
    let offset = if asked.offset == ALL { offsets.high_watermark } else { asked.offset };
    if let Some(held) = cx.broker.held_back(topic, partition).filter(|held| *held < offset) {
        let message = format!("records from offset {held} on have still to be read by a table or task of Highwater's");
        return Err(Refusal::new(ResponseError::PolicyViolation, message));
    }
    Ok(cx.broker.delete_records(topic, partition, offset).await?)
}
