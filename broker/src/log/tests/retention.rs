//! The log start, and what goes with it.

use super::*;

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
