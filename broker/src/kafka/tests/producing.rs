//! Produce.

use kafka_protocol::messages::produce_response::PartitionProduceResponse;

use super::*;
use crate::batch::{Compression, Draft, EncodeOptions, encode};
use crate::config::TimestampType;
use crate::raw::Isolation;
use crate::record::Record;

/// Codes that the tests below expect.
const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_ACKS: i16 = 21;
const TOPIC_AUTHORIZATION: i16 = 29;
const INVALID_TIMESTAMP: i16 = 32;
const OUT_OF_ORDER: i16 = 45;
const TRANSACTIONAL_ID_AUTHORIZATION: i16 = 53;
const UNSUPPORTED_COMPRESSION: i16 = 76;
const INVALID_RECORD: i16 = 87;

fn compressed(values: &[String], compression: Compression) -> Bytes {
    let records: Vec<_> = values
        .iter()
        .map(|value| Record { value: Some(Bytes::from(value.clone())), timestamp_ms: Some(NOW), ..Record::default() })
        .collect();
    let drafts: Vec<_> = records.iter().map(|record| Draft { record, guard: None }).collect();
    let options = EncodeOptions {
        base_offset: 0,
        leader_epoch: 0,
        append_time_ms: NOW,
        timestamp_type: TimestampType::CreateTime,
        compression,
    };
    let mut bytes = Vec::new();
    encode(&drafts, &options, &mut bytes).unwrap();
    bytes.into()
}

async fn one(client: &mut Client<TcpStream>, request: &ProduceRequest, version: i16) -> PartitionProduceResponse {
    client.ask(request, version).await.responses.remove(0).partition_responses.remove(0)
}

impl Door {
    async fn stored(&self, topic: &str, partition: i32) -> Bytes {
        self.broker.fetch(topic, partition, 0, 1 << 20, Isolation::ReadUncommitted).await.unwrap().batches
    }
}

#[tokio::test]
async fn every_version_stores_the_batch_as_it_came() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    for version in 3..=11 {
        let base = i64::from(version - 3) * 2;
        let sent = batch(&["a", "b"]);
        let answer = one(&mut client, &produce(&[("t", 0, sent.clone())]), version).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, base), "version {version}");
        assert_eq!(answer.log_append_time_ms, -1, "the topic keeps the sender's time");
        assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
        let stored = door.broker.fetch("t", 0, base, 1, Isolation::ReadUncommitted).await.unwrap().batches;
        assert_eq!(stored[12..16], [0; 4], "the leader epoch");
        assert_eq!(stored[16..], sent[16..], "all but offset and leader epoch, version {version}");
    }
    let expected: Vec<_> = (0..18).map(|i| (i, if i % 2 == 0 { "a" } else { "b" }.to_owned())).collect();
    assert_eq!(values(door.stored("t", 0).await), expected);
}

#[tokio::test]
async fn a_topic_of_append_time_says_when() {
    let door = Door::open().await;
    let config = TopicConfig { timestamp_type: TimestampType::LogAppendTime, ..TopicConfig::kafka(1) };
    door.broker.ensure_topic("t", config).await.unwrap();
    let mut client = door.dial().await;
    let sent = stamped(&["a"], Stamp { timestamp_ms: 5, ..Stamp::default() });
    let answer = one(&mut client, &produce(&[("t", 0, sent)]), 7).await;
    assert_eq!((answer.error_code, answer.log_append_time_ms), (0, NOW));
}

#[tokio::test]
async fn each_partition_has_its_own_answer() {
    let door = Door::open().await;
    door.topic("t", 2).await;
    door.topic("u", 1).await;
    let mut client = door.dial().await;
    let mut corrupt = BytesMut::from(&batch(&["broken"])[..]);
    let last = corrupt.len() - 1;
    corrupt[last] ^= 1;
    let request = produce(&[
        ("t", 0, batch(&["good"])),
        ("missing", 0, batch(&["x"])),
        ("t", 1, corrupt.freeze()),
        ("t", 7, batch(&["x"])),
        ("u", 0, batch(&["good", "too"])),
    ]);
    let response = client.ask(&request, 9).await;
    let answers: Vec<_> = response
        .responses
        .iter()
        .flat_map(|topic| {
            topic.partition_responses.iter().map(|p| (topic.name.as_str(), p.index, p.error_code, p.base_offset))
        })
        .collect();
    assert_eq!(
        answers,
        [
            ("t", 0, 0, 0),
            ("missing", 0, UNKNOWN_TOPIC, -1),
            ("t", 1, CORRUPT_MESSAGE, -1),
            ("t", 7, UNKNOWN_TOPIC, -1),
            ("u", 0, 0, 0)
        ]
    );
    let said = response.responses[2].partition_responses[0].error_message.as_ref().unwrap();
    assert!(said.contains("CRC32C"), "{said}");
    assert_eq!(values(door.stored("t", 0).await), [(0, "good".to_owned())]);
    assert_eq!(values(door.stored("u", 0).await).len(), 2);
    assert!(door.stored("t", 1).await.is_empty());
}

