//! Transactions in one partition: who sees what, before and after, across restarts, rolls and retention.

use super::clients::{create_time, produce};
use super::*;
use crate::batch::testing::{ClientBatch, headers_of};
use crate::log::producers::OngoingTransactions;
use crate::log::retention::RetentionLimits;
use crate::raw::{AbortedTransaction, Isolation, TransactionMarker};

/// Nobody has a transaction open; all producers have this epoch.
struct NeverOpen(i16);

impl OngoingTransactions for NeverOpen {
    fn is_open(&self, _: i64, _: i16, _: &str, _: i32) -> bool {
        false
    }

    fn current_epoch(&self, _: i64) -> Option<i16> {
        Some(self.0)
    }
}

fn transactional(producer_id: i64, sequence: i32, value: &str) -> ClientBatch {
    ClientBatch::of([value]).by(producer_id, 0, sequence).transactional()
}

fn end(log: &mut PartitionLog, producer_id: i64, commit: bool) -> i64 {
    let marker = TransactionMarker { producer_id, producer_epoch: 0, commit, coordinator_epoch: 0 };
    log.end_transaction(&marker, NOW).unwrap()
}

/// Log start, last stable offset, high watermark.
fn ends(log: &PartitionLog) -> (i64, i64, i64) {
    let ends = log.view().ends();
    (ends.log_start, ends.last_stable_offset, ends.high_watermark)
}

/// Offsets and values that a reader of committed records sees.
fn committed(log: &PartitionLog) -> Vec<(i64, String)> {
    let view = log.view();
    let (mut records, mut at) = (Vec::new(), view.ends().log_start);
    while at < view.ends().last_stable_offset {
        let fetched = view.read(at, 2000).unwrap();
        assert!(fetched.next_offset > at, "a read makes progress");
        assert_eq!(fetched.gaps, vec![]);
        assert_eq!(fetched.high_watermark, view.ends().last_stable_offset);
        at = fetched.next_offset;
        records.extend(
            fetched.records.into_iter().map(|r| (r.offset, String::from_utf8(r.value.unwrap().to_vec()).unwrap())),
        );
    }
    assert_eq!(at, view.ends().last_stable_offset);
    assert_eq!(records, committed_as_a_client(log), "both kinds of reader agree");
    records
}

/// The same by the rules of a Kafka client: from the batches and the list of aborted transactions.
fn committed_as_a_client(log: &PartitionLog) -> Vec<(i64, String)> {
    let view = log.view();
    let (mut records, mut at) = (Vec::new(), view.ends().log_start);
    loop {
        let fetched = view.fetch(at, 300, Isolation::ReadCommitted).unwrap();
        let mut upcoming: Vec<AbortedTransaction> = fetched.aborted;
        assert!(upcoming.is_sorted_by_key(|a| a.first_offset));
        let mut aborted = std::collections::BTreeSet::new();
        let mut rest = fetched.batches.clone();
        let headers = headers_of(&fetched.batches);
        for header in &headers {
            let batch = rest.split_to(header.size_bytes);
            while upcoming.first().is_some_and(|a| a.first_offset <= header.last_offset()) {
                aborted.insert(upcoming.remove(0).producer_id);
            }
            if header.is_control() {
                let marker = crate::batch::decode_marker(header, &batch).unwrap();
                if !marker.commit {
                    aborted.remove(&header.producer_id);
                }
            } else if !header.is_transactional() || !aborted.contains(&header.producer_id) {
                let mut found = Vec::new();
                crate::batch::decode_records(header, &batch, at, 1 << 20, &mut found).unwrap();
                records.extend(
                    found.into_iter().map(|r| (r.offset, String::from_utf8(r.value.unwrap().to_vec()).unwrap())),
                );
            }
            at = header.next_offset();
        }
        if headers.is_empty() {
            return records;
        }
    }
}

