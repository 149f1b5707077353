//! Compaction of one partition, on a simulated disk.

use std::collections::BTreeMap;

use super::*;
use crate::batch::BatchHeader;

const RETENTION: i64 = 1000;

fn compacted_settings() -> LogSettings {
    LogSettings {
        segment_size_bytes: 16 << 10,
        segment_ms: Some(1),
        compaction: Some(CompactionSettings {
            delete_retention_ms: RETENTION,
            min_dirty_ratio_ppm: 0,
            min_lag_ms: 0,
            max_lag_ms: None,
            max_keys: 1000,
        }),
        ..settings()
    }
}

fn open_compacted(fs: &SimFs) -> PartitionLog {
    try_open(fs, compacted_settings()).unwrap().0
}

fn keyed(key: &str, value: Option<&str>) -> Record {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Record { key: Some(bytes(key)), value: value.map(bytes), ..Record::default() }
}

/// Appends a batch of these keys and values, and syncs.
fn put(log: &mut PartitionLog, pairs: &[(&str, Option<&str>)]) {
    let records: Vec<Record> = pairs.iter().map(|(key, value)| keyed(key, *value)).collect();
    log.append(&records, &Guard::None, NOW).unwrap();
    log.sync().unwrap();
}

fn roll(log: &mut PartitionLog) {
    log.roll_if_due(NOW + 10).unwrap();
}

/// Compacts where it is due, up to the end. Answers with what was done by each pass.
fn compact_at(log: &mut PartitionLog, hold_back: Option<i64>, now_ms: i64) -> Vec<Tally> {
    let (mut done, mut resume) = (Vec::new(), false);
    while let Some(pass) = log.begin_compaction(hold_back, resume, now_ms).unwrap() {
        match pass.run(&|| false, |new| log.replace_segments(new)) {
            Ok(compacted) => {
                log.finish_compaction(&compacted).unwrap();
                done.push(compacted.tally);
                resume = compacted.until < compacted.planned_until;
                if !resume {
                    break;
                }
            }
            Err(Interrupted::Damaged(damage)) => log.note_damage(&damage),
            Err(Interrupted::Failed(error)) => panic!("{error}"),
        }
    }
    done
}

fn compact(log: &mut PartitionLog) -> Vec<Tally> {
    compact_at(log, None, NOW + 10)
}

/// Offset, key and value of all records; there must be no gap.
fn contents(log: &PartitionLog) -> Vec<(i64, String, Option<String>)> {
    let PartitionOffsets { log_start, high_watermark } = log.view().offsets();
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let (mut found, mut at) = (Vec::new(), log_start);
    while at < high_watermark {
        let fetched = log.view().read(at, 500).unwrap();
        assert_eq!(fetched.gaps, vec![], "a compacted hole is no gap");
        assert!(fetched.next_offset > at, "a read makes progress");
        at = fetched.next_offset;
        found.extend(
            fetched
                .records
                .iter()
                .map(|r| (r.offset, r.key.as_ref().map_or("-".into(), text), r.value.as_ref().map(text))),
        );
    }
    assert_eq!(at, high_watermark);
    found
}

fn shown(contents: &[(i64, String, Option<String>)]) -> Vec<String> {
    contents
        .iter()
        .map(|(offset, key, value)| format!("{offset} {key}={}", value.as_deref().unwrap_or("null")))
        .collect()
}

/// What a reader from the start ends with.
fn table(contents: &[(i64, String, Option<String>)]) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for (_, key, value) in contents {
        match value {
            Some(value) => table.insert(key.clone(), value.clone()),
            None => table.remove(key),
        };
    }
    table
}

