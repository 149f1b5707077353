#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use proptest::prelude::*;

use super::compression::compress;
use super::*;
use crate::config::TimestampType;
use crate::record::{Header, Record, StoredRecord};

const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const CAP: usize = 16 << 20;

fn options(compression: Compression) -> EncodeOptions {
    EncodeOptions {
        base_offset: 42,
        leader_epoch: 7,
        append_time_ms: 1_700_000_000_000,
        timestamp_type: TimestampType::LogAppendTime,
        compression,
    }
}

fn encode_records(records: &[Record], options: &EncodeOptions) -> (BatchHeader, Bytes) {
    let drafts: Vec<Draft<'_>> = records.iter().map(|record| Draft { record, guard: None }).collect();
    let mut out = Vec::new();
    let header = encode(&drafts, options, &mut out).unwrap();
    (header, Bytes::from(out))
}

fn decode(header: &BatchHeader, batch: &Bytes) -> Result<Vec<StoredRecord>, BatchError> {
    let mut out = Vec::new();
    decode_records(header, batch, 0, CAP, &mut out)?;
    Ok(out)
}

fn sample() -> Vec<Record> {
    vec![
        Record {
            key: Some(Bytes::from_static(b"k1")),
            value: Some(Bytes::from_static(b"value one")),
            headers: vec![Header::new("a", "1"), Header { name: "b".into(), value: None }],
            timestamp_ms: Some(1_000),
        },
        Record { key: None, value: None, headers: vec![], timestamp_ms: None },
        Record { value: Some(Bytes::from(vec![b'x'; 5000])), timestamp_ms: Some(900), ..Record::default() },
    ]
}

/// Puts the right CRC on a batch whose bytes were tampered with.
fn reseal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn the_bytes_are_kafkas() {
    let record = Record {
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(b"v")),
        headers: vec![Header::new("h", "w")],
        timestamp_ms: Some(0x0102_0304_0506),
    };
    let mut options = options(Compression::None);
    options.timestamp_type = TimestampType::CreateTime;
    let (_, batch) = encode_records(&[record], &options);
    // Written down by hand from Kafka's protocol guide, field by field.
    let mut expected = vec![
        0, 0, 0, 0, 0, 0, 0, 42, // base offset
        0, 0, 0, 62, // batch length: 49 of header behind it and 13 of records
        0, 0, 0, 7, // partition leader epoch
        2, // magic
        0, 0, 0, 0, // CRC, below
        0, 0, // attributes
        0, 0, 0, 0, // last offset delta
        0, 0, 1, 2, 3, 4, 5, 6, // base timestamp
        0, 0, 1, 2, 3, 4, 5, 6, // max timestamp
        255, 255, 255, 255, 255, 255, 255, 255, // producer id
        255, 255, // producer epoch
        255, 255, 255, 255, // base sequence
        0, 0, 0, 1,  // record count
        24, // record length 12, zigzag
        0,  // attributes
        0,  // timestamp delta
        0,  // offset delta
        2, b'k', // key
        2, b'v', // value
        2,    // header count
        2, b'h', 2, b'w', // header
    ];
    // The record's own length counts 12 bytes: attributes to header value.
    assert_eq!(expected.len(), 61 + 13);
    reseal(&mut expected);
    assert_eq!(batch, expected);
}

#[test]
fn records_come_back_as_they_went_in_under_every_codec() {
    for compression in ALL {
        let (header, batch) = encode_records(&sample(), &options(compression));
        assert_eq!(BatchHeader::parse(&batch).unwrap(), header);
        header.check_crc(&batch).unwrap();
        assert_eq!((header.base_offset, header.last_offset(), header.record_count), (42, 44, 3));
        assert_eq!(header.compression, compression);
        let back = decode(&header, &batch).unwrap();
        assert_eq!(back.len(), 3);
        for (i, (stored, record)) in back.iter().zip(sample()).enumerate() {
            assert_eq!(stored.offset, 42 + i as i64);
            assert_eq!(stored.timestamp_ms, 1_700_000_000_000, "append time rules");
            assert_eq!((&stored.key, &stored.value, &stored.headers), (&record.key, &record.value, &record.headers));
        }
    }
}

