//! Batches of Kafka clients: stored as they are, once, and handed out as they are.

use super::*;
use crate::append::{EFFECT_HEADER, IDEMPOTENCY_HEADER};
use crate::batch::testing::{ClientBatch, headers_of};
use crate::batch::{BatchHeader, CheckedBatch};
use crate::log::producers::OngoingTransactions;
use crate::raw::{FetchedBatches, Isolation, Produced};
use crate::record::Header;

/// Every partition is in an open transaction of everybody.
pub(in crate::log) struct AlwaysOpen;

impl OngoingTransactions for AlwaysOpen {
    fn is_open(&self, _: i64, _: i16, _: &str, _: i32) -> bool {
        true
    }

    fn current_epoch(&self, _: i64) -> Option<i16> {
        None
    }
}

pub(in crate::log) fn create_time() -> LogSettings {
    LogSettings { timestamp_type: TimestampType::CreateTime, ..settings() }
}

/// Checks a batch as the broker does, and writes it.
pub(in crate::log) fn produce(log: &mut PartitionLog, batch: &ClientBatch) -> Result<Produced, BrokerError> {
    let rules = create_time().batch_rules(NOW);
    log.produce(&CheckedBatch::check(batch.bytes(), &rules).unwrap(), NOW, &AlwaysOpen)
}

/// All that a fetch finds from `offset` on, batch by batch, as it is in one piece.
pub(in crate::log) fn fetch_all(view: &PartitionView, mut offset: i64, max_size_bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let FetchedBatches { batches, ends, .. } =
            view.fetch(offset, max_size_bytes, Isolation::ReadUncommitted).unwrap();
        let headers = headers_of(&batches);
        let Some(last) = headers.last() else {
            assert_eq!(offset, ends.high_watermark);
            return all;
        };
        assert!(headers.len() == 1 || batches.len() <= max_size_bytes);
        assert!(headers[0].next_offset() > offset);
        assert!(headers.iter().all(|header| header.leader_epoch == 0));
        offset = last.next_offset();
        all.extend_from_slice(&batches);
    }
}

/// The bytes as sent, at this offset.
fn at_offset(batch: &ClientBatch, offset: i64) -> Vec<u8> {
    let mut bytes = batch.bytes().to_vec();
    bytes[0..8].copy_from_slice(&offset.to_be_bytes());
    bytes[12..16].fill(0);
    bytes
}

#[test]
fn what_is_fetched_is_what_was_sent_across_segments_and_restarts() {
    let fs = new_fs();
    let (mut log, _) = try_open(&fs, create_time()).unwrap();
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut expected = Vec::new();
    for i in 0..900usize {
        let values = (0..i % 4 + 1).map(|j| format!("{i}.{j} {}", "x".repeat(i % 200)));
        let batch = ClientBatch::of(values).packed(codecs[i % 5]);
        let base_offset = log.next_offset();
        let produced = produce(&mut log, &batch).unwrap();
        let last_offset = base_offset + (i % 4) as i64;
        let answer = Produced { base_offset, last_offset, append_time_ms: None, log_start: 0, duplicate: false };
        assert_eq!(produced, answer);
        expected.extend(at_offset(&batch, base_offset));
        if i % 7 == 0 {
            log.sync().unwrap();
        }
    }
    log.sync().unwrap();
    assert!(files(&fs, ".log").len() > 2);
    for max_size_bytes in [0, 1, 1000, 5000, 1 << 20] {
        assert!(fetch_all(log.view(), 0, max_size_bytes) == expected, "{max_size_bytes}");
    }
    // From the middle of a batch that batch comes whole.
    let fetched = log.view().fetch(8, 1, Isolation::ReadUncommitted).unwrap();
    let header = headers_of(&fetched.batches)[0];
    assert_eq!((header.base_offset, header.last_offset()), (6, 9));
    drop(log);
    fs.crash(Crash::Kill);
    let (log, report) = try_open(&fs, create_time()).unwrap();
    assert_eq!(report.damaged_ranges, 0);
    assert!(fetch_all(log.view(), 0, 10_000) == expected);
    let end = log.next_offset();
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        assert!(log.view().fetch(end, 1000, isolation).unwrap().batches.is_empty());
        for offset in [-1, end + 1] {
            let error = log.view().fetch(offset, 1000, isolation).unwrap_err();
            assert!(matches!(error, BrokerError::OffsetOutOfRange { .. }), "{error}");
        }
    }
}