fn log_files(fs: &SimFs) -> Vec<String> {
    files(fs, ".log").iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// All batch headers of a partition's segments, in order.
fn headers(fs: &SimFs) -> Vec<BatchHeader> {
    let mut found = Vec::new();
    for path in files(fs, ".log") {
        let bytes = read_all(fs, &path).unwrap().unwrap();
        for (at, size) in batches(&bytes) {
            let header = BatchHeader::parse(&bytes[at..]).unwrap();
            header.check_crc(&bytes[at..at + size]).unwrap();
            found.push(header);
        }
    }
    found
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    put(&mut log, &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]);
    put(&mut log, &[("c", Some("1")), ("a", Some("3"))]);
    put(&mut log, &[("b", Some("2"))]);
    roll(&mut log);
    put(&mut log, &[("a", Some("4"))]);
    let before = table(&contents(&log));
    let done = compact(&mut log);
    assert_eq!(done, [Tally { kept: 3, superseded: 3, ..Tally::default() }]);
    let after = contents(&log);
    assert_eq!(shown(&after), ["3 c=1", "4 a=3", "5 b=2", "6 a=4"], "the segment being written is left alone");
    assert_eq!(table(&after), before);
    assert_eq!(log.next_offset(), 7);
    let ranges: Vec<_> = headers(&fs).iter().map(|h| (h.base_offset, h.last_offset(), h.record_count)).collect();
    assert_eq!(ranges, [(0, 2, 0), (3, 4, 2), (5, 5, 1), (6, 6, 1)], "a batch stands for what is gone");
    assert_eq!(log_files(&fs), ["00000000000000000000-00000000000000000006-1.log", "00000000000000000006.log"]);
    assert_eq!(compact(&mut log), [], "nothing is new");
}

#[test]
fn what_was_compacted_is_the_same_after_a_restart_and_nothing_is_taken_for_damage() {
    for crash in [Crash::Kill, Crash::LoseUnsynced] {
        let fs = new_fs();
        let mut log = open_compacted(&fs);
        for i in 0..40 {
            put(&mut log, &[(["a", "b", "c"][i % 3], Some(&format!("{i}"))), ("x", Some(&format!("{i}")))]);
            if i % 7 == 0 {
                roll(&mut log);
            }
        }
        roll(&mut log);
        compact(&mut log);
        let before = contents(&log);
        assert_eq!(shown(&before), ["74 b=37", "76 c=38", "78 a=39", "79 x=39"]);
        drop(log);
        fs.crash(crash);
        let (log, report) = try_open(&fs, compacted_settings()).unwrap();
        assert_eq!((report.damaged_ranges, report.rebuilt_indexes, report.guard_state_incomplete), (0, 0, false));
        assert_eq!(contents(&log), before);
        assert_eq!(log.view().damaged(), vec![]);
        for path in files(&fs, ".index") {
            fs.remove_file(&path).unwrap();
        }
        fs.crash(Crash::Kill);
        let (log, report) = try_open(&fs, compacted_settings()).unwrap();
        assert_eq!(report.damaged_ranges, 0, "found by walking, too");
        assert_eq!(contents(&log), before);
    }
}

#[test]
fn tombstones_stay_for_their_time_and_the_old_value_never_comes_back() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    put(&mut log, &[("a", Some("1")), ("b", Some("1"))]);
    roll(&mut log);
    put(&mut log, &[("a", None), ("c", Some("1"))]);
    roll(&mut log);
    put(&mut log, &[("d", Some("1"))]);
    compact_at(&mut log, None, NOW + 10);
    assert_eq!(shown(&contents(&log)), ["1 b=1", "2 a=null", "3 c=1", "4 d=1"]);
    let times =
        |log: &PartitionLog| log.view().read(2, 1).unwrap().records.iter().map(|r| r.timestamp_ms).collect::<Vec<_>>();
    assert_eq!(times(&log), [NOW, NOW], "the horizon in the header changes no record's time");
    assert_eq!(compact_at(&mut log, None, NOW + 9 + RETENTION), [], "its time has not come");
    log.sync().unwrap();
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    let mut log = open_compacted(&fs);
    let done = compact_at(&mut log, None, NOW + 10 + RETENTION);
    assert_eq!(done, [Tally { kept: 2, tombstones: 1, ..Tally::default() }], "without anything new");
    assert_eq!(shown(&contents(&log)), ["1 b=1", "3 c=1", "4 d=1"]);
    assert_eq!(compact_at(&mut log, None, NOW + 100 * RETENTION), []);
}

