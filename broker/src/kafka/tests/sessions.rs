//! What is served, in every version, and how a connection goes on.

use bytes::BufMut;
use kafka_protocol::messages::ApiKey;

use super::*;
use crate::kafka::apis::APIS;
use crate::kafka::frame::samples;

#[tokio::test]
async fn every_version_of_api_versions_tells_what_is_served() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    for version in 0..=4 {
        let request = ApiVersionsRequest::default();
        let named = request.clone().with_client_software_name(text("tests")).with_client_software_version(text("1.0"));
        let response = client.ask(if version < 3 { &request } else { &named }, version).await;
        assert_eq!(response.error_code, 0, "version {version}");
        let told: Vec<_> = response.api_keys.iter().map(|a| (a.api_key, a.min_version, a.max_version)).collect();
        let served: Vec<_> =
            APIS.iter().map(|a| (a.key as i16, *a.advertised().start(), *a.advertised().end())).collect();
        assert_eq!(told, served);
    }
    door.server.shutdown(Duration::from_secs(1)).await;
}

#[test]
fn the_table_is_the_one_that_was_promised() {
    let told = |key: ApiKey| {
        let api = APIS.iter().find(|api| api.key == key)?;
        Some((*api.advertised().start(), *api.advertised().end()))
    };
    for (key, min, max) in [
        (ApiKey::Produce, 0, 11),
        (ApiKey::Fetch, 4, 12),
        (ApiKey::ListOffsets, 1, 7),
        (ApiKey::Metadata, 0, 12),
        (ApiKey::OffsetCommit, 2, 9),
        (ApiKey::OffsetFetch, 1, 9),
        (ApiKey::FindCoordinator, 0, 4),
        (ApiKey::JoinGroup, 0, 9),
        (ApiKey::Heartbeat, 0, 4),
        (ApiKey::LeaveGroup, 0, 5),
        (ApiKey::SyncGroup, 0, 5),
        (ApiKey::SaslHandshake, 0, 1),
        (ApiKey::ApiVersions, 0, 4),
        (ApiKey::OffsetForLeaderEpoch, 2, 4),
        (ApiKey::SaslAuthenticate, 0, 2),
    ] {
        assert_eq!(told(key), Some((min, max)), "{key:?}");
    }
    assert!(APIS.is_sorted_by_key(|api| api.key as i16));
}

#[tokio::test]
async fn a_client_that_names_itself_badly_is_told() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    for (name, version) in [("", "1"), ("a", ""), ("-a", "1"), ("a", "1."), ("a b", "1"), ("a", "ä")] {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version));
        assert_eq!(client.ask(&request, 3).await.error_code, 42, "INVALID_REQUEST for {name:?} {version:?}");
    }
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    let mut frame = BytesMut::new();
    frame.put_i16(ApiKey::ApiVersions as i16);
    frame.put_i16(99);
    frame.put_i32(7);
    frame.put_i16(-1);
    frame.put_slice(b"whatever version 99 has here");
    client.send(&frame).await;
    let mut answer = client.receive().await.unwrap();
    assert_eq!(answer.get_i32(), 7, "the correlation id");
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!((response.error_code, answer.remaining()), (35, 0), "UNSUPPORTED_VERSION");
    assert!(response.api_keys.iter().any(|a| a.api_key == 18 && a.max_version == 4));
    // The client steps down on the same connection.
    assert_eq!(client.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
}