#[test]
fn only_what_is_synced_is_fetched() {
    let fs = new_fs();
    let (mut log, _) = try_open(&fs, create_time()).unwrap();
    produce(&mut log, &ClientBatch::of(["a"])).unwrap();
    log.sync().unwrap();
    produce(&mut log, &ClientBatch::of(["b"])).unwrap();
    let fetched = log.view().fetch(0, 1 << 20, Isolation::ReadUncommitted).unwrap();
    assert_eq!(headers_of(&fetched.batches).len(), 1);
    assert_eq!((fetched.ends.last_stable_offset, fetched.ends.high_watermark), (1, 1));
}

#[test]
fn the_broker_sets_the_time_where_the_topic_says_so() {
    let fs = new_fs();
    let mut log = open(&fs);
    let produced = produce(&mut log, &ClientBatch::of(["a", "b"]).by(1, 0, 0)).unwrap();
    assert_eq!(produced.append_time_ms, Some(NOW));
    let checked = CheckedBatch::check(ClientBatch::of(["c"]).by(1, 0, 2).bytes(), &settings().batch_rules(0)).unwrap();
    assert_eq!(log.produce(&checked, NOW + 500, &AlwaysOpen).unwrap().append_time_ms, Some(NOW + 500));
    // A repetition has the time of the first.
    let again = log.produce(&checked, NOW + 900, &AlwaysOpen).unwrap();
    assert_eq!((again.duplicate, again.append_time_ms), (true, Some(NOW + 500)));
    log.sync().unwrap();
    let fetched = log.view().fetch(0, 1 << 20, Isolation::ReadUncommitted).unwrap();
    let times: Vec<_> =
        headers_of(&fetched.batches).iter().map(|h| (h.is_log_append_time(), h.max_timestamp_ms)).collect();
    assert_eq!(times, [(true, NOW), (true, NOW + 500)]);
    assert_eq!(log.view().read(0, 1 << 20).unwrap().records[2].timestamp_ms, NOW + 500);
}

#[test]
fn a_repetition_is_answered_as_the_first_time_across_every_kind_of_restart() {
    for stop in ["run on", "close", "kill", "lose", "roll", "two rolls"] {
        let fs = new_fs();
        let mut log = open(&fs);
        let batches: Vec<ClientBatch> = (0..7).map(|i| ClientBatch::of(["a", "b"]).by(42, 1, 2 * i)).collect();
        let first: Vec<Produced> = batches.iter().map(|batch| produce(&mut log, batch).unwrap()).collect();
        log.sync().unwrap();
        match stop {
            "close" => log.close().unwrap(),
            "roll" => drop((0..400).map(|i| append(&mut log, value_of(i)).unwrap()).last()),
            "two rolls" => drop((0..900).map(|i| append(&mut log, value_of(i)).unwrap()).last()),
            _ => {}
        }
        if stop != "run on" {
            drop(log);
            fs.crash(if stop == "kill" { Crash::Kill } else { Crash::LoseUnsynced });
            log = open(&fs);
        }
        let end = log.next_offset();
        for (i, (batch, first)) in batches.iter().zip(&first).enumerate() {
            let again = produce(&mut log, batch);
            if i < 2 {
                let error = again.unwrap_err();
                assert!(
                    matches!(error, BrokerError::OutOfOrderSequence { sequence, expected: 14, .. } if sequence == 2 * i as i32),
                    "{stop}: {error}"
                );
            } else {
                assert_eq!(again.unwrap(), Produced { duplicate: true, ..*first }, "{stop} {i}");
            }
        }
        assert_eq!(log.next_offset(), end, "{stop}");
        let error = produce(&mut log, &ClientBatch::of(["z"]).by(42, 0, 14)).unwrap_err();
        assert!(matches!(error, BrokerError::ProducerFenced { epoch: 0, current: 1, .. }), "{stop}: {error}");
        assert_eq!(produce(&mut log, &ClientBatch::of(["z"]).by(42, 1, 14)).unwrap().base_offset, end, "{stop}");
    }
}

#[test]
fn a_refused_or_failed_batch_leaves_its_sequence_free() {
    let fs = new_fs();
    let mut log = open(&fs);
    produce(&mut log, &ClientBatch::of(["a"]).by(1, 0, 0)).unwrap();
    let next = ClientBatch::of(["b"]).by(1, 0, 1);
    for written_bytes in [0, 30, 61, 70] {
        fs.fail_next_write(".log", written_bytes, ErrorKind::StorageFull);
        assert!(matches!(produce(&mut log, &next), Err(BrokerError::DiskFull { .. })), "{written_bytes}");
    }
    let large = ClientBatch::of(["x".repeat(33 << 10)]).by(1, 0, 1);
    assert!(matches!(produce(&mut log, &large), Err(BrokerError::BatchTooLarge { .. })));
    assert_eq!(produce(&mut log, &next).unwrap().base_offset, 1);
    log.sync().unwrap();
    drop(log);
    fs.crash(Crash::LoseUnsynced);
    let (log, report) = try_open(&fs, settings()).unwrap();
    assert_eq!((log.next_offset(), report.cut_bytes), (2, 0));
}

