//! Topics, partitions, settings, and the cluster.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    MetadataRequest, MetadataResponse, SaslHandshakeRequest,
};
use uuid::Uuid;

use super::{new_topic, text, topic};
use crate::side::{Side, Versions};

const TOPIC: i8 = 2;

pub async fn play(side: &mut Side, versions: &Versions) {
    cluster(side, versions).await;
    create(side, versions).await;
    metadata(side, versions).await;
    partitions(side, versions).await;
    settings(side, versions).await;
    delete(side, versions).await;
}

/// Waits until a topic has so many partitions.
pub async fn known(side: &mut Side, name: &str, partitions: usize) {
    loop {
        let answer = side.ask(&by_name(&[name]), 9).await.unwrap();
        if answer.topics[0].partitions.len() == partitions
            && answer.topics[0].partitions.iter().all(|p| p.error_code == 0)
        {
            return;
        }
        side.pause().await;
    }
}

fn by_name(names: &[&str]) -> MetadataRequest {
    let topics = names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic(name)))).collect();
    MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false)
}

/// Topics that the broker made for itself are its own affair, and so is the order.
fn hide_internal(answer: &mut MetadataResponse) {
    answer.topics.retain(|topic| topic.name.as_ref().is_none_or(|name| !name.starts_with("__")));
    answer.topics.sort_by(|a, b| a.name.cmp(&b.name));
    for topic in &mut answer.topics {
        topic.partitions.sort_by_key(|partition| partition.partition_index);
    }
}

async fn cluster(side: &mut Side, versions: &Versions) {
    let answer = side.ask(&MetadataRequest::default(), 9).await.unwrap();
    side.learn(answer.cluster_id.unwrap(), "<cluster>");
    for version in versions.of(ApiKey::DescribeCluster) {
        side.step("DescribeCluster", &DescribeClusterRequest::default(), version, |_| {}).await;
    }
    for version in versions.of(ApiKey::ApiVersions) {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("differential"))
            .with_client_software_version(text("1"));
        // Which APIs there are is not the same, and not meant to be.
        side.step("ApiVersions", &request, version, |answer| {
            answer.api_keys.clear();
            answer.supported_features.clear();
            answer.finalized_features.clear();
            answer.finalized_features_epoch = 0;
        })
        .await;
    }
    let nameless = ApiVersionsRequest::default();
    side.step("ApiVersions of a client without a name", &nameless, 3, |answer| answer.api_keys.clear()).await;
    for version in versions.of(ApiKey::SaslHandshake) {
        let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        side.hung_up_or("SaslHandshake where nobody logs in", &request, version, |_| {}).await;
    }
}

async fn create(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::CreateTopics) {
        let ask = |topics| CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
        let name = format!("created-{version}");
        let configs = [("retention.ms", "3600000"), ("cleanup.policy", "compact")];
        side.step("CreateTopics", &ask(vec![new_topic(&name, 2, &configs)]), version, hide_configs).await;
        known(side, &name, 2).await;
        let placed = |name: &str, partitions, replicas, of: &[(i32, &[i32])]| {
            let assignments = of.iter().map(|(index, brokers)| {
                CreatableReplicaAssignment::default()
                    .with_partition_index(*index)
                    .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
            });
            new_topic(name, partitions, &[]).with_replication_factor(replicas).with_assignments(assignments.collect())
        };
        let bad = vec![
            new_topic(&name, 2, &[]),
            new_topic("no-partitions", 0, &[]),
            new_topic("negative", -2, &[]),
            new_topic("replicas", 1, &[]).with_replication_factor(2),
            new_topic("no-replicas", 1, &[]).with_replication_factor(0),
            new_topic("", 1, &[]),
            new_topic("..", 1, &[]),
            new_topic("a/b", 1, &[]),
            new_topic(&"x".repeat(250), 1, &[]),
            new_topic("setting", 1, &[("no.such.setting", "1")]),
            new_topic("value", 1, &[("retention.ms", "soon")]),
            new_topic("policy", 1, &[("cleanup.policy", "burn")]),
            new_topic("low", 1, &[("max.message.bytes", "-1")]),
            placed("nowhere", -1, -1, &[(0, &[7])]),
            placed("hole", -1, -1, &[(0, &[1]), (2, &[1])]),
            placed("both", 2, 1, &[(0, &[1])]),
        ];
        for one in bad {
            let step = format!("CreateTopics {}", one.name.chars().take(20).collect::<String>());
            side.step(&step, &ask(vec![one]), version, hide_texts).await;
        }
        let twice = ask(vec![new_topic("twice", 1, &[]), new_topic("twice", 1, &[])]);
        side.step("CreateTopics of one name twice", &twice, version, hide_texts).await;
        let checked = ask(vec![new_topic("checked", 3, &configs)]).with_validate_only(true);
        side.step("CreateTopics only checked", &checked, version, hide_configs).await;
    }
}

