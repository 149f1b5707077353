//! InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn, and what Produce, Fetch and OffsetFetch make of them.

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};

use super::*;

const UNKNOWN_TOPIC: i16 = 3;
const METADATA_TOO_LARGE: i16 = 12;
const ILLEGAL_GENERATION: i16 = 22;
const TOPIC_AUTHORIZATION: i16 = 29;
const GROUP_AUTHORIZATION: i16 = 30;
const INVALID_REQUEST: i16 = 42;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const NOT_ATTEMPTED: i16 = 55;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;

#[derive(Clone, Copy)]
struct Seat {
    id: i64,
    epoch: i16,
}

fn txn(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// A client that speaks of transactional id `app`.
struct Producer {
    client: Client<TcpStream>,
}

impl Producer {
    async fn new(door: &Door) -> Self {
        Self { client: door.dial().await }
    }

    async fn try_init(&mut self, current: Option<Seat>, version: i16) -> Result<Seat, i16> {
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(Some(txn("app")))
            .with_transaction_timeout_ms(60_000);
        if let Some(Seat { id, epoch }) = current {
            request = request.with_producer_id(ProducerId(id)).with_producer_epoch(epoch);
        }
        let answer = self.client.ask(&request, version).await;
        if answer.error_code != 0 {
            assert_eq!((answer.producer_id.0, answer.producer_epoch), (-1, -1));
            return Err(answer.error_code);
        }
        Ok(Seat { id: answer.producer_id.0, epoch: answer.producer_epoch })
    }

    async fn init(&mut self) -> Seat {
        loop {
            match self.try_init(None, 4).await {
                Ok(seat) => return seat,
                Err(CONCURRENT_TRANSACTIONS) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(code) => panic!("error {code}"),
            }
        }
    }

    /// Codes by topic and partition.
    async fn add(&mut self, seat: Seat, partitions: &[(&str, &[i32])], version: i16) -> Vec<(String, i32, i16)> {
        let topics = partitions.iter().map(|(topic, partitions)| {
            AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(partitions.to_vec())
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(txn("app"))
            .with_v3_and_below_producer_id(ProducerId(seat.id))
            .with_v3_and_below_producer_epoch(seat.epoch)
            .with_v3_and_below_topics(topics.collect());
        let answer = self.client.ask(&request, version).await;
        let of_topic = |topic: add_partitions_to_txn_response::AddPartitionsToTxnTopicResult| {
            let name = topic.name.to_string();
            let partitions = topic.results_by_partition.into_iter();
            partitions.map(move |p| (name.clone(), p.partition_index, p.partition_error_code)).collect::<Vec<_>>()
        };
        answer.results_by_topic_v3_and_below.into_iter().flat_map(of_topic).collect()
    }

    async fn add_group(&mut self, seat: Seat, group: &str, version: i16) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(txn("app"))
            .with_producer_id(ProducerId(seat.id))
            .with_producer_epoch(seat.epoch)
            .with_group_id(GroupId(text(group)));
        self.client.ask(&request, version).await.error_code
    }

    /// Codes by partition of topic `in`.
    async fn commit(&mut self, seat: Seat, group: &str, generation: i32, offsets: &[Offset<'_>]) -> Vec<(i32, i16)> {
        let partitions = offsets.iter().map(|offset| {
            TxnOffsetCommitRequestPartition::default()
                .with_partition_index(offset.partition)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(0)
                .with_committed_metadata(Some(text(offset.metadata)))
        });
        let topic =
            TxnOffsetCommitRequestTopic::default().with_name(topic_name("in")).with_partitions(partitions.collect());
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(txn("app"))
            .with_group_id(GroupId(text(group)))
            .with_producer_id(ProducerId(seat.id))
            .with_producer_epoch(seat.epoch)
            .with_generation_id(generation)
            .with_topics(vec![topic]);
        let answer = self.client.ask(&request, 3).await.topics.remove(0);
        assert_eq!(*answer.name, text("in"));
        answer.partitions.iter().map(|p| (p.partition_index, p.error_code)).collect()
    }

    async fn end(&mut self, seat: Seat, commit: bool, version: i16) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(txn("app"))
            .with_producer_id(ProducerId(seat.id))
            .with_producer_epoch(seat.epoch)
            .with_committed(commit);
        self.client.ask(&request, version).await.error_code
    }

    async fn produce(&mut self, seat: Seat, topic: &str, sequence: i32, value: &str) -> i16 {
        let stamp = Stamp {
            producer_id: seat.id,
            producer_epoch: seat.epoch,
            sequence,
            transactional: true,
            ..Stamp::default()
        };
        let request = produce(&[(topic, 0, stamped(&[value], stamp))]).with_transactional_id(Some(txn("app")));
        self.client.ask(&request, 9).await.responses.remove(0).partition_responses.remove(0).error_code
    }

    /// What a reader of committed records is sent: values, first offsets of what was aborted, the last stable offset.
    async fn committed(&mut self, topic: &str) -> (Vec<String>, Vec<i64>, i64) {
        let partition =
            FetchPartition::default().with_partition(0).with_fetch_offset(0).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let partition = self.client.ask(&request, 12).await.responses.remove(0).partitions.remove(0);
        assert_eq!(partition.error_code, 0);
        let aborted = partition.aborted_transactions.unwrap_or_default().iter().map(|a| a.first_offset).collect();
        let records = RecordBatchDecoder::decode_all(&mut partition.records.unwrap_or_default()).unwrap();
        let records = records.into_iter().flat_map(|set| set.records).filter(|record| !record.control);
        let values = records.map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()).collect();
        (values, aborted, partition.last_stable_offset)
    }

    /// Code and offset of a group in partition 0 of `in`.
    async fn offset(&mut self, group: &str, stable: bool) -> (i16, i64) {
        let topic = OffsetFetchRequestTopics::default().with_name(topic_name("in")).with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group)));
        let asked = group.clone().with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(stable);
        let answer = self.client.ask(&request, 8).await.groups.remove(0).topics.remove(0).partitions.remove(0);
        // Asked for all there is, it is answered the same way.
        let request = request.with_groups(vec![group.with_topics(None)]);
        if let Some(topic) = self.client.ask(&request, 8).await.groups.remove(0).topics.first() {
            let all = &topic.partitions[0];
            assert_eq!((all.error_code, all.committed_offset), (answer.error_code, answer.committed_offset));
        }
        (answer.error_code, answer.committed_offset)
    }
}

