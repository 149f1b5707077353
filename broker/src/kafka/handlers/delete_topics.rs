//! DeleteTopics (20), versions 1-6: by name, and from version 6 by name or id. A topic goes with its records and all offsets committed
//! for it, durably, before the answer.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::kafka::Context;
use crate::kafka::refusal::Refusal;
use crate::topic::TopicInfo;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 1..=6;

pub(in crate::kafka) async fn handle(cx: &Context, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let wanted = if version >= 6 {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState::default().with_name(Some(name));
        request.topic_names.into_iter().map(by_name).collect()
    };
    let mut responses = Vec::with_capacity(wanted.len());
    for (i, topic) in wanted.iter().enumerate() {
        let repeated = wanted[..i].iter().any(|earlier| earlier == topic);
        let result = if repeated {
            Err(Refusal::new(ResponseError::InvalidRequest, "this topic is in the request more than once"))
        } else {
            delete(cx, topic).await
        };
        responses.push(match result {
            Ok(info) => DeletableTopicResult::default()
                .with_name(Some(name_of(&info)))
                .with_topic_id(info.id)
                .with_error_message(None),
            Err(refusal) => DeletableTopicResult::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_error_code(refusal.code())
                .with_error_message(refusal.text()),
        });
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete(cx: &Context, topic: &DeleteTopicState) -> Result<TopicInfo, Refusal> {
    let info = find(cx, topic)?;
    if !cx.may_alter(&info.name) {
        return Err(Refusal::not_writable(&info.name));
    }
    cx.broker.delete_topic(&info.name).await?;
    Ok(info)
}

fn find(cx: &Context, topic: &DeleteTopicState) -> Result<TopicInfo, Refusal> {
    let refuse = |error, message: &str| Err(Refusal::new(error, message));
    match (&topic.name, topic.topic_id) {
        (Some(_), id) if id != Uuid::nil() => {
            refuse(ResponseError::InvalidRequest, "give the topic's name or its id, not both")
        }
        (Some(name), _) => match cx.broker.topic(name.as_str()) {
            Some(info) => Ok(info),
            None => refuse(ResponseError::UnknownTopicOrPartition, "there is no such topic"),
        },
        (None, id) if id == Uuid::nil() => {
            refuse(ResponseError::InvalidRequest, "neither the topic's name nor its id is given")
        }
        (None, id) => match cx.broker.topics().into_iter().find(|info| info.id == id) {
            Some(info) => Ok(info),
            None => refuse(ResponseError::UnknownTopicId, "there is no topic of this id"),
        },
    }
}

fn name_of(info: &TopicInfo) -> TopicName {
    TopicName(StrBytes::from_string(info.name.to_string()))
}