#[test]
fn headers_of_a_client_that_look_like_guards_mean_nothing() {
    let fs = new_fs();
    let mut log = open(&fs);
    let mut forged = ClientBatch::of(["a"]);
    forged.records[0].headers =
        vec![Header::new(IDEMPOTENCY_HEADER, "tenant\0k"), Header::new(EFFECT_HEADER, "task\x009\x001000\x000")];
    produce(&mut log, &forged).unwrap();
    log.sync().unwrap();
    for crash in [None, Some(Crash::Kill)] {
        if let Some(crash) = crash {
            drop(log);
            fs.crash(crash);
            log = open(&fs);
        }
        assert_eq!(log.tasks().count(), 0);
        let end = log.next_offset();
        assert_eq!(log.append(&[record("k")], &idempotent("k2"), NOW).unwrap().base_offset, end);
        let appended = log.append(&[record("e")], &effects("task", 1, &[(1, 0)]), NOW).unwrap();
        assert_eq!((appended.base_offset, appended.suppressed), (end + 1, 0), "{crash:?}");
        drop(log);
        // Back to the state with the forged batch alone.
        fs.crash(Crash::LoseUnsynced);
        log = open(&fs);
        assert_eq!(log.next_offset(), 1);
    }
    assert!(!log.append(&[record("k")], &idempotent("k"), NOW).unwrap().duplicate);
}

#[test]
fn clients_and_guarded_appends_share_a_partition() {
    let fs = new_fs();
    let mut log = open(&fs);
    for i in 0..600i64 {
        match i % 3 {
            0 => assert!(
                !produce(&mut log, &ClientBatch::of([value_of(i as usize)]).by(5, 0, (i / 3) as i32))
                    .unwrap()
                    .duplicate
            ),
            1 => drop(log.append(&[record(value_of(i as usize))], &effects("t", 1, &[(i, 0)]), NOW).unwrap()),
            _ => drop(log.append(&[record(value_of(i as usize))], &idempotent(&i.to_string()), NOW).unwrap()),
        }
    }
    log.sync().unwrap();
    drop(log);
    fs.crash(Crash::Kill);
    let mut log = open(&fs);
    assert_eq!(read_all_records(log.view()), (expected(0..600), vec![]));
    assert!(produce(&mut log, &ClientBatch::of([value_of(597)]).by(5, 0, 199)).unwrap().duplicate);
    assert_eq!(log.append(&[record("e")], &effects("t", 1, &[(598, 0)]), NOW).unwrap().suppressed, 1);
    assert!(log.append(&[record("k")], &idempotent("599"), NOW).unwrap().duplicate);
}

