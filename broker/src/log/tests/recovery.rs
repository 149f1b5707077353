//! What a restart finds after a stop, a kill, a power loss.

use super::*;

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
