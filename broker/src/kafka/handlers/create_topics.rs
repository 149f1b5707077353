//! CreateTopics (19), versions 2-7: topics with Kafka's defaults and the settings that the client gives.
//!
//! A number of partitions of -1 takes the default, a replication factor is -1 or 1, and a manual assignment may name node 1 only. Names
//! that differ from a topic's in '.' and '_' alone are refused, as Kafka does, so that a topic can be moved there. From
//! version 5 the answer tells the settings that the topic got, from version 7 its id.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::kafka::Context;
use crate::kafka::config_source::source_code;
use crate::kafka::context::NODE_ID;
use crate::kafka::refusal::Refusal;
use crate::topic_config::{MAX_PARTITIONS, SettingChange, TopicConfig};

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 2..=7;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: CreateTopicsRequest,
    _version: i16,
) -> CreateTopicsResponse {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        if !seen.insert(topic.name.clone()) {
            twice.insert(topic.name.clone());
        }
    }
    let mut results = Vec::with_capacity(seen.len());
    for topic in &request.topics {
        // A name that is there twice is answered once.
        if !seen.remove(&topic.name) {
            continue;
        }
        let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
        let created = if twice.contains(&topic.name) {
            Err(Refusal::new(ResponseError::InvalidRequest, "this topic is in the request more than once"))
        } else {
            create(cx, topic, request.validate_only).await
        };
        results.push(match created {
            Ok((id, config)) => result
                .with_topic_id(id)
                .with_num_partitions(config.partitions)
                .with_replication_factor(1)
                .with_configs(Some(settings(cx, &config))),
            Err(refusal) => result
                .with_error_code(refusal.code())
                .with_error_message(refusal.text())
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(Some(Vec::new())),
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

async fn create(cx: &Context, topic: &CreatableTopic, validate_only: bool) -> Result<(Uuid, TopicConfig), Refusal> {
    let name = topic.name.as_str();
    if !cx.may_write(name) {
        return Err(Refusal::not_writable(name));
    }
    let partitions = partitions(cx, topic)?;
    let mut changes = Vec::with_capacity(topic.configs.len());
    for config in &topic.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            Refusal::new(ResponseError::InvalidConfig, format!("setting {} has no value", config.name.as_str()))
        })?;
        changes.push(SettingChange::set(config.name.as_str(), value.as_str()));
    }
    let config = TopicConfig::kafka(partitions).altered(&changes)?;
    cx.broker.check_new_topic(name, &config)?;
    refuse_collision(cx, name)?;
    if validate_only {
        return Ok((Uuid::nil(), config));
    }
    let info = cx.broker.create_topic(name, config).await?;
    Ok((info.id, info.config))
}

/// How many partitions are asked for.
fn partitions(cx: &Context, topic: &CreatableTopic) -> Result<i32, Refusal> {
    if !topic.assignments.is_empty() {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            return Err(Refusal::new(
                ResponseError::InvalidRequest,
                "with a manual assignment, the number of partitions and the replication factor must be -1",
            ));
        }
        return assigned_partitions(&topic.assignments);
    }
    if topic.replication_factor != -1 && topic.replication_factor != 1 {
        let asked = topic.replication_factor;
        return Err(Refusal::new(
            ResponseError::InvalidReplicationFactor,
            format!("the replication factor is {asked}, but must be 1 (or -1 for the default): there is one node"),
        ));
    }
    match topic.num_partitions {
        -1 => Ok(cx.door.auto_create_partitions.unwrap_or(1)),
        asked if (1..=MAX_PARTITIONS).contains(&asked) => Ok(asked),
        asked => Err(Refusal::new(
            ResponseError::InvalidPartitions,
            format!("a topic has 1 to {MAX_PARTITIONS} partitions, not {asked}"),
        )),
    }
}

fn assigned_partitions(assignments: &[CreatableReplicaAssignment]) -> Result<i32, Refusal> {
    let refuse = |message: String| Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    let mut by_index = BTreeMap::new();
    for assignment in assignments {
        let index = assignment.partition_index;
        if by_index.insert(index, &assignment.broker_ids).is_some() {
            return refuse(format!("partition {index} is assigned more than once"));
        }
    }
    for (expected, (index, brokers)) in (0..).zip(by_index) {
        if index != expected {
            return refuse(format!("partitions are numbered from 0 without gaps, but {expected} is missing"));
        }
        if brokers.iter().map(|id| id.0).ne([NODE_ID]) {
            return refuse(format!("partition {index} must be assigned to node {NODE_ID} alone: there is no other"));
        }
    }
    match i32::try_from(assignments.len()) {
        Ok(count) if count <= MAX_PARTITIONS => Ok(count),
        _ => Err(Refusal::new(
            ResponseError::InvalidPartitions,
            format!("a topic has at most {MAX_PARTITIONS} partitions, not {}", assignments.len()),
        )),
    }
}

fn refuse_collision(cx: &Context, name: &str) -> Result<(), Refusal> {
    let unified = name.replace('.', "_");
    let topics = cx.broker.topics();
    match topics.iter().find(|topic| topic.name.replace('.', "_") == unified) {
        Some(other) => Err(Refusal::new(
            ResponseError::InvalidTopicException,
            format!("topic {name} differs from topic {} in '.' and '_' only", other.name),
        )),
        None => Ok(()),
    }
}

fn settings(cx: &Context, config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    let described = cx.broker.describe_config(config).into_iter();
    described
        .map(|setting| {
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(setting.name))
                .with_value(Some(StrBytes::from_string(setting.value)))
                .with_read_only(setting.read_only)
                .with_config_source(source_code(setting.source))
                .with_is_sensitive(false)
        })
        .collect()
}
