//! A model of the log under random appends, crashes, faults and retention. Whatever happens, what was synced is read back, in
//! order, once; what was not may be there, but only as an unbroken continuation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{NOW, new_fs, read_all_records, settings, try_open};
use super::*;
use crate::append::{EffectMark, Guard};
use crate::fs::{Crash, SimFs};
use crate::record::Record;

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

/// What the log must hold. An effect is `e<n>`, a keyed request `k<n>`, each padded to its size.
struct Model {
    fs: SimFs,
    log: PartitionLog,
    /// Values by offset, from 0 on, deleted ones included.
    written: Vec<String>,
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
        let known = self.written.iter().filter(|v| v.starts_with('e')).count();
        match self.log.append(&records(&values), &guard, NOW) {
            Ok(appended) => {
                let suppressed = known.saturating_sub(from).min(count);
                assert_eq!(appended.suppressed, suppressed, "effects {from}+{count} when {known} are there");
                assert_eq!(appended.base_offset, self.written.len() as i64);
                self.written.extend(values.into_iter().skip(suppressed));
                assert_eq!(appended.last_offset + 1, self.written.len() as i64);
                true
            }
            Err(error) => self.refused(&error),
        }
    }

    fn keyed(&mut self, key: usize, size: usize) -> bool {
        let value = format!("k{key} {}", "-".repeat(size));
        let prefix = format!("k{key} ");
        let known = self.written.iter().position(|v| v.starts_with(&prefix));
        let guard = Guard::Idempotency { scope: Arc::from(format!("tenant\0{key}")) };
        match self.log.append(&records(std::slice::from_ref(&value)), &guard, NOW) {
            Ok(appended) => {
                assert_eq!(appended.duplicate, known.is_some(), "key {key}");
                assert_eq!(appended.base_offset as usize, known.unwrap_or(self.written.len()));
                if known.is_none() {
                    self.written.push(value);
                }
                true
            }
            Err(error) => self.refused(&error),
        }
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
        // The task restarts from what it knows to be durable, the client repeats what was not acknowledged.
        self.epoch += 1;
        let (effects, keys) = (self.durable_effect..self.next_effect, self.durable_key..self.next_key);
        for n in effects {
            self.effects(n, 1, 10);
        }
        for key in keys {
            self.keyed(key, 10);
        }
        self.sync();
    }

    /// Readers see what is synced: all of it, in order, once.
    fn check(&self) {
        let offsets = self.log.view().offsets();
        let (records, gaps) = read_all_records(self.log.view());
        assert_eq!(gaps, vec![]);
        assert_eq!(offsets.log_start as usize, self.log_start);
        assert!(offsets.high_watermark as usize >= self.synced);
        let expected: Vec<(i64, String)> =
            (self.log_start..offsets.high_watermark as usize).map(|i| (i as i64, self.written[i].clone())).collect();
        assert!(records == expected, "read {} records, expected {}", records.len(), expected.len());
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
            model.written.iter().filter(|v| v.starts_with('e')).map(|v| v.split(' ').next().unwrap()).collect();
        let expected: Vec<String> = (0..effects.len()).map(|n| format!("e{n}")).collect();
        prop_assert_eq!(effects, expected);
    }
}
