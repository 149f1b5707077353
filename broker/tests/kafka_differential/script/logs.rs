//! Producing, fetching, offsets, and deleting records.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, DeleteRecordsRequest, FetchRequest, FetchResponse, InitProducerIdRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, ProduceResponse,
};

use super::{make, text, topic};
use crate::batch::{self, Batch, now_ms};
use crate::side::{Side, Versions};

pub async fn play(side: &mut Side, versions: &Versions) {
    produce(side, versions).await;
    idempotence(side).await;
    offsets(side, versions).await;
    fetch(side, versions).await;
    delete_records(side, versions).await;
}

pub fn produce_to(name: &str, partition: i32, acks: i16, records: Option<Bytes>) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let data = TopicProduceData::default().with_name(topic(name)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![data])
}

/// That there is a text is compared, not what it says; and not the broker's time.
pub fn hide_texts(answer: &mut ProduceResponse) {
    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
        partition.error_message = partition.error_message.take().map(|_| text("something"));
        if partition.log_append_time_ms > 0 {
            partition.log_append_time_ms = 1;
        }
        for record in &mut partition.record_errors {
            record.batch_index_error_message = record.batch_index_error_message.take().map(|_| text("something"));
        }
    }
}

fn joined(batches: &[Batch]) -> Bytes {
    let mut all = BytesMut::new();
    for batch in batches {
        all.extend_from_slice(&batch.bytes());
    }
    all.freeze()
}

fn damaged(at: usize, with: u8) -> Bytes {
    let mut bytes = BytesMut::from(&Batch::of(&["a", "b"]).bytes()[..]);
    bytes[at] ^= with;
    bytes.freeze()
}

async fn produce(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::Produce) {
        let name = format!("produced-{version}");
        make(side, &name, 2, &[]).await;
        make(side, &format!("appended-{version}"), 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        make(side, &format!("compacted-{version}"), 1, &[("cleanup.policy", "compact")]).await;
        make(side, &format!("small-{version}"), 1, &[("max.message.bytes", "200")]).await;
        let day_ms = 86_400_000;
        let big: &'static str = Box::leak("x".repeat(300).into_boxed_str());
        let steps: Vec<(&str, ProduceRequest)> = vec![
            ("", produce_to(&name, 0, -1, Some(Batch::of(&["a", "b", "c"]).bytes()))),
            ("with acks 1", produce_to(&name, 0, 1, Some(Batch::of(&["d"]).bytes()))),
            ("with acks 2", produce_to(&name, 0, 2, Some(Batch::of(&["d"]).bytes()))),
            ("to another partition", produce_to(&name, 1, -1, Some(Batch::of(&["e"]).bytes()))),
            ("to no partition", produce_to(&name, 2, -1, Some(Batch::of(&["e"]).bytes()))),
            ("to nowhere", produce_to("nowhere", 0, -1, Some(Batch::of(&["e"]).bytes()))),
            ("to a bad name", produce_to("a/b", 0, -1, Some(Batch::of(&["e"]).bytes()))),
            ("without records", produce_to(&name, 0, -1, Some(Bytes::new()))),
            ("of two batches", produce_to(&name, 0, -1, Some(joined(&[Batch::of(&["f"]), Batch::of(&["g"])])))),
            ("by append time", produce_to(&format!("appended-{version}"), 0, -1, Some(Batch::of(&["h"]).bytes()))),
            (
                "without keys, compacted",
                produce_to(&format!("compacted-{version}"), 0, -1, Some(Batch::of(&["i"]).bytes())),
            ),
            (
                "with keys, compacted",
                produce_to(&format!("compacted-{version}"), 0, -1, Some(Batch::of(&["i"]).key("k").bytes())),
            ),
            ("too large", produce_to(&format!("small-{version}"), 0, -1, Some(Batch::of(&[big]).bytes()))),
            ("with a wrong CRC", produce_to(&name, 0, -1, Some(damaged(18, 1)))),
            ("with a wrong value", produce_to(&name, 0, -1, Some(damaged(70, 1)))),
            (
                "of a control batch",
                produce_to(&name, 0, -1, Some(Batch { attributes: 1 << 5, ..Batch::of(&["c"]) }.key("0000").bytes())),
            ),
            (
                "of the day after tomorrow",
                produce_to(&name, 0, -1, Some(Batch::of(&["t"]).at(now_ms() + 2 * day_ms).bytes())),
            ),
            ("of long ago", produce_to(&name, 0, -1, Some(Batch::of(&["t"]).at(now_ms() - 90 * day_ms).bytes()))),
            ("in the end", produce_to(&name, 0, -1, Some(Batch::of(&["z"]).bytes()))),
        ];
        for (step, request) in steps {
            side.step(&format!("Produce {step}"), &request, version, hide_texts).await;
        }
    }
    let cut = Batch::of(&["a", "b"]).bytes();
    let old = Batch { magic: 1, ..Batch::of(&["a"]) }.bytes();
    for (step, bytes) in [("cut short", cut.slice(..cut.len() - 3)), ("of another magic", old)] {
        side.hung_up_or(&format!("Produce {step}"), &produce_to("produced-9", 0, -1, Some(bytes)), 9, hide_texts).await;
    }
}

