//! The tables against `kafka-protocol`: whatever it encodes passes, whatever passes it decodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use proptest::prelude::*;

use super::*;
use crate::kafka::apis::{APIS, Api, probe};
use crate::kafka::frame::samples::{Sample, samples};
use crate::kafka::frame::{FrameError, RequestHead, check_body};

#[test]
fn every_api_that_is_served_has_a_shape_with_the_right_header() {
    for Api { key, versions } in APIS {
        let shape = Shape::of(*key).unwrap_or_else(|| panic!("{key:?} has no shape"));
        for version in versions.clone() {
            let flexible = key.request_header_version(version) == 2;
            assert_eq!(shape.is_flexible(version), flexible, "{key:?} version {version}");
        }
    }
}

#[test]
fn what_kafka_protocol_encodes_passes_to_the_last_byte() {
    for Sample { frame, .. } in samples() {
        let head = RequestHead::read(frame).unwrap();
        let api = ApiKey::try_from(head.key).unwrap();
        let shape = Shape::of(api).unwrap();
        let mut walk = Walk::new(&frame[head.end..]);
        if shape.is_flexible(head.version) {
            walk.header_tags().unwrap();
        }
        walk.body(shape, head.version).unwrap_or_else(|e| panic!("{api:?} version {}: {e}", head.version));
        assert_eq!(walk.left(), 0, "{api:?} version {}", head.version);
        probe(frame).unwrap();
    }
}

#[test]
fn a_request_cut_anywhere_is_refused_by_its_shape() {
    for Sample { frame, .. } in samples() {
        let head = RequestHead::read(frame).unwrap();
        let api = ApiKey::try_from(head.key).unwrap();
        for cut in head.end..frame.len() {
            let cut = frame.slice(..cut);
            assert!(
                matches!(check_body(api, &head, &cut), Err(FrameError::Body { .. })),
                "{api:?} version {} cut to {} of {} bytes",
                head.version,
                cut.len(),
                frame.len()
            );
        }
    }
}

/// Writes what `fuzz/run` begins with.
#[test]
#[ignore = "writes files for the fuzzer"]
fn write_the_seeds_of_the_fuzzer() {
    let corpus = std::path::PathBuf::from(std::env::var("HIGHWATER_FUZZ_CORPUS").expect("the corpus directory"));
    let write = |target: &str, name: String, bytes: &[u8]| {
        std::fs::create_dir_all(corpus.join(target)).unwrap();
        std::fs::write(corpus.join(target).join(name), bytes).unwrap();
    };
    for Sample { key, version, frame, .. } in samples() {
        write("frames", format!("seed-{key}-{version}"), frame);
    }
    for (name, bytes) in crate::batch::good_batches() {
        write("batches", format!("seed-{name}"), &bytes);
    }
}

/// A Metadata request (version 8: plain lengths) that claims so many topics.
fn metadata_claiming(count: i32, bytes_behind: usize) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(ApiKey::Metadata as i16);
    frame.put_i16(8);
    frame.put_i32(1);
    frame.put_i16(-1);
    frame.put_i32(count);
    frame.put_bytes(0, bytes_behind);
    frame.freeze()
}

