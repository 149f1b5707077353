#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use uuid::Uuid;

use super::*;
use crate::coordinator::{Committed, CommittedOffset};

const NOW: i64 = 1_700_000_000_000;
const DAY: i64 = 24 * 60 * 60 * 1000;

fn machine() -> TransactionMachine {
    TransactionMachine::new(TransactionTable::default(), TransactionSettings::default())
}

/// Does what the coordinator does: writes and applies, then answers.
fn done<T>(
    machine: &mut TransactionMachine,
    decide: impl FnOnce(&mut TransactionMachine) -> Step<T>,
) -> Result<T, TransactionError> {
    let step = decide(machine);
    step.entries.into_iter().for_each(|entry| machine.apply(entry));
    step.answer
}

fn id() -> Arc<str> {
    Arc::from("app-1")
}

fn init(machine: &mut TransactionMachine, current: Option<Producer>) -> Result<Producer, TransactionError> {
    done(machine, |m| m.init_producer(Some(&id()), 60_000, current, NOW))
}

fn add(machine: &mut TransactionMachine, producer: Producer) -> Result<(), TransactionError> {
    let partitions = Partitions::from([(Arc::from("orders"), [0, 1].into())]);
    done(machine, |m| m.add_partitions(&id(), producer, partitions, NOW))
}

fn end(machine: &mut TransactionMachine, producer: Producer, commit: bool) -> Result<(), TransactionError> {
    done(machine, |m| m.end(&id(), producer, commit, NOW))
}

fn complete(machine: &mut TransactionMachine) {
    let producer = machine.table().get("app-1").unwrap().producer;
    done(machine, |m| m.complete(&id(), producer, NOW)).unwrap();
}

fn phase(machine: &TransactionMachine) -> Phase {
    machine.table().get("app-1").unwrap().phase
}

fn pending(topic: &str, partition: i32, offset: i64) -> PendingOffsets {
    let committed =
        Committed { offset, leader_epoch: 0, metadata: "m".into(), committed_at_ms: Some(NOW), expires_at_ms: None };
    let offset = CommittedOffset { topic: Arc::from(topic), topic_id: Uuid::from_u128(7), partition, committed };
    PendingOffsets::from([((Arc::from(topic), partition), offset)])
}

fn has_pending(machine: &TransactionMachine, group: &str, partition: i32) -> bool {
    machine.table().pending(group).contains(&(Arc::from("in"), partition))
}

fn tick(machine: &mut TransactionMachine, now_ms: i64, elapsed_ms: i64) -> usize {
    done(machine, |m| m.tick(now_ms, elapsed_ms)).unwrap()
}

/// The name of an error, as Kafka has it.
fn name<T: std::fmt::Debug>(result: Result<T, TransactionError>) -> &'static str {
    match result.unwrap_err() {
        TransactionError::InvalidProducerIdMapping { .. } => "INVALID_PRODUCER_ID_MAPPING",
        TransactionError::ProducerFenced { .. } => "PRODUCER_FENCED",
        TransactionError::ConcurrentTransactions { .. } => "CONCURRENT_TRANSACTIONS",
        TransactionError::InvalidState { .. } => "INVALID_TXN_STATE",
        TransactionError::InvalidTimeout { .. } => "INVALID_TRANSACTION_TIMEOUT",
        TransactionError::InvalidRequest { .. } => "INVALID_REQUEST",
        TransactionError::TooManyIds { .. } => "POLICY_VIOLATION",
        TransactionError::Broker(_) => "BROKER",
    }
}

