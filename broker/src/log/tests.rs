#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::append::{Appended, EffectMark, Guard, IDEMPOTENCY_HORIZON_MS};
use crate::fs::file::{create_dir_durably, read_all, write_atomically};
use crate::fs::{Crash, OpenMode, SimFs};
use crate::record::Record;
use crate::topic::{Gap, PartitionOffsets};

const DIR: &str = "/p";
pub(super) const NOW: i64 = 1_700_000_000_000;

pub(super) fn settings() -> LogSettings {
    LogSettings {
        segment_size_bytes: 64 << 10,
        max_batch_size_bytes: 32 << 10,
        max_decompressed_size_bytes: 1 << 20,
        max_idempotency_keys: 100,
        timestamp_type: TimestampType::LogAppendTime,
        compression: Compression::None,
    }
}

pub(super) fn new_fs() -> SimFs {
    let fs = SimFs::new();
    create_dir_durably(&fs, Path::new(DIR)).unwrap();
    fs
}

fn id() -> PartitionId {
    PartitionId { topic: Arc::from("t"), partition: 0 }
}

pub(super) fn try_open(fs: &SimFs, settings: LogSettings) -> Result<(PartitionLog, RecoveryReport), BrokerError> {
    PartitionLog::open(id(), Arc::new(fs.clone()), DIR, settings, NOW)
}

fn open(fs: &SimFs) -> PartitionLog {
    try_open(fs, settings()).unwrap().0
}

fn record(value: impl Into<Vec<u8>>) -> Record {
    Record { value: Some(Bytes::from(value.into())), ..Record::default() }
}

fn value_of(i: usize) -> String {
    format!("value {i} {}", "x".repeat(100))
}

fn append(log: &mut PartitionLog, value: impl Into<Vec<u8>>) -> Result<Appended, BrokerError> {
    log.append(&[record(value)], &Guard::None, NOW)
}

/// A log of `n` batches of one record, each synced by itself.
fn filled(fs: &SimFs, n: usize) -> PartitionLog {
    let mut log = open(fs);
    for i in 0..n {
        append(&mut log, value_of(i)).unwrap();
        log.sync().unwrap();
    }
    log
}

/// Everything readable from the log start on, as offset and value, with the gaps passed.
pub(super) fn read_all_records(view: &PartitionView) -> (Vec<(i64, String)>, Vec<Gap>) {
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    let PartitionOffsets { log_start, high_watermark } = view.offsets();
    let mut at = log_start;
    while at < high_watermark {
        let fetched = view.read(at, 4000).unwrap();
        assert!(fetched.next_offset > at, "a read makes progress");
        records.extend(
            fetched
                .records
                .iter()
                .map(|r| (r.offset, String::from_utf8_lossy(r.value.as_deref().unwrap_or_default()).into_owned())),
        );
        gaps.extend(fetched.gaps);
        at = fetched.next_offset;
    }
    (records, gaps)
}

fn expected(offsets: impl IntoIterator<Item = usize>) -> Vec<(i64, String)> {
    offsets.into_iter().map(|i| (i as i64, value_of(i))).collect()
}

fn files(fs: &SimFs, suffix: &str) -> Vec<PathBuf> {
    let entries = fs.read_dir(Path::new(DIR)).unwrap();
    entries.into_iter().filter(|e| e.name.ends_with(suffix)).map(|e| Path::new(DIR).join(e.name)).collect()
}

fn segment_bytes(fs: &SimFs) -> Vec<u8> {
    read_all(fs, &files(fs, ".log")[0]).unwrap().unwrap()
}

/// Positions and sizes of the batches at the front of a segment.
fn batches(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut found) = (0, Vec::new());
    while let Ok(header) = crate::batch::BatchHeader::parse(&bytes[at..]) {
        found.push((at, header.size_bytes));
        at += header.size_bytes;
    }
    found
}

fn overwrite(fs: &SimFs, path: &Path, at: u64, bytes: &[u8]) {
    let file = fs.open(path, OpenMode::Write).unwrap();
    file.write_all_at(bytes, at).unwrap();
    file.sync_data().unwrap();
}

/// A copy of the filesystem, all of it durable.
fn copy(fs: &SimFs) -> SimFs {
    let twin = new_fs();
    for path in files(fs, "") {
        write_atomically(&twin, &path, &read_all(fs, &path).unwrap().unwrap()).unwrap();
    }
    twin
}

#[test]
fn readers_see_what_is_synced_and_no_more() {
    let fs = new_fs();
    let mut log = open(&fs);
    let appended = append(&mut log, value_of(0)).unwrap();
    assert_eq!((appended.base_offset, appended.last_offset, appended.append_time_ms), (0, 0, NOW));
    assert_eq!(log.view().offsets(), PartitionOffsets { log_start: 0, high_watermark: 0 });
    assert!(log.view().read(0, 1000).unwrap().records.is_empty());
    log.sync().unwrap();
    append(&mut log, "unsynced").unwrap();
    let fetched = log.view().read(0, 1000).unwrap();
    assert_eq!((fetched.next_offset, fetched.high_watermark, fetched.records.len()), (1, 1, 1));
    assert_eq!(fetched.records[0].timestamp_ms, NOW);
    let error = log.view().read(2, 1000).unwrap_err();
    assert!(
        matches!(error, BrokerError::OffsetOutOfRange { offset: 2, log_start: 0, high_watermark: 1, .. }),
        "{error}"
    );
}

