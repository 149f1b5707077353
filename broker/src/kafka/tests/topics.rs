//! Topics through a real socket: created, described, altered, given partitions, emptied, deleted.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, TopicName,
};

use tokio::net::TcpStream;

use super::{Client, Door, DoorSettings, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn new(topic: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.iter().map(config).collect())
}

async fn create(
    client: &mut Client<TcpStream>,
    topics: Vec<CreatableTopic>,
    validate_only: bool,
) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate_only);
    client.ask(&request, 7).await.topics
}

async fn describe(
    client: &mut Client<TcpStream>,
    kind: i8,
    resource: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    client.ask(&request, 4).await.results.remove(0)
}

async fn value_of(client: &mut Client<TcpStream>, topic: &str, key: &str) -> (String, i8) {
    let result = describe(client, TOPIC, topic, Some(&[key])).await;
    assert_eq!((result.error_code, result.configs.len()), (0, 1));
    let config = &result.configs[0];
    (config.value.as_ref().unwrap().to_string(), config.config_source)
}

/// Operations on one resource; answers with code and message.
async fn alter(
    client: &mut Client<TcpStream>,
    kind: i8,
    resource: &str,
    operations: &[(i8, &str, Option<&str>)],
    validate_only: bool,
) -> (i16, String) {
    let config = |(operation, name, value): &(i8, &str, Option<&str>)| {
        AlterableConfig::default().with_config_operation(*operation).with_name(text(name)).with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(operations.iter().map(config).collect());
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
    let answer = client.ask(&request, 1).await.responses.remove(0);
    (answer.error_code, answer.error_message.map(|message| message.to_string()).unwrap_or_default())
}

#[tokio::test]
async fn a_topic_is_created_as_asked_and_in_every_version() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    let asked = new("orders", 3, &[("cleanup.policy", "compact"), ("segment.ms", "1000")]);
    let created = create(&mut client, vec![asked.clone()], false).await.remove(0);
    assert_eq!((created.error_code, created.num_partitions, created.replication_factor), (0, 3, 1));
    assert!(!created.topic_id.is_nil());
    let told = created.configs.unwrap();
    let of =
        |name: &str| told.iter().find(|c| c.name.as_str() == name).map(|c| (c.value.clone().unwrap(), c.config_source));
    assert_eq!(of("cleanup.policy"), Some((text("compact"), 1)));
    assert_eq!(of("retention.ms"), Some((text("604800000"), 5)));
    assert_eq!(of("message.timestamp.type"), Some((text("CreateTime"), 5)));

    let again = create(&mut client, vec![asked], false).await.remove(0);
    assert_eq!(again.error_code, ResponseError::TopicAlreadyExists.code());
    assert!(again.error_message.unwrap().contains("orders"));
    for version in 2..=7 {
        let topic = new(&format!("v{version}"), -1, &[]);
        let answer = client.ask(&CreateTopicsRequest::default().with_topics(vec![topic]), version).await;
        assert_eq!(answer.topics[0].error_code, 0, "version {version}");
    }
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_and_the_rest_is_created() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    let assigned = |name: &str, partitions: &[(i32, &[i32])]| {
        let assignment = |(index, brokers): &(i32, &[i32])| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*index)
                .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
        };
        new(name, -1, &[]).with_assignments(partitions.iter().map(assignment).collect())
    };
    use ResponseError as E;
    let cases = vec![
        (new("fine", 1, &[]), None),
        (new("a/b", 1, &[]), Some(E::InvalidTopicException)),
        (new("..", 1, &[]), Some(E::InvalidTopicException)),
        (new("none", 0, &[]), Some(E::InvalidPartitions)),
        (new("many", 10_001, &[]), Some(E::InvalidPartitions)),
        (new("copies", 1, &[]).with_replication_factor(3), Some(E::InvalidReplicationFactor)),
        (new("one-copy", 1, &[]).with_replication_factor(1), None),
        (new("odd", 1, &[("no.such", "1")]), Some(E::InvalidConfig)),
        (new("bad", 1, &[("retention.ms", "soon")]), Some(E::InvalidConfig)),
        (assigned("here", &[(0, &[1]), (1, &[1])]), None),
        (assigned("there", &[(0, &[2])]), Some(E::InvalidReplicaAssignment)),
        (assigned("gappy", &[(0, &[1]), (2, &[1])]), Some(E::InvalidReplicaAssignment)),
        (assigned("both", &[(0, &[1])]).with_num_partitions(1), Some(E::InvalidRequest)),
    ];
    let topics = cases.iter().map(|(topic, _)| topic.clone()).collect();
    for (result, (topic, expected)) in create(&mut client, topics, false).await.iter().zip(&cases) {
        assert_eq!(result.name, topic.name);
        assert_eq!(result.error_code, expected.as_ref().map_or(0, ResponseError::code), "{topic:?}: {result:?}");
        assert_eq!(result.error_message.is_some(), expected.is_some());
    }
    let result = create(&mut client, vec![new("twice", 1, &[]), new("twice", 2, &[])], false).await;
    assert_eq!((result.len(), result[0].error_code), (1, E::InvalidRequest.code()));
    let collision = create(&mut client, vec![new("a.b", 1, &[]), new("a_b", 1, &[])], false).await;
    assert_eq!((collision[0].error_code, collision[1].error_code), (0, E::InvalidTopicException.code()));
    let tried = create(&mut client, vec![new("dry", 2, &[])], true).await;
    assert_eq!((tried[0].error_code, tried[0].num_partitions), (0, 2));
    assert_eq!(describe(&mut client, TOPIC, "dry", None).await.error_code, E::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn settings_are_described_altered_and_reset() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    create(&mut client, vec![new("t", 1, &[])], false).await;
    assert_eq!(value_of(&mut client, "t", "retention.ms").await, ("604800000".into(), 5));
    let (set, delete, append) = (0, 1, 2);
    let changes = [(set, "retention.ms", Some("1000")), (append, "cleanup.policy", Some("compact"))];
    assert_eq!(alter(&mut client, TOPIC, "t", &changes, true).await, (0, String::new()));
    assert_eq!(value_of(&mut client, "t", "retention.ms").await, ("604800000".into(), 5), "only validated");
    assert_eq!(alter(&mut client, TOPIC, "t", &changes, false).await, (0, String::new()));
    assert_eq!(value_of(&mut client, "t", "retention.ms").await, ("1000".into(), 1));
    assert_eq!(value_of(&mut client, "t", "cleanup.policy").await, ("compact,delete".into(), 1));
    alter(&mut client, TOPIC, "t", &[(delete, "retention.ms", None)], false).await;
    assert_eq!(value_of(&mut client, "t", "retention.ms").await, ("604800000".into(), 5));

    let whole = describe(&mut client, TOPIC, "t", None).await;
    assert!(whole.configs.len() > 20);
    let policy = whole.configs.iter().find(|c| c.name.as_str() == "cleanup.policy").unwrap();
    assert_eq!((policy.config_type, policy.read_only, policy.is_sensitive), (7, false, false));
    assert!(policy.documentation.as_ref().unwrap().contains("newest record"));
    let synonyms: Vec<_> = policy.synonyms.iter().map(|s| (s.name.as_str(), s.source)).collect();
    assert_eq!(synonyms, [("cleanup.policy", 1), ("log.cleanup.policy", 5)]);

    use ResponseError as E;
    let refused = |answer: (i16, String)| answer.0;
    let half = [(set, "retention.ms", Some("5")), (set, "no.such", Some("1"))];
    assert_eq!(refused(alter(&mut client, TOPIC, "t", &half, false).await), E::InvalidConfig.code());
    assert_eq!(value_of(&mut client, "t", "retention.ms").await, ("604800000".into(), 5), "all or nothing");
    let twice = [(set, "retention.ms", Some("5")), (delete, "retention.ms", None)];
    assert_eq!(refused(alter(&mut client, TOPIC, "t", &twice, false).await), E::InvalidRequest.code());
    let empty = [(set, "retention.ms", None)];
    assert_eq!(refused(alter(&mut client, TOPIC, "t", &empty, false).await), E::InvalidRequest.code());
    let odd = [(9, "retention.ms", Some("5"))];
    assert_eq!(refused(alter(&mut client, TOPIC, "t", &odd, false).await), E::InvalidRequest.code());
    let gone = alter(&mut client, TOPIC, "gone", &changes, false).await;
    assert_eq!(gone.0, E::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn the_brokers_settings_are_told_and_not_altered() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    let told = describe(&mut client, BROKER, "1", None).await;
    let of = |name: &str| {
        let config = told.configs.iter().find(|c| c.name.as_str() == name).unwrap();
        (config.value.clone().unwrap().to_string(), config.read_only)
    };
    assert_eq!(of("num.partitions"), ("1".into(), true));
    assert_eq!(of("log.segment.bytes"), ("134217728".into(), true));
    assert_eq!(of("log.dirs"), ("/data".into(), true));
    assert_eq!(of("auto.create.topics.enable"), ("true".into(), true));
    let names: std::collections::BTreeSet<_> = told.configs.iter().map(|c| c.name.clone()).collect();
    assert_eq!(names.len(), told.configs.len(), "each is there once");
    assert_eq!(describe(&mut client, BROKER, "", None).await.configs.len(), 0);
    let invalid = ResponseError::InvalidRequest.code();
    assert_eq!(describe(&mut client, BROKER, "2", None).await.error_code, invalid);
    assert_eq!(describe(&mut client, 99, "x", None).await.error_code, invalid);
    let (code, message) = alter(&mut client, BROKER, "1", &[(0, "log.segment.bytes", Some("1"))], false).await;
    assert_eq!(code, invalid);
    assert!(message.contains("log.segment.bytes"), "{message}");
}

#[tokio::test]
async fn partitions_are_added_and_never_taken() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    create(&mut client, vec![new("t", 2, &[])], false).await;
    let mut ask = async |count: i32, nodes: Option<&[i32]>, validate_only: bool| {
        let assignment = |node: &i32| CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(*node)]);
        let topic = CreatePartitionsTopic::default()
            .with_name(name("t"))
            .with_count(count)
            .with_assignments(nodes.map(|nodes| nodes.iter().map(assignment).collect()));
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(validate_only);
        client.ask(&request, 3).await.results[0].error_code
    };
    use ResponseError as E;
    assert_eq!(ask(2, None, false).await, E::InvalidPartitions.code());
    assert_eq!(ask(1, None, false).await, E::InvalidPartitions.code());
    assert_eq!(ask(10_001, None, false).await, E::InvalidPartitions.code());
    assert_eq!(ask(3, Some(&[2]), false).await, E::InvalidReplicaAssignment.code());
    assert_eq!(ask(4, Some(&[1]), false).await, E::InvalidReplicaAssignment.code());
    assert_eq!(ask(4, Some(&[1, 1]), true).await, 0);
    assert_eq!(ask(4, Some(&[1, 1]), false).await, 0);
    assert_eq!(ask(4, None, false).await, E::InvalidPartitions.code(), "it has four now");
}