#[derive(Clone, Copy)]
struct Offset<'a> {
    partition: i32,
    offset: i64,
    metadata: &'a str,
}

fn at(offset: i64) -> [Offset<'static>; 1] {
    [Offset { partition: 0, offset, metadata: "" }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_transform_produce() {
    let door = Door::open().await;
    door.topic("in", 1).await;
    door.topic("out", 1).await;
    let mut producer = Producer::new(&door).await;
    let seat = producer.init().await;
    let ok = |topic: &str| vec![(topic.to_owned(), 0, 0)];
    for version in 0..=3 {
        let (first, offset) = (i32::from(version) * 2, 10 + i64::from(version));
        assert_eq!(producer.add(seat, &[("out", &[0])], version).await, ok("out"));
        assert_eq!(producer.produce(seat, "out", first, "yes").await, 0);
        assert_eq!(producer.add_group(seat, "g", version).await, 0);
        assert_eq!(producer.commit(seat, "g", -1, &at(offset)).await, [(0, 0)]);
        let before = if version == 0 { -1 } else { offset - 1 };
        assert_eq!(producer.offset("g", false).await, (0, before), "version {version}");
        assert_eq!(producer.offset("g", true).await, (UNSTABLE_OFFSET_COMMIT, -1));
        assert_eq!(producer.end(seat, true, version).await, 0);
        assert_eq!(producer.offset("g", true).await, (0, offset));

        assert_eq!(producer.add(seat, &[("out", &[0])], version).await, ok("out"));
        assert_eq!(producer.produce(seat, "out", first + 1, "no").await, 0);
        assert_eq!(producer.add_group(seat, "g", version).await, 0);
        assert_eq!(producer.commit(seat, "g", -1, &at(99)).await, [(0, 0)]);
        assert_eq!(producer.end(seat, false, version).await, 0);
        assert_eq!(producer.offset("g", true).await, (0, offset));
    }
    let (values, aborted, stable) = producer.committed("out").await;
    // The client leaves out what was aborted: the broker sends whole batches, and says which.
    assert_eq!(values, ["yes", "no", "yes", "no", "yes", "no", "yes", "no"]);
    assert_eq!((aborted, stable), (vec![2, 6, 10, 14], 16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_of_a_request_says_in_its_way_that_a_producer_is_fenced() {
    let door = Door::open().await;
    door.topic("in", 1).await;
    door.topic("out", 1).await;
    let mut producer = Producer::new(&door).await;
    let old = producer.init().await;
    producer.add(old, &[("out", &[0])], 3).await;
    assert_eq!(producer.produce(old, "out", 0, "old").await, 0);
    assert_eq!(
        producer.try_init(None, 0).await.err(),
        Some(CONCURRENT_TRANSACTIONS),
        "its transaction is aborted first"
    );
    let new = producer.init().await;
    assert_eq!((new.id, new.epoch), (old.id, old.epoch + 2));
    for version in 0..=3 {
        let code = if version < 2 { INVALID_PRODUCER_EPOCH } else { PRODUCER_FENCED };
        assert_eq!(producer.add(old, &[("out", &[0])], version).await, [("out".to_owned(), 0, code)]);
        assert_eq!(producer.add_group(old, "g", version).await, code);
        assert_eq!(producer.end(old, true, version).await, code);
    }
    for (version, code) in [(3, INVALID_PRODUCER_EPOCH), (4, PRODUCER_FENCED)] {
        assert_eq!(producer.try_init(Some(old), version).await.err(), Some(code));
    }
    assert_eq!(producer.commit(old, "g", -1, &at(1)).await, [(0, INVALID_PRODUCER_EPOCH)]);
    assert_eq!(producer.produce(old, "out", 1, "zombie").await, INVALID_PRODUCER_EPOCH);
    let stranger = Seat { id: new.id + 1, epoch: 0 };
    assert_eq!(producer.end(stranger, true, 3).await, INVALID_PRODUCER_ID_MAPPING);
    let next = producer.try_init(Some(new), 3).await.unwrap();
    assert_eq!((next.id, next.epoch), (new.id, new.epoch + 1), "who is in charge goes on with the next epoch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_added_all_or_none() {
    let may_write = Arc::new(|topic: &str| topic != "own");
    let door = Door::with(DoorSettings { may_write, ..DoorSettings::default() }).await;
    door.topic("out", 2).await;
    door.topic("own", 1).await;
    let mut producer = Producer::new(&door).await;
    let seat = producer.init().await;
    let answers = producer.add(seat, &[("out", &[0, 1, 2]), ("own", &[0]), ("none", &[0])], 3).await;
    let codes: Vec<_> = answers.iter().map(|(topic, partition, code)| (topic.as_str(), *partition, *code)).collect();
    assert_eq!(
        codes,
        [
            ("out", 0, NOT_ATTEMPTED),
            ("out", 1, NOT_ATTEMPTED),
            ("out", 2, UNKNOWN_TOPIC),
            ("own", 0, TOPIC_AUTHORIZATION),
            ("none", 0, UNKNOWN_TOPIC)
        ]
    );
    assert_eq!(producer.produce(seat, "out", 0, "x").await, INVALID_TXN_STATE);
    assert_eq!(producer.end(seat, true, 3).await, INVALID_TXN_STATE, "nothing has begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_refused_one_by_one_or_by_the_group() {
    let door = Door::open().await;
    door.topic("in", 1).await;
    let mut producer = Producer::new(&door).await;
    let seat = producer.init().await;
    assert_eq!(producer.commit(seat, "g", -1, &at(1)).await, [(0, INVALID_TXN_STATE)], "the group was not added");
    assert_eq!(producer.add_group(seat, "__highwater.tables", 3).await, GROUP_AUTHORIZATION);
    assert_eq!(producer.add_group(seat, "g", 3).await, 0);
    let long = "m".repeat(4097);
    let offsets =
        [Offset { partition: 0, offset: 5, metadata: "fine" }, Offset { partition: 7, offset: 5, metadata: "" }];
    assert_eq!(producer.commit(seat, "g", -1, &offsets).await, [(0, 0), (7, UNKNOWN_TOPIC)]);
    let too_long = [Offset { partition: 0, offset: 9, metadata: &long }];
    assert_eq!(producer.commit(seat, "g", -1, &too_long).await, [(0, METADATA_TOO_LARGE)]);
    assert_eq!(producer.commit(seat, "__highwater.tables", -1, &at(1)).await, [(0, GROUP_AUTHORIZATION)]);
    assert_eq!(producer.commit(seat, "g", 3, &at(9)).await, [(0, ILLEGAL_GENERATION)], "no such generation");
    assert_eq!(producer.end(seat, true, 3).await, 0);
    assert_eq!(producer.offset("g", true).await, (0, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_are_asked_for_in_every_version() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    let mut last = -1;
    for version in 0..=4 {
        let answer = client.ask(&InitProducerIdRequest::default().with_transactional_id(None), version).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
        assert!(answer.producer_id.0 > last, "version {version}");
        last = answer.producer_id.0;
    }
    let transactional = InitProducerIdRequest::default().with_transactional_id(Some(txn("app")));
    for (timeout_ms, code) in [(0, INVALID_TRANSACTION_TIMEOUT), (900_001, INVALID_TRANSACTION_TIMEOUT), (900_000, 0)] {
        let request = transactional.clone().with_transaction_timeout_ms(timeout_ms);
        assert_eq!(client.ask(&request, 4).await.error_code, code, "{timeout_ms} ms");
    }
    let half = transactional.clone().with_transaction_timeout_ms(1000).with_producer_id(ProducerId(5));
    assert_eq!(client.ask(&half, 4).await.error_code, INVALID_REQUEST, "an id without an epoch");
    let empty = InitProducerIdRequest::default().with_transactional_id(Some(txn(""))).with_transaction_timeout_ms(1000);
    assert_eq!(client.ask(&empty, 4).await.error_code, INVALID_REQUEST);
}

#[tokio::test]
async fn versions_are_those_that_have_clients_take_transactions_of_version_1() {
    let door = Door::open().await;
    let answer = door.dial().await.ask(&ApiVersionsRequest::default(), 0).await;
    let highest = |key: ApiKey| {
        let api = answer.api_keys.iter().find(|api| api.api_key == key as i16);
        api.map(|api| (api.min_version, api.max_version))
    };
    assert_eq!(highest(ApiKey::InitProducerId), Some((0, 4)));
    for key in [ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn, ApiKey::EndTxn, ApiKey::TxnOffsetCommit] {
        assert_eq!(highest(key), Some((0, 3)), "{key:?}");
    }
}