#[test]
fn many_appends_share_one_sync() {
    let fs = new_fs();
    let mut log = open(&fs);
    let before = fs.sync_count();
    for i in 0..100 {
        append(&mut log, value_of(i)).unwrap();
    }
    log.sync().unwrap();
    log.sync().unwrap();
    assert_eq!(fs.sync_count() - before, 1);
    assert_eq!(log.view().offsets().high_watermark, 100);
}

#[test]
fn a_read_gives_at_least_one_batch_and_stops_at_its_budget() {
    let fs = new_fs();
    let log = filled(&fs, 10);
    assert_eq!(log.view().read(3, 0).unwrap().records.len(), 1);
    let (_, size) = batches(&segment_bytes(&fs))[0];
    let fetched = log.view().read(3, 2 * size).unwrap();
    assert_eq!(fetched.records.iter().map(|r| r.offset).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(fetched.next_offset, 5);
}

#[test]
fn values_of_one_read_share_its_buffer() {
    let fs = new_fs();
    let log = filled(&fs, 3);
    let records = log.view().read(0, 10_000).unwrap().records;
    let address = |i: usize| records[i].value.as_ref().unwrap().as_ptr() as usize;
    let (_, size) = batches(&segment_bytes(&fs))[0];
    assert_eq!((address(1) - address(0), address(2) - address(1)), (size, size), "they lie as on disk");
}

#[test]
fn segments_roll_and_reads_cross_them() {
    let fs = new_fs();
    let mut log = filled(&fs, 1000);
    let segments = log.view().segments();
    assert!(segments.len() >= 3, "{segments:?}");
    assert!(segments.iter().all(|s| s.size_bytes <= 64 << 10));
    assert_eq!(segments.iter().filter(|s| !s.closed).count(), 1);
    assert_eq!(read_all_records(log.view()), (expected(0..1000), vec![]));
    for offset in [0, 1, 333, 998, 999] {
        assert_eq!(log.view().read(offset, 1).unwrap().records[0].offset, offset);
    }
    assert_eq!(files(&fs, ".index").len(), segments.len() - 1);
    assert_eq!(files(&fs, ".state").len(), 2, "only the newest snapshots are kept");
    let closed_size = fs.open(&files(&fs, ".log")[0], OpenMode::Read).unwrap().size_bytes().unwrap();
    assert_eq!(closed_size, segments[0].size_bytes, "a closed segment gives back what was reserved");
    log.close().unwrap();
}

#[test]
fn every_crash_keeps_what_was_synced() {
    for crash in [Crash::Kill, Crash::LoseUnsynced, Crash::Tear(1), Crash::Tear(2), Crash::Tear(3)] {
        let fs = new_fs();
        drop(filled(&fs, 700));
        fs.crash(crash);
        let (log, report) = try_open(&fs, settings()).unwrap();
        assert_eq!(read_all_records(log.view()), (expected(0..700), vec![]), "{crash:?}");
        assert_eq!((log.next_offset(), report.clean, report.cut_bytes), (700, false, 0));
    }
}

#[test]
fn an_orderly_stop_leaves_nothing_to_scan() {
    let fs = new_fs();
    let mut log = filled(&fs, 700);
    log.close().unwrap();
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    let (mut log, report) = try_open(&fs, settings()).unwrap();
    assert_eq!(report, RecoveryReport { clean: true, ..RecoveryReport::default() });
    assert_eq!(append(&mut log, value_of(700)).unwrap().base_offset, 700);
    log.sync().unwrap();
    assert_eq!(read_all_records(log.view()), (expected(0..701), vec![]));
    // Having been written to, it is not clean any more.
    fs.crash(Crash::Kill);
    let (log, report) = try_open(&fs, settings()).unwrap();
    assert!(!report.clean);
    assert_eq!(log.next_offset(), 701);
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let fs = new_fs();
    drop(filled(&fs, 4));
    let bytes = segment_bytes(&fs);
    let (last_at, last_size) = batches(&bytes)[3];
    let path = files(&fs, ".log")[0].clone();
    // The last byte is a zero, like those behind it: without it the batch is whole all the same.
    assert_eq!(bytes[last_at + last_size - 2..last_at + last_size], [b'x', 0]);
    for cut in 0..last_size - 1 {
        let fs = copy(&fs);
        overwrite(&fs, &path, (last_at + cut) as u64, &vec![0; last_size - cut]);
        let (mut log, report) = try_open(&fs, settings()).unwrap();
        assert_eq!(read_all_records(log.view()), (expected(0..3), vec![]), "cut at {cut}");
        let torn = bytes[last_at..last_at + cut].iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        assert_eq!(report.cut_bytes, torn as u64, "cut at {cut}");
        assert_eq!(append(&mut log, value_of(3)).unwrap().base_offset, 3);
        log.sync().unwrap();
        drop(log);
        fs.crash(Crash::LoseUnsynced);
        assert_eq!(read_all_records(open(&fs).view()), (expected(0..4), vec![]), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_in_any_header_field_costs_one_batch() {
    let fs = new_fs();
    drop(filled(&fs, 5));
    let (at, _) = batches(&segment_bytes(&fs))[2];
    let path = files(&fs, ".log")[0].clone();
    for byte in 0..crate::batch::HEADER_SIZE_BYTES {
        for bit in [0, 3, 7] {
            let fs = copy(&fs);
            fs.flip(&path, (at + byte) as u64, 1 << bit).unwrap();
            let (mut log, report) = try_open(&fs, settings()).unwrap();
            let (records, gaps) = read_all_records(log.view());
            if (12..16).contains(&byte) {
                assert_eq!((records, gaps), (expected(0..5), vec![]), "the leader epoch is nobody's business");
                continue;
            }
            assert_eq!(records, expected([0, 1, 3, 4]), "byte {byte} bit {bit}");
            assert_eq!(gaps.iter().map(|g| (g.from, g.to)).collect::<Vec<_>>(), [(2, 3)], "byte {byte} bit {bit}");
            assert_eq!((report.cut_bytes, report.damaged_ranges), (0, 1));
            let damaged = log.view().damaged();
            assert_eq!((damaged[0].range.from_offset, damaged[0].range.to_offset), (2, 3));
            // And life goes on.
            assert_eq!(append(&mut log, value_of(5)).unwrap().base_offset, 5);
            log.sync().unwrap();
            assert_eq!(read_all_records(log.view()).0, expected([0, 1, 3, 4, 5]));
        }
    }
}

#[test]
fn rot_in_a_closed_segment_is_passed_over_and_reported_once() {
    let fs = new_fs();
    let log = filled(&fs, 700);
    let path = files(&fs, ".log")[0].clone();
    let found = batches(&read_all(&fs, &path).unwrap().unwrap());
    for (i, at) in [(0, 70), (10, 30), (found.len() - 1, 70)] {
        fs.flip(&path, (found[i].0 + at) as u64, 0x10).unwrap();
    }
    let last = found.len() - 1;
    for _ in 0..2 {
        let (records, gaps) = read_all_records(log.view());
        let lost = [0, 10, last];
        assert_eq!(records, expected((0..700).filter(|i| !lost.contains(i))));
        assert_eq!(gaps.iter().map(|g| g.from as usize).collect::<Vec<_>>(), lost);
    }
    assert_eq!(log.view().damaged().len(), 3);
    // A read that begins inside the gap is told of it, too.
    let fetched = log.view().read(10, 1).unwrap();
    assert_eq!((fetched.gaps[0].from, fetched.records[0].offset), (10, 11));
}

#[test]
fn a_damaged_range_of_any_length_is_passed_over() {
    let fs = new_fs();
    drop(filled(&fs, 20));
    let found = batches(&segment_bytes(&fs));
    let path = files(&fs, ".log")[0].clone();
    // From inside batch 3 to inside batch 8, so that no length field leads out.
    let (from, to) = (found[3].0 + 5, found[8].0 + 90);
    overwrite(&fs, &path, from as u64, &vec![0xa5; to - from]);
    let log = open(&fs);
    let (records, gaps) = read_all_records(log.view());
    assert_eq!(records, expected((0..3).chain(9..20)));
    assert_eq!(gaps.iter().map(|g| (g.from, g.to)).collect::<Vec<_>>(), [(3, 9)]);
}

#[test]
fn a_length_of_two_to_the_31_is_damage_like_any_other() {
    let fs = new_fs();
    drop(filled(&fs, 4));
    let found = batches(&segment_bytes(&fs));
    let path = files(&fs, ".log")[0].clone();
    for length in [i32::MAX, i32::MIN, -1, 0] {
        let middle = copy(&fs);
        overwrite(&middle, &path, (found[1].0 + 8) as u64, &length.to_be_bytes());
        let (records, gaps) = read_all_records(open(&middle).view());
        assert_eq!((records, gaps.len()), (expected([0, 2, 3]), 1), "{length}");
        let end = copy(&fs);
        overwrite(&end, &path, (found[3].0 + 8) as u64, &length.to_be_bytes());
        let (log, report) = try_open(&end, settings()).unwrap();
        assert_eq!(read_all_records(log.view()), (expected(0..3), vec![]), "{length}");
        assert!(report.cut_bytes > 0);
    }
}

#[test]
fn acknowledged_records_lost_at_the_end_keep_their_offsets() {
    let fs = new_fs();
    let mut log = filled(&fs, 4);
    log.write_recovery_point().unwrap();
    drop(log);
    let (at, size) = batches(&segment_bytes(&fs))[3];
    let path = files(&fs, ".log")[0].clone();
    for damage in [vec![0; size], vec![0xff; size]] {
        let fs = copy(&fs);
        overwrite(&fs, &path, at as u64, &damage);
        let (mut log, report) = try_open(&fs, settings()).unwrap();
        assert_eq!((log.next_offset(), report.damaged_ranges, report.cut_bytes), (4, 1, 0));
        assert_eq!(append(&mut log, value_of(4)).unwrap().base_offset, 4);
        log.sync().unwrap();
        let (records, gaps) = read_all_records(log.view());
        assert_eq!(records, expected([0, 1, 2, 4]));
        assert_eq!(gaps.iter().map(|g| (g.from, g.to)).collect::<Vec<_>>(), [(3, 4)]);
        drop(log);
        fs.crash(Crash::LoseUnsynced);
        assert_eq!(read_all_records(open(&fs).view()).0, expected([0, 1, 2, 4]));
    }
}

fn effects(task: &str, epoch: i32, marks: &[(i64, i32)]) -> Guard {
    let marks = marks.iter().map(|(position, index)| EffectMark { position: *position, index: *index }).collect();
    Guard::Effects { task: Arc::from(task), epoch, marks }
}

#[test]
fn a_torn_group_that_nobody_was_told_of_is_cut_whole() {
    let fs = new_fs();
    let mut log = filled(&fs, 2);
    for i in 2..5 {
        log.append(&[record(value_of(i))], &effects("a", 1, &[(i as i64, 0)]), NOW).unwrap();
    }
    drop(log);
    // Power loss keeps the later batches of the group and loses the first.
    fs.crash(Crash::Kill);
    let (at, size) = batches(&segment_bytes(&fs))[2];
    overwrite(&fs, &files(&fs, ".log")[0], at as u64, &vec![0; size]);
    let (mut log, report) = try_open(&fs, settings()).unwrap();
    assert_eq!(read_all_records(log.view()), (expected(0..2), vec![]));
    assert!(report.cut_bytes > 0);
    // Had effects 3 and 4 been kept, effect 2 would be suppressed here, and lost.
    for i in 2..5 {
        let appended = log.append(&[record(value_of(i))], &effects("a", 2, &[(i as i64, 0)]), NOW).unwrap();
        assert_eq!((appended.base_offset, appended.suppressed), (i as i64, 0));
    }
    log.sync().unwrap();
    assert_eq!(read_all_records(log.view()), (expected(0..5), vec![]));
}

#[test]
fn damage_before_a_torn_group_is_not_taken_for_part_of_it() {
    let fs = new_fs();
    let mut log = filled(&fs, 3);
    append(&mut log, value_of(3)).unwrap();
    append(&mut log, value_of(4)).unwrap();
    drop(log);
    fs.crash(Crash::Kill);
    let found = batches(&segment_bytes(&fs));
    let path = files(&fs, ".log")[0].clone();
    // Batch 1 was acknowledged and rots; batch 3 was on its way and is torn.
    fs.flip(&path, found[1].0 as u64 + 70, 1).unwrap();
    overwrite(&fs, &path, found[3].0 as u64, &vec![0; found[3].1]);
    let (log, report) = try_open(&fs, settings()).unwrap();
    let (records, gaps) = read_all_records(log.view());
    assert_eq!(records, expected([0, 2]));
    assert_eq!(gaps.iter().map(|g| (g.from, g.to)).collect::<Vec<_>>(), [(1, 2)]);
    assert_eq!((log.next_offset(), report.damaged_ranges), (3, 1));
    assert!(report.cut_bytes > 0);
}

#[test]
fn indexes_are_rebuilt_where_missing_or_damaged() {
    let fs = new_fs();
    let mut log = filled(&fs, 1000);
    log.write_recovery_point().unwrap();
    drop(log);
    let indexes = files(&fs, ".index");
    assert!(indexes.len() >= 2);
    let size = read_all(&fs, &indexes[0]).unwrap().unwrap().len() as u64;
    type Damage<'a> = Box<dyn Fn(&SimFs, &Path) + 'a>;
    let damages: Vec<(usize, Damage<'_>)> = vec![
        (1, Box::new(|fs, path| fs.remove_file(path).unwrap())),
        (1, Box::new(|fs, path| fs.flip(path, 17, 4).unwrap())),
        (1, Box::new(|fs, path| fs.open(path, OpenMode::Write).unwrap().set_len(10).unwrap())),
        // Damaged entries are seen when they are read.
        (0, Box::new(move |fs, path| fs.flip(path, size - 6, 4).unwrap())),
    ];
    for (rebuilt_at_open, damage) in damages {
        let fs = copy(&fs);
        damage(&fs, &indexes[0]);
        let (log, report) = try_open(&fs, settings()).unwrap();
        assert_eq!((report.rebuilt_indexes, report.damaged_ranges), (rebuilt_at_open, 0));
        assert_eq!(read_all_records(log.view()), (expected(0..1000), vec![]));
        assert_eq!(log.view().read(123, 1).unwrap().records[0].offset, 123);
    }
    // While it runs, too.
    let log = open(&fs);
    for path in &indexes {
        fs.remove_file(path).unwrap();
    }
    assert_eq!(log.view().read(123, 1).unwrap().records[0].offset, 123);
    assert_eq!(read_all_records(log.view()), (expected(0..1000), vec![]));
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_other_slot_or_to_the_segments() {
    let fs = new_fs();
    let mut log = filled(&fs, 700);
    log.write_recovery_point().unwrap();
    drop(log);
    let path = Path::new(DIR).join("checkpoint");
    for slots in [vec![0], vec![4096], vec![0, 4096]] {
        let fs = copy(&fs);
        for slot in slots {
            fs.flip(&path, slot + 20, 1).unwrap();
        }
        let log = open(&fs);
        assert_eq!(read_all_records(log.view()), (expected(0..700), vec![]));
    }
    fs.remove_file(&path).unwrap();
    assert_eq!(read_all_records(open(&fs).view()), (expected(0..700), vec![]));
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let fs = new_fs();
    let mut log = filled(&fs, 300);
    fs.set_capacity(Some(fs.used_bytes()));
    let mut written = 300;
    // What is reserved is still used up; then it is refused, and stays so.
    let error = loop {
        match append(&mut log, value_of(written)) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BrokerError::DiskFull { .. }) && error.is_retryable(), "{error}");
    assert!(append(&mut log, value_of(written)).unwrap_err().is_retryable());
    log.sync().unwrap();
    assert_eq!(read_all_records(log.view()), (expected(0..written), vec![]));
    // A crash meanwhile finds nothing half written, and opens although the disk is full.
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    let (mut log, report) = try_open(&fs, settings()).unwrap();
    assert_eq!((log.next_offset(), report.cut_bytes), (written as i64, 0));
    assert!(append(&mut log, "x".repeat(20_000)).unwrap_err().is_retryable());
    fs.set_capacity(None);
    for i in written..1000 {
        assert_eq!(append(&mut log, value_of(i)).unwrap().base_offset, i as i64);
    }
    log.sync().unwrap();
    assert_eq!(read_all_records(log.view()), (expected(0..1000), vec![]));
}

#[test]
fn a_full_disk_at_any_step_of_a_roll_is_survived() {
    let fs = new_fs();
    drop(filled(&fs, 300));
    let room = fs.used_bytes();
    for more in (0..6000).step_by(97) {
        let fs = copy(&fs);
        let mut log = open(&fs);
        fs.set_capacity(Some(room + more));
        let mut written = 300;
        while append(&mut log, value_of(written)).is_ok() {
            written += 1;
        }
        assert!(log.stopped().is_none(), "{more}: {:?}", log.stopped());
        fs.set_capacity(None);
        for i in written..written + 50 {
            assert_eq!(append(&mut log, value_of(i)).unwrap().base_offset, i as i64);
        }
        log.sync().unwrap();
        assert_eq!(read_all_records(log.view()), (expected(0..written + 50), vec![]), "{more}");
        drop(log);
        fs.crash(Crash::LoseUnsynced);
        assert_eq!(read_all_records(open(&fs).view()), (expected(0..written + 50), vec![]), "{more}");
    }
}

#[test]
fn a_write_that_finds_no_room_half_way_is_taken_back() {
    let fs = new_fs();
    let mut log = filled(&fs, 3);
    fs.fail_next_write(".log", 100, ErrorKind::StorageFull);
    let error = append(&mut log, value_of(3)).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    drop(log);
    fs.crash(Crash::Kill);
    let (mut log, report) = try_open(&fs, settings()).unwrap();
    assert_eq!(report.cut_bytes, 0, "nothing half written remains");
    assert_eq!(append(&mut log, value_of(3)).unwrap().base_offset, 3);
}

#[test]
fn a_failing_write_stops_the_partition() {
    let fs = new_fs();
    let mut log = filled(&fs, 3);
    fs.fail_next_write(".log", 100, ErrorKind::Other);
    let error = append(&mut log, value_of(3)).unwrap_err();
    assert!(matches!(error, BrokerError::Stopped { .. }) && !error.is_retryable(), "{error}");
    assert!(matches!(append(&mut log, value_of(3)), Err(BrokerError::Stopped { .. })));
    assert_eq!(read_all_records(log.view()), (expected(0..3), vec![]));
}

#[test]
fn a_failed_sync_stops_the_partition_for_good() {
    let fs = new_fs();
    let mut log = filled(&fs, 3);
    append(&mut log, value_of(3)).unwrap();
    fs.fail_next_sync(".log");
    let error = log.sync().unwrap_err();
    assert!(matches!(error, BrokerError::Stopped { .. }) && !error.is_retryable(), "{error}");
    let syncs = fs.sync_count();
    assert!(matches!(log.sync(), Err(BrokerError::Stopped { .. })), "it is not tried again");
    assert!(matches!(append(&mut log, "x"), Err(BrokerError::Stopped { .. })));
    assert!(matches!(log.close(), Err(BrokerError::Stopped { .. })));
    assert_eq!(fs.sync_count(), syncs);
    assert!(log.view().stopped().unwrap().contains("injected"));
    assert_eq!(read_all_records(log.view()), (expected(0..3), vec![]), "reads go on, below what was synced");
}

#[test]
fn what_recovery_shows_after_a_failed_sync_is_on_the_disk() {
    let fs = new_fs();
    let mut log = filled(&fs, 3);
    append(&mut log, value_of(3)).unwrap();
    fs.fail_next_sync(".log");
    log.sync().unwrap_err();
    drop(log);
    // The process restarts; the page cache still holds batch 3, the disk never got it, and the kernel thinks it clean.
    fs.crash(Crash::Kill);
    let log = open(&fs);
    assert_eq!(read_all_records(log.view()), (expected(0..4), vec![]));
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    assert_eq!(
        read_all_records(open(&fs).view()),
        (expected(0..4), vec![]),
        "it was written again before it was shown"
    );
}

#[test]
fn a_failed_directory_sync_stops_the_partition() {
    let fs = new_fs();
    let mut log = filled(&fs, 300);
    fs.fail_next_sync(DIR.trim_start_matches('/'));
    let mut i = 300;
    let error = loop {
        match append(&mut log, value_of(i)).and_then(|_| log.sync()) {
            Ok(()) => i += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BrokerError::Stopped { .. }), "{error}");
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    let (records, gaps) = read_all_records(open(&fs).view());
    assert!(gaps.is_empty());
    assert!(records.len() >= 300 && records == expected(0..records.len()));
}

fn idempotent(key: &str) -> Guard {
    Guard::Idempotency { scope: Arc::from(format!("tenant\0{key}")) }
}

#[test]
fn an_idempotency_key_is_known_across_every_kind_of_restart() {
    for stop in ["run on", "close", "kill", "lose", "roll"] {
        let fs = new_fs();
        let mut log = open(&fs);
        append(&mut log, value_of(0)).unwrap();
        let first = log.append(&[record("a"), record("b")], &idempotent("k"), NOW).unwrap();
        assert_eq!((first.base_offset, first.last_offset, first.duplicate), (1, 2, false));
        log.sync().unwrap();
        match stop {
            "close" => log.close().unwrap(),
            "roll" => drop((0..700).map(|i| append(&mut log, value_of(i)).unwrap()).last()),
            _ => {}
        }
        if stop != "run on" {
            drop(log);
            fs.crash(if stop == "kill" { Crash::Kill } else { Crash::LoseUnsynced });
            log = open(&fs);
        }
        let end = log.next_offset();
        let again = log.append(&[record("a"), record("b")], &idempotent("k"), NOW + 1000).unwrap();
        assert_eq!(again, Appended { duplicate: true, ..first }, "{stop}");
        assert_eq!(log.next_offset(), end);
        let other = log.append(&[record("c")], &idempotent("other"), NOW).unwrap();
        assert!(!other.duplicate && other.base_offset == end);
    }
}

#[test]
fn an_idempotency_key_lasts_a_day_of_append_time() {
    let fs = new_fs();
    let mut log = open(&fs);
    let mut at = |time| log.append(&[record("a")], &idempotent("k"), time).unwrap().duplicate;
    assert!(!at(NOW));
    assert!(at(NOW + IDEMPOTENCY_HORIZON_MS - 1));
    assert!(!at(NOW + IDEMPOTENCY_HORIZON_MS));
    assert!(at(NOW + IDEMPOTENCY_HORIZON_MS + 1), "the new one counts from its own time");
    assert!(at(NOW), "a clock that goes back forgets nothing");
}

#[test]
fn too_many_idempotency_keys_push_out_the_oldest() {
    let fs = new_fs();
    let mut log = open(&fs);
    for i in 0..150 {
        log.append(&[record("a")], &idempotent(&i.to_string()), NOW).unwrap();
    }
    assert_eq!(log.forgotten_keys(), 50);
    let mut is_known = |i: usize| log.append(&[record("a")], &idempotent(&i.to_string()), NOW).unwrap().duplicate;
    assert!(is_known(50) && is_known(149));
    assert!(!is_known(49));
}

#[test]
fn effects_are_applied_once_whatever_the_boundaries_of_a_replay() {
    let fs = new_fs();
    let mut log = open(&fs);
    let records = |values: &[&str]| values.iter().map(|v| record(*v)).collect::<Vec<_>>();
    log.append(&records(&["10.0", "10.1"]), &effects("a", 1, &[(10, 0), (10, 1)]), NOW).unwrap();
    log.append(&records(&["b"]), &effects("b", 4, &[(3, 0)]), NOW).unwrap();
    log.append(&records(&["12.5"]), &effects("a", 1, &[(12, 5)]), NOW).unwrap();
    log.sync().unwrap();
    for crash in [Crash::Kill, Crash::LoseUnsynced] {
        drop(log);
        fs.crash(crash);
        log = open(&fs);
        // The replay cuts its batches elsewhere.
        let replay = records(&["10.1", "12.5", "13.0"]);
        let epoch = if crash == Crash::Kill { 2 } else { 3 };
        let appended = log.append(&replay, &effects("a", epoch, &[(10, 1), (12, 5), (13, 0)]), NOW).unwrap();
        if crash == Crash::Kill {
            assert_eq!((appended.suppressed, appended.base_offset, appended.last_offset), (2, 4, 4));
        } else {
            assert_eq!((appended.suppressed, appended.base_offset, appended.last_offset), (3, 5, 4));
        }
        log.sync().unwrap();
    }
    let values: Vec<String> = read_all_records(log.view()).0.into_iter().map(|(_, v)| v).collect();
    assert_eq!(values, ["10.0", "10.1", "b", "12.5", "13.0"]);
    let tasks: Vec<_> = log.tasks().map(|(name, t)| (name.to_string(), t.epoch, t.mark.position)).collect();
    assert_eq!(tasks, [("a".to_string(), 2, 13), ("b".to_string(), 4, 3)], "a run that wrote nothing left no trace");
}

#[test]
fn an_older_epoch_is_fenced_also_after_a_restart() {
    let fs = new_fs();
    let mut log = open(&fs);
    log.append(&[record("new")], &effects("a", 2, &[(5, 0)]), NOW).unwrap();
    log.sync().unwrap();
    for _ in 0..2 {
        let error = log.append(&[record("zombie")], &effects("a", 1, &[(6, 0)]), NOW).unwrap_err();
        assert!(matches!(error, BrokerError::Fenced { epoch: 1, current: 2, .. }), "{error}");
        drop(log);
        fs.crash(Crash::LoseUnsynced);
        log = open(&fs);
    }
    assert_eq!(log.next_offset(), 1);
}

#[test]
fn the_guard_state_survives_damaged_snapshots() {
    let fs = new_fs();
    let mut log = open(&fs);
    log.append(&[record("e")], &effects("a", 3, &[(7, 1)]), NOW).unwrap();
    log.append(&[record("k")], &idempotent("k"), NOW).unwrap();
    log.sync().unwrap();
    for i in 0..1500 {
        append(&mut log, value_of(i)).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    fs.crash(Crash::Kill);
    let snapshots = files(&fs, ".state");
    assert_eq!(snapshots.len(), 2);
    for damaged in [vec![1], vec![0, 1]] {
        let fs = copy(&fs);
        for i in damaged {
            fs.flip(&snapshots[i], 20, 1).unwrap();
        }
        let (mut log, report) = try_open(&fs, settings()).unwrap();
        assert!(!report.guard_state_incomplete);
        assert_eq!(log.append(&[record("e")], &effects("a", 3, &[(7, 1)]), NOW).unwrap().suppressed, 1);
        assert!(log.append(&[record("k")], &idempotent("k"), NOW).unwrap().duplicate);
    }
    // Where the records themselves are gone as well, that is said.
    let mut log = open(&fs);
    log.advance_log_start(800).unwrap();
    drop(log);
    for snapshot in snapshots {
        fs.remove_file(&snapshot).unwrap();
    }
    assert!(try_open(&fs, settings()).unwrap().1.guard_state_incomplete);
}

#[test]
fn the_log_start_is_durable_before_anything_is_unlinked() {
    for crash in [Crash::Kill, Crash::LoseUnsynced, Crash::Tear(5), Crash::Tear(6)] {
        let fs = new_fs();
        let mut log = filled(&fs, 1000);
        let second = log.view().segments()[1].base_offset;
        assert_eq!(log.advance_log_start(second + 5).unwrap(), second + 5);
        assert_eq!(log.view().segments()[0].base_offset, second);
        assert_eq!(log.advance_log_start(3).unwrap(), second + 5, "it never goes back");
        let error = log.view().read(second + 4, 100).unwrap_err();
        assert!(matches!(error, BrokerError::OffsetOutOfRange { .. }), "{error}");
        let rest = (second as usize + 5)..1000;
        assert_eq!(read_all_records(log.view()), (expected(rest.clone()), vec![]));
        drop(log);
        fs.crash(crash);
        let log = open(&fs);
        assert_eq!(log.view().offsets().log_start, second + 5, "{crash:?}");
        assert_eq!(read_all_records(log.view()), (expected(rest), vec![]));
    }
}

#[test]
fn a_crash_between_log_start_and_unlink_is_finished_at_the_next_open() {
    let fs = new_fs();
    let mut log = filled(&fs, 1000);
    let third = log.view().segments()[2].base_offset;
    let before = files(&fs, ".log").len();
    fs.fail_next_sync(DIR.trim_start_matches('/'));
    // The checkpoint file lies in the directory as well; let its sync pass by failing at the directory itself.
    let result = log.advance_log_start(third);
    assert!(matches!(result, Err(BrokerError::Stopped { .. })));
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    assert_eq!(files(&fs, ".log").len(), before, "the unlinked files are back");
    let log = open(&fs);
    let log_start = log.view().offsets().log_start;
    assert!(log_start == 0 || log_start == third);
    assert_eq!(read_all_records(log.view()), (expected(log_start as usize..1000), vec![]));
}

#[test]
fn records_are_deleted_up_to_the_end_and_offsets_go_on() {
    let fs = new_fs();
    let mut log = filled(&fs, 700);
    assert_eq!(log.advance_log_start(i64::MAX).unwrap(), 700);
    assert_eq!(log.view().offsets(), PartitionOffsets { log_start: 700, high_watermark: 700 });
    assert!(log.view().read(700, 100).unwrap().records.is_empty());
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    let mut log = open(&fs);
    assert_eq!(append(&mut log, value_of(700)).unwrap().base_offset, 700);
    log.sync().unwrap();
    assert_eq!(read_all_records(log.view()), (expected([700]), vec![]));
}

#[test]
fn retention_by_age_also_frees_the_segment_being_written() {
    let fs = new_fs();
    let mut log = filled(&fs, 700);
    let limits = RetentionLimits { retention_ms: Some(1000), ..Default::default() };
    assert_eq!(log.apply_retention(&limits, NOW + 1000).unwrap(), Retained::default());
    let size: u64 = log.view().segments().iter().map(|s| s.size_bytes).sum();
    let retained = log.apply_retention(&limits, NOW + 1001).unwrap();
    assert_eq!(retained, Retained { freed_bytes: size, held_back: false });
    assert_eq!(log.view().offsets(), PartitionOffsets { log_start: 700, high_watermark: 700 });
    assert_eq!(files(&fs, ".log").len(), 1);
    append(&mut log, value_of(700)).unwrap();
    log.sync().unwrap();
    assert_eq!(read_all_records(log.view()), (expected([700]), vec![]));
}

#[test]
fn retention_waits_for_a_reader_that_must_not_miss_anything() {
    let fs = new_fs();
    let mut log = filled(&fs, 1000);
    let segments = log.view().segments();
    let limits = |offset| RetentionLimits { retention_bytes: Some(0), hold_back: Some(offset), ..Default::default() };
    let held = log.apply_retention(&limits(segments[1].base_offset - 1), NOW).unwrap();
    assert_eq!(held, Retained { freed_bytes: 0, held_back: true });
    let freed = log.apply_retention(&limits(segments[1].base_offset), NOW).unwrap();
    assert_eq!(freed, Retained { freed_bytes: segments[0].size_bytes, held_back: true });
    assert_eq!(log.view().offsets().log_start, segments[1].base_offset);
}

#[test]
fn offsets_are_found_by_time() {
    for timestamp_type in [TimestampType::LogAppendTime, TimestampType::CreateTime] {
        let fs = new_fs();
        let (mut log, _) = try_open(&fs, LogSettings { timestamp_type, ..settings() }).unwrap();
        for i in 0..1000 {
            let record = Record { timestamp_ms: Some(i * 10), ..record(value_of(i as usize)) };
            log.append(&[record], &Guard::None, i * 10).unwrap();
        }
        log.sync().unwrap();
        log.append(&[record("unsynced")], &Guard::None, 50_000).unwrap();
        for reopened in [false, true] {
            let find = |time| log.view().offset_for_time(time).unwrap();
            assert_eq!(find(i64::MIN), Some(0));
            for (time, offset) in [(0, 0), (1, 1), (10, 1), (4321, 433), (9981, 999), (9990, 999)] {
                assert_eq!(find(time), Some(offset), "{timestamp_type:?} {time}");
            }
            assert_eq!(find(9991), None, "what is not synced is not found");
            if !reopened {
                drop(log);
                fs.crash(Crash::LoseUnsynced);
                log = try_open(&fs, LogSettings { timestamp_type, ..settings() }).unwrap().0;
            }
        }
        log.advance_log_start(500).unwrap();
        assert_eq!(log.view().offset_for_time(0).unwrap(), Some(500));
    }
}

#[test]
fn offsets_are_found_by_time_inside_a_batch_and_behind_a_clock_that_went_back() {
    let fs = new_fs();
    let create_time = LogSettings { timestamp_type: TimestampType::CreateTime, ..settings() };
    let (mut log, _) = try_open(&fs, create_time).unwrap();
    let batch = [500, 100, 900].map(|time| Record { timestamp_ms: Some(time), ..record("x") });
    log.append(&batch, &Guard::None, NOW).unwrap();
    log.append(&[Record { timestamp_ms: Some(50), ..record("y") }], &Guard::None, NOW).unwrap();
    log.append(&[Record { timestamp_ms: Some(1000), ..record("z") }], &Guard::None, NOW).unwrap();
    log.sync().unwrap();
    let find = |time| log.view().offset_for_time(time).unwrap();
    assert_eq!((find(1), find(501), find(901), find(1001)), (Some(0), Some(2), Some(4), None));
}

#[test]
fn every_codec_is_stored_and_read() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let fs = new_fs();
        let settings = LogSettings { compression, ..settings() };
        let (mut log, _) = try_open(&fs, settings.clone()).unwrap();
        let records: Vec<Record> = (0..100).map(|i| record(value_of(i))).collect();
        log.append(&records, &idempotent("k"), NOW).unwrap();
        log.sync().unwrap();
        assert!(log.view().segments()[0].size_bytes < 5000, "{compression:?}");
        assert_eq!(read_all_records(log.view()), (expected(0..100), vec![]));
        drop(log);
        fs.crash(Crash::LoseUnsynced);
        let (mut log, _) = try_open(&fs, settings).unwrap();
        assert!(log.append(&records, &idempotent("k"), NOW).unwrap().duplicate, "the key is found under compression");
    }
}

#[test]
fn a_batch_that_does_not_unpack_is_a_gap_not_a_wall() {
    let fs = new_fs();
    let compressed = LogSettings { compression: Compression::Lz4, ..settings() };
    let (mut log, _) = try_open(&fs, compressed.clone()).unwrap();
    append(&mut log, value_of(0)).unwrap();
    append(&mut log, vec![b'x'; 500_000]).unwrap();
    append(&mut log, value_of(2)).unwrap();
    log.close().unwrap();
    drop(log);
    let capped = LogSettings { max_decompressed_size_bytes: 100_000, ..compressed };
    let log = try_open(&fs, capped).unwrap().0;
    let (records, gaps) = read_all_records(log.view());
    assert_eq!(records, expected([0, 2]));
    assert_eq!((gaps[0].from, gaps[0].to), (1, 2));
    assert!(gaps[0].reason.contains("limit of 100000 bytes"), "{}", gaps[0].reason);
}

#[test]
fn a_batch_above_the_limit_is_refused_and_leaves_no_trace() {
    let fs = new_fs();
    let mut log = filled(&fs, 1);
    let error = append(&mut log, vec![b'x'; 40_000]).unwrap_err();
    assert!(
        matches!(error, BrokerError::BatchTooLarge { limit_bytes: 32_768, .. }) && !error.is_retryable(),
        "{error}"
    );
    assert!(!log.is_dirty());
    assert_eq!(append(&mut log, value_of(1)).unwrap().base_offset, 1);
}

#[test]
fn a_read_only_view_shows_the_log_and_changes_nothing() {
    let fs = new_fs();
    let mut log = filled(&fs, 700);
    log.advance_log_start(10).unwrap();
    let before: Vec<_> = files(&fs, "").iter().map(|p| (p.clone(), read_all(&fs, p).unwrap().unwrap())).collect();
    let view = PartitionView::open_read_only(id(), Arc::new(fs.clone()), Path::new(DIR), 1 << 20).unwrap();
    assert_eq!(read_all_records(&view), (expected(10..700), vec![]));
    let after: Vec<_> = files(&fs, "").iter().map(|p| (p.clone(), read_all(&fs, p).unwrap().unwrap())).collect();
    assert!(before == after);
    // The writer goes on; the view stays at its moment.
    append(&mut log, value_of(700)).unwrap();
    log.sync().unwrap();
    assert_eq!(view.offsets().high_watermark, 700);
    assert_eq!(read_all_records(&view), (expected(10..700), vec![]));
    assert_eq!(read_all_records(log.view()), (expected(10..701), vec![]));
}
