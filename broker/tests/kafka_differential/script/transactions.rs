//! Producer ids and transactions.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiKey, EndTxnRequest, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, OffsetFetchRequest, ProduceRequest, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::logs::{fetch_from, fetched, hide_texts, produce_to};
use super::{make, text, topic};
use crate::batch::Batch;
use crate::side::{Side, Versions};

pub async fn play(side: &mut Side, versions: &Versions) {
    ids(side, versions).await;
    life(side, versions).await;
    fencing(side).await;
    offsets(side, versions).await;
}

fn id_of(name: &str) -> TransactionalId {
    TransactionalId(text(name))
}

fn init(name: Option<&str>, timeout_ms: i32) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(name.map(id_of))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

/// An answer to [`init`], noted with a name for the producer's id.
async fn initialised(
    side: &mut Side,
    step: &str,
    request: &InitProducerIdRequest,
    version: i16,
    name: &str,
) -> InitProducerIdResponse {
    let mut answer = side.ask(request, version).await.unwrap();
    while answer.error_code == CONCURRENT_TRANSACTIONS {
        side.pause().await;
        answer = side.ask(request, version).await.unwrap();
    }
    if answer.producer_id.0 >= 0 {
        side.learn_number("producer_id", answer.producer_id.0, format!("<producer {name}>"));
    }
    side.note(
        &format!("{step} v{version}"),
        &Initialised { error_code: answer.error_code, producer_id: answer.producer_id.0, epoch: answer.producer_epoch },
    );
    answer
}

/// The one before is still being ended.
const CONCURRENT_TRANSACTIONS: i16 = 51;

#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
struct Initialised {
    error_code: i16,
    producer_id: i64,
    epoch: i16,
}

fn add(name: &str, id: i64, epoch: i16, to: &[(&str, i32)]) -> AddPartitionsToTxnRequest {
    let topics = to.iter().map(|(name, partition)| {
        AddPartitionsToTxnTopic::default().with_name(topic(name)).with_partitions(vec![*partition])
    });
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id_of(name))
        .with_v3_and_below_producer_id(id.into())
        .with_v3_and_below_producer_epoch(epoch)
        .with_v3_and_below_topics(topics.collect())
}

fn end(name: &str, id: i64, epoch: i16, committed: bool) -> EndTxnRequest {
    EndTxnRequest::default()
        .with_transactional_id(id_of(name))
        .with_producer_id(id.into())
        .with_producer_epoch(epoch)
        .with_committed(committed)
}

fn write(name: &str, to: &str, batch: Batch) -> ProduceRequest {
    produce_to(to, 0, -1, Some(batch.transactional().bytes())).with_transactional_id(Some(id_of(name)))
}

/// Asks until the transaction before is over, and notes the last answer.
macro_rules! once_over {
    ($side:expr, $step:expr, $request:expr, $version:expr, $code:ident) => {{
        let request = $request;
        let mut answer = $side.ask(&request, $version).await.unwrap();
        while $code(&answer) == CONCURRENT_TRANSACTIONS {
            $side.pause().await;
            answer = $side.ask(&request, $version).await.unwrap();
        }
        $side.note(&format!("{} v{}", $step, $version), &answer);
    }};
}

fn code_of_end(answer: &kafka_protocol::messages::EndTxnResponse) -> i16 {
    answer.error_code
}

fn code_of_add(answer: &kafka_protocol::messages::AddPartitionsToTxnResponse) -> i16 {
    let first = answer.results_by_topic_v3_and_below.first().and_then(|topic| topic.results_by_partition.first());
    first.map_or(0, |partition| partition.partition_error_code)
}