/// What an idempotent producer is told: sequences, epochs, and batches that come again.
async fn idempotence(side: &mut Side) {
    make(side, "sequences", 1, &[]).await;
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000);
    let first = side.ask(&request, 4).await.unwrap();
    assert_eq!(first.error_code, 0);
    let id = first.producer_id.0;
    let steps: Vec<(&str, Batch)> = vec![
        ("first", Batch::of(&["0", "1"]).by(id, 0, 0)),
        ("next", Batch::of(&["2"]).by(id, 0, 2)),
        ("first again", Batch::of(&["0", "1"]).by(id, 0, 0)),
        ("next again", Batch::of(&["2"]).by(id, 0, 2)),
        ("with a gap", Batch::of(&["5"]).by(id, 0, 5)),
        ("half known", Batch::of(&["1", "2"]).by(id, 0, 1)),
        ("3", Batch::of(&["3"]).by(id, 0, 3)),
        ("4", Batch::of(&["4"]).by(id, 0, 4)),
        ("5", Batch::of(&["5"]).by(id, 0, 5)),
        ("6", Batch::of(&["6"]).by(id, 0, 6)),
        ("7", Batch::of(&["7"]).by(id, 0, 7)),
        ("older than the last five", Batch::of(&["0", "1"]).by(id, 0, 0)),
        ("of the last five", Batch::of(&["3"]).by(id, 0, 3)),
        ("of a new epoch, not from 0", Batch::of(&["x"]).by(id, 1, 4)),
        ("of a new epoch", Batch::of(&["8"]).by(id, 1, 0)),
        ("of the old epoch", Batch::of(&["8"]).by(id, 0, 8)),
        ("of somebody unknown, from 0", Batch::of(&["u"]).by(id + 1000, 0, 0)),
        ("of somebody unknown, not from 0", Batch::of(&["v"]).by(id + 2000, 0, 7)),
        ("up to the last sequence", Batch::of(&["w"]).by(id + 3000, 0, i32::MAX)),
        ("from the first again", Batch::of(&["w"]).by(id + 3000, 0, 0)),
        ("without a sequence", Batch::of(&["w"]).by(id, 1, -1)),
        ("with a negative epoch", Batch::of(&["w"]).by(id, -1, 1)),
    ];
    for (step, batch) in steps {
        side.hung_up_or(
            &format!("Produce {step}"),
            &produce_to("sequences", 0, -1, Some(batch.bytes())),
            9,
            hide_texts,
        )
        .await;
    }
}

async fn offsets(side: &mut Side, versions: &Versions) {
    make(side, "times", 2, &[("retention.ms", "-1")]).await;
    let base_ms = 1_700_000_000_000;
    for (value, at_s) in [("a", 10), ("b", 30), ("c", 20), ("d", 50), ("e", 40)] {
        let batch = Batch::of(&[value]).at(base_ms + at_s * 1000);
        let answer = side.ask(&produce_to("times", 0, -1, Some(batch.bytes())), 9).await.unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{answer:?}");
    }
    for version in versions.of(ApiKey::ListOffsets) {
        for (step, name, partition, timestamp) in [
            ("first", "times", 0, -2),
            ("next", "times", 0, -1),
            ("at the beginning of time", "times", 0, 0),
            ("at 10", "times", 0, base_ms + 10_000),
            ("after 10", "times", 0, base_ms + 10_001),
            ("after 30", "times", 0, base_ms + 30_001),
            ("at 50", "times", 0, base_ms + 50_000),
            ("after 50", "times", 0, base_ms + 50_001),
            ("first of an empty one", "times", 1, -2),
            ("next of an empty one", "times", 1, -1),
            ("by time, of an empty one", "times", 1, 0),
            ("of the largest time", "times", 0, -3),
            ("of the largest time, of an empty one", "times", 1, -3),
            ("nowhere", "nowhere", 0, -1),
            ("no partition", "times", 9, -1),
        ] {
            if timestamp == -3 && version < 7 {
                continue;
            }
            for isolation in [0, 1] {
                if isolation == 1 && version < 2 {
                    continue;
                }
                let partition = ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_timestamp(timestamp)
                    .with_current_leader_epoch(-1);
                let one = ListOffsetsTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
                let request = ListOffsetsRequest::default()
                    .with_replica_id((-1).into())
                    .with_isolation_level(isolation)
                    .with_topics(vec![one]);
                side.step(&format!("ListOffsets {step}, isolation {isolation}"), &request, version, |_| {}).await;
            }
        }
        for epoch in [0, 5] {
            if version < 4 {
                continue;
            }
            let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(epoch);
            let one = ListOffsetsTopic::default().with_name(topic("times")).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![one]);
            side.step(&format!("ListOffsets with leader epoch {epoch}"), &request, version, |_| {}).await;
        }
    }
    for version in versions.of(ApiKey::OffsetForLeaderEpoch) {
        for (step, name, partition, current, asked) in [
            ("0", "times", 0, -1, 0),
            ("of the future", "times", 0, -1, 3),
            ("with a current one", "times", 0, 0, 0),
            ("with one that is to come", "times", 0, 4, 0),
            ("nowhere", "nowhere", 0, -1, 0),
            ("no partition", "times", 9, -1, 0),
        ] {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(partition)
                .with_current_leader_epoch(current)
                .with_leader_epoch(asked);
            let one = OffsetForLeaderTopic::default().with_topic(topic(name)).with_partitions(vec![partition]);
            let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![one]);
            request.replica_id = (-1).into();
            side.step(&format!("OffsetForLeaderEpoch {step}"), &request, version, |_| {}).await;
        }
    }
}