#[test]
fn create_time_keeps_the_senders_time_and_fills_in_the_append_time() {
    let mut options = options(Compression::None);
    options.timestamp_type = TimestampType::CreateTime;
    let (header, batch) = encode_records(&sample(), &options);
    let times: Vec<i64> = decode(&header, &batch).unwrap().iter().map(|r| r.timestamp_ms).collect();
    assert_eq!(times, [1_000, 1_700_000_000_000, 900]);
    assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (1_000, 1_700_000_000_000));
}

#[test]
fn values_are_slices_of_the_batch_not_copies() {
    let (header, batch) = encode_records(&sample(), &options(Compression::None));
    let value = decode(&header, &batch).unwrap().remove(2).value.unwrap();
    let range = batch.as_ptr_range();
    assert!(range.contains(&value.as_ptr()));
}

#[test]
fn offsets_below_the_one_asked_for_are_left_out() {
    let (header, batch) = encode_records(&sample(), &options(Compression::Zstd));
    let mut out = Vec::new();
    decode_records(&header, &batch, 44, CAP, &mut out).unwrap();
    assert_eq!(out.iter().map(|r| r.offset).collect::<Vec<_>>(), [44]);
}

#[test]
fn the_guards_header_comes_last() {
    let record = &sample()[0];
    let drafts = [Draft { record, guard: Some(("guard", Bytes::from_static(b"g"))) }];
    let mut out = Vec::new();
    let header = encode(&drafts, &options(Compression::None), &mut out).unwrap();
    let stored = decode(&header, &Bytes::from(out)).unwrap().remove(0);
    assert_eq!(stored.headers[2], Header::new("guard", "g"));
    assert_eq!(stored.header("guard").unwrap().as_ref(), b"g");
}

#[test]
fn every_cut_is_an_error() {
    let (header, batch) = encode_records(&sample(), &options(Compression::None));
    for size in 0..batch.len() {
        let cut = batch.slice(..size);
        let result = BatchHeader::parse(&cut).and_then(|header| header.check_crc(&cut));
        assert!(matches!(result, Err(BatchError::Truncated { .. })), "cut at {size}: {result:?}");
        assert!(decode(&header, &cut).is_err());
    }
}

