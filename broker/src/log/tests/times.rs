//! Offsets by time.

use super::*;
use crate::raw::TimeQuery;

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
            let find = |time| log.view().timestamp_lookup(TimeQuery::At(time)).unwrap().map(|(offset, _)| offset);
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
        assert_eq!(log.view().timestamp_lookup(TimeQuery::At(0)).unwrap().map(|(offset, _)| offset), Some(500));
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
    let find = |time| log.view().timestamp_lookup(TimeQuery::At(time)).unwrap().map(|(offset, _)| offset);
    assert_eq!((find(1), find(501), find(901), find(1001)), (Some(0), Some(2), Some(4), None));
}
