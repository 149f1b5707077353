//! Fetch.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;

use super::*;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC: i16 = 3;
const TOPIC_AUTHORIZATION: i16 = 29;
const SESSION_NOT_FOUND: i16 = 70;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// A fetch of these partitions from these offsets, a mebibyte of each.
pub(super) fn fetch(parts: &[(&str, i32, i64)], min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    let topics = parts.iter().map(|(topic, partition, offset)| {
        let wanted = FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20);
        FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![wanted])
    });
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(min_bytes)
        .with_max_bytes(50 << 20)
        .with_topics(topics.collect())
}

fn found(response: FetchResponse) -> Vec<PartitionData> {
    response.responses.into_iter().flat_map(|topic| topic.partitions).collect()
}

impl Door {
    async fn append(&self, topic: &str, partition: i32, values: &[&str]) {
        self.broker.produce(topic, partition, batch(values)).await.unwrap();
    }
}

#[tokio::test]
async fn every_version_reads_what_is_there() {
    let door = Door::open().await;
    door.topic("t", 2).await;
    door.append("t", 1, &["a", "b"]).await;
    door.append("t", 1, &["c"]).await;
    let mut client = door.dial().await;
    for version in 4..=12 {
        let found = found(client.ask(&fetch(&[("t", 0, 0), ("t", 1, 1)], 1, 1000), version).await);
        let [empty, full] = &found[..] else { panic!("{found:?}") };
        assert_eq!((empty.partition_index, empty.error_code, empty.high_watermark), (0, 0, 0));
        assert_eq!(empty.records.as_ref().map(Bytes::len), Some(0));
        assert_eq!((full.partition_index, full.error_code, full.high_watermark), (1, 0, 3));
        assert_eq!((full.last_stable_offset, full.log_start_offset), (3, if version >= 5 { 0 } else { -1 }));
        assert_eq!(full.preferred_read_replica, BrokerId(-1));
        assert_eq!(full.aborted_transactions, None, "read_uncommitted has none to tell");
        let all: Vec<_> = ["a", "b", "c"].into_iter().map(str::to_owned).zip(0..).map(|(v, o)| (o, v)).collect();
        assert_eq!(values(full.records.clone().unwrap()), all, "from the batch that holds the offset on");
    }
}

#[tokio::test]
async fn a_fetch_waits_until_there_is_enough() {
    let door = Door::open().await;
    door.topic("t", 3).await;
    let size_bytes = batch(&["a"]).len() as i32;
    let mut client = door.dial().await;
    client.post(&fetch(&[("t", 0, 0), ("t", 1, 0), ("t", 2, 0)], 2 * size_bytes, 60_000), 11).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    door.append("t", 2, &["a"]).await;
    let early = tokio::time::timeout(Duration::from_millis(200), client.receive()).await;
    assert!(early.is_err(), "one batch is not enough");
    door.append("t", 0, &["b"]).await;
    let response = tokio::time::timeout(Duration::from_secs(10), client.answer::<FetchRequest>(1, 11)).await.unwrap();
    let sizes: Vec<_> = found(response).iter().map(|p| p.records.as_ref().unwrap().len() as i32).collect();
    assert_eq!(sizes, [size_bytes, 0, size_bytes]);
}

#[tokio::test]
async fn a_fetch_ends_when_its_time_is_over() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    let nothing = found(client.ask(&fetch(&[("t", 0, 0)], 1, 30), 11).await);
    assert_eq!(nothing[0].records.as_ref().map(Bytes::len), Some(0));
    door.append("t", 0, &["a"]).await;
    let little = found(client.ask(&fetch(&[("t", 0, 0)], 1 << 20, 30), 11).await);
    assert_eq!(values(little[0].records.clone().unwrap()).len(), 1, "what there is, though it is too little");
    let at_once = found(client.ask(&fetch(&[("t", 0, 1)], 1, 0), 11).await);
    assert_eq!(at_once[0].records.as_ref().map(Bytes::len), Some(0));
}

#[tokio::test]
async fn a_topic_that_is_deleted_ends_the_wait() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    client.post(&fetch(&[("t", 0, 0)], 1, 60_000), 11).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    door.broker.delete_topic("t").await.unwrap();
    let response = tokio::time::timeout(Duration::from_secs(10), client.answer::<FetchRequest>(1, 11)).await.unwrap();
    assert_eq!(found(response)[0].error_code, UNKNOWN_TOPIC);
}