#[test]
fn producer_ids_come_from_blocks_that_are_put_aside_first() {
    let mut machine = machine();
    let first = machine.init_producer(None, 0, None, NOW);
    assert_eq!(first.entries, [TransactionEntry::ProducerIds { below: 1000 }]);
    assert_eq!(first.answer.unwrap(), Producer { id: 0, epoch: 0 });
    first.entries.into_iter().for_each(|entry| machine.apply(entry));
    for expected in 1..1000 {
        let step = machine.init_producer(None, 0, None, NOW);
        assert_eq!(step.entries, []);
        assert_eq!(step.answer.unwrap().id, expected);
    }
    let next = machine.init_producer(None, 0, None, NOW);
    assert_eq!(next.entries, [TransactionEntry::ProducerIds { below: 2000 }]);
    assert_eq!(next.answer.unwrap().id, 1000);
    // Not written: the id is lost, not given out again; and its block is asked for again.
    let again = machine.init_producer(None, 0, None, NOW);
    assert_eq!(again.entries, [TransactionEntry::ProducerIds { below: 2001 }]);
    assert_eq!(again.answer.unwrap().id, 1001);
}

#[test]
fn a_restart_gives_out_no_producer_id_twice() {
    let mut before = machine();
    let last = done(&mut before, |m| m.init_producer(None, 0, None, NOW)).unwrap().id;
    let mut after = TransactionMachine::new(before.table().clone(), TransactionSettings::default());
    let next = done(&mut after, |m| m.init_producer(None, 0, None, NOW)).unwrap().id;
    assert_eq!((last, next), (0, 1000));
    after.raise_producer_id(5000);
    assert_eq!(done(&mut after, |m| m.init_producer(None, 0, None, NOW)).unwrap().id, 5001);
    assert_eq!(after.table().producer_ids_below(), 6001);
    // Whoever wrote this made it up: it must not use up the ids of the others.
    after.raise_producer_id(i64::MAX - 1);
    assert_eq!(done(&mut after, |m| m.init_producer(None, 0, None, NOW)).unwrap().id, 5002);
}

#[test]
fn a_transaction_begins_with_its_first_partition_and_ends_once() {
    let mut machine = machine();
    let producer = init(&mut machine, None).unwrap();
    assert_eq!(producer, Producer { id: 0, epoch: 0 });
    assert_eq!(phase(&machine), Phase::Empty);
    assert!(!machine.table().is_open(producer, "orders", 0));
    assert_eq!(name(end(&mut machine, producer, true)), "INVALID_TXN_STATE");

    add(&mut machine, producer).unwrap();
    assert_eq!(phase(&machine), Phase::Ongoing);
    assert!(machine.table().is_open(producer, "orders", 1));
    assert!(!machine.table().is_open(producer, "orders", 2), "a partition that was not added");
    assert!(!machine.table().is_open(producer, "order", 1), "a topic that was not added");
    assert!(!machine.table().is_open(Producer { epoch: 1, ..producer }, "orders", 1), "an epoch that was not given");

    end(&mut machine, producer, true).unwrap();
    assert_eq!(phase(&machine), Phase::PrepareCommit);
    assert!(!machine.table().is_open(producer, "orders", 1), "decided, so nothing more is written");
    assert_eq!(name(end(&mut machine, producer, true)), "CONCURRENT_TRANSACTIONS");
    assert_eq!(name(end(&mut machine, producer, false)), "INVALID_TXN_STATE");
    assert_eq!(name(add(&mut machine, producer)), "CONCURRENT_TRANSACTIONS");

    complete(&mut machine);
    assert_eq!(phase(&machine), Phase::CompleteCommit);
    end(&mut machine, producer, true).unwrap();
    assert_eq!(name(end(&mut machine, producer, false)), "INVALID_TXN_STATE");
    assert!(machine.table().decided().next().is_none());

    add(&mut machine, producer).unwrap();
    end(&mut machine, producer, false).unwrap();
    assert_eq!(phase(&machine), Phase::PrepareAbort);
    assert_eq!(name(end(&mut machine, producer, true)), "INVALID_TXN_STATE");
    complete(&mut machine);
    end(&mut machine, producer, false).unwrap();
    assert_eq!(phase(&machine), Phase::CompleteAbort);
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let mut machine = machine();
    let producer = init(&mut machine, None).unwrap();
    add(&mut machine, producer).unwrap();
    let group: Arc<str> = Arc::from("g");
    done(&mut machine, |m| m.add_group(&id(), producer, &group, NOW)).unwrap();
    let one = Partitions::from([(Arc::from("orders"), [1].into())]);
    assert_eq!(machine.add_partitions(&id(), producer, one, NOW).entries, []);
    assert_eq!(machine.add_group(&id(), producer, &group, NOW).entries, []);
    assert_eq!(machine.add_offsets(&id(), producer, &group, PendingOffsets::new(), NOW).entries, []);
    let other = Partitions::from([(Arc::from("orders"), [1, 2].into())]);
    assert_eq!(machine.add_partitions(&id(), producer, other, NOW).entries.len(), 1);
}

