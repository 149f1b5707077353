//! AddPartitionsToTxn (24), versions 0-3: partitions that the producer is about to write to become part of its transaction.
//!
//! All of them or none: where one is refused, the others read OPERATION_NOT_ATTEMPTED. Before version 2 a fenced producer reads
//! INVALID_PRODUCER_EPOCH. Version 4 is for brokers among themselves, and 5 belongs to transactions version 2, in which
//! a producer does not add partitions itself; by stopping at 3 clients take version 1.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::text::ours;
use crate::kafka::Context;
use crate::kafka::errors::{response_error, transaction_error};
use crate::transactions::Producer;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=3;

/// From here on clients know PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 2;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: AddPartitionsToTxnRequest,
    version: i16,
) -> AddPartitionsToTxnResponse {
    let topics = &request.v3_and_below_topics;
    if topics.iter().any(|topic| topic.partitions.iter().any(|p| refusal(cx, &topic.name, *p).is_some())) {
        let not_attempted = ResponseError::OperationNotAttempted;
        return answer(topics, |topic, p| Some(refusal(cx, topic, p).unwrap_or(not_attempted)));
    }
    let producer = Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
    let mut partitions = Vec::new();
    for topic in topics {
        let name = ours(&topic.name);
        partitions.extend(topic.partitions.iter().map(|p| (Arc::clone(&name), *p)));
    }
    let added = cx.transactions.add_partitions(&request.v3_and_below_transactional_id, producer, partitions).await;
    let error = added.err().map(|error| transaction_error(&error, version >= KNOWS_FENCED));
    answer(topics, |_, _| error)
}

/// Why a partition cannot be part of a client's transaction.
fn refusal(cx: &Context, topic: &str, partition: i32) -> Option<ResponseError> {
    if !cx.may_write(topic) {
        return Some(ResponseError::TopicAuthorizationFailed);
    }
    cx.broker.offsets(topic, partition).err().map(|error| response_error(&error))
}

fn answer(
    topics: &[AddPartitionsToTxnTopic],
    error: impl Fn(&str, i32) -> Option<ResponseError>,
) -> AddPartitionsToTxnResponse {
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*p)
                .with_partition_error_code(error(&topic.name, *p).map_or(0, |error| error.code()))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}
