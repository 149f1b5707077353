//! What of a client's batch is refused, and what is done to one that is not.

use bytes::Bytes;
use proptest::prelude::*;

use super::testing::{ClientBatch, headers_of, resealed};
use super::*;

const NOW: i64 = 1_700_000_000_000;
const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn rules() -> BatchRules {
    let times = TimeRules { now_ms: NOW, before_max_ms: None, after_max_ms: Some(3_600_000) };
    BatchRules { max_unpacked_size_bytes: 1 << 20, times: Some(times), needs_keys: false, compression: None }
}

fn check(bytes: Bytes) -> Result<CheckedBatch, BatchError> {
    CheckedBatch::check(bytes, &rules())
}

/// The batch as it would be on disk.
fn stamped(batch: &CheckedBatch, base_offset: i64, append_time_ms: Option<i64>) -> Bytes {
    let (header, bytes) = batch.stamp(base_offset, 0, append_time_ms);
    let whole = Bytes::from([&bytes[..], batch.records()].concat());
    assert_eq!(headers_of(&whole), [header]);
    whole
}

fn with_i16(at: usize, value: i16) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes[at..at + 2].copy_from_slice(&value.to_be_bytes())
}

fn with_i32(at: usize, value: i32) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes[at..at + 4].copy_from_slice(&value.to_be_bytes())
}

fn with_i64(at: usize, value: i64) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes[at..at + 8].copy_from_slice(&value.to_be_bytes())
}

#[test]
fn a_sound_batch_is_kept_byte_for_byte() {
    for codec in ALL {
        let sent = ClientBatch::of(["a", "b", "c"]).by(7, 2, 40).packed(codec).bytes();
        let stored = stamped(&check(sent.clone()).unwrap(), 1000, None);
        assert_eq!(&stored[0..8], 1000i64.to_be_bytes());
        assert_eq!(&stored[8..12], &sent[8..12]);
        assert_eq!(&stored[12..16], [0; 4]);
        assert_eq!(&stored[16..], &sent[16..], "{codec:?}");
    }
}

#[test]
fn log_append_time_replaces_the_largest_time_and_nothing_else() {
    for codec in ALL {
        let sent = ClientBatch::of(["a", "b"]).by(7, 2, 40).packed(codec).bytes();
        let stored = stamped(&check(sent.clone()).unwrap(), 5, Some(NOW + 9));
        let before = BatchHeader::parse(&sent).unwrap();
        let header = BatchHeader::parse(&stored).unwrap();
        assert_eq!((header.is_log_append_time(), header.max_timestamp_ms), (true, NOW + 9));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 2, 40));
        assert_eq!((header.base_timestamp_ms, header.compression), (before.base_timestamp_ms, codec));
        assert_eq!(stored[61..], sent[61..]);
        let mut records = Vec::new();
        decode_records(&header, &stored, 0, 1 << 20, &mut records).unwrap();
        assert_eq!(
            records.iter().map(|r| (r.offset, r.timestamp_ms)).collect::<Vec<_>>(),
            [(5, NOW + 9), (6, NOW + 9)]
        );
    }
}

#[test]
fn a_wrong_largest_time_is_put_right() {
    for lie in [i64::MIN, 0, NOW + 1, i64::MAX] {
        let sent = resealed(&ClientBatch::of(["a"]).bytes(), with_i64(35, lie));
        let stored = stamped(&check(sent).unwrap(), 0, None);
        assert_eq!(stored[16..], ClientBatch::of(["a"]).bytes()[16..], "{lie}");
    }
}

#[test]
fn a_lying_header_is_refused() {
    let sent = ClientBatch::of(["a", "b", "c"]).by(7, 2, 40).bytes();
    type Change = Box<dyn FnOnce(&mut Vec<u8>)>;
    let of = |change: Change| check(resealed(&sent, change)).unwrap_err();
    let field = |what, value| BatchError::Field { what, value };
    assert_eq!(of(Box::new(with_i64(0, 1))), field("base offset", 1));
    assert_eq!(of(Box::new(|b| b[16] = 1)), BatchError::Magic { magic: 1 });
    assert_eq!(of(Box::new(with_i16(21, 7))), BatchError::Compression { code: 7 });
    assert_eq!(of(Box::new(with_i32(23, 1))), field("record count", 3));
    assert_eq!(of(Box::new(with_i32(23, 3))), field("record count", 3));
    assert_eq!(of(Box::new(with_i32(57, 2))), field("record count", 2));
    assert_eq!(of(Box::new(with_i32(57, 0))), field("record count", 0));
    assert_eq!(of(Box::new(with_i16(51, -1))), field("producer epoch", -1));
    assert_eq!(of(Box::new(with_i32(53, -1))), field("base sequence", -1));
    assert_eq!(of(Box::new(with_i16(21, 1 << 3))), BatchError::TimestampType);
    for attributes in [1 << 5, 1 << 4 | 1 << 5] {
        let refused = BatchError::Refused { reason: "clients may not write control batches" };
        assert_eq!(of(Box::new(with_i16(21, attributes))), refused);
    }
    assert!(matches!(of(Box::new(with_i16(21, 1 << 6))), BatchError::Refused { .. }));
    let anonymous = ClientBatch::of(["a"]).transactional().bytes();
    assert!(matches!(check(anonymous), Err(BatchError::Refused { .. })));
    // Both counts agree with each other, but not with the records.
    let counts = |count: i32| {
        move |b: &mut Vec<u8>| {
            with_i32(23, count - 1)(b);
            with_i32(57, count)(b);
        }
    };
    assert!(matches!(of(Box::new(counts(2))), BatchError::Field { what: "number of bytes after the last record", .. }));
    assert!(matches!(of(Box::new(counts(4))), BatchError::Truncated { what: "record length", .. }));
    assert!(matches!(of(Box::new(counts(i32::MAX))), BatchError::Truncated { what: "record length", .. }));
}