#[test]
fn a_new_run_fences_the_one_before() {
    let mut machine = machine();
    let old = init(&mut machine, None).unwrap();
    let new = init(&mut machine, None).unwrap();
    assert_eq!((old, new), (Producer { id: 0, epoch: 0 }, Producer { id: 0, epoch: 1 }));
    assert_eq!(name(add(&mut machine, old)), "PRODUCER_FENCED");
    assert_eq!(name(end(&mut machine, old, true)), "PRODUCER_FENCED");
    assert_eq!(name(init(&mut machine, Some(old))), "PRODUCER_FENCED");
    assert_eq!(name(add(&mut machine, Producer { id: 9, epoch: 1 })), "INVALID_PRODUCER_ID_MAPPING");
    let unknown = Arc::from("nobody");
    let added = done(&mut machine, |m| m.add_partitions(&unknown, new, Partitions::new(), NOW));
    assert_eq!(name(added), "INVALID_PRODUCER_ID_MAPPING");
    add(&mut machine, new).unwrap();
}

#[test]
fn a_new_run_aborts_the_transaction_of_the_one_before() {
    let mut machine = machine();
    let old = init(&mut machine, None).unwrap();
    add(&mut machine, old).unwrap();
    assert_eq!(name(init(&mut machine, None)), "CONCURRENT_TRANSACTIONS");
    assert_eq!(phase(&machine), Phase::PrepareAbort);
    assert!(!machine.table().is_open(old, "orders", 0));
    let marker = machine.table().get("app-1").unwrap().producer;
    assert_eq!(marker, Producer { id: old.id, epoch: 1 }, "the marker fences the old run in the partitions");
    assert_eq!(name(init(&mut machine, None)), "CONCURRENT_TRANSACTIONS");
    assert_eq!(name(end(&mut machine, old, true)), "PRODUCER_FENCED");
    complete(&mut machine);
    assert_eq!(init(&mut machine, None).unwrap(), Producer { id: old.id, epoch: 2 });
}

#[test]
fn a_producer_goes_on_from_its_own_epoch_and_may_ask_again() {
    let mut machine = machine();
    let first = init(&mut machine, None).unwrap();
    let second = init(&mut machine, Some(first)).unwrap();
    assert_eq!(second.epoch, 1);
    assert_eq!(init(&mut machine, Some(first)).unwrap(), second, "its answer got lost");
    assert_eq!(init(&mut machine, Some(first)).unwrap(), second);
    let third = init(&mut machine, Some(second)).unwrap();
    assert_eq!(third.epoch, 2);
    assert_eq!(name(init(&mut machine, Some(first))), "PRODUCER_FENCED");
    // Another run: the lost answer is not repeated to the run before.
    let other = init(&mut machine, None).unwrap();
    assert_eq!(other.epoch, 3);
    assert_eq!(name(init(&mut machine, Some(second))), "PRODUCER_FENCED");
    assert_eq!(name(init(&mut machine, Some(third))), "PRODUCER_FENCED");
    assert_eq!(name(init(&mut machine, Some(Producer { id: 9, epoch: 3 }))), "PRODUCER_FENCED");
}

