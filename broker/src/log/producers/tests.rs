//! Sequences, epochs, transactions: what is judged and what is remembered.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::batch::testing::ClientBatch;

const NOW: i64 = 1_700_000_000_000;

fn header(base_offset: i64, batch: &ClientBatch) -> BatchHeader {
    BatchHeader { base_offset, ..BatchHeader::parse(&batch.bytes()).unwrap() }
}

/// A batch of so many records.
fn batch(count: usize, epoch: i16, sequence: i32) -> ClientBatch {
    ClientBatch::of(vec!["x"; count]).by(7, epoch, sequence)
}

/// Whether the coordinator has a transaction open for whoever asks.
struct Open(bool);

impl OngoingTransactions for Open {
    fn is_open(&self, _: i64, _: i16, _: &str, _: i32) -> bool {
        self.0
    }

    fn current_epoch(&self, _: i64) -> Option<i16> {
        None
    }
}

fn judge_with(producers: &Producers, batch: &ClientBatch, open: bool) -> Result<Judged, Refused> {
    let id = PartitionId { topic: "t".into(), partition: 0 };
    producers.judge(&header(0, batch), &Open(open), &id)
}

fn judge(producers: &Producers, batch: &ClientBatch) -> Result<Judged, Refused> {
    judge_with(producers, batch, true)
}

/// Judges and, where that says so, notes a batch at this offset.
fn write(producers: &mut Producers, offset: i64, batch: &ClientBatch) {
    assert_eq!(judge(producers, batch), Ok(Judged::Write), "at {offset}");
    producers.note_batch(&header(offset, batch), NOW);
}

fn marker(epoch: i16, commit: bool) -> TransactionMarker {
    TransactionMarker { producer_id: 7, producer_epoch: epoch, commit, coordinator_epoch: 1 }
}

fn repeated(base_offset: i64, result: Result<Judged, Refused>) -> bool {
    matches!(result, Ok(Judged::Repeated(written)) if written.base_offset() == base_offset)
}

#[test]
fn the_last_five_batches_are_known_again_whatever_their_sizes() {
    let mut producers = Producers::default();
    let sizes = [1, 3, 2, 5, 1, 4, 2];
    let mut starts = Vec::new();
    let mut next = 0;
    for size in sizes {
        write(&mut producers, 100 + next, &batch(size, 0, next as i32));
        starts.push(next);
        next += size as i64;
    }
    for (i, (start, size)) in starts.iter().zip(sizes).enumerate() {
        let again = judge(&producers, &batch(size, 0, *start as i32));
        if i < 2 {
            assert_eq!(again, Err(Refused::OutOfOrder { expected: next as i32 }), "batch {i} is too long ago");
        } else {
            assert!(repeated(100 + start, again), "batch {i}: {again:?}");
        }
    }
    // The same first sequence, but not the same batch.
    assert_eq!(judge(&producers, &batch(1, 0, 12)), Err(Refused::OutOfOrder { expected: 18 }));
    assert_eq!(judge(&producers, &batch(1, 0, 19)), Err(Refused::OutOfOrder { expected: 18 }));
}

#[test]
fn sequences_wrap_around() {
    let mut producers = Producers::default();
    write(&mut producers, 0, &batch(2, 0, i32::MAX - 2));
    // Three records: the highest, 0 and 1.
    write(&mut producers, 2, &batch(3, 0, i32::MAX));
    assert!(repeated(2, judge(&producers, &batch(3, 0, i32::MAX))));
    assert_eq!(judge(&producers, &batch(1, 0, 1)), Err(Refused::OutOfOrder { expected: 2 }));
    write(&mut producers, 5, &batch(1, 0, 2));
    write(&mut producers, 6, &batch(1, 0, 3));
    assert!(repeated(0, judge(&producers, &batch(2, 0, i32::MAX - 2))));
}

