//! Chunks of snapshots: what is new is written, what is not is named, and no single file is missed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::super::chunks::{Chunk, ScratchDirectory};
use super::{SnapshotName, SnapshotStore, StateReader, StateWriter};

const CHUNK: usize = 100_000;

/// Content that depends on all of `n`.
fn bytes(n: u32, size: usize) -> Bytes {
    let mut state = u64::from(n) + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..size).map(next).collect::<Vec<u8>>().into()
}

fn state(chunks: impl IntoIterator<Item = u32>) -> StateWriter {
    sized(chunks, CHUNK)
}

fn sized(chunks: impl IntoIterator<Item = u32>, size: usize) -> StateWriter {
    let mut writer = StateWriter::new();
    writer.put("runtime", 1, b"abc".to_vec());
    writer.put_chunks(
        "rollup/r",
        7,
        b"body".to_vec(),
        chunks.into_iter().map(|n| Chunk::new(bytes(n, size))).collect(),
    );
    writer
}

fn chunks(state: &StateReader) -> Vec<Bytes> {
    state.section("rollup/r", 7).unwrap().chunks.iter().map(|chunk| chunk.read().unwrap()).collect()
}

fn wanted(chunks: impl IntoIterator<Item = u32>) -> Vec<Bytes> {
    chunks.into_iter().map(|n| bytes(n, CHUNK)).collect()
}

fn name(offset: i64) -> SnapshotName {
    SnapshotName { offset, epoch: 1 }
}

struct Bench {
    objects: Arc<dyn ObjectStore>,
    store: SnapshotStore,
}

impl Bench {
    fn new() -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = SnapshotStore::new(Arc::clone(&objects), "logs/0");
        Self { objects, store }
    }

    /// A store that knows nothing, as after a restart.
    fn restarted(&self) -> SnapshotStore {
        SnapshotStore::new(Arc::clone(&self.objects), "logs/0")
    }

    async fn files(&self) -> BTreeMap<String, u64> {
        let listed: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        listed.into_iter().map(|meta| (meta.location.filename().unwrap().to_owned(), meta.size)).collect()
    }

    async fn packs(&self) -> Vec<String> {
        self.files().await.into_keys().filter(|name| name.ends_with(".pack")).collect()
    }

    fn path(name: &str) -> Path {
        Path::from(format!("snapshots/logs/0/{name}"))
    }
}

