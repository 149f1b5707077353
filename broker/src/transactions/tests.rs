//! Transactions over a broker with its threads: requests, the log, and what readers see.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use super::machine::{PendingOffsets, Phase};
use super::testing::{NOW, TestClock, batch, committed_values, name};
use super::{Producer, TransactionError, Transactions};
use crate::broker::Broker;
use crate::coordinator::{Committed, CommittedOffset};
use crate::fs::{Crash, SimFs};
use crate::raw::{Isolation, TransactionMarker};
use crate::topic_config::TopicConfig;
use crate::{BrokerConfig, BrokerError, Clock};

const TIMEOUT_MS: i32 = 10_000;

struct Rig {
    fs: SimFs,
    clock: Arc<TestClock>,
    broker: Arc<Broker>,
    transactions: Arc<Transactions>,
}

impl Rig {
    /// A broker with topic `out` of two partitions and `in` of one.
    async fn new() -> Self {
        let (fs, clock) = (SimFs::new(), Arc::new(TestClock::default()));
        let broker = open(&fs, &clock);
        broker.ensure_topic("out", TopicConfig::kafka(2)).await.unwrap();
        broker.ensure_topic("in", TopicConfig::kafka(1)).await.unwrap();
        let transactions = Transactions::start(Arc::clone(&broker));
        Self { fs, clock, broker, transactions }
    }

    /// The process dies and another one starts.
    async fn restart(&mut self, crash: Crash) {
        self.fs.crash(crash);
        self.broker = open(&self.fs, &self.clock);
        self.transactions = Transactions::start(Arc::clone(&self.broker));
    }