fn values(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    pairs.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

#[test]
fn readers_see_what_is_committed_and_stop_at_what_is_open() {
    for stop in ["run on", "kill", "close", "lose"] {
        let fs = new_fs();
        let (mut log, _) = try_open(&fs, create_time()).unwrap();
        produce(&mut log, &ClientBatch::of(["plain 0"])).unwrap();
        produce(&mut log, &transactional(1, 0, "one 1")).unwrap();
        produce(&mut log, &transactional(2, 0, "two 2")).unwrap();
        produce(&mut log, &ClientBatch::of(["plain 3"])).unwrap();
        log.sync().unwrap();
        let restart = |mut log: PartitionLog| {
            match stop {
                "run on" => return log,
                "close" => log.close().unwrap(),
                _ => {}
            }
            drop(log);
            fs.crash(if stop == "kill" { Crash::Kill } else { Crash::LoseUnsynced });
            try_open(&fs, create_time()).unwrap().0
        };
        log = restart(log);
        assert_eq!(ends(&log), (0, 1, 4), "{stop}");
        assert_eq!(committed(&log), values(&[(0, "plain 0")]));
        let all = log.view().fetch(0, 1 << 20, Isolation::ReadUncommitted).unwrap();
        assert_eq!((headers_of(&all.batches).len(), all.aborted), (4, vec![]));

        assert_eq!(end(&mut log, 1, false), 4);
        assert_eq!(ends(&log), (0, 1, 4), "not before it is synced");
        log.sync().unwrap();
        log = restart(log);
        assert_eq!(ends(&log), (0, 2, 5), "{stop}");
        assert_eq!(committed(&log), values(&[(0, "plain 0")]));

        produce(&mut log, &transactional(1, 1, "one 5")).unwrap();
        assert_eq!(end(&mut log, 2, true), 6);
        log.sync().unwrap();
        log = restart(log);
        assert_eq!(ends(&log), (0, 5, 7), "{stop}");
        let seen = [(0, "plain 0"), (2, "two 2"), (3, "plain 3")];
        assert_eq!(committed(&log), values(&seen));

        assert_eq!(end(&mut log, 1, true), 7);
        log.sync().unwrap();
        log = restart(log);
        assert_eq!(ends(&log), (0, 8, 8), "{stop}");
        assert_eq!(committed(&log), values(&[&seen[..], &[(5, "one 5")]].concat()));
        // Again after a lost reply: nothing is written.
        assert_eq!(end(&mut log, 1, true), 7);
        assert_eq!(end(&mut log, 2, true), 6);
        assert_eq!(log.next_offset(), 8);
        // Asked for from within, only what matters there is listed.
        let fetched = log.view().fetch(4, 1 << 20, Isolation::ReadCommitted).unwrap();
        assert_eq!(fetched.aborted, [AbortedTransaction { producer_id: 1, first_offset: 1 }]);
        let fetched = log.view().fetch(5, 1 << 20, Isolation::ReadCommitted).unwrap();
        assert_eq!(fetched.aborted, []);
    }
}

#[test]
fn a_batch_outside_a_transaction_is_refused() {
    let fs = new_fs();
    let (mut log, _) = try_open(&fs, create_time()).unwrap();
    let batch = transactional(1, 0, "x").bytes();
    let checked = crate::batch::CheckedBatch::check(batch, &create_time().batch_rules(NOW)).unwrap();
    let error = log.produce(&checked, NOW, &NeverOpen(0)).unwrap_err();
    assert!(matches!(error, BrokerError::InvalidTransactionState { producer_id: 1, .. }), "{error}");
    let error = log.produce(&checked, NOW, &NeverOpen(1)).unwrap_err();
    assert!(matches!(error, BrokerError::ProducerFenced { producer_id: 1, epoch: 0, current: 1, .. }), "{error}");
    assert_eq!(log.next_offset(), 0);
    // Within one, plain batches of its producer are.
    produce(&mut log, &transactional(1, 0, "x")).unwrap();
    let error = produce(&mut log, &ClientBatch::of(["y"]).by(1, 0, 1)).unwrap_err();
    assert!(matches!(error, BrokerError::InvalidTransactionState { producer_id: 1, .. }), "{error}");
    let zombie = TransactionMarker { producer_id: 1, producer_epoch: 0, commit: true, coordinator_epoch: 3 };
    log.end_transaction(&zombie, NOW).unwrap();
    let zombie = TransactionMarker { coordinator_epoch: 2, ..zombie };
    let error = log.end_transaction(&zombie, NOW).unwrap_err();
    assert!(matches!(error, BrokerError::CoordinatorFenced { epoch: 2, current: 3, .. }), "{error}");
}

#[test]
fn an_open_transaction_outlives_rolls_restarts_and_its_own_beginning() {
    for snapshots_lost in [false, true] {
        let fs = new_fs();
        let (mut log, _) = try_open(&fs, create_time()).unwrap();
        produce(&mut log, &ClientBatch::of(["before 0"])).unwrap();
        produce(&mut log, &transactional(1, 0, "open 1")).unwrap();
        for i in 2..1500 {
            produce(&mut log, &ClientBatch::of([value_of(i)])).unwrap();
        }
        log.sync().unwrap();
        assert!(files(&fs, ".log").len() > 3);
        drop(log);
        fs.crash(Crash::Kill);
        if snapshots_lost {
            files(&fs, ".state").iter().for_each(|path| fs.remove_file(path).unwrap());
        }
        let (mut log, _) = try_open(&fs, create_time()).unwrap();
        assert_eq!(ends(&log), (0, 1, 1500));
        // It goes on, and its beginning is deleted.
        produce(&mut log, &transactional(1, 1, "open 1500")).unwrap();
        log.sync().unwrap();
        assert_eq!(log.advance_log_start(700).unwrap(), 700);
        assert_eq!(ends(&log), (700, 700, 1501));
        assert_eq!(committed(&log), vec![]);
        log.close().unwrap();
        drop(log);
        fs.crash(Crash::LoseUnsynced);
        let (mut log, _) = try_open(&fs, create_time()).unwrap();
        assert_eq!(ends(&log), (700, 700, 1501));
        end(&mut log, 1, snapshots_lost);
        log.sync().unwrap();
        assert_eq!(ends(&log), (700, 1502, 1502));
        let mut seen: Vec<(i64, String)> = expected(700..1500);
        if snapshots_lost {
            seen.push((1500, "open 1500".to_owned()));
        }
        assert!(committed(&log) == seen);
    }
}

#[test]
fn retention_takes_what_was_aborted_out_of_the_index_and_the_snapshots() {
    let fs = new_fs();
    let (mut log, _) = try_open(&fs, create_time()).unwrap();
    for i in 0..600 {
        produce(&mut log, &transactional(1, i, &value_of(i as usize))).unwrap();
        end(&mut log, 1, i % 2 == 0);
    }
    log.sync().unwrap();
    let seen: Vec<(i64, String)> = (0..600).step_by(2).map(|i| (2 * i as i64, value_of(i))).collect();
    assert!(committed(&log) == seen);
    let limits = RetentionLimits { retention_bytes: Some(100 << 10), ..RetentionLimits::default() };
    assert!(log.apply_retention(&limits, NOW).unwrap().freed_bytes > 0);
    let (log_start, ..) = ends(&log);
    assert!(log_start > 100);
    let rest: Vec<_> = seen.iter().filter(|(offset, _)| *offset >= log_start).cloned().collect();
    assert!(committed(&log) == rest);
    log.close().unwrap();
    let snapshot = files(&fs, ".state").pop().unwrap();
    let size = read_all(&fs, &snapshot).unwrap().unwrap().len();
    let kept = (1200 - log_start as usize) / 4;
    assert!(size < 200 + 33 * kept, "{size} bytes for {kept} aborted transactions");
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    let (log, _) = try_open(&fs, create_time()).unwrap();
    assert!(committed(&log) == rest);
    // Everything else may go; what is open stays unstable.
    let view = PartitionView::open_read_only(id(), Arc::new(fs.clone()), Path::new(DIR), 1 << 20).unwrap();
    assert_eq!(view.ends(), log.view().ends());
    assert_eq!(view.read(log_start, 1 << 20).unwrap(), log.view().read(log_start, 1 << 20).unwrap());
}

#[test]
fn a_torn_marker_leaves_the_transaction_open_at_every_byte() {
    let fs = new_fs();
    let (mut log, _) = try_open(&fs, create_time()).unwrap();
    produce(&mut log, &transactional(1, 0, "a")).unwrap();
    // Without zeros at its end, which could not be told from those behind it.
    let marker = TransactionMarker { producer_id: 1, producer_epoch: 0, commit: false, coordinator_epoch: 0x0101_0101 };
    log.end_transaction(&marker, NOW).unwrap();
    log.sync().unwrap();
    drop(log);
    let bytes = segment_bytes(&fs);
    let (at, size) = batches(&bytes)[1];
    let path = files(&fs, ".log")[0].clone();
    // The last byte is a zero.
    for cut in 0..size - 1 {
        let fs = copy(&fs);
        overwrite(&fs, &path, (at + cut) as u64, &vec![0; size - cut]);
        let (mut log, _) = try_open(&fs, create_time()).unwrap();
        assert_eq!(ends(&log), (0, 0, 1), "cut at {cut}");
        assert_eq!(log.end_transaction(&TransactionMarker { commit: true, ..marker }, NOW).unwrap(), 1);
        log.sync().unwrap();
        assert_eq!(committed(&log), values(&[(0, "a")]), "the coordinator decides, not the torn marker");
    }
}

#[test]
fn deleting_into_an_open_batch_shows_none_of_it() {
    let fs = new_fs();
    let (mut log, _) = try_open(&fs, create_time()).unwrap();
    produce(&mut log, &ClientBatch::of(["a", "b", "c", "d"]).by(1, 0, 0).transactional()).unwrap();
    log.sync().unwrap();
    log.advance_log_start(2).unwrap();
    assert_eq!(ends(&log), (2, 2, 4));
    let fetched = log.view().read(2, 1000).unwrap();
    assert_eq!((fetched.records.len(), fetched.next_offset), (0, 2));
    assert!(log.view().fetch(2, 1000, Isolation::ReadCommitted).unwrap().batches.is_empty());
    assert_eq!(
        log.view().fetch(2, 1000, Isolation::ReadUncommitted).unwrap().batches.len(),
        batches(&segment_bytes(&fs))[0].1
    );
    end(&mut log, 1, true);
    log.sync().unwrap();
    assert_eq!(committed(&log), values(&[(2, "c"), (3, "d")]));
}
