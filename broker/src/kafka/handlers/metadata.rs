//! Metadata (3), versions 0-12: which topics there are, and that the one broker leads all of them.
//!
//! - No list of topics (in version 0 an empty one) asks for all. Topics can be asked for by id from version 12 on.
//! - A topic that is asked for by name and missing is created, where the client and the settings allow it, before the answer: the client
//!   can produce at once.
//! - A bad name is INVALID_TOPIC_EXCEPTION, for that topic only.
//! - Highwater's own topics are called internal, so that clients that subscribe by pattern leave them out unless told to.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::error::BrokerError;
use crate::kafka::context::{Context, LEADER_EPOCH, NODE_ID, operations};
use crate::kafka::errors;
use crate::topic::TopicInfo;
use crate::topic_config::TopicConfig;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=12;

/// The first version in which a topic can be asked for by its id.
const BY_ID: i16 = 12;
/// Names of topics that are Highwater's own begin so.
const INTERNAL_PREFIX: &str = "__highwater";

pub(in crate::kafka) async fn handle(cx: &Context, request: MetadataRequest, version: i16) -> MetadataResponse {
    let may_operate = request.include_topic_authorized_operations;
    let mut topics = Vec::new();
    match request.topics {
        Some(asked) if version > 0 || !asked.is_empty() => {
            for topic in asked {
                let described = one(cx, topic, version, request.allow_auto_topic_creation).await;
                topics.push(described);
            }
        }
        _ => topics.extend(cx.broker.topics().iter().map(describe)),
    }
    if may_operate {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            topic.topic_authorized_operations = operations::TOPIC;
        }
    }
    let (host, port) = cx.advertised();
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(StrBytes::from_string(host))
        .with_port(port);
    let response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(cx.cluster_id.to_string())))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics);
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        return response.with_cluster_authorized_operations(operations::CLUSTER);
    }
    response
}

/// What there is to say of a topic that was asked for.
async fn one(cx: &Context, asked: MetadataRequestTopic, version: i16, may_create: bool) -> MetadataResponseTopic {
    // An id counts whatever the name: the Java client sends an empty one with it.
    let by_name = asked.name.filter(|_| version < BY_ID || asked.topic_id.is_nil());
    let Some(name) = by_name else { return by_id(cx, asked.topic_id, version) };
    let refused = |error: ResponseError| {
        MetadataResponseTopic::default().with_error_code(error.code()).with_name(Some(name.clone()))
    };
    if !asked.topic_id.is_nil() && version < BY_ID {
        return refused(ResponseError::InvalidRequest);
    }
    if let Some(topic) = cx.broker.topic(&name) {
        return describe(&topic);
    }
    if let Err(error) = crate::topic::check_name(&name) {
        return refused(errors::response_error(&error));
    }
    let Some(partitions) = cx.door.auto_create_partitions.filter(|_| may_create) else {
        return refused(ResponseError::UnknownTopicOrPartition);
    };
    if !cx.may_write(&name) {
        return refused(ResponseError::TopicAuthorizationFailed);
    }
    match create(cx, &name, partitions).await {
        Ok(topic) => describe(&topic),
        Err(error) => {
            tracing::warn!(topic = name.as_str(), %error, "a topic that a client asked for could not be created");
            refused(errors::response_error(&error))
        }
    }
}

async fn create(cx: &Context, name: &str, partitions: i32) -> Result<TopicInfo, BrokerError> {
    let config = TopicConfig::kafka(partitions);
    let topic = cx.broker.ensure_topic(name, config).await?;
    tracing::info!(topic = name, partitions, client = cx.client.id, "created a topic because a client asked for it");
    Ok(topic)
}

fn by_id(cx: &Context, id: Uuid, version: i16) -> MetadataResponseTopic {
    let found = cx.broker.topics().into_iter().find(|topic| topic.id == id);
    match found {
        Some(topic) if version >= BY_ID => describe(&topic),
        _ if version >= BY_ID => {
            let unknown = MetadataResponseTopic::default().with_error_code(ResponseError::UnknownTopicId.code());
            unknown.with_topic_id(id).with_name(None)
        }
        // There is no way to say "no name" before.
        _ => MetadataResponseTopic::default()
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_name(Some(TopicName::default())),
    }
}

fn describe(topic: &TopicInfo) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(NODE_ID)])
            .with_isr_nodes(vec![BrokerId(NODE_ID)])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(topic.id)
        .with_is_internal(topic.name.starts_with(INTERNAL_PREFIX))
        .with_partitions((0..topic.config.partitions).map(partition).collect())
}
