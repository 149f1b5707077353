//! Metadata, ListOffsets, OffsetForLeaderEpoch, DescribeCluster.

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use uuid::Uuid;

use super::*;

const UNKNOWN_TOPIC: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_AUTHORIZATION: i16 = 29;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;
const UNSUPPORTED_ENDPOINT: i16 = 115;

fn named(names: &[&str]) -> MetadataRequest {
    let topics = names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
    MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(true)
}

#[tokio::test]
async fn every_version_of_metadata_describes_the_one_node() {
    let door = Door::open().await;
    door.topic("t", 3).await;
    door.topic("__highwater.members", 1).await;
    let mut client = door.dial().await;
    let cluster_id = door.broker.cluster_id().await.unwrap();
    for version in 0..=12 {
        let all = if version == 0 { named(&[]) } else { MetadataRequest::default().with_topics(None) };
        let all = all.with_allow_auto_topic_creation(true);
        let response = client.ask(&all, version).await;
        let brokers: Vec<_> = response.brokers.iter().map(|b| (b.node_id.0, b.host.as_str(), b.port)).collect();
        assert_eq!(brokers, [(1, "127.0.0.1", i32::from(door.server.address().port()))]);
        assert_eq!(response.cluster_id.as_deref(), (version >= 2).then_some(&*cluster_id));
        assert_eq!(response.controller_id, BrokerId(if version >= 1 { 1 } else { -1 }));
        let names: Vec<_> =
            response.topics.iter().map(|t| (t.name.as_ref().unwrap().as_str(), t.is_internal)).collect();
        assert_eq!(names, [("__highwater.members", version >= 1), ("t", false)]);
        let topic = &response.topics[1];
        assert_eq!(topic.topic_id, if version >= 10 { door.broker.topic("t").unwrap().id } else { Uuid::nil() });
        assert_eq!(topic.partitions.len(), 3);
        for (partition, index) in topic.partitions.iter().zip(0..) {
            assert_eq!((partition.partition_index, partition.error_code, partition.leader_id), (index, 0, BrokerId(1)));
            assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![BrokerId(1)], &vec![BrokerId(1)]));
            assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 });
            assert!(partition.offline_replicas.is_empty());
        }
        if version > 0 {
            assert!(client.ask(&named(&[]), version).await.topics.is_empty(), "no topics were asked for");
        }
    }
}

#[tokio::test]
async fn a_topic_that_is_asked_for_is_created_where_that_is_allowed() {
    let may_write: MayWrite = Arc::new(|topic| !topic.starts_with("rollup."));
    let settings = DoorSettings { auto_create_partitions: Some(3), may_write, ..DoorSettings::default() };
    let door = Door::with(settings).await;
    let mut client = door.dial().await;
    let no = client.ask(&named(&["new"]).with_allow_auto_topic_creation(false), 4).await;
    assert_eq!((no.topics[0].error_code, no.topics[0].partitions.len()), (UNKNOWN_TOPIC, 0));
    let asked = ["new", "not/a/topic", "..", "", "rollup.hosts"];
    let response = client.ask(&named(&asked), 9).await;
    let answers: Vec<_> = response.topics.iter().map(|t| (t.error_code, t.partitions.len())).collect();
    assert_eq!(answers, [(0, 3), (INVALID_TOPIC, 0), (INVALID_TOPIC, 0), (INVALID_TOPIC, 0), (TOPIC_AUTHORIZATION, 0)]);
    assert!(response.topics.iter().zip(asked).all(|(topic, asked)| topic.name.as_ref().unwrap().as_str() == asked));
    assert_eq!(door.broker.topics().iter().map(|t| &*t.name).collect::<Vec<_>>(), ["new"]);
    assert_eq!(door.broker.topic("new").unwrap().config, TopicConfig::kafka(3));

    let closed = Door::with(DoorSettings { auto_create_partitions: None, ..DoorSettings::default() }).await;
    let response = closed.dial().await.ask(&named(&["new"]), 9).await;
    assert_eq!(response.topics[0].error_code, UNKNOWN_TOPIC);
    assert!(closed.broker.topics().is_empty());
}

#[tokio::test]
async fn a_topic_can_be_asked_for_by_its_id() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let id = door.broker.topic("t").unwrap().id;
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let mut client = door.dial().await;
    let response = client.ask(&by_id(id), 12).await;
    assert_eq!(response.topics[0].name.as_ref().unwrap().as_str(), "t");
    let response = client.ask(&by_id(Uuid::from_u128(9)), 12).await;
    assert_eq!((response.topics[0].error_code, &response.topics[0].name), (UNKNOWN_TOPIC_ID, &None));
    assert_eq!(client.ask(&by_id(id), 10).await.topics[0].error_code, INVALID_REQUEST);
}

#[tokio::test]
async fn what_a_client_may_do_is_told_where_it_asks() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    let asked = named(&["t"]).with_include_topic_authorized_operations(true);
    let response = client.ask(&asked.clone().with_include_cluster_authorized_operations(true), 8).await;
    assert_eq!((response.cluster_authorized_operations, response.topics[0].topic_authorized_operations), (8096, 3576));
    let response = client.ask(&asked, 12).await;
    assert_eq!(response.topics[0].topic_authorized_operations, 3576);
    let response = client.ask(&named(&["t"]), 9).await;
    assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
    let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    assert_eq!(client.ask(&request, 0).await.cluster_authorized_operations, 8096);
}