#[test]
fn exactly_one_whole_batch_is_wanted() {
    let sent = ClientBatch::of(["a", "b"]).bytes();
    for size in 0..sent.len() {
        assert!(matches!(check(sent.slice(..size)), Err(BatchError::Truncated { .. })), "{size}");
    }
    let two = Bytes::from([&sent[..], &sent[..]].concat());
    let trailing = BatchError::Field { what: "number of bytes after the batch", value: sent.len() as i64 };
    assert_eq!(check(two).unwrap_err(), trailing);
}

#[test]
fn every_flipped_bit_is_seen() {
    let sent = ClientBatch::of(["a", "b"]).by(7, 2, 40).transactional().bytes();
    for at in 0..sent.len() {
        for bit in 0..8 {
            let mut bytes = sent.to_vec();
            bytes[at] ^= 1 << bit;
            // Only the leader epoch is nobody's business: it is set when the batch is stored.
            assert_eq!(check(Bytes::from(bytes)).is_ok(), (12..16).contains(&at), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn times_are_held_to_the_topics_limits() {
    let dated = |timestamp_ms| {
        let mut batch = ClientBatch::of(["a", "b"]);
        batch.records[1].timestamp_ms = Some(timestamp_ms);
        batch.bytes()
    };
    let within = |timestamp_ms, before_max_ms, after_max_ms| {
        let times = Some(TimeRules { now_ms: NOW, before_max_ms, after_max_ms });
        CheckedBatch::check(dated(timestamp_ms), &BatchRules { times, ..rules() }).map(|_| ())
    };
    assert_eq!(within(NOW + 10, None, Some(10)), Ok(()));
    let timestamp_ms = NOW + 11;
    assert_eq!(
        within(timestamp_ms, None, Some(10)),
        Err(BatchError::Timestamp { index: 1, timestamp_ms, limit_ms: 10 })
    );
    assert_eq!(within(NOW - 20, Some(20), None), Ok(()));
    assert!(matches!(within(NOW - 21, Some(20), None), Err(BatchError::Timestamp { limit_ms: 20, .. })));
    assert_eq!(within(-1, Some(20), Some(20)), Ok(()), "no time is no wrong time");
    assert_eq!(within(i64::MAX, None, None), Ok(()));
    // Where the broker sets the time, the sender's does not matter.
    assert!(CheckedBatch::check(dated(i64::MAX), &BatchRules { times: None, ..rules() }).is_ok());
}

#[test]
fn a_compacted_topic_wants_keys() {
    let mut batch = ClientBatch::of(["a", "b"]);
    let needs_keys = BatchRules { needs_keys: true, ..rules() };
    assert!(CheckedBatch::check(batch.bytes(), &needs_keys).is_ok());
    batch.records[1].key = None;
    for codec in ALL {
        let sent = batch.clone().packed(codec).bytes();
        assert!(check(sent.clone()).is_ok());
        assert!(matches!(CheckedBatch::check(sent, &needs_keys), Err(BatchError::Refused { .. })), "{codec:?}");
    }
}

#[test]
fn bombs_are_refused_at_the_cap() {
    let mut batch = ClientBatch::of([vec![0; 1 << 20]]);
    for codec in ALL {
        assert_eq!(
            check(batch.clone().packed(codec).bytes()).unwrap_err(),
            BatchError::TooLarge { limit_bytes: 1 << 20 },
            "{codec:?}"
        );
    }
    batch.records[0].value = Some(Bytes::from(vec![0; (1 << 20) - 100]));
    for codec in ALL {
        assert!(check(batch.clone().packed(codec).bytes()).is_ok(), "{codec:?}");
    }
}

#[test]
fn a_broken_block_is_refused() {
    let long = "some text that is long enough to matter ".repeat(500);
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let sent = ClientBatch::of([long.as_str()]).packed(codec).bytes();
        let size = sent.len();
        // Cut, with a length that fits the cut.
        let cut = resealed(&sent.slice(..size - 7), with_i32(8, (size - 7 - 12) as i32));
        assert!(check(cut).is_err(), "{codec:?}");
        let noise = resealed(&sent, |bytes| bytes[61..].fill(0x5a));
        assert!(matches!(check(noise), Err(BatchError::Codec { .. })), "{codec:?}");
        let trailing = resealed(&Bytes::from([&sent[..], b"trailing"].concat()), with_i32(8, (size + 8 - 12) as i32));
        assert!(check(trailing).is_err(), "{codec:?}");
    }
}

#[test]
fn a_topic_may_have_batches_packed_its_own_way() {
    for from in ALL {
        for to in ALL {
            let values = ["a".repeat(300), "b".repeat(300)];
            let sent = ClientBatch::of(values.clone()).by(7, 2, 40).transactional().packed(from).bytes();
            let packed = BatchRules { compression: Some(to), ..rules() };
            let stored = stamped(&CheckedBatch::check(sent.clone(), &packed).unwrap(), 10, None);
            let header = BatchHeader::parse(&stored).unwrap();
            assert_eq!((header.compression, header.is_transactional(), header.last_offset()), (to, true, 11));
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 2, 40));
            let mut records = Vec::new();
            decode_records(&header, &stored, 0, 1 << 20, &mut records).unwrap();
            let read: Vec<_> = records.iter().map(|r| String::from_utf8_lossy(r.value.as_ref().unwrap())).collect();
            assert_eq!(read, values);
            if from == to {
                assert_eq!(stored[16..], sent[16..]);
            }
        }
    }
}

#[test]
fn sequences_begin_again_after_the_highest() {
    assert_eq!(add_to_sequence(i32::MAX, 1), 0);
    assert_eq!(add_to_sequence(i32::MAX - 1, 3), 1);
    assert_eq!(add_to_sequence(1, -3), i32::MAX - 1);
    assert_eq!(add_to_sequence(5, 0), 5);
    let header = BatchHeader::parse(&ClientBatch::of(["a", "b", "c"]).by(1, 0, i32::MAX - 1).bytes()).unwrap();
    assert_eq!(header.last_sequence(), 0);
}

#[test]
fn markers_are_kafkas() {
    let marker =
        crate::raw::TransactionMarker { producer_id: 9, producer_epoch: 3, commit: true, coordinator_epoch: 12 };
    let mut out = Vec::new();
    for (commit, kind) in [(true, 1), (false, 0)] {
        let marker = crate::raw::TransactionMarker { commit, ..marker };
        let header = encode_marker(&marker, 77, NOW, crate::config::TimestampType::CreateTime, &mut out).unwrap();
        assert_eq!(headers_of(&out), [header]);
        // Offset, length, epoch, magic; CRC; transactional and control.
        assert_eq!(out[0..8], 77i64.to_be_bytes());
        assert_eq!(out.len(), 78);
        assert_eq!(out[8..12], 66i32.to_be_bytes());
        assert_eq!(out[21..23], 0x30i16.to_be_bytes());
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 3, -1));
        assert_eq!((header.record_count, header.last_offset_delta), (1, 0));
        // One record: length, attributes, two deltas, key of 4 bytes, value of 6, no headers.
        assert_eq!(out[61..], [32, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, 0, 0, 0, 12, 0]);
        let whole = Bytes::copy_from_slice(&out);
        assert_eq!(decode_marker(&header, &whole), Some(marker));
    }
    // Of a kind that is not known.
    let other = resealed(&Bytes::from(out), |bytes| bytes[69] = 7);
    assert_eq!(decode_marker(&BatchHeader::parse(&other).unwrap(), &other), None);
}

