#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::path::Path;

use super::file::{create_dir_durably, read_all, write_atomically};
use super::*;

const DIR: &str = "/data/dir";

fn sim() -> SimFs {
    let fs = SimFs::new();
    create_dir_durably(&fs, Path::new(DIR)).unwrap();
    fs
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(DIR).join(name)
}

fn content(fs: &dyn Fs, name: &str) -> Option<Vec<u8>> {
    read_all(fs, &path(name)).unwrap()
}

#[test]
fn what_is_not_synced_is_lost() {
    let fs = sim();
    let file = fs.open(&path("a"), OpenMode::Create).unwrap();
    fs.sync_dir(Path::new(DIR)).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"two", 3).unwrap();
    assert_eq!(content(&fs, "a").unwrap(), b"onetwo");
    fs.crash(Crash::LoseUnsynced);
    assert_eq!(content(&fs, "a").unwrap(), b"one");
    assert!(file.sync_data().is_err(), "a handle of the dead process is stale");
}

#[test]
fn a_name_is_lost_without_a_sync_of_its_directory() {
    let fs = sim();
    let file = fs.open(&path("a"), OpenMode::Create).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    file.sync_data().unwrap();
    fs.crash(Crash::LoseUnsynced);
    assert_eq!(content(&fs, "a"), None);
}

#[test]
fn a_removed_name_comes_back_without_a_sync_of_its_directory() {
    let fs = sim();
    write_atomically(&fs, &path("a"), b"one").unwrap();
    fs.remove_file(&path("a")).unwrap();
    assert_eq!(content(&fs, "a"), None);
    fs.crash(Crash::LoseUnsynced);
    assert_eq!(content(&fs, "a").unwrap(), b"one");
}

#[test]
fn a_kill_keeps_everything_and_frees_the_lock() {
    let fs = sim();
    let _lock = fs.lock(&path("lock")).unwrap();
    assert_eq!(fs.lock(&path("lock")).err().unwrap().kind(), ErrorKind::WouldBlock);
    let file = fs.open(&path("a"), OpenMode::Create).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    fs.crash(Crash::Kill);
    assert_eq!(content(&fs, "a").unwrap(), b"one");
    fs.lock(&path("lock")).unwrap();
}

#[test]
fn a_failed_sync_is_never_made_good() {
    let fs = sim();
    write_atomically(&fs, &path("a"), b"one").unwrap();
    let file = fs.open(&path("a"), OpenMode::Write).unwrap();
    file.write_all_at(b"two", 0).unwrap();
    fs.fail_next_sync("dir/a");
    assert!(file.sync_data().is_err());
    assert_eq!(content(&fs, "a").unwrap(), b"two", "the page cache still shows it");
    file.sync_data().unwrap();
    fs.crash(Crash::LoseUnsynced);
    assert_eq!(content(&fs, "a").unwrap(), b"one");
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let fs = sim();
    write_atomically(&fs, &path("a"), b"12345").unwrap();
    fs.set_capacity(Some(8));
    let file = fs.open(&path("a"), OpenMode::Write).unwrap();
    assert_eq!(file.allocate(9).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.write_all_at(b"123456789", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(b"54321", 0).unwrap();
    file.allocate(8).unwrap();
    assert_eq!(content(&fs, "a").unwrap(), b"54321\0\0\0");
    let refused = write_atomically(&fs, &path("b"), b"x").unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    assert_eq!(fs.used_bytes(), 8, "nothing of the refused file remains");
}

#[test]
fn a_tear_depends_on_its_seed_only() {
    let torn = |seed| {
        let fs = sim();
        write_atomically(&fs, &path("a"), &[0; 8192]).unwrap();
        let file = fs.open(&path("a"), OpenMode::Write).unwrap();
        for i in 0..8 {
            file.write_all_at(&[i + 1; 1000], u64::from(i) * 1000).unwrap();
        }
        fs.crash(Crash::Tear(seed));
        content(&fs, "a").unwrap()
    };
    assert_eq!(torn(1), torn(1));
    let outcomes: std::collections::BTreeSet<_> = (0..20).map(torn).collect();
    assert!(outcomes.len() > 10, "seeds differ");
}

#[test]
fn an_atomic_write_is_old_or_new_whatever_is_torn() {
    for seed in 0..200 {
        let fs = sim();
        write_atomically(&fs, &path("a"), b"old").unwrap();
        fs.fail_next_sync(if seed % 2 == 0 { "a.tmp" } else { "data/dir" });
        write_atomically(&fs, &path("a"), b"new and longer").unwrap_err();
        fs.crash(Crash::Tear(seed));
        let found = content(&fs, "a").unwrap();
        assert!(found == b"old" || found == b"new and longer", "{found:?}");
    }
}

#[test]
fn the_real_one_does_what_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RealFs;
    let base = dir.path().join("x/y");
    create_dir_durably(&fs, &base).unwrap();
    write_atomically(&fs, &base.join("f"), b"hello").unwrap();
    let file = fs.open(&base.join("f"), OpenMode::Write).unwrap();
    file.allocate(100).unwrap();
    assert_eq!(file.size_bytes().unwrap(), 100);
    file.allocate(10).unwrap();
    assert_eq!(file.size_bytes().unwrap(), 100, "allocating never cuts");
    let mut buffer = [1; 200];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 100);
    assert_eq!(&buffer[..7], b"hello\0\0");
    file.set_len(3).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read_all(&fs, &base.join("f")).unwrap().unwrap(), b"hel");
    let names: Vec<String> = fs.read_dir(&base).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["f"]);
    let lock = fs.lock(&base.join("lock")).unwrap();
    assert_eq!(fs.lock(&base.join("lock")).err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(lock);
    fs.lock(&base.join("lock")).unwrap();
}