#[tokio::test]
async fn bytes_on_the_wire_are_kafkas() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let port = door.server.address().port();
    let mut client = door.dial().await;
    // Metadata version 1 for topic "t": as written down from the protocol guide, by hand.
    client.send(b"\x00\x03\x00\x01\x00\x00\x00\x2a\x00\x01c\x00\x00\x00\x01\x00\x01t").await;
    let answer = client.receive().await.unwrap();
    let mut expected = Vec::new();
    expected.extend(b"\x00\x00\x00\x2a"); // correlation id
    expected.extend(b"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x09127.0.0.1"); // one broker: id 1, host
    expected.extend(i32::from(port).to_be_bytes());
    expected.extend(b"\xff\xff"); // no rack
    expected.extend(b"\x00\x00\x00\x01"); // controller
    expected.extend(b"\x00\x00\x00\x01\x00\x00\x00\x01t\x00"); // one topic: no error, name, not internal
    expected.extend(b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"); // one partition: no error, 0, leader 1
    expected.extend(b"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01"); // replicas, in-sync replicas
    assert_eq!(answer, expected);

    // ListOffsets version 6 (flexible): the end of t/0, which is 0.
    client.send(b"\x00\x02\x00\x06\x00\x00\x00\x2b\xff\xff\x00\xff\xff\xff\xff\x00\x02\x02t\x02\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00").await;
    let answer = client.receive().await.unwrap();
    let mut expected = Vec::new();
    expected.extend(b"\x00\x00\x00\x2b\x00"); // correlation id, no tags
    expected.extend(b"\x00\x00\x00\x00"); // throttle time
    expected.extend(b"\x02\x02t\x02\x00\x00\x00\x00\x00\x00"); // one topic, one partition: 0, no error
    expected.extend(b"\xff\xff\xff\xff\xff\xff\xff\xff"); // no timestamp
    expected.extend(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"); // offset 0, epoch 0, tags
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn every_version_of_every_api_is_answered_in_its_own_form() {
    let door = Door::open().await;
    let samples = samples::samples();
    let covered: std::collections::HashSet<_> = samples.iter().map(|sample| (sample.key, sample.version)).collect();
    for api in APIS {
        for version in api.versions.clone() {
            assert!(covered.contains(&(api.key as i16, version)), "{:?} version {version} has no sample", api.key);
        }
    }
    for sample in samples {
        let mut client = door.dial().await;
        client.send(&sample.frame).await;
        let answer = tokio::time::timeout(Duration::from_secs(20), client.receive()).await;
        let answer = answer.ok().flatten().unwrap_or_else(|| panic!("{} version {}", sample.key, sample.version));
        assert_eq!((sample.decode_answer)(answer, sample.version), samples::CORRELATION);
    }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_their_order() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    for round in 0..40 {
        client.post(&produce(&[("t", 0, batch(&[&round.to_string()]))]), 9).await;
        client.post(&MetadataRequest::default().with_topics(None), 5).await;
    }
    for round in 0..40 {
        let written = client.answer::<ProduceRequest>(2 * round + 1, 9).await;
        assert_eq!(written.responses[0].partition_responses[0].base_offset, i64::from(round));
        assert_eq!(client.answer::<MetadataRequest>(2 * round + 2, 5).await.topics.len(), 1);
    }
}

#[tokio::test]
async fn an_api_or_version_that_is_not_served_closes_the_connection() {
    let door = Door::open().await;
    for (key, version) in [(4, 0), (999, 0), (-1, 0), (1, 3), (1, 13), (0, 2), (3, 13), (3, -1)] {
        let mut client = door.dial().await;
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(1);
        frame.put_i16(-1);
        frame.put_bytes(0, 40);
        client.send(&frame).await;
        assert!(client.is_closed().await, "API key {key} version {version}");
    }
    // Others do not notice.
    assert_eq!(door.dial().await.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
}

#[tokio::test]
async fn shutting_down_answers_what_has_come_and_ends_waits() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    client.post(&fetching::fetch(&[("t", 0, 0)], 1, 60_000), 11).await;
    let mut idle = door.dial().await;
    assert_eq!(idle.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    // The fetch is under way once it is waited for; there is nothing to see of that from here.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let address = door.server.address();
    tokio::time::timeout(Duration::from_secs(10), door.server.shutdown(Duration::from_secs(60))).await.unwrap();
    let response = client.answer::<FetchRequest>(1, 11).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    assert!(client.is_closed().await && idle.is_closed().await);
    assert!(TcpStream::connect(address).await.is_err());
}