    async fn init(&self) -> Producer {
        loop {
            match self.transactions.init_producer(Some("app"), TIMEOUT_MS, None).await {
                Ok(producer) => return producer,
                Err(TransactionError::ConcurrentTransactions { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Adds the partition and writes a value to it.
    async fn write(&self, producer: Producer, partition: i32, sequence: i32, value: &str) {
        self.transactions.add_partitions("app", producer, vec![(name("out"), partition)]).await.unwrap();
        let batch = batch(producer, sequence, &[value.to_owned()]);
        self.broker.produce("out", partition, batch).await.unwrap();
    }

    async fn add_offset(&self, producer: Producer, offset: i64) {
        self.transactions.add_group("app", producer, "readers").await.unwrap();
        self.transactions.add_offsets("app", producer, "readers", self.pending(offset)).await.unwrap();
    }

    fn pending(&self, offset: i64) -> PendingOffsets {
        let (topic, topic_id) = self.broker.topic_id_of("in", 0).unwrap();
        let metadata = "note".to_owned();
        let committed =
            Committed { offset, leader_epoch: 3, metadata, committed_at_ms: Some(NOW), expires_at_ms: None };
        let key = (Arc::clone(&topic), 0);
        PendingOffsets::from([(key, CommittedOffset { topic, topic_id, partition: 0, committed })])
    }

    fn offset(&self) -> Option<i64> {
        self.broker.committed("readers").first().map(|offset| offset.offset)
    }

    fn phase(&self) -> Phase {
        self.broker.coordinator().with_transactions(|table| table.get("app").unwrap().phase)
    }

    /// What readers of committed records see in both partitions of `out`.
    async fn seen(&self) -> [Vec<String>; 2] {
        [committed_values(&self.broker, "out", 0).await, committed_values(&self.broker, "out", 1).await]
    }

    /// Lets time pass until nothing of a transaction is left open.
    async fn settle(&self) {
        for _ in 0..20_000 {
            let at_rest = self
                .broker
                .coordinator()
                .with_transactions(|table| table.ongoing().next().is_none() && table.decided().next().is_none());
            let stable = (0..2).all(|partition| {
                let ends = self.broker.ends("out", partition).unwrap();
                ends.last_stable_offset == ends.high_watermark
            });
            if at_rest && stable {
                return;
            }
            self.clock.advance_ms(100);
            // For the threads of the broker, whose time is real.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("a transaction hangs");
    }
}

fn open(fs: &SimFs, clock: &Arc<TestClock>) -> Arc<Broker> {
    let config = BrokerConfig { segment_size_bytes: 64 << 10, ..BrokerConfig::new("/data") };
    Arc::new(Broker::open(config, Arc::new(fs.clone()), Arc::clone(clock) as Arc<dyn Clock>).unwrap())
}

fn words(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_transaction_is_seen_whole_and_an_aborted_one_not_at_all() {
    let rig = Rig::new().await;
    let producer = rig.init().await;
    rig.write(producer, 0, 0, "a").await;
    rig.write(producer, 1, 0, "b").await;
    rig.add_offset(producer, 7).await;
    assert_eq!(rig.seen().await, [words(&[]), words(&[])]);
    assert_eq!(rig.offset(), None);
    assert_eq!(rig.transactions.pending("readers"), [(name("in"), 0)].into());

    rig.transactions.end("app", producer, true).await.unwrap();
    assert_eq!(rig.phase(), Phase::CompleteCommit, "the answer waits for the markers");
    assert_eq!(rig.seen().await, [words(&["a"]), words(&["b"])]);
    assert_eq!(rig.offset(), Some(7));
    assert!(rig.transactions.pending("readers").is_empty());
    let committed = rig.broker.coordinator().offset("readers", &name("in"), 0).unwrap();
    let expected = Committed {
        offset: 7,
        leader_epoch: 3,
        metadata: "note".into(),
        committed_at_ms: Some(NOW),
        expires_at_ms: None,
    };
    assert_eq!(committed, expected);

    rig.write(producer, 0, 1, "c").await;
    rig.add_offset(producer, 9).await;
    rig.transactions.end("app", producer, false).await.unwrap();
    rig.write(producer, 0, 2, "d").await;
    rig.transactions.end("app", producer, true).await.unwrap();
    assert_eq!(rig.seen().await, [words(&["a", "d"]), words(&["b"])]);
    assert_eq!(rig.offset(), Some(7));
    let fetched = rig.broker.fetch("out", 0, 0, 1 << 20, Isolation::ReadCommitted).await.unwrap();
    let aborted: Vec<_> = fetched.aborted.iter().map(|a| (a.producer_id, a.first_offset)).collect();
    assert_eq!(aborted, [(producer.id, 2)], "a, marker, c: the aborted one begins at 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_lands_outside_its_transaction() {
    let rig = Rig::new().await;
    let producer = rig.init().await;
    let try_write = async |producer: Producer, partition, sequence| {
        rig.broker.produce("out", partition, batch(producer, sequence, &words(&["x"]))).await
    };
    let refused = try_write(producer, 0, 0).await;
    assert!(matches!(refused, Err(BrokerError::InvalidTransactionState { .. })), "{refused:?}");
    rig.write(producer, 0, 0, "a").await;
    let refused = try_write(producer, 1, 0).await;
    assert!(matches!(refused, Err(BrokerError::InvalidTransactionState { .. })), "another partition: {refused:?}");
    rig.transactions.end("app", producer, true).await.unwrap();
    let refused = try_write(producer, 0, 1).await;
    assert!(matches!(refused, Err(BrokerError::InvalidTransactionState { .. })), "after the end: {refused:?}");
    assert_eq!(rig.seen().await, [words(&["a"]), words(&[])]);
    let ends = rig.broker.ends("out", 0).unwrap();
    assert_eq!((ends.last_stable_offset, ends.high_watermark), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_run_fences_the_old_one_everywhere() {
    let rig = Rig::new().await;
    let old = rig.init().await;
    rig.write(old, 0, 0, "old").await;
    rig.add_offset(old, 5).await;
    let new = rig.init().await;
    assert_eq!(new, Producer { id: old.id, epoch: old.epoch + 2 });
    let refused = rig.broker.produce("out", 0, batch(old, 1, &words(&["zombie"]))).await;
    assert!(matches!(refused, Err(BrokerError::ProducerFenced { .. })), "{refused:?}");
    // Also where no marker has told the partition.
    let refused = rig.broker.produce("out", 1, batch(old, 0, &words(&["zombie"]))).await;
    assert!(matches!(refused, Err(BrokerError::ProducerFenced { .. })), "{refused:?}");
    let ended = rig.transactions.end("app", old, true).await;
    assert!(matches!(ended, Err(TransactionError::ProducerFenced { .. })), "{ended:?}");
    let added = rig.transactions.add_offsets("app", old, "readers", rig.pending(6)).await;
    assert!(matches!(added, Err(TransactionError::ProducerFenced { .. })), "{added:?}");
    rig.write(new, 0, 0, "new").await;
    rig.transactions.end("app", new, true).await.unwrap();
    assert_eq!(rig.seen().await, [words(&["new"]), words(&[])]);
    assert_eq!(rig.offset(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_died_holds_readers_up_no_longer_than_its_timeout() {
    let rig = Rig::new().await;
    let producer = rig.init().await;
    rig.write(producer, 0, 0, "half").await;
    rig.clock.jump_ms(-24 * 60 * 60 * 1000);
    rig.settle().await;
    assert!(rig.clock.elapsed_ms() >= i64::from(TIMEOUT_MS), "not before it is over");
    assert_eq!(rig.seen().await, [words(&[]), words(&[])]);
    let ended = rig.transactions.end("app", producer, true).await;
    assert!(matches!(ended, Err(TransactionError::ProducerFenced { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_before_a_crash_is_finished_after_it() {
    for (commit, crash) in [(true, Crash::Kill), (true, Crash::LoseUnsynced), (false, Crash::LoseUnsynced)] {
        let mut rig = Rig::new().await;
        let producer = rig.init().await;
        rig.write(producer, 0, 0, "a").await;
        rig.write(producer, 1, 0, "b").await;
        rig.add_offset(producer, 7).await;
        // Only the decision, and one of the two markers: the process dies before the rest.
        rig.transactions = Arc::new(Transactions::idle(Arc::clone(&rig.broker)));
        let decided = rig.transactions.decide_only("app", producer, commit).await;
        assert!(decided.is_ok(), "{decided:?}");
        let marker = TransactionMarker {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            commit,
            coordinator_epoch: 0,
        };
        rig.broker.end_transaction("out", 0, marker).await.unwrap();
        rig.restart(crash).await;
        assert_eq!(rig.offset(), commit.then_some(7), "the offsets come with the decision");
        rig.settle().await;
        let expected = if commit { [words(&["a"]), words(&["b"])] } else { [words(&[]), words(&[])] };
        assert_eq!(rig.seen().await, expected);
        let ends = [rig.broker.ends("out", 0).unwrap(), rig.broker.ends("out", 1).unwrap()];
        assert_eq!(ends.map(|e| e.high_watermark), [2, 2], "each partition has one marker");
        // And the same again is answered the same way.
        rig.transactions.end("app", producer, commit).await.unwrap();
        assert!(rig.transactions.end("app", producer, !commit).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_survives_a_restart_and_goes_on() {
    let mut rig = Rig::new().await;
    let producer = rig.init().await;
    rig.write(producer, 0, 0, "before").await;
    rig.add_offset(producer, 7).await;
    rig.restart(Crash::LoseUnsynced).await;
    assert_eq!(rig.transactions.pending("readers"), [(name("in"), 0)].into());
    rig.write(producer, 1, 0, "after").await;
    rig.transactions.end("app", producer, true).await.unwrap();
    assert_eq!(rig.seen().await, [words(&["before"]), words(&["after"])]);
    assert_eq!(rig.offset(), Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_are_never_given_out_twice() {
    let mut rig = Rig::new().await;
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..4 {
        for _ in 0..3 {
            let producer = rig.transactions.init_producer(None, 0, None).await.unwrap();
            assert_eq!(producer.epoch, 0);
            assert!(seen.insert(producer.id), "{} in round {round}", producer.id);
        }
        rig.restart([Crash::Kill, Crash::LoseUnsynced, Crash::Tear(round)][round as usize % 3]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_does_not_keep_its_transactions_from_ending() {
    let rig = Rig::new().await;
    let producer = rig.init().await;
    rig.broker.ensure_topic("gone", TopicConfig::kafka(1)).await.unwrap();
    rig.transactions.add_partitions("app", producer, vec![(name("gone"), 0)]).await.unwrap();
    rig.broker.produce("gone", 0, batch(producer, 0, &words(&["x"]))).await.unwrap();
    rig.write(producer, 0, 0, "a").await;
    rig.add_offset(producer, 7).await;
    rig.broker.delete_topic("gone").await.unwrap();
    rig.broker.delete_topic("in").await.unwrap();
    assert!(rig.transactions.pending("readers").is_empty());
    rig.transactions.end("app", producer, true).await.unwrap();
    assert_eq!(rig.phase(), Phase::CompleteCommit);
    assert_eq!(rig.seen().await[0], words(&["a"]));
    assert_eq!(rig.offset(), None, "offsets of a deleted topic are nobody's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_journal_leaves_no_transaction_open_and_no_producer_id_to_be_given_out_again() {
    let mut rig = Rig::new().await;
    let producer = rig.init().await;
    rig.write(producer, 0, 0, "a").await;
    rig.fs.crash(Crash::LoseUnsynced);
    let journals = crate::fs::Fs::read_dir(&rig.fs, std::path::Path::new("/data/groups")).unwrap();
    for journal in journals.iter().filter(|entry| entry.name.ends_with(".journal")) {
        let path = std::path::Path::new("/data/groups").join(&journal.name);
        crate::fs::Fs::remove_file(&rig.fs, &path).unwrap();
    }
    rig.restart(Crash::Kill).await;
    rig.settle().await;
    assert_eq!(rig.seen().await, [words(&[]), words(&[])]);
    let ends = rig.broker.ends("out", 0).unwrap();
    assert_eq!((ends.last_stable_offset, ends.high_watermark), (2, 2), "it is aborted");
    let next = rig.init().await;
    assert!(next.id > producer.id, "{next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_that_cannot_be_written_is_tried_again_after_a_restart() {
    let mut rig = Rig::new().await;
    let producer = rig.init().await;
    rig.write(producer, 0, 0, "a").await;
    rig.write(producer, 1, 0, "b").await;
    rig.fs.fail_next_sync("out/1");
    let end = {
        let transactions = Arc::clone(&rig.transactions);
        tokio::spawn(async move { transactions.end("app", producer, true).await })
    };
    while !end.is_finished() {
        // Not before it is decided: the transaction would time out.
        if rig.phase() == Phase::PrepareCommit {
            rig.clock.advance_ms(100);
        }
        tokio::task::yield_now().await;
    }
    end.await.unwrap().unwrap();
    assert_eq!(rig.phase(), Phase::PrepareCommit, "decided, and not complete");
    let again = rig.transactions.add_partitions("app", producer, vec![(name("out"), 0)]).await;
    assert!(matches!(again, Err(TransactionError::ConcurrentTransactions { .. })), "{again:?}");
    rig.restart(Crash::LoseUnsynced).await;
    rig.settle().await;
    assert_eq!(rig.seen().await, [words(&["a"]), words(&["b"])]);
    assert_eq!(rig.phase(), Phase::CompleteCommit);
}