#[test]
fn an_unknown_producer_may_begin_anywhere_and_a_new_epoch_only_at_zero() {
    let mut producers = Producers::default();
    write(&mut producers, 0, &batch(1, 3, 500));
    assert_eq!(judge(&producers, &batch(1, 4, 501)), Err(Refused::OutOfOrder { expected: 0 }));
    assert_eq!(judge(&producers, &batch(1, 2, 501)), Err(Refused::Fenced { current: 3 }));
    assert_eq!(judge(&producers, &batch(1, 2, 0)), Err(Refused::Fenced { current: 3 }));
    write(&mut producers, 1, &batch(1, 4, 0));
    assert_eq!(judge(&producers, &batch(1, 3, 500)), Err(Refused::Fenced { current: 4 }), "not a repetition any more");
    write(&mut producers, 2, &batch(1, 4, 1));
}

#[test]
fn batches_without_a_producer_are_nobodys() {
    let mut producers = Producers::default();
    let plain = ClientBatch::of(["x"]);
    for offset in 0..3 {
        write(&mut producers, offset, &plain);
    }
    assert_eq!(producers, Producers::default());
}

#[test]
fn a_transaction_is_open_from_its_first_batch_to_its_marker() {
    let mut producers = Producers::default();
    let refused = judge_with(&producers, &batch(1, 0, 0).transactional(), false);
    assert!(matches!(refused, Err(Refused::Transaction(_))), "the partition was not added");
    write(&mut producers, 10, &batch(2, 0, 0).transactional());
    write(&mut producers, 12, &batch(1, 0, 2).transactional());
    assert_eq!(producers.first_unstable(), Some(10));
    assert!(matches!(judge(&producers, &batch(1, 0, 3)), Err(Refused::Transaction(_))), "plain within a transaction");
    // A repetition is answered also when its transaction is over.
    producers.note_marker(&marker(0, true), 13, NOW);
    assert_eq!(producers.first_unstable(), None);
    let again = judge_with(&producers, &batch(1, 0, 2).transactional(), false);
    assert!(repeated(12, again));
    // The same epoch goes on counting; a plain batch is welcome again.
    write(&mut producers, 14, &batch(1, 0, 3));
    assert!(producers.aborted().entries().is_empty());
}

#[test]
fn a_marker_is_written_once() {
    let mut producers = Producers::default();
    write(&mut producers, 0, &batch(1, 5, 0).transactional());
    assert_eq!(producers.judge_marker(&marker(4, true)), Err(Refused::Fenced { current: 5 }));
    assert_eq!(producers.judge_marker(&marker(5, false)), Ok(MarkerJudged::Write));
    producers.note_marker(&marker(5, false), 1, NOW);
    assert_eq!(producers.judge_marker(&marker(5, false)), Ok(MarkerJudged::Repeated(1)));
    // The next transaction ends with a marker of its own.
    write(&mut producers, 2, &batch(1, 5, 1).transactional());
    assert_eq!(producers.judge_marker(&marker(5, false)), Ok(MarkerJudged::Write));
    producers.note_marker(&marker(5, false), 3, NOW);
    let older = TransactionMarker { coordinator_epoch: 0, ..marker(5, false) };
    assert_eq!(producers.judge_marker(&older), Err(Refused::CoordinatorFenced { current: 1 }));
    // One that brings a new epoch fences the old, and what comes after begins at 0.
    assert_eq!(producers.judge_marker(&marker(6, false)), Ok(MarkerJudged::Write));
    producers.note_marker(&marker(6, false), 4, NOW);
    assert_eq!(judge(&producers, &batch(1, 5, 2).transactional()), Err(Refused::Fenced { current: 6 }));
    assert_eq!(judge(&producers, &batch(1, 6, 2).transactional()), Err(Refused::OutOfOrder { expected: 0 }));
    assert_eq!(judge(&producers, &batch(1, 6, 0).transactional()), Ok(Judged::Write));
}