async fn ids(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::InitProducerId) {
        initialised(side, "InitProducerId of nobody", &init(None, 1000), version, &format!("nobody {version}")).await;
        let name = format!("id-{version}");
        for (step, request) in [
            ("", init(Some(&name), 60_000)),
            ("again", init(Some(&name), 60_000)),
            ("without a name", init(Some(""), 60_000)),
            ("without a timeout", init(Some(&name), 0)),
            ("with a long timeout", init(Some(&name), i32::MAX)),
        ] {
            initialised(side, &format!("InitProducerId {step}"), &request, version, &name).await;
        }
        if version >= 3 {
            let known = side.ask(&init(Some(&name), 60_000), version).await.unwrap();
            let with =
                |id: i64, epoch| init(Some(&name), 60_000).with_producer_id(id.into()).with_producer_epoch(epoch);
            let (id, epoch) = (known.producer_id.0, known.producer_epoch);
            for (step, request) in [
                ("with its epoch", with(id, epoch)),
                ("with its epoch, again", with(id, epoch)),
                ("with an older epoch", with(id, epoch - 1)),
                ("with somebody else's id", with(id + 5000, epoch)),
                ("with an id and no epoch", with(id, -1)),
            ] {
                initialised(side, &format!("InitProducerId {step}"), &request, version, &name).await;
            }
        }
    }
}

/// A transaction that commits, one that aborts, and what is refused on the way.
async fn life(side: &mut Side, versions: &Versions) {
    let (adds, ends) = (versions.of(ApiKey::AddPartitionsToTxn), versions.of(ApiKey::EndTxn));
    for version in adds {
        let end_version = version.clamp(*ends.start(), *ends.end());
        let (name, log) = (&format!("tx-{version}"), &format!("transactional-{version}"));
        make(side, log, 1, &[]).await;
        let producer = initialised(side, "InitProducerId of a transaction", &init(Some(name), 60_000), 4, name).await;
        let (id, epoch) = (producer.producer_id.0, producer.producer_epoch);
        once_over!(side, "EndTxn of nothing", end(name, id, epoch, true), end_version, code_of_end);
        let early = write(name, log, Batch::of(&["early"]).by(id, epoch, 0));
        side.step("Produce before it was added", &early, 9, hide_texts).await;
        for (step, request) in [
            ("of an older epoch", add(name, id, epoch - 1, &[(log, 0)])),
            ("of a newer epoch", add(name, id, epoch + 1, &[(log, 0)])),
            ("of another id", add(name, id + 7000, epoch, &[(log, 0)])),
            ("of nobody", add("nobody-tx", id, epoch, &[(log, 0)])),
            ("without a name", add("", id, epoch, &[(log, 0)])),
            ("of nowhere", add(name, id, epoch, &[("nowhere", 0)])),
            ("of nowhere and here", add(name, id, epoch, &[(log, 0), ("nowhere", 0)])),
            ("", add(name, id, epoch, &[(log, 0)])),
            ("again", add(name, id, epoch, &[(log, 0)])),
        ] {
            let mut answer = side.ask(&request, version).await.unwrap();
            answer.results_by_topic_v3_and_below.sort_by(|a, b| a.name.cmp(&b.name));
            side.note(&format!("AddPartitionsToTxn {step} v{version}"), &answer);
        }
        side.step(
            "Produce in a transaction",
            &write(name, log, Batch::of(&["a", "b"]).by(id, epoch, 0)),
            9,
            hide_texts,
        )
        .await;
        stable(side, "while it is open", log).await;
        for (step, request) in [
            ("of an older epoch", end(name, id, epoch - 1, true)),
            ("of a newer epoch", end(name, id, epoch + 1, true)),
            ("of another id", end(name, id + 7000, epoch, true)),
            ("of nobody", end("nobody-tx", id, epoch, true)),
            ("without a name", end("", id, epoch, true)),
            ("", end(name, id, epoch, true)),
        ] {
            side.step(&format!("EndTxn {step}"), &request, end_version, |_| {}).await;
        }
        once_over!(side, "EndTxn again", end(name, id, epoch, true), end_version, code_of_end);
        once_over!(side, "EndTxn otherwise", end(name, id, epoch, false), end_version, code_of_end);
        let late = write(name, log, Batch::of(&["late"]).by(id, epoch, 2));
        side.step("Produce after its end", &late, 9, hide_texts).await;
        once_over!(side, "AddPartitionsToTxn to abort", add(name, id, epoch, &[(log, 0)]), version, code_of_add);
        side.step("Produce to abort", &write(name, log, Batch::of(&["c"]).by(id, epoch, 2)), 9, hide_texts).await;
        let plain = produce_to(log, 0, -1, Some(Batch::of(&["plain"]).bytes()));
        side.step("Produce in between", &plain, 9, hide_texts).await;
        once_over!(side, "EndTxn, aborted", end(name, id, epoch, false), end_version, code_of_end);
        once_over!(side, "EndTxn, aborted again", end(name, id, epoch, false), end_version, code_of_end);
        once_over!(side, "EndTxn, committed after it aborted", end(name, id, epoch, true), end_version, code_of_end);
        settled(side, log, 6).await;
        stable(side, "in the end", log).await;
        for isolation in [0, 1] {
            let request = fetch_from(log, 0, 0).with_isolation_level(isolation);
            fetched(side, &format!("Fetch of transactions, isolation {isolation}"), &request, 11).await;
            let request = fetch_from(log, 0, 4).with_isolation_level(isolation);
            fetched(side, &format!("Fetch after the aborted, isolation {isolation}"), &request, 11).await;
        }
    }
}