#[tokio::test]
async fn topics_go_by_name_and_by_id() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    let made = create(&mut client, vec![new("a", 1, &[]), new("b", 1, &[])], false).await;
    use ResponseError as E;
    let by_name = DeleteTopicState::default().with_name(Some(name("a")));
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(made[1].topic_id);
    let both = by_name.clone().with_topic_id(made[0].topic_id);
    let neither = DeleteTopicState::default().with_name(None);
    let unknown_id = neither.clone().with_topic_id(uuid::Uuid::from_u128(7));
    let request = DeleteTopicsRequest::default().with_topics(vec![both, neither, unknown_id, by_name.clone(), by_id]);
    let answer = client.ask(&request, 6).await.responses;
    let codes: Vec<i16> = answer.iter().map(|r| r.error_code).collect();
    let invalid = E::InvalidRequest.code();
    assert_eq!(codes, [invalid, invalid, E::UnknownTopicId.code(), 0, 0]);
    assert_eq!(answer[4].name, Some(name("b")), "the name of what was deleted by id");
    let again = DeleteTopicsRequest::default().with_topics(vec![by_name]);
    assert_eq!(client.ask(&again, 6).await.responses[0].error_code, E::UnknownTopicOrPartition.code());
    create(&mut client, vec![new("c", 1, &[])], false).await;
    let old = DeleteTopicsRequest::default().with_topic_names(vec![name("c")]);
    assert_eq!(client.ask(&old, 1).await.responses[0].error_code, 0);
}