#[test]
fn a_marker_of_a_higher_epoch_ends_the_transaction_of_the_lower() {
    let mut producers = Producers::default();
    write(&mut producers, 0, &batch(1, 0, 0).transactional());
    producers.note_marker(&marker(1, false), 1, NOW);
    assert_eq!(producers.first_unstable(), None);
    let aborted = Aborted { producer_id: 7, first_offset: 0, last_offset: 1, stable_after: 2 };
    assert_eq!(producers.aborted().entries(), [aborted]);
    assert_eq!(producers.take_unpublished(), [aborted]);
    assert_eq!(producers.take_unpublished(), []);
}

#[test]
fn idle_producers_are_forgotten_unless_a_transaction_is_open() {
    let mut producers = Producers::default();
    write(&mut producers, 0, &batch(1, 0, 0));
    producers.note_batch(&header(1, &ClientBatch::of(["x"]).by(8, 0, 0).transactional()), NOW);
    producers.expire(NOW + PRODUCER_HORIZON_MS - 1);
    assert!(repeated(0, judge(&producers, &batch(1, 0, 0))));
    producers.expire(NOW + PRODUCER_HORIZON_MS);
    assert_eq!(producers.iter().map(|(id, _)| id).collect::<Vec<_>>(), [8]);
    assert_eq!(judge(&producers, &batch(1, 0, 77)), Ok(Judged::Write));
}

#[test]
fn there_is_a_limit_to_producers_and_the_idlest_go_first() {
    let mut producers = Producers::default();
    let open = ClientBatch::of(["x"]).by(0, 0, 0).transactional();
    producers.note_batch(&header(0, &open), NOW - 1);
    for id in 1..=MAX_PRODUCERS as i64 {
        let batch = BatchHeader { producer_id: id, ..header(id, &batch(1, 0, 0)) };
        producers.note_batch(&batch, NOW + id);
    }
    assert_eq!(producers.forgotten as usize, MAX_PRODUCERS / 16);
    let ids: Vec<i64> = producers.iter().map(|(id, _)| id).take(3).collect();
    let first_kept = MAX_PRODUCERS as i64 / 16 + 1;
    assert_eq!(ids, [0, first_kept, first_kept + 1], "the open transaction stays, and then the younger ones");
}

/// Transactions that overlap, checked against a plain search.
#[test]
fn the_index_of_aborted_transactions_answers_as_a_plain_search_does() {
    // (producer, first, marker), by marker; 5 spans many others.
    let transactions = [(1, 0, 4), (2, 2, 6), (1, 7, 9), (3, 8, 20), (5, 1, 30), (2, 21, 31), (1, 33, 35)];
    let mut index = AbortedIndex::default();
    for (i, (producer_id, first_offset, last_offset)) in transactions.into_iter().enumerate() {
        let open = transactions[i + 1..].iter().map(|t| t.1).filter(|first| *first < last_offset);
        let stable_after = open.min().unwrap_or(last_offset + 1);
        index.push(Aborted { producer_id, first_offset, last_offset, stable_after });
    }
    for forgotten in [0, 7] {
        index.forget_below(forgotten);
        let known = || transactions.iter().filter(|t| t.2 >= forgotten);
        for from in forgotten..40 {
            for to in from + 1..41 {
                let mut expected: Vec<(i64, i64)> =
                    known().filter(|t| t.2 >= from && t.1 < to).map(|t| (t.1, t.0)).collect();
                expected.sort_unstable();
                let found = index.among(from, to, &[]);
                let found: Vec<(i64, i64)> = found.iter().map(|a| (a.first_offset, a.producer_id)).collect();
                assert_eq!(found, expected, "{from}..{to}");
            }
            for producer in 1..6 {
                let expected = known().any(|t| t.0 == producer && t.1 <= from && from <= t.2);
                assert_eq!(index.covers(producer, from), expected, "producer {producer} at {from}");
            }
        }
    }
}
