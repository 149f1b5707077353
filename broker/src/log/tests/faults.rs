//! Full disks, failing writes, failing syncs.

use super::*;

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