#[tokio::test]
async fn what_is_no_single_batch_of_format_2_is_refused() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    let two = Bytes::from([batch(&["a"]), batch(&["b"])].concat());
    let mut old = BytesMut::from(&batch(&["a"])[..]);
    old[16] = 1;
    for (records, code) in [
        (Bytes::new(), INVALID_RECORD),
        (two, INVALID_RECORD),
        (old.freeze(), INVALID_RECORD),
        (batch(&["a"]).slice(..40), CORRUPT_MESSAGE),
        (batch(&["a"]).slice(..65), CORRUPT_MESSAGE),
    ] {
        assert_eq!(one(&mut client, &produce(&[("t", 0, records)]), 9).await.error_code, code);
    }
    let null = PartitionProduceData::default().with_records(None);
    let topic = TopicProduceData::default().with_name(topic_name("t")).with_partition_data(vec![null]);
    let request = ProduceRequest::default().with_acks(1).with_topic_data(vec![topic]);
    assert_eq!(one(&mut client, &request, 9).await.error_code, INVALID_RECORD);
    let large = batch(&[&"x".repeat(2 << 20)]);
    assert_eq!(one(&mut client, &produce(&[("t", 0, large)]), 9).await.error_code, MESSAGE_TOO_LARGE);
    assert!(door.stored("t", 0).await.is_empty());
}

#[tokio::test]
async fn a_record_dated_wrongly_is_named() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    let ahead = stamped(&["a", "b"], Stamp { timestamp_ms: NOW + 100 * 24 * 3_600_000, ..Stamp::default() });
    let answer = one(&mut client, &produce(&[("t", 0, ahead.clone())]), 8).await;
    assert_eq!(answer.error_code, INVALID_TIMESTAMP);
    assert_eq!(answer.record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [0]);
    let answer = one(&mut client, &produce(&[("t", 0, ahead)]), 7).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (INVALID_TIMESTAMP, 0), "no room for it before 8");
}

#[tokio::test]
async fn zstd_needs_version_7() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    let zstd = compressed(&["a".into()], Compression::Zstd);
    assert_eq!(one(&mut client, &produce(&[("t", 0, zstd.clone())]), 6).await.error_code, UNSUPPORTED_COMPRESSION);
    assert_eq!(one(&mut client, &produce(&[("t", 0, zstd)]), 7).await.error_code, 0);
}

#[tokio::test]
async fn acks_0_is_not_answered_and_an_error_closes_the_connection() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    let quiet = |topic: &str| produce(&[(topic, 0, batch(&["a"]))]).with_acks(0);
    client.post(&quiet("t"), 9).await;
    // The next answer is the one to the next request, and the record is there by then.
    assert_eq!(client.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    assert_eq!(values(door.stored("t", 0).await), [(0, "a".to_owned())]);
    client.post(&quiet("missing"), 9).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn acks_of_another_number_are_refused() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    for acks in [2, -2, 100] {
        let request = produce(&[("t", 0, batch(&["a"]))]).with_acks(acks);
        assert_eq!(one(&mut client, &request, 9).await.error_code, INVALID_ACKS);
    }
    let request = produce(&[("t", 0, batch(&["a"]))]).with_acks(1);
    assert_eq!(one(&mut client, &request, 9).await.error_code, 0);
}

#[tokio::test]
async fn topics_that_are_not_the_clients_to_write_are_refused() {
    let may_write: MayWrite = Arc::new(|topic| topic != "alerts");
    let door = Door::with(DoorSettings { may_write, ..DoorSettings::default() }).await;
    door.topic("alerts", 1).await;
    let mut client = door.dial().await;
    let answer = one(&mut client, &produce(&[("alerts", 0, batch(&["a"]))]), 9).await;
    assert_eq!(answer.error_code, TOPIC_AUTHORIZATION);
    assert!(door.stored("alerts", 0).await.is_empty());
}

#[tokio::test]
async fn a_transactional_batch_needs_the_transactional_id() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    let stamp = Stamp { producer_id: 5, producer_epoch: 0, sequence: 0, transactional: true, ..Stamp::default() };
    let request = produce(&[("t", 0, stamped(&["a"], stamp))]);
    assert_eq!(one(&mut client, &request, 9).await.error_code, TRANSACTIONAL_ID_AUTHORIZATION);
    assert!(door.stored("t", 0).await.is_empty());
}

#[tokio::test]
async fn an_idempotent_producer_is_answered_twice_and_stored_once() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    let of = |sequence, values: &[&str]| {
        let stamp = Stamp { producer_id: 5, producer_epoch: 0, sequence, ..Stamp::default() };
        produce(&[("t", 0, stamped(values, stamp))])
    };
    assert_eq!(one(&mut client, &of(0, &["a", "b"]), 9).await.base_offset, 0);
    assert_eq!(one(&mut client, &of(2, &["c"]), 9).await.base_offset, 2);
    let again = one(&mut client, &of(0, &["a", "b"]), 9).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0), "the reply was lost");
    assert_eq!(one(&mut client, &of(9, &["x"]), 9).await.error_code, OUT_OF_ORDER);
    assert_eq!(values(door.stored("t", 0).await).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_sent_ahead_are_stored_in_their_order_however_long_they_take_to_check() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    // Large and compressed, then small and plain: the later ones are checked much sooner.
    for round in 0..20 {
        let sent = match round % 2 {
            0 => compressed(&vec![format!("{round}"); 5000], Compression::Gzip),
            _ => batch(&[&round.to_string()]),
        };
        client.post(&produce(&[("t", 0, sent)]), 9).await;
    }
    let mut last = -1;
    for round in 0..20 {
        let response = client.answer::<ProduceRequest>(round + 1, 9).await;
        let base = response.responses[0].partition_responses[0].base_offset;
        assert!(base > last, "request {round} begins at {base}, behind {last}");
        last = base;
    }
}