#[tokio::test]
async fn a_client_is_told_what_to_dial() {
    let advertised = Some(Advertised { host: "kafka.example.org".into(), port: 19092 });
    let door = Door::with(DoorSettings { advertised, ..DoorSettings::default() }).await;
    let mut client = door.dial().await;
    let response = client.ask(&named(&[]), 9).await;
    assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("kafka.example.org", 19092));
    for version in 0..=2 {
        let response = client.ask(&DescribeClusterRequest::default(), version).await;
        assert_eq!((response.error_code, response.controller_id), (0, BrokerId(1)));
        assert_eq!(response.cluster_id.as_str(), &*door.broker.cluster_id().await.unwrap());
        assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("kafka.example.org", 19092));
    }
    let controllers = DescribeClusterRequest::default().with_endpoint_type(2);
    assert_eq!(client.ask(&controllers, 1).await.error_code, UNSUPPORTED_ENDPOINT);
}

fn offsets(parts: &[(i32, i64)]) -> ListOffsetsRequest {
    let partitions = parts.iter().map(|(partition, timestamp)| {
        ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(*timestamp)
    });
    let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(partitions.collect());
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

#[tokio::test]
async fn every_version_of_list_offsets_finds_beginning_end_and_times() {
    let door = Door::open().await;
    door.topic("t", 2).await;
    for timestamp_ms in [NOW - 300, NOW - 100, NOW - 200] {
        let batch = stamped(&["a", "b"], Stamp { timestamp_ms, ..Stamp::default() });
        door.broker.produce("t", 0, batch).await.unwrap();
    }
    door.broker.delete_records("t", 0, 1).await.unwrap();
    let mut client = door.dial().await;
    for version in 1..=7 {
        let mut find = async |partition: i32, timestamp: i64| {
            let response = client.ask(&offsets(&[(partition, timestamp)]), version).await;
            let found = response.topics[0].partitions[0].clone();
            let is_found = found.error_code == 0 && found.offset >= 0;
            assert_eq!(found.leader_epoch, if version >= 4 && is_found { 0 } else { -1 }, "version {version}");
            (found.error_code, found.offset, found.timestamp)
        };
        assert_eq!(find(0, -1).await, (0, 6, -1), "the end");
        assert_eq!(find(0, -2).await, (0, 1, -1), "the beginning");
        assert_eq!(find(0, 0).await, (0, 1, NOW - 300));
        assert_eq!(find(0, NOW - 299).await, (0, 2, NOW - 100), "the first at or after, by offset");
        assert_eq!(find(0, NOW - 100).await, (0, 2, NOW - 100));
        assert_eq!(find(0, NOW - 99).await, (0, -1, -1), "there is none");
        assert_eq!(find(1, -1).await, (0, 0, -1));
        assert_eq!(find(1, 0).await, (0, -1, -1));
        let max = if version >= 7 { (0, 2, NOW - 100) } else { (UNSUPPORTED_VERSION, -1, -1) };
        assert_eq!(find(0, -3).await, max);
        assert_eq!(find(0, -4).await, (UNSUPPORTED_VERSION, -1, -1));
        assert_eq!(find(9, -1).await, (UNKNOWN_TOPIC, -1, -1));
    }
    let mut ahead = offsets(&[(0, -1)]);
    ahead.topics[0].partitions[0].current_leader_epoch = 4;
    assert_eq!(client.ask(&ahead, 5).await.topics[0].partitions[0].error_code, UNKNOWN_LEADER_EPOCH);
    let twice = client.ask(&offsets(&[(0, -1), (1, -1), (0, -2)]), 5).await;
    let codes: Vec<_> = twice.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [INVALID_REQUEST, 0, INVALID_REQUEST]);
}

#[tokio::test]
async fn every_version_of_offset_for_leader_epoch_knows_one_epoch() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    door.broker.produce("t", 0, batch(&["a", "b"])).await.unwrap();
    let mut client = door.dial().await;
    for version in 2..=4 {
        let mut find = async |partition: i32, current: i32, epoch: i32| {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(partition)
                .with_current_leader_epoch(current)
                .with_leader_epoch(epoch);
            let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
            let response = client.ask(&OffsetForLeaderEpochRequest::default().with_topics(vec![topic]), version).await;
            let end = &response.topics[0].partitions[0];
            (end.error_code, end.leader_epoch, end.end_offset)
        };
        assert_eq!(find(0, -1, 0).await, (0, 0, 2));
        assert_eq!(find(0, 0, 0).await, (0, 0, 2));
        assert_eq!(find(0, -1, 1).await, (0, -1, -1), "an epoch that never was");
        assert_eq!(find(0, 1, 0).await, (UNKNOWN_LEADER_EPOCH, -1, -1));
        assert_eq!(find(5, -1, 0).await, (UNKNOWN_TOPIC, -1, -1));
    }
}