#[test]
fn a_stale_request_for_a_new_epoch_leaves_an_ongoing_transaction_alone() {
    let mut machine = machine();
    let first = init(&mut machine, None).unwrap();
    let second = init(&mut machine, Some(first)).unwrap();
    add(&mut machine, second).unwrap();
    assert_eq!(name(init(&mut machine, Some(first))), "PRODUCER_FENCED");
    assert!(machine.table().is_open(second, "orders", 0));
}

#[test]
fn a_producer_that_asks_for_a_new_epoch_amid_its_transaction_gets_it_after_the_abort() {
    let mut machine = machine();
    let first = init(&mut machine, None).unwrap();
    add(&mut machine, first).unwrap();
    assert_eq!(name(init(&mut machine, Some(first))), "CONCURRENT_TRANSACTIONS");
    assert_eq!(name(init(&mut machine, Some(first))), "CONCURRENT_TRANSACTIONS");
    complete(&mut machine);
    assert_eq!(init(&mut machine, Some(first)).unwrap(), Producer { id: first.id, epoch: 1 });
}

#[test]
fn an_unknown_id_with_an_epoch_starts_anew() {
    let mut machine = machine();
    assert_eq!(init(&mut machine, Some(Producer { id: 77, epoch: 5 })).unwrap(), Producer { id: 0, epoch: 0 });
}

/// A machine whose holder has this epoch.
fn at_epoch(epoch: i16) -> (TransactionMachine, Producer) {
    let mut machine = machine();
    let first = init(&mut machine, None).unwrap();
    let mut transaction = (**machine.table().get("app-1").unwrap()).clone();
    transaction.producer.epoch = epoch;
    machine.apply(TransactionEntry::Transaction { id: id(), transaction: Arc::new(transaction) });
    (machine, Producer { id: first.id, epoch })
}

#[test]
fn used_up_epochs_bring_a_new_producer_id() {
    let (mut machine, before) = at_epoch(LAST_CLIENT_EPOCH - 1);
    let last = init(&mut machine, None).unwrap();
    assert_eq!(last, Producer { epoch: LAST_CLIENT_EPOCH, ..before });
    let renewed = init(&mut machine, None).unwrap();
    assert_eq!(renewed, Producer { id: 1, epoch: 0 });
    assert_eq!(name(init(&mut machine, Some(last))), "PRODUCER_FENCED", "a new run has taken over");
    assert_eq!(name(add(&mut machine, last)), "INVALID_PRODUCER_ID_MAPPING");

    let (mut machine, last) = at_epoch(LAST_CLIENT_EPOCH);
    let renewed = init(&mut machine, Some(last)).unwrap();
    assert_eq!(renewed, Producer { id: 1, epoch: 0 });
    assert_eq!(init(&mut machine, Some(last)).unwrap(), renewed, "its answer got lost");
    add(&mut machine, renewed).unwrap();
}

#[test]
fn a_retry_at_the_last_epoch_gets_it_again() {
    let (mut machine, before) = at_epoch(LAST_CLIENT_EPOCH - 1);
    let last = init(&mut machine, Some(before)).unwrap();
    assert_eq!(init(&mut machine, Some(before)).unwrap(), last);
}

#[test]
fn the_last_epoch_can_still_be_fenced() {
    let (mut machine, last) = at_epoch(LAST_CLIENT_EPOCH);
    add(&mut machine, last).unwrap();
    assert_eq!(name(init(&mut machine, None)), "CONCURRENT_TRANSACTIONS");
    assert_eq!(machine.table().get("app-1").unwrap().producer.epoch, i16::MAX);
    complete(&mut machine);
    assert_eq!(init(&mut machine, None).unwrap(), Producer { id: 1, epoch: 0 });
}