#[test]
fn a_torn_client_batch_is_cut_at_every_byte() {
    let fs = new_fs();
    let mut log = open(&fs);
    for i in 0..4 {
        produce(&mut log, &ClientBatch::of([value_of(i)]).by(9, 0, i as i32).transactional()).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let bytes = segment_bytes(&fs);
    let (last_at, last_size) = batches(&bytes)[3];
    let path = files(&fs, ".log")[0].clone();
    // The last byte is a zero, like those behind it: without it the batch is whole all the same.
    for cut in 0..last_size - 1 {
        let fs = copy(&fs);
        overwrite(&fs, &path, (last_at + cut) as u64, &vec![0; last_size - cut]);
        let mut log = open(&fs);
        assert_eq!(log.next_offset(), 3, "cut at {cut}");
        // Its producer sends it again, and it is written, once.
        let again = ClientBatch::of([value_of(3)]).by(9, 0, 3).transactional();
        assert_eq!(produce(&mut log, &again).unwrap().base_offset, 3, "cut at {cut}");
        assert!(produce(&mut log, &again).unwrap().duplicate);
        log.sync().unwrap();
        assert_eq!((log.view().ends().last_stable_offset, log.view().ends().high_watermark), (0, 4));
    }
}

#[test]
fn a_flipped_bit_in_any_header_field_costs_that_batch_alone() {
    let fs = new_fs();
    let mut log = open(&fs);
    for i in 0..5 {
        produce(&mut log, &ClientBatch::of([value_of(i)]).by(9, 0, i as i32)).unwrap();
        log.sync().unwrap();
    }
    log.write_recovery_point().unwrap();
    drop(log);
    let path = files(&fs, ".log")[0].clone();
    let (at, _) = batches(&segment_bytes(&fs))[2];
    for byte in 0..61 {
        for bit in [0, 6, 7] {
            let fs = copy(&fs);
            fs.flip(&path, (at + byte) as u64, 1 << bit).unwrap();
            let (mut log, report) = try_open(&fs, settings()).unwrap();
            let what = format!("byte {byte} bit {bit}");
            let fetched = fetch_all(log.view(), 0, 1 << 20);
            let offsets: Vec<i64> = headers_of(&fetched).iter().map(|header| header.base_offset).collect();
            if (12..16).contains(&byte) {
                // Outside the CRC, and not part of what a client sees.
                assert_eq!((offsets, report.damaged_ranges), (vec![0, 1, 2, 3, 4], 0), "{what}");
            } else {
                assert_eq!((offsets, report.damaged_ranges), (vec![0, 1, 3, 4], 1), "{what}");
                assert_eq!(log.view().damaged().len(), 1, "{what}");
            }
            assert_eq!(log.next_offset(), 5, "{what}");
            // What came after it is known as ever.
            assert!(produce(&mut log, &ClientBatch::of([value_of(4)]).by(9, 0, 4)).unwrap().duplicate, "{what}");
        }
    }
}

#[test]
fn damage_that_came_after_the_start_is_passed_over_by_a_fetch() {
    let fs = new_fs();
    let mut log = open(&fs);
    for i in 0..5 {
        produce(&mut log, &ClientBatch::of([value_of(i)])).unwrap();
        log.sync().unwrap();
    }
    let path = files(&fs, ".log")[0].clone();
    let found = batches(&segment_bytes(&fs));
    fs.flip(&path, found[2].0 as u64 + 70, 3).unwrap();
    let offsets = |from| {
        let fetched = log.view().fetch(from, 1 << 20, Isolation::ReadUncommitted).unwrap();
        headers_of(&fetched.batches).iter().map(|header| header.base_offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(0), [0, 1]);
    assert_eq!(offsets(2), [3, 4]);
    let damaged = log.view().damaged();
    assert_eq!(damaged.iter().map(|d| (d.range.from_offset, d.range.to_offset)).collect::<Vec<_>>(), [(2, 3)]);
    // At the very end there is nothing behind it.
    fs.flip(&path, found[4].0 as u64 + 70, 3).unwrap();
    assert_eq!(offsets(4), [] as [i64; 0]);
    assert_eq!(log.view().damaged().len(), 2);
}

#[test]
fn a_snapshot_of_the_first_version_is_read_and_damaged_ones_are_not_needed() {
    let fs = new_fs();
    let mut log = open(&fs);
    log.append(&[record("e")], &effects("a", 3, &[(7, 1)]), NOW).unwrap();
    log.sync().unwrap();
    log.close().unwrap();
    drop(log);
    // As the first version wrote it: without what comes after the keys.
    let path = files(&fs, ".state").pop().unwrap();
    let bytes = read_all(&fs, &path).unwrap().unwrap();
    let mut first = bytes[..bytes.len() - 12].to_vec();
    first[4..8].copy_from_slice(&1u32.to_be_bytes());
    let crc = crc32c::crc32c(&first);
    first.extend_from_slice(&crc.to_be_bytes());
    write_atomically(&fs, &path, &first).unwrap();
    let mut log = open(&fs);
    assert_eq!(log.append(&[record("e")], &effects("a", 3, &[(7, 1)]), NOW).unwrap().suppressed, 1);
    assert_eq!(files(&fs, ".state").len(), 1, "it was of use");
    // And with producers in it, cut and flipped.
    produce(&mut log, &ClientBatch::of(["x"]).by(1, 0, 0)).unwrap();
    log.close().unwrap();
    drop(log);
    let newest = files(&fs, ".state").pop().unwrap();
    let size = read_all(&fs, &newest).unwrap().unwrap().len();
    for at in 0..size {
        let fs = copy(&fs);
        fs.flip(&newest, at as u64, 1 << (at % 8)).unwrap();
        let mut log = open(&fs);
        assert!(produce(&mut log, &ClientBatch::of(["x"]).by(1, 0, 0)).unwrap().duplicate, "flipped at {at}");
    }
}

#[test]
fn a_header_of_the_largest_batch_fits_the_field() {
    use crate::batch::disk_field;
    for (unsynced, verbatim) in [(0, false), (0, true), ((1 << 30) - 1, false), ((1 << 30) - 1, true)] {
        let header = BatchHeader::parse(&ClientBatch::of(["a"]).bytes()).unwrap();
        let header = BatchHeader { leader_epoch: disk_field(unsynced, verbatim), ..header };
        assert_eq!((header.unsynced_bytes(), header.is_verbatim()), (unsynced, verbatim));
    }
}
