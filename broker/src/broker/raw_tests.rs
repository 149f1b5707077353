//! The broker as Kafka clients use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{NOW, Rig, values};
use super::*;
use crate::batch::testing::{ClientBatch, headers_of};
use crate::batch::{BatchError, Compression};
use crate::config::{Durability, TimestampType};
use crate::fs::Crash;
use crate::raw::{AbortedTransaction, Isolation, PartitionEnds, Produced, TimeQuery, TransactionMarker};
use crate::transactions::Producer;
use crate::transactions::machine::TransactionMachine;

fn create_time() -> TopicConfig {
    let timestamp_type = TimestampType::CreateTime;
    TopicConfig { timestamp_type, timestamp_after_max_ms: Some(60 * 60 * 1000), ..TopicConfig::default() }
}

/// A broker with topic `t`.
async fn open(rig: &Rig) -> Arc<Broker> {
    let broker = Arc::new(rig.open());
    broker.ensure_topic("t", create_time()).await.unwrap();
    broker
}

/// Begins a transaction with `t/0` in it, as the coordinator does for its clients. Markers are left to the test.
async fn begin(broker: &Broker, id: &str) -> Producer {
    let id: Arc<str> = Arc::from(id);
    let of_id = Arc::clone(&id);
    let init = broker.transact(move |machine| machine.init_producer(Some(&of_id), 60_000, None, NOW)).unwrap();
    let producer = init.await.unwrap().unwrap();
    let partitions = BTreeMap::from([(Arc::from("t"), BTreeSet::from([0]))]);
    let added = broker.transact(move |machine| machine.add_partitions(&id, producer, partitions, NOW)).unwrap();
    added.await.unwrap().unwrap();
    producer
}

/// Decides a transaction.
async fn decide(broker: &Broker, id: &str, producer: Producer, commit: bool) {
    let id: Arc<str> = Arc::from(id);
    let decided = broker.transact(move |machine| machine.end(&id, producer, commit, NOW)).unwrap();
    decided.await.unwrap().unwrap();
}

/// A batch of one record in a transaction.
fn part(producer: Producer, sequence: i32, value: &str) -> ClientBatch {
    ClientBatch::of([value]).by(producer.id, producer.epoch, sequence).transactional()
}

async fn produce(broker: &Broker, batch: &ClientBatch) -> Result<Produced, BrokerError> {
    broker.produce("t", 0, batch.bytes()).await
}

fn marker(producer: Producer, commit: bool) -> TransactionMarker {
    TransactionMarker { producer_id: producer.id, producer_epoch: producer.epoch, commit, coordinator_epoch: 0 }
}