/// Waits until markers are written, which Kafka does after it has answered.
async fn settled(side: &mut Side, name: &str, offset: i64) {
    while last_stable(side, name).await < offset {
        side.pause().await;
    }
}

async fn last_stable(side: &mut Side, name: &str) -> i64 {
    side.ask(&next_offset(name, 1), 5).await.unwrap().topics[0].partitions[0].offset
}

fn next_offset(name: &str, isolation: i8) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
    let one = ListOffsetsTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id((-1).into()).with_isolation_level(isolation).with_topics(vec![one])
}

async fn stable(side: &mut Side, step: &str, name: &str) {
    for isolation in [0, 1] {
        side.step(&format!("ListOffsets {step}, isolation {isolation}"), &next_offset(name, isolation), 5, |_| {})
            .await;
    }
}

/// A newer one of the same name.
async fn fencing(side: &mut Side) {
    make(side, "fenced", 1, &[]).await;
    let first = initialised(side, "InitProducerId of the first", &init(Some("fenced"), 60_000), 4, "fenced").await;
    let (id, epoch) = (first.producer_id.0, first.producer_epoch);
    once_over!(side, "AddPartitionsToTxn of the first", add("fenced", id, epoch, &[("fenced", 0)]), 3, code_of_add);
    side.step("Produce of the first", &write("fenced", "fenced", Batch::of(&["a"]).by(id, epoch, 0)), 9, hide_texts)
        .await;
    let second = initialised(side, "InitProducerId of the second", &init(Some("fenced"), 60_000), 4, "fenced").await;
    side.step("Produce of the fenced", &write("fenced", "fenced", Batch::of(&["b"]).by(id, epoch, 1)), 9, hide_texts)
        .await;
    for version in [1, 2, 3] {
        side.step("AddPartitionsToTxn of the fenced", &add("fenced", id, epoch, &[("fenced", 0)]), version, |_| {})
            .await;
        side.step("EndTxn of the fenced", &end("fenced", id, epoch, true), version, |_| {}).await;
    }
    let (id, epoch) = (second.producer_id.0, second.producer_epoch);
    once_over!(side, "AddPartitionsToTxn of the second", add("fenced", id, epoch, &[("fenced", 0)]), 3, code_of_add);
    side.step("Produce of the second", &write("fenced", "fenced", Batch::of(&["c"]).by(id, epoch, 0)), 9, hide_texts)
        .await;
    once_over!(side, "EndTxn of the second", end("fenced", id, epoch, true), 3, code_of_end);
    settled(side, "fenced", 4).await;
    fetched(side, "Fetch of the fenced", &fetch_from("fenced", 0, 0).with_isolation_level(1), 11).await;
}

