//! Snapshot files: what was written is read back, and nothing else is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;

use super::super::chunks::Chunk;
use super::{SnapshotName, SnapshotStore, StateReader, StateWriter};

fn file() -> Bytes {
    let mut writer = StateWriter::new();
    writer.put("runtime", 1, b"abc".to_vec());
    let chunks = [&b"one"[..], b"two", b"one"].map(Chunk::new);
    writer.put_chunks("rollup/é", u64::MAX, Bytes::new(), chunks.to_vec());
    writer.finish(42, 7).unwrap()
}

#[test]
fn a_file_is_as_the_format_says() {
    let bytes = file();
    assert_eq!(&bytes[..8], b"HWSNAP\0\x02");
    assert_eq!(bytes[8..16], 42i64.to_le_bytes());
    assert_eq!(bytes[16..20], 7i32.to_le_bytes());
    assert_eq!(bytes[20..24], 2u32.to_le_bytes());
    assert_eq!(&bytes[24..33], b"\x07\0runtime");
    assert_eq!(bytes[33..41], 1u64.to_le_bytes());
    assert_eq!(bytes[41..49], 3u64.to_le_bytes());
    assert_eq!(&bytes[49..52], b"abc");
}

#[test]
fn sections_are_found_by_name_and_definition() {
    let read = StateReader::parse(&file()).unwrap();
    assert_eq!((read.offset(), read.epoch(), read.sections().len()), (42, 7, 2));
    assert_eq!(read.get("runtime", 1).unwrap(), &b"abc"[..]);
    assert_eq!(read.get("runtime", 2), None, "another definition");
    assert_eq!(read.get("rollup/é", u64::MAX).unwrap().len(), 0);
    assert_eq!(read.get("nosuch", 0), None);
    let chunks = &read.section("rollup/é", u64::MAX).unwrap().chunks;
    let bytes: Vec<_> = chunks.iter().map(|chunk| chunk.read().unwrap()).collect();
    assert_eq!(bytes, [&b"one"[..], b"two", b"one"]);
}

#[test]
fn a_file_of_the_first_version_is_read() {
    let mut file = b"HWSNAP\0\x01".to_vec();
    file.extend_from_slice(&42i64.to_le_bytes());
    file.extend_from_slice(&7i32.to_le_bytes());
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(b"\x07\0runtime");
    file.extend_from_slice(&1u64.to_le_bytes());
    file.extend_from_slice(&3u64.to_le_bytes());
    file.extend_from_slice(b"abc");
    let checksum = twox_hash::XxHash64::oneshot(0, &file);
    file.extend_from_slice(&checksum.to_le_bytes());
    let read = StateReader::parse(&file.into()).unwrap();
    assert_eq!((read.offset(), read.epoch()), (42, 7));
    assert_eq!(read.get("runtime", 1).unwrap(), &b"abc"[..]);
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let whole = file();
    for length in 0..whole.len() {
        StateReader::parse(&whole.slice(..length)).expect_err("a cut file");
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        StateReader::parse(&flipped.into()).expect_err("a flipped bit");
    }
}

proptest! {
    #[test]
    fn bytes_behind_a_right_checksum_cannot_make_it_panic(mut content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let magic = b"HWSNAP\0\x02";
        let length = content.len().min(magic.len());
        content[..length].copy_from_slice(&magic[..length]);
        let checksum = twox_hash::XxHash64::oneshot(0, &content);
        content.extend_from_slice(&checksum.to_le_bytes());
        // Most are refused, some are empty snapshots; none may panic or allocate by a length that is not there.
        drop(StateReader::parse(&content.into()));
    }
}

#[tokio::test]
async fn the_store_lists_newest_first_and_keeps_two() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = SnapshotStore::new(Arc::clone(&objects), "__highwater.partials/1");
    let other = SnapshotStore::new(Arc::clone(&objects), "__highwater.partials/10");
    let name = |offset, epoch| SnapshotName { offset, epoch };
    for (offset, epoch) in [(5, 1), (100, 1), (42, 2), (42, 10)] {
        store.save(name(offset, epoch), StateWriter::new()).await.unwrap();
    }
    other.save(name(7, 1), StateWriter::new()).await.unwrap();
    objects.put(&Path::from("snapshots/__highwater.partials/1/notes.txt"), "x".into()).await.unwrap();
    assert_eq!(store.list().await.unwrap(), [name(100, 1), name(42, 10), name(42, 2), name(5, 1)]);
    assert_eq!(store.load(name(42, 10)).await.unwrap().epoch(), 10);
    assert_eq!(store.prune().await.unwrap(), Some(name(42, 10)));
    assert_eq!(store.list().await.unwrap(), [name(100, 1), name(42, 10)]);
    assert_eq!(other.list().await.unwrap(), [name(7, 1)]);
}

#[tokio::test]
async fn a_file_under_another_name_is_corrupt() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = SnapshotStore::new(Arc::clone(&objects), "logs/0");
    let name = SnapshotName { offset: 8, epoch: 1 };
    let path = Path::from(format!("snapshots/logs/0/{:020}-1.snap", 8));
    objects.put(&path, StateWriter::new().finish(9, 1).unwrap().into()).await.unwrap();
    let error = store.load(name).await.unwrap_err().to_string();
    assert!(error.contains("offset 9"), "{error}");
}
