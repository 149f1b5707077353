#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use super::*;

/// The vectors of Kafka's own client tests (`UtilsTest.testMurmur2`).
#[test]
fn agrees_with_kafka() {
    for (key, expected) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ] {
        assert_eq!(murmur2(key.as_bytes()), expected, "{key}");
    }
    assert_eq!(murmur2(b"abc"), 479_470_107);
}

#[test]
fn every_partition_gets_keys() {
    let mut counts = [0; 4];
    for i in 0..1_000 {
        counts[usize::try_from(partition(format!("key-{i}").as_bytes(), 4)).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (150..350).contains(count)), "{counts:?}");
    assert_eq!(partition(b"foobar", 1), 0);
}