#[tokio::test]
async fn a_chunk_is_written_twice_and_then_only_named() {
    let bench = Bench::new();
    let mut sizes = Vec::new();
    for offset in 1..=5 {
        sizes.push(bench.store.save(name(offset), state(0..10)).await.unwrap());
        bench.store.prune().await.unwrap();
        assert_eq!(chunks(&bench.restarted().load(name(offset)).await.unwrap()), wanted(0..10));
    }
    assert!(sizes[0] > 1_000_000 && sizes[1] > 1_000_000, "{sizes:?}");
    assert!(sizes[2..].iter().all(|&size| size < 1_000), "{sizes:?}");
    assert_eq!(bench.packs().await.len(), 2);
    // A change of one chunk costs that one, twice.
    let changed = [0, 1, 2, 3, 99, 5, 6, 7, 8, 9];
    for (offset, least) in [(6, 100_000), (7, 100_000), (8, 0)] {
        let size = bench.store.save(name(offset), state(changed)).await.unwrap();
        assert!((least..least + 2_000).contains(&size), "{size} at {offset}");
        bench.store.prune().await.unwrap();
    }
    assert_eq!(bench.packs().await.len(), 4);
    assert_eq!(chunks(&bench.restarted().load(name(8)).await.unwrap()), wanted(changed));
    assert_eq!(chunks(&bench.restarted().load(name(7)).await.unwrap()), wanted(changed));
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_run_stopped_and_small_state_is_one_file() {
    let bench = Bench::new();
    bench.store.save(name(1), state(0..10)).await.unwrap();
    bench.store.save(name(2), state(0..10)).await.unwrap();
    let again = bench.restarted();
    let loaded = again.load(name(2)).await.unwrap();
    // What was loaded is what is saved next.
    let mut writer = StateWriter::new();
    writer.put_chunks("rollup/r", 7, b"body".to_vec(), loaded.section("rollup/r", 7).unwrap().chunks.clone());
    assert!(again.save(name(3), writer).await.unwrap() < 1_000);
    assert_eq!(chunks(&bench.restarted().load(name(3)).await.unwrap()), wanted(0..10));

    let small = Bench::new();
    for offset in 1..=3 {
        let mut writer = StateWriter::new();
        writer.put_chunks("rollup/r", 7, b"body".to_vec(), vec![Chunk::new(bytes(1, 5_000)), Chunk::new(bytes(2, 10))]);
        small.store.save(name(offset), writer).await.unwrap();
    }
    assert_eq!(small.packs().await, [""; 0]);
    assert_eq!(chunks(&small.restarted().load(name(3)).await.unwrap()), [bytes(1, 5_000), bytes(2, 10)]);
}

#[tokio::test]
async fn the_loss_or_damage_of_any_one_file_costs_the_newest_snapshot_at_most() {
    let bench = Bench::new();
    let of = |offset: i64| (0..8).map(move |n| if n == offset as u32 % 8 { 100 + n } else { n }).collect::<Vec<_>>();
    for offset in 1..=6 {
        bench.store.save(name(offset), state(of(offset))).await.unwrap();
        bench.store.prune().await.unwrap();
    }
    let files: Vec<String> = bench.files().await.into_keys().collect();
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        for damage in ["gone", "short", "flipped", "empty"] {
            let path = Bench::path(&file);
            let whole = bench.objects.get(&path).await.unwrap().bytes().await.unwrap();
            let mut flipped = whole.to_vec();
            for at in (0..flipped.len()).step_by(1_000) {
                flipped[at] ^= 4;
            }
            match damage {
                "gone" => bench.objects.delete(&path).await.unwrap(),
                "short" => drop(bench.objects.put(&path, whole.slice(..whole.len() / 2).into()).await.unwrap()),
                "flipped" => drop(bench.objects.put(&path, flipped.into()).await.unwrap()),
                _ => drop(bench.objects.put(&path, Bytes::new().into()).await.unwrap()),
            }
            let newest = bench.restarted().load(name(6)).await;
            if file.starts_with(&format!("{:020}-1.", 6)) {
                // Its own: what is new in it has been written once.
                newest.expect_err("it is damaged itself");
                assert_eq!(chunks(&bench.restarted().load(name(5)).await.unwrap()), wanted(of(5)), "{file} {damage}");
            } else {
                assert_eq!(chunks(&newest.unwrap()), wanted(of(6)), "{file} {damage}");
                // What has been lost is written again: the next two need the damaged file no more.
                let again = bench.restarted();
                drop(again.load(name(6)).await.unwrap());
                again.save(name(7), state(of(6))).await.unwrap();
                assert_eq!(chunks(&bench.restarted().load(name(7)).await.unwrap()), wanted(of(6)), "{file} {damage}");
                bench.objects.delete(&Bench::path(&format!("{:020}-1.snap", 7))).await.unwrap();
            }
            bench.objects.put(&path, whole.into()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn two_files_that_held_the_same_chunk_are_missed() {
    let bench = Bench::new();
    bench.store.save(name(1), state(0..4)).await.unwrap();
    bench.store.save(name(2), state(0..4)).await.unwrap();
    for pack in bench.packs().await {
        bench.objects.delete(&Bench::path(&pack)).await.unwrap();
    }
    let error = bench.restarted().load(name(2)).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("nowhere whole"), "{error}");
}

#[tokio::test]
async fn what_is_kept_is_bounded_however_long_it_runs() {
    const SIZE: usize = 2_000;
    let bench = Bench::new();
    let store = bench.restarted().with_inline_bytes(0);
    // Each chunk lives for 50 snapshots, and one lives for ever.
    for offset in 1..=300u32 {
        let live = (offset.saturating_sub(50)..offset).chain([9_999]);
        store.save(name(i64::from(offset)), sized(live, SIZE)).await.unwrap();
        store.prune().await.unwrap();
    }
    let files = bench.files().await;
    assert!(files.len() <= 2 + 2 * 34, "{}", files.len());
    // 51 chunks, twice; up to four times that where packs are partly dead; a snapshot more.
    assert!(files.values().sum::<u64>() < (2 * 4 + 2) * 51 * SIZE as u64, "{files:?}");
    let live: Vec<Bytes> = (250..300).chain([9_999]).map(|n| bytes(n, SIZE)).collect();
    assert_eq!(chunks(&bench.restarted().load(name(300)).await.unwrap()), live);
}

#[tokio::test]
async fn a_run_that_prunes_leaves_what_a_newer_one_is_writing() {
    let bench = Bench::new();
    bench.store.save(name(1), state(0..4)).await.unwrap();
    bench.store.save(name(2), state(0..4)).await.unwrap();
    // A newer run has written a pack, and no snapshot yet.
    bench
        .objects
        .put(&Bench::path(&format!("{:020}-9.0.pack", 2)), Bytes::from_static(b"HWPACK").into())
        .await
        .unwrap();
    // One of a snapshot that was never finished.
    bench
        .objects
        .put(&Bench::path(&format!("{:020}-1.7.pack", 0)), Bytes::from_static(b"HWPACK").into())
        .await
        .unwrap();
    bench.restarted().prune().await.unwrap();
    let named = |offset: i64, epoch: i32, part: u32| format!("{offset:020}-{epoch}.{part}.pack");
    assert_eq!(bench.packs().await, [named(1, 1, 0), named(2, 1, 0), named(2, 9, 0)]);
}

#[tokio::test]
async fn chunks_that_memory_has_no_room_for_are_put_aside_as_they_are_loaded() {
    let bench = Bench::new();
    bench.store.save(name(1), state(0..20)).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let scratch = Arc::new(ScratchDirectory::open(place.path(), 5 * CHUNK, 1 << 30).unwrap());
    let store = bench.restarted().with_scratch(Some(Arc::clone(&scratch) as _));
    let state = store.load(name(1)).await.unwrap();
    let in_memory: usize = state.section("rollup/r", 7).unwrap().chunks.iter().map(Chunk::memory_bytes).sum();
    assert_eq!((in_memory, scratch.size_bytes()), (5 * CHUNK, 15 * CHUNK as u64));
    assert_eq!(chunks(&state), wanted(0..20));
}
