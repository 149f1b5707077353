//! Appending and reading, with nothing going wrong.

use super::*;

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