#[tokio::test]
async fn limits_hold_but_for_the_first_batch() {
    let door = Door::open().await;
    door.topic("t", 3).await;
    let value = "x".repeat(1000);
    for partition in 0..3 {
        for _ in 0..3 {
            door.append("t", partition, &[&value]).await;
        }
    }
    let size = batch(&[&value]).len();
    let mut client = door.dial().await;
    let mut sizes = async |max_bytes: usize, of_each: usize| -> Vec<usize> {
        let mut request = fetch(&[("t", 0, 0), ("t", 1, 0), ("t", 2, 0)], 1, 1000).with_max_bytes(max_bytes as i32);
        for topic in &mut request.topics {
            topic.partitions[0].partition_max_bytes = of_each as i32;
        }
        let found = found(client.ask(&request, 11).await);
        assert!(found.iter().all(|p| p.error_code == 0 && p.high_watermark == 3));
        found.iter().map(|p| p.records.as_ref().unwrap().len()).collect()
    };
    assert_eq!(sizes(50 << 20, 1 << 20).await, [3 * size; 3]);
    assert_eq!(sizes(50 << 20, 2 * size).await, [2 * size; 3]);
    assert_eq!(sizes(4 * size, 1 << 20).await, [3 * size, size, 0], "the total");
    assert_eq!(sizes(1, 1 << 20).await, [size, 0, 0], "a batch above the limit, or it could never be read");
    assert_eq!(sizes(50 << 20, 1).await, [size, 0, 0]);
    assert_eq!(sizes(0, 0).await, [size, 0, 0]);
}

#[tokio::test]
async fn what_cannot_be_read_is_told_at_once() {
    let door = Door::open().await;
    door.topic("t", 2).await;
    door.append("t", 0, &["a"]).await;
    let mut client = door.dial().await;
    for (part, code) in [
        (("t", 0, 2), OFFSET_OUT_OF_RANGE),
        (("t", 0, -5), OFFSET_OUT_OF_RANGE),
        (("t", 2, 0), UNKNOWN_TOPIC),
        (("t", -1, 0), UNKNOWN_TOPIC),
        (("u", 0, 0), UNKNOWN_TOPIC),
    ] {
        let request = fetch(&[("t", 1, 0), part], 1, 60_000);
        let ask = client.ask(&request, 11);
        let found = found(tokio::time::timeout(Duration::from_secs(10), ask).await.unwrap());
        assert_eq!(found[0].error_code, 0);
        assert_eq!((found[1].error_code, found[1].high_watermark), (code, -1), "{part:?}");
        assert_eq!(found[1].records.as_ref().map(Bytes::len), Some(0));
    }
    let mut request = fetch(&[("t", 0, 0)], 1, 60_000);
    request.topics[0].partitions[0].current_leader_epoch = 1;
    assert_eq!(found(client.ask(&request, 11).await)[0].error_code, UNKNOWN_LEADER_EPOCH);
    let follower = fetch(&[("t", 0, 0)], 1, 60_000).with_replica_id(BrokerId(2));
    assert_eq!(found(client.ask(&follower, 11).await)[0].error_code, TOPIC_AUTHORIZATION);
}

#[tokio::test]
async fn sessions_are_declined() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    door.append("t", 0, &["a"]).await;
    let mut client = door.dial().await;
    for epoch in [0, -1] {
        let response = client.ask(&fetch(&[("t", 0, 0)], 1, 0).with_session_epoch(epoch), 11).await;
        assert_eq!((response.error_code, response.session_id), (0, 0));
        assert_eq!(values(found(response)[0].records.clone().unwrap()).len(), 1);
    }
    let continued = fetch(&[], 1, 60_000).with_session_id(77).with_session_epoch(1);
    let response = client.ask(&continued, 11).await;
    assert_eq!((response.error_code, response.session_id, response.responses.len()), (SESSION_NOT_FOUND, 0, 0));
    assert_eq!(client.ask(&fetch(&[], 1, 60_000), 11).await.error_code, 0, "nothing to wait for");
}

#[tokio::test]
async fn many_connections_share_the_room_for_answers() {
    // Eight answers of an eighth fit; forty clients take turns, and each gets all it asked for.
    let door = Door::with(DoorSettings { max_answer_bytes: 1 << 20, ..DoorSettings::default() }).await;
    door.topic("t", 1).await;
    let value = "x".repeat(100 << 10);
    door.append("t", 0, &[&value]).await;
    let clients = (0..40).map(async |_| {
        let mut client = door.dial().await;
        for _ in 0..3 {
            let found = found(client.ask(&fetch(&[("t", 0, 0)], 1, 1000), 11).await);
            assert_eq!(values(found[0].records.clone().unwrap())[0].1.len(), value.len());
        }
    });
    let all = futures::future::join_all(clients);
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("nobody is left waiting");
}
