//! The broker's settings under Kafka's names, as tools look at them. They are those of the config file, and read-only here.

use kafka_protocol::ResponseError;

use super::Context;
use super::context::NODE_ID;
use super::refusal::Refusal;
use crate::topic_config::{DescribedSetting, SettingSource, SettingSynonym, SettingType, TopicConfig};

/// Refuses a name that is not that of the one node.
pub(in crate::kafka) fn check_node(name: &str) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ResponseError::InvalidRequest, message));
    match name.parse::<i32>() {
        Ok(NODE_ID) => Ok(()),
        Ok(other) => refuse(format!("there is no node {other}; the only one is {NODE_ID}")),
        Err(_) => refuse(format!("{name:?} is not the number of a node; the only one is {NODE_ID}")),
    }
}

/// All of them, sorted by name.
pub(in crate::kafka) fn describe(cx: &Context) -> Vec<DescribedSetting> {
    let config = cx.broker.config();
    let door = &cx.door;
    let (host, port) = cx.advertised();
    let partitions = door.auto_create_partitions;
    // What holds for topics that do not say, under the broker's names for it.
    let mut described: Vec<DescribedSetting> = cx
        .broker
        .describe_config(&TopicConfig::kafka(1))
        .into_iter()
        .filter_map(|setting| {
            let name = setting.synonyms.last()?.name;
            Some(DescribedSetting { name, read_only: true, ..setting })
        })
        .collect();
    let mut add = |name, kind, default: &str, value: String, doc| described.push(one(name, kind, default, value, doc));
    use SettingType::{Boolean, Int, List, Long, Text};
    add("broker.id", Int, "-1", NODE_ID.to_string(), "Number of this node.");
    add("node.id", Int, "-1", NODE_ID.to_string(), "Number of this node.");
    add("process.roles", List, "", "broker,controller".into(), "What this node does.");
    add("advertised.listeners", List, "", format!("{host}:{port}"), "What clients are told to dial.");
    add("log.dirs", Text, "", config.data_dir.display().to_string(), "Where topics and committed offsets live.");
    add("num.partitions", Int, "1", partitions.unwrap_or(1).to_string(), "Partitions of a topic that does not say.");
    add("default.replication.factor", Int, "1", "1".into(), "Replicas of a topic that does not say.");
    add(
        "auto.create.topics.enable",
        Boolean,
        "true",
        partitions.is_some().to_string(),
        "Whether asking for a topic that is not there creates it.",
    );
    add("delete.topic.enable", Boolean, "true", "true".into(), "Whether topics can be deleted.");
    add(
        "log.cleaner.enable",
        Boolean,
        "true",
        "true".into(),
        "Whether topics of cleanup.policy compact are compacted.",
    );
    add(
        "log.retention.check.interval.ms",
        Long,
        "300000",
        config.retention_interval_ms.to_string(),
        "How often retention and compaction look at the partitions, in milliseconds.",
    );
    add(
        "socket.request.max.bytes",
        Int,
        "104857600",
        door.max_in_flight_bytes.to_string(),
        "Largest request, in bytes.",
    );
    add("max.connections", Int, "2147483647", door.max_connections.to_string(), "Connections at once.");
    add(
        "max.connections.per.ip",
        Int,
        "2147483647",
        door.max_connections_per_address.to_string(),
        "Connections at once from one address.",
    );
    add(
        "connections.max.idle.ms",
        Long,
        "600000",
        door.idle_timeout_ms.to_string(),
        "A connection on which nothing happens for so long is closed, in milliseconds.",
    );
    described.sort_by_key(|setting| setting.name);
    described
}

fn one(name: &'static str, kind: SettingType, default: &str, value: String, doc: &'static str) -> DescribedSetting {
    let source = if value == default { SettingSource::Default } else { SettingSource::Broker };
    let mut synonyms = vec![SettingSynonym { name, value: value.clone(), source }];
    if source == SettingSource::Broker && !default.is_empty() {
        synonyms.push(SettingSynonym { name, value: default.to_owned(), source: SettingSource::Default });
    }
    DescribedSetting { name, value, source, read_only: true, kind, doc, synonyms }
}
