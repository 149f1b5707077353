//! A model of the log under random appends, crashes, faults and retention. Whatever happens, what was synced is read back, in
//! order, once; what was not may be there, but only as an unbroken continuation. Kafka's producers and transactions take part: what
//! the log says of a repetition, and what readers of committed records see, must follow from the records alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::clients::{fetch_all, produce};
use super::tests::{NOW, new_fs, read_all_records, settings, try_open};
use super::*;
use crate::append::{EffectMark, Guard};
use crate::batch::testing::{ClientBatch, headers_of};
use crate::fs::{Crash, SimFs};
use crate::raw::TransactionMarker;
use crate::record::Record;

/// The producer without transactions; those above have them.
const PLAIN: i64 = 1;
const PRODUCERS: std::ops::Range<i64> = PLAIN..4;

#[derive(Debug, Clone)]
enum Op {
    /// The next effects of the task, so many records of this size.
    Effects {
        count: usize,
        size: usize,
    },
    /// The next request of a client, with its key.
    Keyed {
        size: usize,
    },
    /// The next batch of a producer, so many records of this size.
    Batch {
        producer: i64,
        count: usize,
        size: usize,
    },
    /// A producer sends again the last but so many of its batches.
    Again {
        producer: i64,
        back: usize,
    },
    /// A producer leaves a sequence out.
    Skip {
        producer: i64,
    },
    /// A producer's transaction ends, if it has one or not.
    End {
        producer: i64,
        commit: bool,
    },
    Sync,
    RecoveryPoint,
    Crash(Crash),
    Close,
    /// Moves the log start up by so many records.
    Delete(usize),
    /// Fills the disk up to so many bytes more than are used.
    Fill(u64),
    FailWrite {
        written_bytes: usize,
    },
    FailSync,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1usize..5, 0usize..3000).prop_map(|(count, size)| Op::Effects { count, size }),
        4 => (0usize..3000).prop_map(|size| Op::Keyed { size }),
        8 => (PRODUCERS, 1usize..4, 0usize..2000)
            .prop_map(|(producer, count, size)| Op::Batch { producer, count, size }),
        3 => (PRODUCERS, 0usize..8).prop_map(|(producer, back)| Op::Again { producer, back }),
        1 => PRODUCERS.prop_map(|producer| Op::Skip { producer }),
        4 => (PLAIN + 1..PRODUCERS.end, any::<bool>()).prop_map(|(producer, commit)| Op::End { producer, commit }),
        5 => Just(Op::Sync),
        1 => Just(Op::RecoveryPoint),
        1 => Just(Op::Crash(Crash::Kill)),
        1 => Just(Op::Crash(Crash::LoseUnsynced)),
        3 => any::<u64>().prop_map(|seed| Op::Crash(Crash::Tear(seed))),
        1 => Just(Op::Close),
        1 => (0usize..20).prop_map(Op::Delete),
        1 => (0u64..20_000).prop_map(Op::Fill),
        1 => (0usize..3000).prop_map(|written_bytes| Op::FailWrite { written_bytes }),
        1 => Just(Op::FailSync),
    ]
}

/// A record. An effect is `e<n>`, a keyed request `k<n>`, a producer's record `p<producer>.<sequence>`, each padded to its size.
#[derive(Debug, Clone)]
struct Entry {
    text: String,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Own,
    /// Of a batch of a producer, which has so many records from this sequence on.
    Batch {
        producer: i64,
        sequence: i32,
        count: usize,
    },
    Marker {
        producer: i64,
        commit: bool,
    },
}

/// What a client or coordinator has sent and had no answer to.
#[derive(Debug, Clone)]
enum Unanswered {
    Batch { producer: i64, sequence: i32, texts: Vec<String> },
    Marker { producer: i64, commit: bool },
}

/// What the log must hold.
struct Model {
    fs: SimFs,
    log: PartitionLog,
    /// Records by offset, from 0 on, deleted ones included.
    written: Vec<Entry>,
    unanswered: Vec<Unanswered>,
    synced: usize,
    log_start: usize,
    /// The task's next effect, and the first that is not known to be durable: a restarted task begins there.
    next_effect: usize,
    durable_effect: usize,
    next_key: usize,
    durable_key: usize,
    epoch: i32,
}

impl Model {
    fn new() -> Self {
        let fs = new_fs();
        let (log, _) = try_open(&fs, small()).unwrap();
        Self {
            fs,
            log,
            written: Vec::new(),
            unanswered: Vec::new(),
            synced: 0,
            log_start: 0,
            next_effect: 0,
            durable_effect: 0,
            next_key: 0,
            durable_key: 0,
            epoch: 1,
        }
    }

