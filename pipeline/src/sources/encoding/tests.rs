#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::sources::budget::Budget;

const LIMIT_BYTES: usize = 1 << 20;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd_frame(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

fn lz4(data: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn snappy_framed(data: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.into_inner().unwrap()
}

fn snappy_raw(data: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(data).unwrap()
}

type Compress = fn(&[u8]) -> Vec<u8>;

const ALL: [(&str, Compress); 7] = [
    ("gzip", gzip),
    ("deflate", zlib),
    ("deflate", deflate),
    ("zstd", zstd_frame),
    ("lz4", lz4),
    ("snappy", snappy_framed),
    ("snappy", snappy_raw),
];

fn decode_within(name: &str, body: Vec<u8>, limit_bytes: usize, budget: &Budget) -> Result<Bytes, IngestError> {
    Encoding::named(name).unwrap().decode(Bytes::from(body), limit_bytes, &mut budget.reservation())
}

fn decode(name: &str, body: Vec<u8>) -> Result<Bytes, IngestError> {
    decode_within(name, body, LIMIT_BYTES, &Budget::new(usize::MAX))
}

#[test]
fn undoes_every_encoding() {
    let data = "a line of text\n".repeat(20_000);
    for (name, compress) in ALL {
        assert_eq!(decode(name, compress(data.as_bytes())).unwrap(), data.as_bytes(), "{name}");
        assert_eq!(decode(name, compress(b"")).unwrap(), "", "{name}");
    }
    assert_eq!(decode("identity", data.clone().into_bytes()).unwrap(), data.as_bytes());
}

#[test]
fn frames_may_follow_one_another() {
    for (name, compress) in [("gzip", gzip as Compress), ("zstd", zstd_frame), ("lz4", lz4), ("snappy", snappy_framed)]
    {
        let two = [compress(b"one,"), compress(b"two")].concat();
        assert_eq!(decode(name, two).unwrap(), "one,two", "{name}");
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    for (name, compress) in ALL {
        let budget = Budget::new(usize::MAX);
        let error = decode_within(name, compress(&zeros), LIMIT_BYTES, &budget).unwrap_err();
        assert!(
            matches!(error, IngestError::TooLarge { limit_bytes: LIMIT_BYTES, decompressed: true }),
            "{name}: {error}"
        );
        assert_eq!(budget.used_bytes(), 0, "what was reserved is given back");
    }
}

#[test]
fn a_size_that_is_only_announced_holds_no_memory() {
    // A raw block that says it has 4 GiB - 1 bytes.
    let error = decode("snappy", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]).unwrap_err();
    assert!(matches!(error, IngestError::TooLarge { .. }), "{error}");
}

#[test]
fn what_is_made_counts_against_the_budget() {
    let budget = Budget::new(100_000);
    for (name, compress) in ALL {
        let error = decode_within(name, compress(&[b'x'; 200_000]), LIMIT_BYTES, &budget).unwrap_err();
        assert!(matches!(error, IngestError::Busy { limit_bytes: 100_000 }), "{name}: {error}");
    }
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_zstd_window_above_what_http_allows_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&vec![b'x'; 9 << 20]).unwrap();
    let error = decode_within("zstd", encoder.finish().unwrap(), 64 << 20, &Budget::new(usize::MAX)).unwrap_err();
    assert!(matches!(error, IngestError::Undecompressable { encoding: "zstd", .. }), "{error}");
}

#[test]
fn unknown_encodings_are_named() {
    for name in ["br", "gzip, zstd", "gzip,gzip", "compress"] {
        let error = Encoding::named(name).unwrap_err().to_string();
        assert!(error.starts_with(&format!("content encoding {name:?} is not supported")), "{error}");
    }
    assert_eq!(Encoding::named(" GZip ").unwrap(), Encoding::Gzip);
}

#[test]
fn a_body_cut_short_is_an_error() {
    let data: Vec<u8> = (0..10_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (name, compress) in ALL {
        let whole = compress(&data);
        // A framed snappy stream has no end mark; a cut between its chunks cannot be seen.
        let cuts =
            (1..whole.len()).step_by(97).filter(|&cut| !(whole.starts_with(SNAPPY_MAGIC) && cut == SNAPPY_MAGIC.len()));
        for cut in cuts {
            let result = decode(name, whole[..cut].to_vec());
            assert!(result.is_err() || result.unwrap().is_empty(), "{name} cut at {cut} of {}", whole.len());
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(encoding in prop::sample::select(ALL.to_vec()), bytes in prop::collection::vec(any::<u8>(), 0..200), flip in any::<prop::sample::Index>()) {
        let (name, compress) = encoding;
        prop_assert!(decode(name, bytes.clone()).is_ok_and(|out| out.len() <= LIMIT_BYTES) || decode(name, bytes.clone()).is_err());
        let mut damaged = compress(&bytes);
        if !damaged.is_empty() {
            let at = flip.index(damaged.len());
            damaged[at] ^= 0x55;
            prop_assert!(decode(name, damaged).map_or(true, |out| out.len() <= LIMIT_BYTES));
        }
    }
}