/// Which settings there are is not the same; of those asked for the answer is compared.
fn hide_configs(answer: &mut CreateTopicsResponse) {
    for topic in &mut answer.topics {
        if let Some(configs) = &mut topic.configs {
            configs.retain(|config| ["retention.ms", "cleanup.policy"].contains(&config.name.as_str()));
            configs.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
}

/// That there is a text is compared, not what it says.
fn hide_texts(answer: &mut CreateTopicsResponse) {
    for topic in &mut answer.topics {
        topic.error_message = topic.error_message.take().map(|_| text("something"));
    }
}

async fn metadata(side: &mut Side, versions: &Versions) {
    let id = side.ask(&by_name(&["created-5"]), 12).await.unwrap().topics[0].topic_id;
    for version in versions.of(ApiKey::Metadata) {
        let all = MetadataRequest::default().with_topics(if version == 0 { Some(vec![]) } else { None });
        side.step("Metadata of all", &all, version, hide_internal).await;
        let mut some = by_name(&["created-5", "nowhere", "a/b"]);
        // Before version 4 there is no saying no.
        some.allow_auto_topic_creation = version < 4;
        side.step("Metadata of some", &some, version, hide_internal).await;
        if version > 0 {
            let mut none = by_name(&[]);
            none.allow_auto_topic_creation = version < 4;
            side.step("Metadata of none", &none, version, |_| {}).await;
        }
        if version >= 8 {
            let mut operations = by_name(&["created-5"]).with_include_topic_authorized_operations(true);
            operations.include_cluster_authorized_operations = version <= 10;
            side.step("Metadata with operations", &operations, version, hide_internal).await;
        }
        if version >= 12 {
            for (step, id, name) in [
                ("Metadata by id", id, None),
                ("Metadata by id and empty name", id, Some(topic(""))),
                ("Metadata by unknown id", Uuid::from_u128(7), None),
            ] {
                let one = MetadataRequestTopic::default().with_topic_id(id).with_name(name);
                let request =
                    MetadataRequest::default().with_topics(Some(vec![one])).with_allow_auto_topic_creation(false);
                side.step(step, &request, version, hide_internal).await;
            }
        }
    }
}

async fn partitions(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::CreatePartitions) {
        let count = 3 + i32::from(version);
        for (step, name, count, only_checked) in [
            ("CreatePartitions checked", "created-5", count, true),
            ("CreatePartitions", "created-5", count, false),
            ("CreatePartitions of as many", "created-5", count, false),
            ("CreatePartitions of fewer", "created-5", 1, false),
            ("CreatePartitions of none", "created-5", 0, false),
            ("CreatePartitions of nowhere", "nowhere", 4, false),
        ] {
            let one = CreatePartitionsTopic::default().with_name(topic(name)).with_count(count).with_assignments(None);
            let request = CreatePartitionsRequest::default()
                .with_topics(vec![one])
                .with_timeout_ms(10_000)
                .with_validate_only(only_checked);
            side.step(step, &request, version, |answer| {
                for result in &mut answer.results {
                    result.error_message = result.error_message.take().map(|_| text("something"));
                }
            })
            .await;
            if step == "CreatePartitions" {
                known(side, name, count as usize).await;
            }
        }
    }
}

async fn settings(side: &mut Side, versions: &Versions) {
    const NAMES: &[&str] = &[
        "cleanup.policy",
        "compression.type",
        "delete.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.ms",
    ];
    super::make(side, "settings", 1, &[("retention.ms", "3600000"), ("compression.type", "zstd")]).await;
    for version in versions.of(ApiKey::DescribeConfigs) {
        for synonyms in [false, true] {
            let request = |kind, name: &str, keys: Option<&[&str]>| {
                let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
                let resource = DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(keys);
                DescribeConfigsRequest::default()
                    .with_resources(vec![resource])
                    .with_include_synonyms(synonyms)
                    .with_include_documentation(false)
            };
            let hide = |answer: &mut kafka_protocol::messages::DescribeConfigsResponse| {
                for result in &mut answer.results {
                    result.error_message =
                        result.error_message.take().filter(|text| !text.is_empty()).map(|_| text("something"));
                    result.configs.sort_by(|a, b| a.name.cmp(&b.name));
                }
            };
            let step = format!("DescribeConfigs{}", if synonyms { " with synonyms" } else { "" });
            side.step(&step, &request(TOPIC, "settings", Some(NAMES)), version, hide).await;
            side.step(
                &format!("{step} of one"),
                &request(TOPIC, "settings", Some(&["retention.ms", "what"])),
                version,
                hide,
            )
            .await;
            side.step(&format!("{step} of nowhere"), &request(TOPIC, "nowhere", None), version, hide).await;
            side.step(&format!("{step} of a bad name"), &request(TOPIC, "a/b", None), version, hide).await;
        }
    }
    for version in versions.of(ApiKey::IncrementalAlterConfigs) {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        const APPEND: i8 = 2;
        const SUBTRACT: i8 = 3;
        for (step, name, key, value, operation) in [
            ("set", "settings", "retention.ms", Some("7200000"), SET),
            ("delete", "settings", "retention.ms", None, DELETE),
            ("delete again", "settings", "retention.ms", None, DELETE),
            ("append", "settings", "cleanup.policy", Some("compact"), APPEND),
            ("append again", "settings", "cleanup.policy", Some("compact"), APPEND),
            ("subtract", "settings", "cleanup.policy", Some("compact"), SUBTRACT),
            ("append to a number", "settings", "retention.ms", Some("1"), APPEND),
            ("bad value", "settings", "retention.ms", Some("soon"), SET),
            ("no value", "settings", "retention.ms", None, SET),
            ("bad name", "settings", "what", Some("1"), SET),
            ("bad operation", "settings", "retention.ms", Some("1"), 9),
            ("too low", "settings", "max.message.bytes", Some("-1"), SET),
            ("bad choice", "settings", "compression.type", Some("best"), SET),
            ("nowhere", "nowhere", "retention.ms", Some("1"), SET),
        ] {
            let change = AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(operation)
                .with_value(value.map(text));
            let resource = AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(name))
                .with_configs(vec![change]);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            side.step(&format!("IncrementalAlterConfigs {step}"), &request, version, |answer| {
                for response in &mut answer.responses {
                    response.error_message =
                        response.error_message.take().filter(|text| !text.is_empty()).map(|_| text_of());
                }
            })
            .await;
        }
    }
}

fn text_of() -> kafka_protocol::protocol::StrBytes {
    text("something")
}

async fn delete(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::DeleteTopics) {
        for (step, name) in
            [("DeleteTopics", "deleted"), ("DeleteTopics again", "deleted"), ("DeleteTopics of a bad name", "a/b")]
        {
            if step == "DeleteTopics" {
                super::make(side, name, 1, &[]).await;
            }
            let mut request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
            if version >= 6 {
                request.topics = vec![DeleteTopicState::default().with_name(Some(topic(name)))];
            } else {
                request.topic_names = vec![topic(name)];
            }
            side.step(step, &request, version, |answer| {
                for response in &mut answer.responses {
                    response.error_message = response.error_message.take().map(|_| text_of());
                }
            })
            .await;
            while side.ask(&by_name(&["deleted"]), 9).await.unwrap().topics[0].error_code == 0 {
                side.pause().await;
            }
        }
        if version >= 6 {
            let one = DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(7));
            let request = DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![one]);
            side.step("DeleteTopics by unknown id", &request, version, |answer| {
                for response in &mut answer.responses {
                    response.error_message = response.error_message.take().map(|_| text_of());
                }
            })
            .await;
        }
    }
}