#[tokio::test]
async fn records_are_deleted_where_the_policy_allows_it() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    let topics = vec![new("kept", 1, &[("cleanup.policy", "compact")]), new("aged", 1, &[])];
    create(&mut client, topics, false).await;
    let mut ask = async |topic: &str, partition: i32, offset: i64| {
        let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let answer = client.ask(&DeleteRecordsRequest::default().with_topics(vec![topic]), 2).await;
        let result = &answer.topics[0].partitions[0];
        (result.error_code, result.low_watermark)
    };
    use ResponseError as E;
    assert_eq!(ask("aged", 0, -1).await, (0, 0));
    assert_eq!(ask("aged", 0, 1).await, (E::OffsetOutOfRange.code(), -1));
    assert_eq!(ask("aged", 0, -2).await, (E::OffsetOutOfRange.code(), -1));
    assert_eq!(ask("aged", 1, 0).await, (E::UnknownTopicOrPartition.code(), -1));
    assert_eq!(ask("kept", 0, 0).await, (E::PolicyViolation.code(), -1));
}

#[tokio::test]
async fn highwaters_own_topics_are_not_for_clients_to_change() {
    let settings = DoorSettings { may_write: Arc::new(|topic| topic != "alerts"), ..DoorSettings::default() };
    let door = Door::with(settings).await;
    let mut client = door.dial().await;
    let denied = ResponseError::TopicAuthorizationFailed.code();
    let made = create(&mut client, vec![new("alerts", 1, &[]), new("mine", 1, &[])], false).await;
    assert_eq!((made[0].error_code, made[1].error_code), (denied, 0));
    let changes = [(0, "retention.ms", Some("1"))];
    assert_eq!(alter(&mut client, TOPIC, "alerts", &changes, false).await.0, denied);
    let partitions = CreatePartitionsTopic::default().with_name(name("alerts")).with_count(4).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![partitions]);
    assert_eq!(client.ask(&request, 0).await.results[0].error_code, denied);
}