pub fn fetch_from(name: &str, partition: i32, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1_000_000);
    let one = FetchTopic::default().with_topic(topic(name)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(10)
        .with_min_bytes(1)
        .with_max_bytes(10_000_000)
        .with_session_epoch(-1)
        .with_topics(vec![one])
}

/// A fetch, noted with what is in its batches.
pub async fn fetched(side: &mut Side, step: &str, request: &FetchRequest, version: i16) -> FetchResponse {
    let answer = side
        .step(step, request, version, |answer| {
            for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                // Nothing may be told as nothing, or as no bytes.
                partition.records = None;
            }
        })
        .await;
    let records = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .filter_map(|partition| partition.records.as_deref());
    let batches: Vec<_> = records.map(batch::seen).collect();
    side.note(&format!("{step} v{version}, batches"), &batches);
    answer
}

async fn fetch(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::Fetch) {
        for (step, request) in [
            ("all", fetch_from("produced-9", 0, 0)),
            ("from within a batch", fetch_from("produced-9", 0, 1)),
            ("from the middle", fetch_from("produced-9", 0, 4)),
            ("at the end", fetch_from("times", 0, 5)),
            ("beyond the end", fetch_from("times", 0, 6)),
            ("before the beginning", fetch_from("times", 0, -1)),
            ("nowhere", fetch_from("nowhere", 0, 0)),
            ("no partition", fetch_from("times", 9, 0)),
            ("committed only", fetch_from("times", 0, 0).with_isolation_level(1)),
        ] {
            fetched(side, &format!("Fetch {step}"), &request, version).await;
        }
        let mut little = fetch_from("times", 0, 0);
        little.topics[0].partitions[0].partition_max_bytes = 1;
        fetched(side, "Fetch a byte of a partition", &little, version).await;
        let little = fetch_from("times", 0, 0).with_max_bytes(1);
        fetched(side, "Fetch a byte", &little, version).await;
        let mut two = fetch_from("times", 0, 0);
        let other = two.topics[0].partitions[0].clone().with_partition(1);
        two.topics[0].partitions.push(other);
        fetched(side, "Fetch of two partitions", &two, version).await;
        if version >= 7 {
            let session = fetch_from("times", 0, 0).with_session_id(77).with_session_epoch(3);
            fetched(side, "Fetch of an unknown session", &session, version).await;
        }
        if version >= 9 {
            for epoch in [0, 5] {
                let mut request = fetch_from("times", 0, 4);
                request.topics[0].partitions[0].current_leader_epoch = epoch;
                fetched(side, &format!("Fetch with leader epoch {epoch}"), &request, version).await;
            }
        }
    }
}

async fn delete_records(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::DeleteRecords) {
        let name = format!("shortened-{version}");
        make(side, &name, 1, &[]).await;
        for value in ["a", "b", "c", "d"] {
            let answer = side.ask(&produce_to(&name, 0, -1, Some(Batch::of(&[value]).bytes())), 9).await.unwrap();
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{answer:?}");
        }
        for (step, topic_name, partition, offset) in [
            ("below 2", name.as_str(), 0, 2),
            ("below 1", &name, 0, 1),
            ("below 9", &name, 0, 9),
            ("below -5", &name, 0, -5),
            ("nowhere", "nowhere", 0, 1),
            ("no partition", &name, 4, 1),
        ] {
            delete_below(side, step, topic_name, partition, offset, version).await;
        }
        fetched(side, "Fetch what was deleted", &fetch_from(&name, 0, 1), 11).await;
        fetched(side, "Fetch what was not deleted", &fetch_from(&name, 0, 2), 11).await;
        delete_below(side, "all", &name, 0, -1, version).await;
        fetched(side, "Fetch where all was deleted", &fetch_from(&name, 0, 4), 11).await;
    }
}

async fn delete_below(side: &mut Side, step: &str, name: &str, partition: i32, offset: i64, version: i16) {
    let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
    let one = DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![one]).with_timeout_ms(5_000);
    side.step(&format!("DeleteRecords {step}"), &request, version, |_| {}).await;
}