/// Offsets in a transaction.
async fn offsets(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::TxnOffsetCommit) {
        let (name, group) = (&format!("offsets-{version}"), &format!("transactional-group-{version}"));
        let producer = initialised(side, "InitProducerId for offsets", &init(Some(name), 60_000), 4, name).await;
        let (id, epoch) = (producer.producer_id.0, producer.producer_epoch);
        let commit = |id: i64, epoch, generation, member: &str, log: &str| {
            let partition = TxnOffsetCommitRequestPartition::default()
                .with_committed_offset(3)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text("three")));
            let one = TxnOffsetCommitRequestTopic::default().with_name(topic(log)).with_partitions(vec![partition]);
            let request = TxnOffsetCommitRequest::default()
                .with_transactional_id(id_of(name))
                .with_group_id(text(group).into())
                .with_producer_id(id.into())
                .with_producer_epoch(epoch)
                .with_topics(vec![one]);
            if version < 3 {
                return request;
            }
            request.with_generation_id(generation).with_member_id(text(member))
        };
        let add_group = |id: i64, epoch| {
            AddOffsetsToTxnRequest::default()
                .with_transactional_id(id_of(name))
                .with_producer_id(id.into())
                .with_producer_epoch(epoch)
                .with_group_id(text(group).into())
        };
        side.step("TxnOffsetCommit before it was added", &commit(id, epoch, -1, "", "grouped"), version, |_| {}).await;
        side.step("AddOffsetsToTxn of another epoch", &add_group(id, epoch + 1), version, |_| {}).await;
        side.step("AddOffsetsToTxn of another id", &add_group(id + 9000, epoch), version, |_| {}).await;
        side.step("AddOffsetsToTxn", &add_group(id, epoch), version, |_| {}).await;
        side.step("TxnOffsetCommit", &commit(id, epoch, -1, "", "grouped"), version, |_| {}).await;
        side.step("TxnOffsetCommit of another epoch", &commit(id, epoch - 1, -1, "", "grouped"), version, |_| {}).await;
        side.step("TxnOffsetCommit of nowhere", &commit(id, epoch, -1, "", "nowhere"), version, |_| {}).await;
        if version >= 3 {
            side.step("TxnOffsetCommit of a stranger", &commit(id, epoch, 4, "stranger", "grouped"), version, |_| {})
                .await;
        }
        for require_stable in [false, true] {
            let one = OffsetFetchRequestTopic::default().with_name(topic("grouped")).with_partition_indexes(vec![0]);
            let request = OffsetFetchRequest::default()
                .with_group_id(StrBytes::from_string(group.clone()).into())
                .with_topics(Some(vec![one]))
                .with_require_stable(require_stable);
            side.step(&format!("OffsetFetch while it is open, stable {require_stable}"), &request, 7, |_| {}).await;
        }
        once_over!(side, "EndTxn of offsets", end(name, id, epoch, version % 2 == 0), version, code_of_end);
        let one = OffsetFetchRequestTopic::default().with_name(topic("grouped")).with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(StrBytes::from_string(group.clone()).into())
            .with_topics(Some(vec![one]))
            .with_require_stable(true);
        loop {
            let answer = side.ask(&request, 7).await.unwrap();
            // Kafka answers before the marker is there.
            if answer.topics[0].partitions[0].error_code != UNSTABLE_OFFSET_COMMIT {
                break;
            }
            side.pause().await;
        }
        side.step("OffsetFetch after its end", &request, 7, |_| {}).await;
    }
}

const UNSTABLE_OFFSET_COMMIT: i16 = 88;
