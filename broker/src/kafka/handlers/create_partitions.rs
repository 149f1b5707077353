//! CreatePartitions (37), versions 0-3: gives topics more partitions. What is in the others stays there, so keys may go elsewhere from then
//! on. A manual assignment may name node 1 only.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::kafka::Context;
use crate::kafka::context::NODE_ID;
use crate::kafka::refusal::Refusal;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=3;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: CreatePartitionsRequest,
    _version: i16,
) -> CreatePartitionsResponse {
    let mut results: Vec<CreatePartitionsTopicResult> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        if results.iter().any(|result| result.name == topic.name) {
            continue;
        }
        let twice = request.topics.iter().filter(|other| other.name == topic.name).count() > 1;
        let done = if twice {
            Err(Refusal::new(ResponseError::InvalidRequest, "this topic is in the request more than once"))
        } else {
            add(cx, topic, request.validate_only).await
        };
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
        results.push(match done {
            Ok(()) => result,
            Err(refusal) => result.with_error_code(refusal.code()).with_error_message(refusal.text()),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn add(cx: &Context, topic: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refusal> {
    let name = topic.name.as_str();
    if !cx.may_alter(name) {
        return Err(Refusal::not_writable(name));
    }
    let now = cx.broker.topic(name).map_or(0, |info| info.config.partitions);
    cx.broker.check_more_partitions(name, topic.count)?;
    if let Some(assignments) = &topic.assignments {
        let refuse = |message: String| Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
        let new = topic.count - now;
        if usize::try_from(new) != Ok(assignments.len()) {
            return refuse(format!("{new} partitions are to be added, but {} are assigned", assignments.len()));
        }
        if assignments.iter().any(|assignment| assignment.broker_ids.iter().map(|id| id.0).ne([NODE_ID])) {
            return refuse(format!("each partition must be assigned to node {NODE_ID} alone: there is no other"));
        }
    }
    if !validate_only {
        cx.broker.add_partitions(name, topic.count).await?;
    }
    Ok(())
}