    fn effects(&mut self, from: usize, count: usize, size: usize) -> bool {
        let values: Vec<String> = (from..from + count).map(|n| format!("e{n} {}", "-".repeat(size))).collect();
        let marks = (from..from + count).map(|n| EffectMark { position: (n / 3) as i64, index: (n % 3) as i32 });
        let guard = Guard::Effects { task: Arc::from("task"), epoch: self.epoch, marks: marks.collect() };
        let known = self.written.iter().filter(|e| e.text.starts_with('e')).count();
        match self.log.append(&records(&values), &guard, NOW) {
            Ok(appended) => {
                let suppressed = known.saturating_sub(from).min(count);
                assert_eq!(appended.suppressed, suppressed, "effects {from}+{count} when {known} are there");
                assert_eq!(appended.base_offset, self.written.len() as i64);
                self.written.extend(values.into_iter().skip(suppressed).map(own));
                assert_eq!(appended.last_offset + 1, self.written.len() as i64);
                true
            }
            Err(error) => self.refused(&error),
        }
    }

    fn keyed(&mut self, key: usize, size: usize) -> bool {
        let value = format!("k{key} {}", "-".repeat(size));
        let prefix = format!("k{key} ");
        let known = self.written.iter().position(|e| e.text.starts_with(&prefix));
        let guard = Guard::Idempotency { scope: Arc::from(format!("tenant\0{key}")) };
        match self.log.append(&records(std::slice::from_ref(&value)), &guard, NOW) {
            Ok(appended) => {
                assert_eq!(appended.duplicate, known.is_some(), "key {key}");
                assert_eq!(appended.base_offset as usize, known.unwrap_or(self.written.len()));
                if known.is_none() {
                    self.written.push(own(value));
                }
                true
            }
            Err(error) => self.refused(&error),
        }
    }

    /// Batches of a producer that are in the log: first sequence, records, first offset.
    fn batches(&self, of: i64) -> Vec<(i32, usize, usize)> {
        let mut found: Vec<(i32, usize, usize)> = Vec::new();
        for (offset, entry) in self.written.iter().enumerate() {
            if let Part::Batch { producer, sequence, count } = entry.part
                && producer == of
                && found.last().is_none_or(|last| last.0 != sequence)
            {
                found.push((sequence, count, offset));
            }
        }
        found
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        self.batches(producer).last().map_or(0, |(sequence, count, _)| sequence + *count as i32)
    }

    /// A producer sends a batch: its next, or one that it sent before.
    fn batch(&mut self, producer: i64, sequence: i32, texts: &[String]) -> bool {
        let batch = ClientBatch::of(texts.iter().map(String::as_str)).by(producer, 0, sequence);
        let batch = if producer == PLAIN { batch } else { batch.transactional() };
        let known = self.batches(producer);
        let window = known.iter().rev().take(5);
        let known = window.clone().find(|known| (known.0, known.1) == (sequence, texts.len()));
        match produce(&mut self.log, &batch) {
            Ok(produced) => {
                assert_eq!(produced.duplicate, known.is_some(), "producer {producer} sequence {sequence}");
                let base_offset = known.map_or(self.written.len(), |(.., offset)| *offset);
                assert_eq!(produced.base_offset as usize, base_offset, "producer {producer} sequence {sequence}");
                assert_eq!(produced.last_offset as usize, base_offset + texts.len() - 1);
                if known.is_none() {
                    assert_eq!(sequence, self.next_sequence(producer), "producer {producer}");
                    let part = Part::Batch { producer, sequence, count: texts.len() };
                    self.written.extend(texts.iter().map(|text| Entry { text: text.clone(), part }));
                }
                true
            }
            Err(BrokerError::OutOfOrderSequence { expected, .. }) => {
                assert!(known.is_none() && expected == self.next_sequence(producer) && expected != sequence);
                false
            }
            Err(error) => self.refused(&error),
        }
    }

    fn end(&mut self, producer: i64, commit: bool) -> bool {
        let marker = TransactionMarker { producer_id: producer, producer_epoch: 0, commit, coordinator_epoch: 0 };
        // The last thing that the producer did here was to end a transaction in this way.
        let part_of = |part: Part| match part {
            Part::Own => None,
            Part::Batch { producer, .. } | Part::Marker { producer, .. } => Some(producer),
        };
        let last = self.written.iter().rposition(|entry| part_of(entry.part) == Some(producer));
        let known = last.filter(|last| self.written[*last].part == Part::Marker { producer, commit });
        match self.log.end_transaction(&marker, NOW) {
            Ok(offset) => {
                assert_eq!(offset as usize, known.unwrap_or(self.written.len()), "marker of {producer}");
                if known.is_none() {
                    self.written.push(Entry { text: String::new(), part: Part::Marker { producer, commit } });
                }
                true
            }
            Err(error) => self.refused(&error),
        }
    }