#[tokio::test]
async fn a_batch_whose_reply_was_lost_is_answered_when_it_comes_again() {
    for crash in [None, Some(Crash::Kill), Some(Crash::LoseUnsynced)] {
        let rig = Rig::new();
        let mut broker = open(&rig).await;
        produce(&broker, &ClientBatch::of(["a"]).by(7, 0, 0)).await.unwrap();
        let second = ClientBatch::of(["b", "c"]).by(7, 0, 1);
        // The caller goes away while the batch is on its way, or before it has looked at the answer.
        let mut sent = Box::pin(broker.produce("t", 0, second.bytes()));
        std::future::poll_fn(|cx| {
            drop(sent.as_mut().poll(cx));
            std::task::Poll::Ready(())
        })
        .await;
        drop(sent);
        produce(&broker, &ClientBatch::of(["d"])).await.unwrap();
        if let Some(crash) = crash {
            drop(broker);
            rig.fs.crash(crash);
            broker = Arc::new(rig.open());
        }
        let again = produce(&broker, &second).await.unwrap();
        let expected = Produced { base_offset: 1, last_offset: 2, append_time_ms: None, log_start: 0, duplicate: true };
        assert_eq!(again, expected, "{crash:?}");
        assert_eq!(values(&broker, "t", 0).await, ["a", "b", "c", "d"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_to_many_producers_survives_a_power_loss_once() {
    let rig = Rig::new();
    let broker = open(&rig).await;
    let senders = (0..20i64).map(|producer| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            for sequence in 0..25 {
                let batch = ClientBatch::of([format!("{producer}.{sequence}")]).by(producer, 0, sequence);
                assert!(!produce(&broker, &batch).await.unwrap().duplicate);
                // An impatient one sends everything twice.
                assert!(producer % 2 == 0 || produce(&broker, &batch).await.unwrap().duplicate);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    drop(broker);
    rig.fs.crash(Crash::LoseUnsynced);
    let broker = rig.open();
    let found = values(&broker, "t", 0).await;
    assert_eq!(found.len(), 500);
    for producer in 0..20 {
        let prefix = format!("{producer}.");
        let of_producer: Vec<&String> = found.iter().filter(|value| value.starts_with(&prefix)).collect();
        let expected: Vec<String> = (0..25).map(|sequence| format!("{producer}.{sequence}")).collect();
        assert_eq!(of_producer, expected.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_transactional_batch_needs_its_transaction_to_be_open_when_it_is_written() {
    let rig = Rig::new();
    let broker = open(&rig).await;
    let nobody = Producer { id: 77, epoch: 0 };
    let error = produce(&broker, &part(nobody, 0, "x")).await.unwrap_err();
    assert!(matches!(error, BrokerError::InvalidTransactionState { producer_id: 77, .. }), "{error}");
    let producer = begin(&broker, "id").await;
    produce(&broker, &part(producer, 0, "x")).await.unwrap();
    decide(&broker, "id", producer, true).await;
    let error = produce(&broker, &part(producer, 1, "y")).await.unwrap_err();
    assert!(matches!(error, BrokerError::InvalidTransactionState { .. }), "decided, though not yet marked: {error}");
    assert_eq!(broker.end_transaction("t", 0, marker(producer, true)).await.unwrap(), 1);
    assert!(produce(&broker, &part(producer, 1, "y")).await.is_err());
    assert!(
        produce(&broker, &part(producer, 0, "x")).await.unwrap().duplicate,
        "a repetition is answered all the same"
    );
    assert_eq!(broker.ends("t", 0).unwrap(), PartitionEnds { log_start: 0, last_stable_offset: 2, high_watermark: 2 });
}

#[tokio::test]
async fn a_zombie_is_fenced_as_soon_as_its_transactional_id_is_held_by_another() {
    let rig = Rig::new();
    let broker = open(&rig).await;
    let zombie = begin(&broker, "id").await;
    produce(&broker, &part(zombie, 0, "x")).await.unwrap();
    let init = |machine: &mut TransactionMachine| machine.init_producer(Some(&Arc::from("id")), 60_000, None, NOW);
    // Its transaction is to be aborted first; no marker of that has come here yet.
    assert!(broker.transact(init).unwrap().await.unwrap().is_err());
    let error = produce(&broker, &part(zombie, 1, "y")).await.unwrap_err();
    assert!(matches!(error, BrokerError::ProducerFenced { epoch: 0, current: 1, .. }), "{error}");
}

#[tokio::test]
async fn readers_wait_for_the_end_of_a_transaction_and_watchers_learn_of_each_step() {
    let rig = Rig::new();
    let broker = open(&rig).await;
    let (seven, eight) = (begin(&broker, "seven").await, begin(&broker, "eight").await);
    let mut ends = broker.watch("t", 0).unwrap();
    produce(&broker, &part(eight, 0, "aborted")).await.unwrap();
    produce(&broker, &part(seven, 0, "committed")).await.unwrap();
    let at = |last_stable_offset, high_watermark| PartitionEnds { log_start: 0, last_stable_offset, high_watermark };
    assert_eq!(*ends.borrow_and_update(), at(0, 2));
    // In between, a reader within the process sees nothing and is told that there is nothing.
    assert_eq!(broker.offsets("t", 0).unwrap(), PartitionOffsets { log_start: 0, high_watermark: 0 });
    let waiting = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.read("t", 0, 0, 1000, Duration::from_secs(60)).await.unwrap() }
    });
    let uncommitted = broker.fetch("t", 0, 0, 1000, Isolation::ReadUncommitted).await.unwrap();
    assert_eq!((headers_of(&uncommitted.batches).len(), uncommitted.aborted), (2, vec![]));
    assert!(broker.fetch("t", 0, 0, 1000, Isolation::ReadCommitted).await.unwrap().batches.is_empty());
    broker.end_transaction("t", 0, marker(seven, true)).await.unwrap();
    assert_eq!(*ends.borrow_and_update(), at(0, 3));
    assert!(!waiting.is_finished());
    broker.end_transaction("t", 0, marker(eight, false)).await.unwrap();
    assert_eq!(*ends.borrow_and_update(), at(4, 4));
    let read = waiting.await.unwrap();
    assert_eq!(read.records.iter().map(|r| r.offset).collect::<Vec<_>>(), [1]);
    assert_eq!((read.next_offset, read.high_watermark), (4, 4));
    let committed = broker.fetch("t", 0, 0, 1000, Isolation::ReadCommitted).await.unwrap();
    assert_eq!(headers_of(&committed.batches).len(), 4);
    assert_eq!(committed.aborted, [AbortedTransaction { producer_id: eight.id, first_offset: 0 }]);
    // The same for one who only looks.
    broker.shutdown().await;
    let look = rig.look();
    assert_eq!(values(&look, "t", 0).await, ["committed"]);
    assert!(matches!(look.end_transaction("t", 0, marker(seven, true)).await, Err(BrokerError::ReadOnly { .. })));
    assert!(matches!(produce(&look, &ClientBatch::of(["x"])).await, Err(BrokerError::ReadOnly { .. })));
}

#[tokio::test]
async fn the_ends_of_a_transaction_are_durable_and_written_once() {
    let rig = Rig::new();
    let broker = open(&rig).await;
    let producer = begin(&broker, "id").await;
    produce(&broker, &part(producer, 0, "x")).await.unwrap();
    assert_eq!(broker.end_transaction("t", 0, marker(producer, false)).await.unwrap(), 1);
    drop(broker);
    rig.fs.crash(Crash::LoseUnsynced);
    let broker = open(&rig).await;
    assert_eq!(broker.end_transaction("t", 0, marker(producer, false)).await.unwrap(), 1);
    assert_eq!(broker.ends("t", 0).unwrap(), PartitionEnds { log_start: 0, last_stable_offset: 2, high_watermark: 2 });
    let error = broker.end_transaction("nowhere", 0, marker(producer, false)).await.unwrap_err();
    assert!(matches!(error, BrokerError::UnknownTopicOrPartition { .. }), "{error}");
}

#[tokio::test]
async fn relaxed_durability_does_not_hold_for_transactions() {
    let mut rig = Rig::new();
    rig.config.durability = Durability::Relaxed;
    rig.config.relaxed_sync_interval_ms = 60_000;
    let broker = open(&rig).await;
    let producer = begin(&broker, "id").await;
    produce(&broker, &ClientBatch::of(["plain"])).await.unwrap();
    produce(&broker, &part(producer, 0, "transactional")).await.unwrap();
    produce(&broker, &ClientBatch::of(["plain"])).await.unwrap();
    // A copy of the disk as a power loss would leave it, while the broker still runs.
    let disk = rig.fs.clone();
    std::mem::forget(broker);
    disk.crash(Crash::LoseUnsynced);
    let twin = Rig { fs: disk, ..Rig::new() };
    let broker = twin.open();
    assert_eq!(broker.ends("t", 0).unwrap().high_watermark, 2);
}

#[tokio::test]
async fn bad_batches_are_refused_before_they_reach_the_log() {
    let rig = Rig::new();
    let broker = open(&rig).await;
    let good = ClientBatch::of(["a"]).bytes();
    let error = broker.produce("t", 3, good.clone()).await.unwrap_err();
    assert!(matches!(error, BrokerError::UnknownTopicOrPartition { partition: 3, .. }), "{error}");
    let mut flipped = good.to_vec();
    flipped[65] ^= 1;
    let error = broker.produce("t", 0, flipped.into()).await.unwrap_err();
    let crc = matches!(error, BrokerError::InvalidBatch { source: BatchError::Crc { .. }, .. });
    assert!(crc, "{error}");
    let mut early = ClientBatch::of(["a"]);
    early.records[0].timestamp_ms = Some(NOW + 2 * 60 * 60 * 1000);
    let error = produce(&broker, &early).await.unwrap_err();
    let dated = matches!(error, BrokerError::InvalidBatch { source: BatchError::Timestamp { .. }, .. });
    assert!(dated, "{error}");
    let limited = TopicConfig { max_batch_size_bytes: Some(1000), ..create_time() };
    broker.ensure_topic("small", limited).await.unwrap();
    let error = broker.produce("small", 0, ClientBatch::of(["x".repeat(1000)]).bytes()).await.unwrap_err();
    assert!(matches!(error, BrokerError::BatchTooLarge { limit_bytes: 1000, .. }), "{error}");
    assert!(broker.produce("small", 0, ClientBatch::of(["x".repeat(900)]).bytes()).await.is_ok());
    assert_eq!(broker.ends("t", 0).unwrap().high_watermark, 0);
}

#[tokio::test]
async fn records_are_found_by_time() {
    let rig = Rig::new();
    let broker = open(&rig).await;
    let at = |query| broker.timestamp_lookup("t", 0, query);
    assert_eq!(at(TimeQuery::Latest).await.unwrap(), None);
    for times in [[10, 500, 30], [700, 20, 700], [600, 40, 50]] {
        let mut batch = ClientBatch::of(["x"; 3]);
        for (record, time) in batch.records.iter_mut().zip(times) {
            record.timestamp_ms = Some(time);
        }
        produce(&broker, &batch).await.unwrap();
    }
    for (time, found) in [(0, (0, 10)), (11, (1, 500)), (501, (3, 700)), (700, (3, 700))] {
        assert_eq!(at(TimeQuery::At(time)).await.unwrap(), Some(found), "{time}");
    }
    assert_eq!(at(TimeQuery::At(701)).await.unwrap(), None);
    assert_eq!(at(TimeQuery::Latest).await.unwrap(), Some((3, 700)));
    // Deleted records are not found, and the rest of their batch is.
    broker.delete_records("t", 0, 4).await.unwrap();
    assert_eq!(at(TimeQuery::Latest).await.unwrap(), Some((5, 700)));
    assert_eq!(at(TimeQuery::At(0)).await.unwrap(), Some((4, 20)));
    broker.delete_records("t", 0, 6).await.unwrap();
    assert_eq!(at(TimeQuery::Latest).await.unwrap(), Some((6, 600)));
    broker.delete_records("t", 0, 9).await.unwrap();
    assert_eq!(at(TimeQuery::Latest).await.unwrap(), None);
}

/// Steps whatever waits until the future is ready.
async fn stepped<T>(stepper: &mut Stepper, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        for _ in 0..100 {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(cx) {
                return std::task::Poll::Ready(value);
            }
            (0..stepper.writers()).for_each(|writer| stepper.step_writer(writer));
            stepper.step_committer();
        }
        panic!("nothing comes of it");
    })
    .await
}

#[tokio::test]
async fn without_threads_the_same_steps_leave_the_same_log() {
    let mut logs = Vec::new();
    for _ in 0..2 {
        let rig = Rig::new();
        let clock = Arc::clone(&rig.clock) as Arc<dyn Clock>;
        let new_id = || uuid::Uuid::from_u128(1);
        let (broker, mut stepper) =
            Broker::open_stepped(rig.config.clone(), Arc::new(rig.fs.clone()), clock, new_id).unwrap();
        stepped(&mut stepper, broker.ensure_topic("t", create_time())).await.unwrap();
        let producer = stepped(&mut stepper, begin(&broker, "id")).await;
        for sequence in 0..20 {
            let batch = part(producer, sequence, &"x".repeat(sequence as usize * 100)).packed(Compression::Zstd);
            stepped(&mut stepper, produce(&broker, &batch)).await.unwrap();
        }
        stepped(&mut stepper, broker.end_transaction("t", 0, marker(producer, true))).await.unwrap();
        assert_eq!(broker.ends("t", 0).unwrap().last_stable_offset, 21);
        logs.push(broker.fetch("t", 0, 0, 1 << 20, Isolation::ReadCommitted).await.unwrap());
        stepper.finish();
    }
    assert_eq!(logs[0], logs[1]);
    assert_eq!(headers_of(&logs[0].batches).len(), 21);
}