#[test]
fn small_segments_become_one_and_large_ones_stay_apart() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    for i in 0..12 {
        put(&mut log, &[(&format!("k{i}"), Some(&"x".repeat(3000)))]);
        roll(&mut log);
    }
    assert_eq!(log_files(&fs).len(), 13);
    compact(&mut log);
    let sizes: Vec<u64> = log.view().segments().iter().map(|s| s.size_bytes).collect();
    assert_eq!(sizes.len(), 4, "five of 3 KiB fit in 16 KiB: {sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 16 << 10), "{sizes:?}");
    assert_eq!(contents(&log).len(), 12);
}

#[test]
fn it_stops_at_readers_that_hold_at_young_records_and_at_open_segments() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    for i in 0..4 {
        put(&mut log, &[("a", Some(&format!("{i}")))]);
        roll(&mut log);
    }
    assert_eq!(compact_at(&mut log, Some(0), NOW + 10), []);
    compact_at(&mut log, Some(2), NOW + 10);
    assert_eq!(shown(&contents(&log)), ["1 a=1", "2 a=2", "3 a=3"]);
    let compaction = compacted_settings().compaction.map(|c| CompactionSettings { min_lag_ms: 50, ..c });
    log.configure(LogSettings { compaction, ..compacted_settings() });
    assert_eq!(compact_at(&mut log, None, NOW + 49), []);
    compact_at(&mut log, None, NOW + 50);
    assert_eq!(shown(&contents(&log)), ["3 a=3"]);
}

#[test]
fn more_keys_than_fit_in_memory_take_several_passes() {
    let fs = new_fs();
    let compaction = compacted_settings().compaction.map(|c| CompactionSettings { max_keys: 7, ..c });
    let mut log = try_open(&fs, LogSettings { compaction, ..compacted_settings() }).unwrap().0;
    for i in 0..60 {
        let key = format!("k{}", i % 20);
        put(&mut log, &[(&key, (i != 45).then_some(&*format!("{i}")))]);
        if i % 25 == 24 {
            roll(&mut log);
        }
    }
    roll(&mut log);
    let before = table(&contents(&log));
    let passes = compact(&mut log);
    assert_eq!(passes.len(), 9, "60 batches, 7 keys at a time");
    let after = contents(&log);
    assert_eq!(after.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), (40..60).collect::<Vec<_>>());
    assert_eq!(table(&after), before);
    compact_at(&mut log, None, NOW + 10 + RETENTION);
    assert_eq!(table(&contents(&log)), before);
}

#[test]
fn what_the_partition_remembers_survives_the_records_that_said_it() {
    for damaged_snapshots in [0, 1] {
        let fs = new_fs();
        let mut log = open_compacted(&fs);
        for i in 0..6 {
            log.append(&[keyed("a", Some(&format!("{i}")))], &effects("task", 1, &[(i, 0)]), NOW).unwrap();
            log.append(&[keyed("b", Some(&format!("{i}")))], &idempotent(&format!("key{i}")), NOW).unwrap();
            log.sync().unwrap();
            roll(&mut log);
        }
        put(&mut log, &[("z", Some("last"))]);
        compact(&mut log);
        assert_eq!(shown(&contents(&log)), ["10 a=5", "11 b=5", "12 z=last"]);
        drop(log);
        fs.crash(Crash::LoseUnsynced);
        for path in files(&fs, ".state").iter().rev().take(damaged_snapshots) {
            fs.flip(path, 20, 1).unwrap();
        }
        let (mut log, report) = try_open(&fs, compacted_settings()).unwrap();
        assert!(!report.guard_state_incomplete);
        let again = log.append(&[keyed("a", Some("5"))], &effects("task", 1, &[(5, 0)]), NOW).unwrap();
        assert_eq!(again.suppressed, 1, "{damaged_snapshots} damaged");
        let again = log.append(&[keyed("b", Some("2"))], &idempotent("key2"), NOW).unwrap();
        assert_eq!((again.duplicate, again.base_offset), (true, 5), "{damaged_snapshots} damaged");
    }
}

#[test]
fn without_any_snapshot_it_is_told_that_something_may_be_forgotten() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    put(&mut log, &[("a", Some("1")), ("a", Some("2"))]);
    roll(&mut log);
    compact(&mut log);
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    files(&fs, ".state").iter().for_each(|path| fs.remove_file(path).unwrap());
    let (_, report) = try_open(&fs, compacted_settings()).unwrap();
    assert!(report.guard_state_incomplete);
}