    /// A client has at most five batches on their way, and begins no transaction before the last one has ended.
    fn may_send(&self, of: i64) -> bool {
        let mut batches = 0;
        self.unanswered.iter().all(|sent| match sent {
            Unanswered::Batch { producer, .. } if *producer == of => {
                batches += 1;
                batches < 5
            }
            Unanswered::Marker { producer, .. } => *producer != of,
            Unanswered::Batch { .. } => true,
        })
    }

    /// The last stable offset, and what readers of committed records see below it, by the records up to the high watermark.
    fn committed(&self, high_watermark: usize) -> (usize, Vec<(i64, String)>) {
        let mut open: std::collections::BTreeMap<i64, Vec<usize>> = std::collections::BTreeMap::new();
        let mut aborted = std::collections::BTreeSet::new();
        for (offset, entry) in self.written[..high_watermark].iter().enumerate() {
            match entry.part {
                Part::Batch { producer, .. } if producer != PLAIN => open.entry(producer).or_default().push(offset),
                Part::Marker { producer, commit } => {
                    let ended = open.remove(&producer).unwrap_or_default();
                    aborted.insert(offset);
                    aborted.extend(ended.into_iter().filter(|_| !commit));
                }
                Part::Batch { .. } | Part::Own => {}
            }
        }
        let first_open = open.values().map(|offsets| offsets[0]).min();
        let stable = first_open.map_or(high_watermark, |first| first.max(self.log_start));
        let seen = (self.log_start..stable).filter(|offset| !aborted.contains(offset));
        (stable, seen.map(|offset| (offset as i64, self.written[offset].text.clone())).collect())
    }

    /// A refusal leaves the log as it was, or stops it.
    fn refused(&mut self, error: &BrokerError) -> bool {
        assert_eq!(error.is_retryable(), self.log.stopped().is_none(), "{error}");
        false
    }

    fn sync(&mut self) {
        if self.log.sync().is_ok() {
            self.synced = self.written.len();
            self.durable_effect = self.next_effect;
            self.durable_key = self.next_key;
            self.unanswered.clear();
        } else {
            assert!(self.log.stopped().is_some());
        }
        self.check();
    }

    fn restart(&mut self, crash: Crash) {
        self.fs.crash(crash);
        self.fs.set_capacity(None);
        let (log, report) = try_open(&self.fs, small()).unwrap();
        self.log = log;
        assert_eq!(report.damaged_ranges, 0, "nothing acknowledged is damaged");
        let survivors = self.log.next_offset() as usize;
        assert!(
            (self.synced..=self.written.len()).contains(&survivors),
            "{survivors} of {}..{}",
            self.synced,
            self.written.len()
        );
        if crash == Crash::LoseUnsynced {
            // Closing a segment syncs it, so a little more than what was asked for may be there.
            assert!(survivors >= self.synced);
        }
        self.written.truncate(survivors);
        self.synced = survivors;
        self.check();
        // The task restarts from what it knows to be durable, clients and coordinator repeat what was not acknowledged.
        self.epoch += 1;
        let (effects, keys) = (self.durable_effect..self.next_effect, self.durable_key..self.next_key);
        for n in effects {
            self.effects(n, 1, 10);
        }
        for key in keys {
            self.keyed(key, 10);
        }
        for sent in std::mem::take(&mut self.unanswered) {
            match sent {
                Unanswered::Batch { producer, sequence, texts } => drop(self.batch(producer, sequence, &texts)),
                Unanswered::Marker { producer, commit } => drop(self.end(producer, commit)),
            }
        }
        self.sync();
    }