#[test]
fn a_list_claims_no_more_than_there_is_room_for() {
    let refused = |frame: Bytes| match probe(&frame) {
        Err(FrameError::Body { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    for count in [i32::MAX, 1 << 30, 1000] {
        assert_eq!(refused(metadata_claiming(count, 100)), ShapeError::Count { count: count as usize, room: 100 });
    }
    assert_eq!(refused(metadata_claiming(i32::MIN, 100)), ShapeError::Negative);
    assert_eq!(refused(metadata_claiming(-2, 100)), ShapeError::Negative);
    let many = MAX_ELEMENTS + 1;
    assert_eq!(
        refused(metadata_claiming(many as i32, 4 * many)),
        ShapeError::Count { count: many, room: MAX_ELEMENTS }
    );
    // Empty names, and three booleans: so many are let through.
    probe(&metadata_claiming(MAX_ELEMENTS as i32, 2 * MAX_ELEMENTS + 3)).unwrap();
}

#[test]
fn elements_of_all_lists_count_together() {
    // Two topics in a ListOffsets request (version 1), each with partitions that alone would be let through.
    let partitions = MAX_ELEMENTS * 2 / 3;
    let mut frame = BytesMut::new();
    frame.put_slice(&[0, 2, 0, 1, 0, 0, 0, 7, 255, 255]);
    frame.put_i32(-1);
    frame.put_i32(2);
    for _ in 0..2 {
        frame.put_i16(0);
        frame.put_i32(partitions as i32);
        frame.put_bytes(0, partitions * 12);
    }
    let room = MAX_ELEMENTS - 2 - partitions;
    assert_eq!(
        probe(&frame.freeze()),
        Err(FrameError::Body { key: 2, version: 1, reason: ShapeError::Count { count: partitions, room } })
    );
}

#[test]
fn variable_length_numbers_end_within_32_bits() {
    let head = [0, 3, 0, 9, 0, 0, 0, 1, 255, 255];
    let with = |rest: &[u8]| probe(&Bytes::from([&head, rest].concat()));
    let refused = |reason| Err(FrameError::Body { key: 3, version: 9, reason });
    // Header without tags; no topics; two booleans and a third; no tags.
    assert_eq!(with(&[0, 0, 0, 0, 0, 0]), Ok(()));
    assert_eq!(with(&[0, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0]), refused(ShapeError::Varint));
    assert_eq!(with(&[0, 255, 255, 255, 255, 31, 0, 0, 0, 0]), refused(ShapeError::Varint));
    let largest = ShapeError::Count { count: u32::MAX as usize - 1, room: 4 };
    assert_eq!(with(&[0, 255, 255, 255, 255, 15, 0, 0, 0, 0]), refused(largest));
}

#[test]
fn tagged_fields_are_what_their_version_has_there() {
    let fetch = |tags: &[u8]| {
        // Fetch version 12: replica -1, waits, sizes, isolation, session, no topics, none forgotten, an empty rack.
        let head = [0, 1, 0, 12, 0, 0, 0, 1, 255, 255, 0];
        let body = [[255; 4].as_slice(), &[0; 12], &[0], &[0; 8], &[1, 1, 1]].concat();
        probe(&Bytes::from([&head, body.as_slice(), tags].concat()))
    };
    let refused = |reason| Err(FrameError::Body { key: 1, version: 12, reason });
    assert_eq!(fetch(&[0]), Ok(()));
    assert_eq!(fetch(&[1, 0, 3, 3, b'i', b'd']), Ok(()), "a cluster id");
    assert_eq!(fetch(&[1, 77, 3, 3, b'i', b'd']), Ok(()), "a field of the future");
    assert_eq!(fetch(&[1, 0, 4, 3, b'i', b'd', 0]), refused(ShapeError::Tag { tag: 0 }), "longer than its content");
    assert_eq!(fetch(&[1, 0, 3, 9, b'i', b'd']), refused(ShapeError::Short), "shorter than its content");
    assert_eq!(fetch(&[1, 1, 1, 1]), refused(ShapeError::Tag { tag: 1 }), "a field of version 15");
    assert_eq!(fetch(&[1, 77, 100, 0]), refused(ShapeError::Short));
    assert!(matches!(fetch(&[255, 255, 3]), Err(FrameError::Body { reason: ShapeError::Count { .. }, .. })));
}

#[test]
fn text_is_text_and_null_is_told() {
    // SaslHandshake version 1.
    let with = |rest: &[u8]| probe(&Bytes::from([&[0, 17, 0, 1, 0, 0, 0, 1, 255, 255], rest].concat()));
    let refused = |reason| Err(FrameError::Body { key: 17, version: 1, reason });
    assert_eq!(with(&[0, 2, b'o', b'k']), Ok(()));
    assert_eq!(with(&[0, 2, 0xc3, 0x28]), refused(ShapeError::Utf8));
    assert_eq!(with(&[255, 255]), refused(ShapeError::Null));
    assert_eq!(with(&[255, 254]), refused(ShapeError::Negative));
    assert_eq!(with(&[0x7f, 255, b'a']), refused(ShapeError::Short));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Any bytes at all, after a header that is served.
    #[test]
    fn whatever_passes_decodes(api in 0..APIS.len(), version in any::<prop::sample::Index>(), body in prop::collection::vec(prop_oneof![3 => Just(0u8), 2 => 0u8..8, 1 => any::<u8>()], 0..200)) {
        let versions: Vec<i16> = APIS[api].versions.clone().collect();
        let version = versions[version.index(versions.len())];
        let mut frame = BytesMut::new();
        frame.put_i16(APIS[api].key as i16);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_i16(-1);
        frame.put_slice(&body);
        let probed = probe(&frame.freeze());
        let is_fine = matches!(probed, Ok(()) | Err(FrameError::Body { .. }));
        prop_assert!(is_fine, "{:?}", probed);
    }

    /// Good requests with a few bytes changed.
    #[test]
    fn whatever_passes_after_damage_decodes(sample in any::<prop::sample::Index>(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(), cuts in any::<bool>()) {
        let mut frame = samples()[sample.index(samples().len())].frame.to_vec();
        for (at, value) in damage {
            // The API and its version stay.
            let at = 4 + at.index(frame.len() - 4);
            frame[at] = value;
        }
        if cuts {
            frame.truncate(4 + cut.index(frame.len() - 4));
        }
        let probed = probe(&frame.into());
        let is_fine = matches!(probed, Ok(()) | Err(FrameError::Body { .. } | FrameError::Header { .. }));
        prop_assert!(is_fine, "{:?}", probed);
    }
}