proptest! {
    /// Whatever gets past the check can be read, and what cannot be read does not get past it.
    #[test]
    fn the_check_and_the_readers_agree(
        codec in 0usize..5,
        sizes in proptest::collection::vec(0usize..300, 1..6),
        at in 61usize..600,
        mask in any::<u8>(),
    ) {
        let sent = ClientBatch::of(sizes.iter().map(|size| vec![7; *size])).packed(ALL[codec]).bytes();
        let at = 61 + (at - 61) % (sent.len() - 61);
        let changed = resealed(&sent, |bytes| bytes[at] ^= mask);
        let any_time = BatchRules { times: None, ..rules() };
        let checked = CheckedBatch::check(changed.clone(), &any_time);
        let header = BatchHeader::parse(&changed).unwrap();
        let mut records = Vec::new();
        let decoded = decode_records(&header, &changed, 0, 1 << 20, &mut records);
        if checked.is_ok() {
            prop_assert!(decoded.is_ok(), "{decoded:?}");
            prop_assert_eq!(records.len(), sizes.len());
        } else if decoded.is_ok() {
            // Stricter in one thing only: clients leave no holes between offsets.
            let dense = matches!(checked, Err(BatchError::Field { what: "offset delta", .. }));
            prop_assert!(dense, "{:?}", checked.map(|_| ()));
        }
    }

    #[test]
    fn noise_never_panics(block in proptest::collection::vec(any::<u8>(), 0..300), codec in 0usize..5, count in 1i32..50) {
        let sent = ClientBatch::of(["a"]).packed(ALL[codec]).bytes();
        let noise = resealed(&Bytes::from([&sent[..61], &block[..]].concat()), |bytes| {
            let length = bytes.len() as i32 - 12;
            with_i32(8, length)(bytes);
            with_i32(23, count - 1)(bytes);
            with_i32(57, count)(bytes);
        });
        drop(check(noise));
    }
}