    /// Readers see what is synced: all of it, in order, once.
    fn check(&self) {
        let ends = self.log.view().ends();
        let high_watermark = ends.high_watermark as usize;
        assert_eq!(ends.log_start as usize, self.log_start);
        assert!(high_watermark >= self.synced);
        let (stable, expected) = self.committed(high_watermark);
        assert_eq!(ends.last_stable_offset as usize, stable);
        let (records, gaps) = read_all_records(self.log.view());
        assert_eq!(gaps, vec![]);
        assert!(records == expected, "read {} records, expected {}", records.len(), expected.len());
        let fetched = fetch_all(self.log.view(), ends.log_start, 4000);
        let headers = headers_of(&fetched);
        assert!(headers.windows(2).all(|pair| pair[0].next_offset() == pair[1].base_offset));
        assert_eq!(headers.last().map_or(ends.log_start, |last| last.next_offset()), ends.high_watermark);
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Effects { count, size } => {
                // A task goes on only when its effects are in; else it would leave a hole.
                if self.effects(self.next_effect, count, size) {
                    self.next_effect += count;
                }
            }
            Op::Keyed { size } => {
                if self.keyed(self.next_key, size) {
                    self.next_key += 1;
                }
            }
            Op::Batch { producer, count, size } => {
                if self.may_send(producer) {
                    let sequence = self.next_sequence(producer);
                    let sequences = sequence..sequence + count as i32;
                    let texts: Vec<String> =
                        sequences.map(|n| format!("p{producer}.{n} {}", "-".repeat(size))).collect();
                    if self.batch(producer, sequence, &texts) {
                        self.unanswered.push(Unanswered::Batch { producer, sequence, texts });
                    }
                }
            }
            Op::Again { producer, back } => {
                let known = self.batches(producer);
                if let Some((sequence, count, offset)) = known.iter().rev().nth(back).copied() {
                    let texts: Vec<String> = (offset..offset + count).map(|i| self.written[i].text.clone()).collect();
                    let before = self.written.len();
                    assert!(self.batch(producer, sequence, &texts) == (back < 5) || self.log.stopped().is_some());
                    assert_eq!(self.written.len(), before);
                }
            }
            Op::Skip { producer } => {
                // One that is not known may begin anywhere.
                let next = self.next_sequence(producer);
                if next > 0 {
                    assert!(!self.batch(producer, next + 1, &["skipped".to_owned()]));
                }
            }
            Op::End { producer, commit } => {
                let is_ending =
                    |sent: &Unanswered| matches!(sent, Unanswered::Marker { producer: p, .. } if *p == producer);
                if !self.unanswered.iter().any(is_ending) && self.end(producer, commit) {
                    self.unanswered.push(Unanswered::Marker { producer, commit });
                }
            }
            Op::Sync => self.sync(),
            Op::RecoveryPoint => {
                let result = self.log.write_recovery_point();
                assert!(result.is_ok() || self.log.stopped().is_some());
            }
            Op::Crash(crash) => self.restart(crash),
            Op::Close => {
                let closed = self.log.close();
                if closed.is_ok() {
                    self.synced = self.written.len();
                    self.unanswered.clear();
                }
                self.restart(Crash::LoseUnsynced);
            }
            Op::Delete(count) => {
                let target = (self.log_start + count).min(self.log.view().offsets().high_watermark as usize);
                match self.log.advance_log_start(target as i64) {
                    Ok(log_start) => {
                        assert_eq!(log_start as usize, target);
                        self.log_start = target;
                    }
                    Err(error) => assert!(self.log.stopped().is_some(), "{error}"),
                }
            }
            Op::Fill(room) => self.fs.set_capacity(Some(self.fs.used_bytes() + room)),
            Op::FailWrite { written_bytes } => self.fs.fail_next_write(".log", written_bytes, ErrorKind::StorageFull),
            Op::FailSync => self.fs.fail_next_sync(".log"),
        }
    }
}

fn own(text: String) -> Entry {
    Entry { text, part: Part::Own }
}

fn small() -> LogSettings {
    LogSettings { segment_size_bytes: 16 << 10, max_batch_size_bytes: 16 << 10, ..settings() }
}

fn records(values: &[String]) -> Vec<Record> {
    values.iter().map(|v| Record { value: Some(Bytes::from(v.clone())), ..Record::default() }).collect()
}

proptest! {
    #[test]
    fn the_log_keeps_its_promises(ops in proptest::collection::vec(op(), 1..80)) {
        let mut model = Model::new();
        for op in &ops {
            model.apply(op);
        }
        model.restart(Crash::Kill);
        // Every effect that was let through is there exactly once, in order.
        let effects: Vec<&str> =
            model.written.iter().filter_map(|e| e.text.split(' ').next().filter(|t| t.starts_with('e'))).collect();
        let expected: Vec<String> = (0..effects.len()).map(|n| format!("e{n}")).collect();
        prop_assert_eq!(effects, expected);
        // And no sequence of any producer twice, none missing.
        for producer in PRODUCERS {
            let batches = model.batches(producer);
            let starts: Vec<i32> = batches.iter().map(|batch| batch.0).collect();
            let ends = batches.iter().map(|(sequence, count, _)| sequence + *count as i32);
            let follow: Vec<i32> = std::iter::once(0).chain(ends).take(batches.len()).collect();
            prop_assert_eq!(starts, follow);
        }
    }
}