#[test]
fn offsets_are_pending_until_their_transaction_is_decided() {
    for commit in [true, false] {
        let mut machine = machine();
        let producer = init(&mut machine, None).unwrap();
        let group: Arc<str> = Arc::from("g");
        let offsets = |m: &mut TransactionMachine, offset| {
            done(m, |m| m.add_offsets(&id(), producer, &Arc::from("g"), pending("in", 3, offset), NOW))
        };
        assert_eq!(name(offsets(&mut machine, 5)), "INVALID_TXN_STATE");
        add(&mut machine, producer).unwrap();
        assert_eq!(name(offsets(&mut machine, 5)), "INVALID_TXN_STATE", "the group was not added");
        done(&mut machine, |m| m.add_group(&id(), producer, &group, NOW)).unwrap();
        assert!(!has_pending(&machine, "g", 3));
        offsets(&mut machine, 5).unwrap();
        offsets(&mut machine, 6).unwrap();
        assert!(has_pending(&machine, "g", 3));
        assert!(!has_pending(&machine, "g", 4));
        assert!(!has_pending(&machine, "other", 3));

        let step = machine.end(&id(), producer, commit, NOW);
        let mut table = machine.table().clone();
        let applied: Vec<_> = step.entries.into_iter().flat_map(|entry| table.apply(entry)).collect();
        let expected = if commit { vec![(group, pending("in", 3, 6))] } else { vec![] };
        assert_eq!(applied, expected);
        assert!(table.pending("g").is_empty());
        // What the journal is written anew from does not bring them back.
        let mut again = TransactionTable::default();
        let applied: Vec<_> = table.entries().flat_map(|entry| again.apply(entry)).collect();
        assert_eq!((applied, &again), (vec![], &table));
    }
}

#[test]
fn offsets_of_a_deleted_group_or_topic_are_forgotten() {
    let mut machine = machine();
    let producer = init(&mut machine, None).unwrap();
    let group: Arc<str> = Arc::from("g");
    done(&mut machine, |m| m.add_group(&id(), producer, &group, NOW)).unwrap();
    for forget in ["topic", "group", "offset"] {
        done(&mut machine, |m| m.add_offsets(&id(), producer, &group, pending("in", 3, 5), NOW)).unwrap();
        assert!(has_pending(&machine, "g", 3));
        match forget {
            "topic" => machine.table_mut().retain_offsets(|_, offset| offset.topic_id != Uuid::from_u128(7)),
            "group" => machine.table_mut().forget_group("g"),
            _ => machine.table_mut().forget_offsets("g", &[(Arc::from("in"), 3)]),
        }
        assert!(!has_pending(&machine, "g", 3), "{forget}");
    }
}

#[test]
fn what_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut machine = machine();
    let producer = init(&mut machine, None).unwrap();
    assert!(!needs_tick(machine.table(), &TransactionSettings::default(), NOW));
    add(&mut machine, producer).unwrap();
    assert!(needs_tick(machine.table(), &TransactionSettings::default(), NOW));
    assert_eq!(tick(&mut machine, NOW + 300, 300), 0);
    assert_eq!(tick(&mut machine, NOW + 59_999, 59_999), 0);
    assert_eq!(phase(&machine), Phase::Ongoing);
    assert_eq!(tick(&mut machine, NOW + 60_000, 60_000), 1);
    assert_eq!(phase(&machine), Phase::PrepareAbort);
    assert_eq!(name(end(&mut machine, producer, true)), "PRODUCER_FENCED");
    complete(&mut machine);
    assert_eq!(name(init(&mut machine, Some(producer))), "PRODUCER_FENCED");
    assert_eq!(init(&mut machine, None).unwrap().epoch, 2);
}

#[test]
fn a_clock_that_is_set_neither_ends_a_transaction_early_nor_keeps_it_open() {
    for jump in [DAY, -DAY] {
        let mut machine = machine();
        let producer = init(&mut machine, None).unwrap();
        add(&mut machine, producer).unwrap();
        assert_eq!(tick(&mut machine, NOW + 500, 500), 0);
        assert_eq!(tick(&mut machine, NOW + jump, 1000), 0);
        assert_eq!(tick(&mut machine, NOW + jump, 59_999), 0, "{jump}");
        assert_eq!(tick(&mut machine, NOW + jump, 60_000), 1, "{jump}");
    }
}