#[test]
fn a_damaged_segment_is_left_alone_and_tombstones_behind_it_stay() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    put(&mut log, &[("a", Some("1"))]);
    roll(&mut log);
    put(&mut log, &[("b", Some("1"))]);
    put(&mut log, &[("a", Some("2"))]);
    put(&mut log, &[("a", Some("3"))]);
    roll(&mut log);
    put(&mut log, &[("a", None), ("c", Some("1"))]);
    roll(&mut log);
    put(&mut log, &[("c", Some("2"))]);
    roll(&mut log);
    let damaged = files(&fs, ".log")[1].clone();
    fs.flip(&damaged, 65, 1).unwrap();
    let bytes = read_all(&fs, &damaged).unwrap().unwrap();
    compact_at(&mut log, None, NOW + 10);
    compact_at(&mut log, None, NOW + 10 + RETENTION);
    assert_eq!(read_all(&fs, &damaged).unwrap().unwrap(), bytes, "nobody touched it");
    let view = log.view();
    let (records, gaps) = read_all_records(view);
    let seen: Vec<i64> = records.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(seen, [2, 3, 4, 6], "the tombstone hides what the damaged segment still shows");
    assert_eq!(gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>(), [(1, 2)]);
    assert_eq!(view.damaged().len(), 1);
    assert_eq!((view.damaged()[0].range.from_offset, view.damaged()[0].range.to_offset), (1, 2));
}

#[test]
fn dying_at_any_step_of_it_loses_no_key_and_leaves_no_mess() {
    let script = |log: &mut PartitionLog| {
        for i in 0..9 {
            let key = ["a", "b", "c"][i % 3];
            put(log, &[(key, (i != 7).then_some(&*format!("{i}"))), ("x", Some(&format!("{i}")))]);
            roll(log);
        }
        put(log, &[("a", Some("last"))]);
    };
    let try_compact = |log: &mut PartitionLog, now_ms| -> Result<(), BrokerError> {
        if let Some(pass) = log.begin_compaction(None, false, now_ms)? {
            match pass.run(&|| false, |new| log.replace_segments(new)) {
                Ok(compacted) => log.finish_compaction(&compacted)?,
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Damaged(_)) => panic!("nothing is damaged"),
            }
        }
        Ok(())
    };
    let mut steps = 0;
    for crash in [Crash::Kill, Crash::LoseUnsynced, Crash::Tear(1), Crash::Tear(2), Crash::Tear(3)] {
        for step in 0.. {
            let fs = new_fs();
            let mut log = open_compacted(&fs);
            script(&mut log);
            let (all, before) = (contents(&log), table(&contents(&log)));
            fs.die_after(step);
            let died = try_compact(&mut log, NOW + 10).is_err();
            let died = died || try_compact(&mut log, NOW + 10 + RETENTION).is_err();
            drop(log);
            fs.crash(crash);
            let (mut log, report) = try_open(&fs, compacted_settings()).unwrap();
            assert_eq!(report.damaged_ranges, 0, "step {step} {crash:?}");
            let after = contents(&log);
            assert_eq!(table(&after), before, "step {step} {crash:?}");
            assert!(after.iter().all(|record| all.contains(record)), "step {step} {crash:?}: {after:?}");
            assert_eq!(log.next_offset(), 19, "step {step} {crash:?}");
            assert_eq!(files(&fs, ".tmp"), Vec::<PathBuf>::new(), "step {step} {crash:?}");
            assert_eq!(
                files(&fs, ".index").len() + 1,
                files(&fs, ".log").len(),
                "step {step} {crash:?}: {:?}",
                files(&fs, "")
            );
            try_compact(&mut log, NOW + 10 + RETENTION).unwrap();
            try_compact(&mut log, NOW + 20 + 2 * RETENTION).unwrap();
            assert_eq!(table(&contents(&log)), before, "step {step} {crash:?}");
            assert_eq!(log_files(&fs).len(), 2, "step {step} {crash:?}");
            steps = steps.max(step);
            if !died {
                break;
            }
        }
    }
    assert!(steps > 10, "{steps}");
}

