#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;

use super::{Chunk, Scratch, ScratchDirectory};

fn bytes(seed: u8, size: usize) -> Bytes {
    (0..size).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<u8>>().into()
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn what_is_put_aside_is_read_back_and_takes_no_room_once_it_is_dropped() {
    let place = tempfile::tempdir().unwrap();
    let scratch = ScratchDirectory::open(place.path(), 10, 1 << 30).unwrap();
    let mut chunks: Vec<Chunk> = (0..20).map(|n| Chunk::new(bytes(n, 600_000 + usize::from(n)))).collect();
    let ids: Vec<_> = chunks.iter().map(Chunk::id).collect();
    for chunk in &mut chunks {
        chunk.put_aside(&scratch).unwrap();
        assert_eq!(chunk.memory_bytes(), 0);
    }
    assert_eq!(scratch.size_bytes(), (0..20).map(|n| 600_000 + n).sum::<u64>());
    assert_eq!(files(place.path()), 3, "files of some 4 MB");
    let copy = chunks[3].clone();
    for (n, chunk) in (0..).zip(&chunks) {
        assert_eq!(chunk.read().unwrap(), bytes(n, 600_000 + usize::from(n)));
    }
    assert_eq!(chunks.iter().map(Chunk::id).collect::<Vec<_>>(), ids);
    drop(chunks);
    assert_eq!(copy.read().unwrap(), bytes(3, 600_003));
    assert_eq!(files(place.path()), 2, "the one with the copy, and the one that is being written");
    drop((copy, scratch));
    assert_eq!(files(place.path()), 0);
}

#[test]
fn past_its_limit_it_refuses_and_the_chunk_stays_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let scratch = ScratchDirectory::open(place.path(), 10, 1_000).unwrap();
    let (mut first, mut second) = (Chunk::new(bytes(1, 800)), Chunk::new(bytes(2, 800)));
    first.put_aside(&scratch).unwrap();
    let error = second.put_aside(&scratch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.to_string().contains("800 bytes of state are put aside"), "{error}");
    assert_eq!((second.memory_bytes(), second.read().unwrap()), (800, bytes(2, 800)));
    assert_eq!(first.read().unwrap(), bytes(1, 800));
}

#[test]
fn what_an_earlier_process_left_goes_and_damage_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("7.aside"), "old").unwrap();
    let scratch = ScratchDirectory::open(place.path(), 10, 1_000).unwrap();
    assert_eq!(files(place.path()), 0);
    let mut chunk = Chunk::new(bytes(1, 100));
    chunk.put_aside(&scratch).unwrap();
    std::fs::write(place.path().join("0.aside"), bytes(2, 100)).unwrap();
    let error = chunk.read().unwrap_err();
    assert!(error.to_string().contains("other bytes came back"), "{error}");
    assert_eq!(scratch.memory_bytes(), 10);
}