#[test]
fn each_transaction_has_its_own_time() {
    let mut machine = machine();
    let producer = init(&mut machine, None).unwrap();
    add(&mut machine, producer).unwrap();
    assert_eq!(tick(&mut machine, NOW, 0), 0);
    end(&mut machine, producer, true).unwrap();
    complete(&mut machine);
    let partitions = Partitions::from([(Arc::from("orders"), [0].into())]);
    done(&mut machine, |m| m.add_partitions(&id(), producer, partitions, NOW + 40_000)).unwrap();
    assert_eq!(tick(&mut machine, NOW + 60_000, 60_000), 0);
    assert_eq!(tick(&mut machine, NOW + 99_999, 99_999), 0);
    assert_eq!(tick(&mut machine, NOW + 100_000, 100_000), 1);
}

#[test]
fn the_time_before_a_restart_counts() {
    for (down_ms, jump, left_ms) in [(20_000, 0, 40_000), (90_000, 0, 0), (0, -DAY, 60_000), (0, DAY, 0)] {
        let mut before = machine();
        let producer = init(&mut before, None).unwrap();
        add(&mut before, producer).unwrap();
        let mut after = TransactionMachine::new(before.table().clone(), TransactionSettings::default());
        let now = NOW + down_ms + jump;
        if left_ms > 0 {
            assert_eq!(tick(&mut after, now, 5), 0, "{down_ms} {jump}");
            assert_eq!(tick(&mut after, now, 5 + left_ms - 1), 0, "{down_ms} {jump}");
        }
        assert_eq!(tick(&mut after, now, 5 + left_ms), 1, "{down_ms} {jump}");
    }
}

#[test]
fn ids_that_nobody_uses_are_forgotten() {
    let mut machine = machine();
    let producer = init(&mut machine, None).unwrap();
    tick(&mut machine, NOW + 7 * DAY - 1, 0);
    assert!(machine.table().get("app-1").is_some());
    tick(&mut machine, NOW + 7 * DAY, 0);
    assert!(machine.table().get("app-1").is_none());
    assert_eq!(name(add(&mut machine, producer)), "INVALID_PRODUCER_ID_MAPPING");
    assert_eq!(
        init(&mut machine, None).unwrap(),
        Producer { id: 1, epoch: 0 },
        "and its producer id is not used again"
    );
    // Decided and not yet complete: not forgotten, however long that takes.
    let producer = Producer { id: 1, epoch: 0 };
    add(&mut machine, producer).unwrap();
    end(&mut machine, producer, true).unwrap();
    tick(&mut machine, NOW + 100 * DAY, 0);
    assert_eq!(phase(&machine), Phase::PrepareCommit);
}

#[test]
fn limits_are_kept() {
    let mut machine = machine();
    for timeout_ms in [0, -1, 15 * 60 * 1000 + 1] {
        let refused = done(&mut machine, |m| m.init_producer(Some(&id()), timeout_ms, None, NOW));
        assert_eq!(name(refused), "INVALID_TRANSACTION_TIMEOUT");
    }
    for id in ["", &"x".repeat(1025)] {
        let refused = done(&mut machine, |m| m.init_producer(Some(&Arc::from(id)), 1, None, NOW));
        assert_eq!(name(refused), "INVALID_REQUEST");
    }
    let settings = TransactionSettings { max_ids: 1, ..TransactionSettings::default() };
    let mut machine = TransactionMachine::new(TransactionTable::default(), settings);
    init(&mut machine, None).unwrap();
    init(&mut machine, None).unwrap();
    let refused = done(&mut machine, |m| m.init_producer(Some(&Arc::from("second")), 1, None, NOW));
    assert_eq!(name(refused), "POLICY_VIOLATION");
}