#[test]
fn a_full_disk_ends_a_pass_and_costs_nothing() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    for i in 0..20 {
        put(&mut log, &[("a", Some(&format!("{i} {}", "x".repeat(500))))]);
        put(&mut log, &[(&format!("k{i}"), Some(&"x".repeat(500)))]);
    }
    roll(&mut log);
    let before = contents(&log);
    let used = fs.used_bytes();
    fs.set_capacity(Some(used + 1000));
    let pass = log.begin_compaction(None, false, NOW + 10).unwrap().unwrap();
    let Err(Interrupted::Failed(error)) = pass.run(&|| false, |new| log.replace_segments(new)) else { panic!() };
    assert!(error.is_retryable(), "{error}");
    assert_eq!((log.stopped(), fs.used_bytes()), (None, used));
    assert_eq!(contents(&log), before);
    fs.set_capacity(None);
    compact(&mut log);
    assert_eq!(contents(&log).len(), 21);
}

#[test]
fn batches_of_every_codec_come_out_with_their_times() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let fs = new_fs();
        let settings = LogSettings { compression, timestamp_type: TimestampType::CreateTime, ..compacted_settings() };
        let mut log = try_open(&fs, settings).unwrap().0;
        let at = |key: &str, value: Option<&str>, ms| Record { timestamp_ms: Some(NOW + ms), ..keyed(key, value) };
        let records = [at("a", Some("1"), 500), at("b", Some("1"), -300), at("a", None, 200), at("b", Some("2"), 100)];
        log.append(&records, &Guard::None, NOW).unwrap();
        log.sync().unwrap();
        roll(&mut log);
        compact(&mut log);
        let times = |log: &PartitionLog| {
            let fetched = log.view().read(0, 1 << 20).unwrap();
            fetched.records.iter().map(|r| (r.offset, r.timestamp_ms - NOW)).collect::<Vec<_>>()
        };
        assert_eq!(times(&log), [(2, 200), (3, 100)], "{compression:?}");
        let found = |log: &PartitionLog, ms| log.view().timestamp_lookup(crate::raw::TimeQuery::At(NOW + ms)).unwrap();
        assert_eq!(found(&log, 0), Some((2, NOW + 200)));
        assert_eq!(found(&log, 201), None, "the largest time went with its record");
        let header = headers(&fs)[0];
        assert_eq!((header.record_count, header.last_offset_delta, header.compression), (2, 3, compression));
        assert_eq!(header.delete_horizon_ms(), Some(NOW + 10 + RETENTION));
        compact_at(&mut log, None, NOW + 10 + RETENTION);
        assert_eq!(times(&log), [(3, 100)], "{compression:?}");
    }
}

#[test]
fn records_without_a_key_go() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    log.append(&[record("no key"), keyed("a", Some("1"))], &Guard::None, NOW).unwrap();
    log.sync().unwrap();
    roll(&mut log);
    assert_eq!(compact(&mut log), [Tally { kept: 1, without_key: 1, ..Tally::default() }]);
    assert_eq!(shown(&contents(&log)), ["1 a=1"]);
}

#[test]
fn a_read_that_is_overtaken_looks_again() {
    let fs = new_fs();
    let mut log = open_compacted(&fs);
    for i in 0..50 {
        put(&mut log, &[("a", Some(&format!("{i}"))), (&format!("k{i}"), Some("once"))]);
        roll(&mut log);
    }
    let view = Arc::clone(log.view());
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            let mut reads = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                let (mut at, mut once) = (0, 0);
                while at < 100 {
                    let fetched = view.read(at, 300).unwrap();
                    assert_eq!(fetched.gaps, vec![]);
                    once += fetched.records.iter().filter(|r| r.value.as_deref() == Some(b"once")).count();
                    at = fetched.next_offset;
                }
                assert_eq!(once, 50);
                reads += 1;
            }
            reads
        })
    };
    for i in 0..200 {
        put(&mut log, &[("b", Some(&format!("{i}")))]);
        roll(&mut log);
        compact(&mut log);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
}