#[test]
fn every_bit_flip_behind_the_crc_is_seen() {
    let (_, batch) = encode_records(&sample()[..2], &options(Compression::None));
    for at in 16..batch.len() {
        for bit in 0..8 {
            let mut bytes = batch.to_vec();
            bytes[at] ^= 1 << bit;
            let result = BatchHeader::parse(&bytes).and_then(|header| header.check_crc(&bytes));
            assert!(result.is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn lying_header_fields_are_refused_and_never_allocated_for() {
    let (_, batch) = encode_records(&sample(), &options(Compression::None));
    let with_i32 = |at: usize, value: i32| {
        let mut bytes = batch.to_vec();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        reseal(&mut bytes);
        Bytes::from(bytes)
    };
    for value in [i32::MIN, -1, 0, 48] {
        let result = BatchHeader::parse(&with_i32(8, value));
        assert!(matches!(result, Err(BatchError::Field { what: "batch length", .. })), "{value}");
    }
    let long = with_i32(8, i32::MAX);
    let header = BatchHeader::parse(&long).unwrap();
    assert!(
        matches!(header.check_crc(&long), Err(BatchError::Truncated { needed, .. }) if needed == i32::MAX as usize + 12)
    );
    assert!(matches!(BatchHeader::parse(&with_i32(57, i32::MAX)), Err(BatchError::Field { what: "record count", .. })));
    assert!(matches!(BatchHeader::parse(&with_i32(57, -1)), Err(BatchError::Field { what: "record count", .. })));
    assert!(matches!(BatchHeader::parse(&with_i32(23, -1)), Err(BatchError::Field { what: "last offset delta", .. })));

    // A count that fits the deltas, but not the bytes.
    let mut bytes = with_i32(23, i32::MAX - 1).to_vec();
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    reseal(&mut bytes);
    let bytes = Bytes::from(bytes);
    let header = BatchHeader::parse(&bytes).unwrap();
    let refused = BatchError::Field { what: "record count", value: i64::from(i32::MAX) };
    assert_eq!(decode(&header, &bytes), Err(refused));
}

/// A batch of one record with these bytes as its record section.
fn batch_of(block: &[u8], compression: Compression) -> (BatchHeader, Bytes) {
    let (_, batch) = encode_records(&[Record::default()], &options(Compression::None));
    let mut bytes = batch[..HEADER_SIZE_BYTES].to_vec();
    bytes[22] |= compression.to_attributes() as u8;
    bytes.extend_from_slice(block);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    reseal(&mut bytes);
    let header = BatchHeader::parse(&bytes).unwrap();
    header.check_crc(&bytes).unwrap();
    (header, Bytes::from(bytes))
}

#[test]
fn lying_record_fields_are_refused() {
    let record = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut body = vec![0, 0, 0];
        fill(&mut body);
        let mut block = Vec::new();
        varint::put(&mut block, body.len() as i64);
        block.extend(body);
        block
    };
    let huge = 1 << 31;
    for (what, block) in [
        ("record length", {
            let mut b = vec![];
            varint::put(&mut b, huge);
            b.extend([0; 8]);
            b
        }),
        ("record length", {
            let mut b = vec![];
            varint::put(&mut b, i64::from(i32::MAX));
            b.extend([0; 8]);
            b
        }),
        ("record length", {
            let mut b = vec![];
            varint::put(&mut b, -1);
            b.extend([0; 8]);
            b
        }),
        (
            "key length",
            record(&|b| {
                varint::put(b, huge);
                b.extend([0; 8])
            }),
        ),
        (
            "key length",
            record(&|b| {
                varint::put(b, -2);
                b.extend([0; 8])
            }),
        ),
        (
            "value length",
            record(&|b| {
                varint::put(b, -1);
                varint::put(b, i64::from(i32::MAX));
                b.extend([0; 8])
            }),
        ),
        (
            "header count",
            record(&|b| {
                b.extend([1, 1]);
                varint::put(b, i64::from(i32::MAX));
                b.extend([0; 8])
            }),
        ),
        (
            "header count",
            record(&|b| {
                b.extend([1, 1]);
                varint::put(b, -1);
                b.extend([0; 8])
            }),
        ),
        (
            "header name length",
            record(&|b| {
                b.extend([1, 1, 2]);
                varint::put(b, -1);
                b.extend([0; 8])
            }),
        ),
        (
            "header value length",
            record(&|b| {
                b.extend([1, 1, 2, 2, b'h']);
                varint::put(b, 1 << 20);
                b.extend([0; 8])
            }),
        ),
    ] {
        let (header, batch) = batch_of(&block, Compression::None);
        match decode(&header, &batch) {
            Err(BatchError::Field { what: found, .. } | BatchError::Truncated { what: found, .. }) => {
                assert_eq!(found, what);
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn bombs_stop_at_the_cap() {
    let zeros = vec![0; 64 << 20];
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let packed = compress(codec, &zeros).unwrap();
        assert!(packed.len() < 4 << 20);
        assert_eq!(
            decompress(codec, &packed, 1 << 20),
            Err(BatchError::TooLarge { limit_bytes: 1 << 20 }),
            "{codec:?}"
        );
        // And inside a batch, where the reader's cap rules.
        let (header, batch) = batch_of(&packed, codec);
        assert_eq!(decode(&header, &batch), Err(BatchError::TooLarge { limit_bytes: CAP }), "{codec:?}");
    }
    let fits = compress(Compression::Gzip, &zeros[..1000]).unwrap();
    assert_eq!(decompress(Compression::Gzip, &fits, 1000).unwrap().len(), 1000);
    assert_eq!(decompress(Compression::Gzip, &fits, 999), Err(BatchError::TooLarge { limit_bytes: 999 }));
}

#[test]
fn a_snappy_block_that_claims_too_much_is_not_believed() {
    // A length of 1 GiB in front of three bytes: under the cap, but no three bytes can unpack to that.
    let mut raw = vec![0x80, 0x80, 0x80, 0x80, 0x04];
    raw.extend([0, 0, 0]);
    let result = decompress(Compression::Snappy, &raw, 2 << 30);
    assert!(matches!(result, Err(BatchError::Codec { codec: "snappy", .. })), "{result:?}");
}

#[test]
fn snappy_is_read_raw_and_in_xerial_framing() {
    let text = b"snappy snappy snappy snappy snappy".repeat(3000);
    let framed = compress(Compression::Snappy, &text).unwrap();
    assert_eq!(&framed[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    assert_eq!(decompress(Compression::Snappy, &framed, CAP).unwrap(), text);
    let raw = snap::raw::Encoder::new().compress_vec(&text).unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, CAP).unwrap(), text);
}

#[test]
fn a_cut_compressed_block_is_an_error() {
    let text = b"some text that is long enough to matter ".repeat(100);
    for codec in [Compression::Gzip, Compression::Zstd, Compression::Snappy] {
        let packed = compress(codec, &text).unwrap();
        assert!(decompress(codec, &packed[..packed.len() - 5], CAP).is_err(), "{codec:?}");
    }
    let packed = compress(Compression::Lz4, &text).unwrap();
    // An LZ4 stream may end between blocks; then the records in it are cut short, which is seen there.
    let (header, batch) = batch_of(&packed[..packed.len() - 5], Compression::Lz4);
    assert!(decode(&header, &batch).is_err());
}

fn any_record() -> impl Strategy<Value = Record> {
    let opaque = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    let header = ("[a-z]{0,8}", opaque()).prop_map(|(name, value)| Header { name, value });
    let time = proptest::option::of(-1_000_000_000_000i64..4_000_000_000_000);
    (opaque(), opaque(), proptest::collection::vec(header, 0..4), time)
        .prop_map(|(key, value, headers, timestamp_ms)| Record { key, value, headers, timestamp_ms })
}

proptest! {
    #[test]
    fn any_records_round_trip(records in proptest::collection::vec(any_record(), 1..20), codec in 0usize..5) {
        let (header, batch) = encode_records(&records, &options(ALL[codec]));
        prop_assert_eq!(BatchHeader::parse(&batch).unwrap(), header);
        let back = decode(&header, &batch).unwrap();
        prop_assert_eq!(back.len(), records.len());
        for (stored, record) in back.into_iter().zip(records) {
            prop_assert_eq!((stored.key, stored.value, stored.headers), (record.key, record.value, record.headers));
        }
    }

    #[test]
    fn size_bound_holds(record in any_record()) {
        let (_, batch) = encode_records(std::slice::from_ref(&record), &options(Compression::None));
        prop_assert!(batch.len() - HEADER_SIZE_BYTES <= record_size_bytes(&record));
    }

    #[test]
    fn decode_never_panics_on_noise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        if let Ok(header) = BatchHeader::parse(&bytes) {
            drop(decode(&header, &bytes));
        }
        for codec in ALL {
            drop(decompress(codec, &bytes, 1 << 16));
        }
    }

    /// Behind a good header and CRC anything may stand.
    #[test]
    fn decode_never_panics_behind_a_good_header(
        block in proptest::collection::vec(any::<u8>(), 0..300),
        codec in 0usize..5,
        count in 0i32..50,
        packed in any::<bool>(),
    ) {
        let block = if packed { compress(ALL[codec], &block).unwrap() } else { block };
        let (_, batch) = batch_of(&block, ALL[codec]);
        let mut bytes = batch.to_vec();
        bytes[23..27].copy_from_slice(&50i32.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        reseal(&mut bytes);
        let bytes = Bytes::from(bytes);
        let header = BatchHeader::parse(&bytes).unwrap();
        let mut out = Vec::new();
        if decode_records(&header, &bytes, 0, 1 << 16, &mut out).is_err() {
            prop_assert!(out.is_empty());
        } else {
            prop_assert_eq!(out.len(), count as usize);
        }
    }

    #[test]
    fn one_wrong_byte_never_panics(records in proptest::collection::vec(any_record(), 1..5), codec in 0usize..5, at in 0usize..2000, mask in 1u8..) {
        let (_, batch) = encode_records(&records, &options(ALL[codec]));
        let mut bytes = batch.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= mask;
        if at > 20 {
            reseal(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        if let Ok(header) = BatchHeader::parse(&bytes) {
            drop(decode(&header, &bytes));
        }
    }

    #[test]
    fn varints_round_trip(value in any::<i64>()) {
        let mut out = Vec::new();
        varint::put(&mut out, value);
        prop_assert_eq!(out.len(), varint::size(value));
        let mut rest = out.as_slice();
        prop_assert_eq!(varint::take(&mut rest, "value").unwrap(), value);
        prop_assert!(rest.is_empty());
    }
}
