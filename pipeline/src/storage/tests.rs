#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::*;

fn opened() -> (tempfile::TempDir, Storage) {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path().join("a/b").to_str().unwrap()).unwrap();
    (dir, storage)
}

async fn create(store: &dyn ObjectStore, path: &str, body: &'static [u8]) -> object_store::Result<()> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&Path::from(path), PutPayload::from_static(body), options).await.map(|_| ())
}

async fn names(store: &dyn ObjectStore) -> Vec<String> {
    let mut names: Vec<String> = store.list(None).map_ok(|m| m.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn the_root_is_made_and_found_again() {
    let (dir, storage) = opened();
    assert!(dir.path().join("a/b").is_dir());
    assert!(storage.url().as_str().ends_with("/a/b/"));
    assert_eq!(storage.table_url("logs").as_str(), format!("{}tables/logs/", storage.url()));
    assert_eq!(open(storage.url().as_str()).unwrap().url(), storage.url());
    assert_eq!(open_existing(storage.url().as_str()).unwrap().url(), storage.url());
}

#[tokio::test]
async fn locations_that_cannot_be_opened_say_why() {
    let (dir, _storage) = opened();
    let missing = dir.path().join("missing");
    assert!(matches!(open_existing(missing.to_str().unwrap()), Err(StorageError::Io { .. })));
    assert!(!missing.exists(), "open_existing makes nothing");
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    assert!(matches!(open(dir.path().join("file").to_str().unwrap()), Err(StorageError::Io { .. })));
    let error = open("s3://bucket/x").unwrap_err();
    assert!(error.to_string().contains("s3") && !error.is_retryable(), "{error}");
    assert!(matches!(open("file://host/x"), Err(StorageError::BadLocation { .. })));
    assert!(matches!(open(""), Err(StorageError::BadLocation { .. })));
}

#[tokio::test]
async fn both_views_of_the_root_see_the_same_objects() {
    let (_dir, storage) = opened();
    let path = Path::from("tables/logs/x y%2Fz.parquet");
    storage.objects().put(&path, PutPayload::from_static(b"rows")).await.unwrap();
    let listed: Vec<_> =
        storage.origin().list(Some(&Path::from_url_path(storage.url().path()).unwrap())).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    let body = storage.origin().get(&listed[0].location).await.unwrap().bytes().await.unwrap();
    assert_eq!(body, Bytes::from_static(b"rows"));
    assert_eq!(storage.objects().get(&path).await.unwrap().bytes().await.unwrap(), body);
}

#[tokio::test]
async fn overwrite_replaces_and_create_refuses() {
    let (_dir, storage) = opened();
    let store = storage.objects().as_ref();
    create(store, "x/1", b"first").await.unwrap();
    assert!(matches!(create(store, "x/1", b"second").await, Err(Error::AlreadyExists { .. })));
    let read = async || store.get(&Path::from("x/1")).await.unwrap().bytes().await.unwrap();
    assert_eq!(read().await, Bytes::from_static(b"first"));
    store.put(&Path::from("x/1"), PutPayload::from_static(b"third")).await.unwrap();
    assert_eq!(read().await, Bytes::from_static(b"third"));
    assert_eq!(names(store).await, ["x/1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_creators_wins_and_its_content_stays() {
    let (dir, storage) = opened();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..16_u8 {
        let store = Arc::clone(storage.objects());
        tasks.spawn(async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let body = PutPayload::from(vec![writer; 4096]);
            (writer, store.put_opts(&Path::from("race/new/dir/0"), body, options).await.is_ok())
        });
    }
    let won: Vec<u8> = tasks.join_all().await.into_iter().filter(|(_, ok)| *ok).map(|(w, _)| w).collect();
    assert_eq!(won.len(), 1);
    let body = storage.objects().get(&Path::from("race/new/dir/0")).await.unwrap().bytes().await.unwrap();
    assert_eq!(body, Bytes::from(vec![won[0]; 4096]));
    let left: Vec<_> = std::fs::read_dir(dir.path().join("a/b/race/new/dir")).unwrap().collect();
    assert_eq!(left.len(), 1, "no staging file is left");
}

#[tokio::test]
async fn an_upload_in_parts_appears_whole_or_not_at_all() {
    let (dir, storage) = opened();
    let store = storage.objects();
    let mut upload = store.put_multipart(&Path::from("m/1")).await.unwrap();
    let second = {
        let first = upload.put_part(PutPayload::from_static(b"hello "));
        let second = upload.put_part(PutPayload::from_static(b"world"));
        // Out of order on purpose.
        second.await.unwrap();
        first
    };
    second.await.unwrap();
    assert!(names(store.as_ref()).await.is_empty());
    upload.complete().await.unwrap();
    assert!(upload.complete().await.is_err());
    let body = store.get(&Path::from("m/1")).await.unwrap().bytes().await.unwrap();
    assert_eq!(body, Bytes::from_static(b"hello world"));

    let mut aborted = store.put_multipart(&Path::from("m/2")).await.unwrap();
    aborted.put_part(PutPayload::from_static(b"x")).await.unwrap();
    aborted.abort().await.unwrap();
    drop(store.put_multipart(&Path::from("m/3")).await.unwrap());
    assert_eq!(names(store.as_ref()).await, ["m/1"]);
    assert_eq!(std::fs::read_dir(dir.path().join("a/b/m")).unwrap().count(), 1);
}

#[tokio::test]
async fn copies_and_renames_keep_content_and_refuse_where_asked() {
    let (_dir, storage) = opened();
    let store = storage.objects();
    create(store.as_ref(), "a", b"a").await.unwrap();
    create(store.as_ref(), "b", b"b").await.unwrap();
    store.copy(&Path::from("a"), &Path::from("deep/c")).await.unwrap();
    assert!(matches!(
        store.copy_if_not_exists(&Path::from("a"), &Path::from("b")).await,
        Err(Error::AlreadyExists { .. })
    ));
    assert!(matches!(
        store.rename_if_not_exists(&Path::from("a"), &Path::from("b")).await,
        Err(Error::AlreadyExists { .. })
    ));
    store.rename(&Path::from("a"), &Path::from("b")).await.unwrap();
    assert!(matches!(store.copy(&Path::from("a"), &Path::from("d")).await, Err(Error::NotFound { .. })));
    assert_eq!(names(store.as_ref()).await, ["b", "deep/c"]);
    assert_eq!(store.get(&Path::from("b")).await.unwrap().bytes().await.unwrap(), Bytes::from_static(b"a"));
    // A copy is a value of its own: replacing one leaves the other.
    store.put(&Path::from("b"), PutPayload::from_static(b"new")).await.unwrap();
    assert_eq!(store.get(&Path::from("deep/c")).await.unwrap().bytes().await.unwrap(), Bytes::from_static(b"a"));
}

#[tokio::test]
async fn a_directory_removed_behind_our_back_is_made_again() {
    let (dir, storage) = opened();
    let store = storage.objects().as_ref();
    create(store, "x/y/1", b"1").await.unwrap();
    std::fs::remove_dir_all(dir.path().join("a/b/x")).unwrap();
    create(store, "x/y/2", b"2").await.unwrap();
    assert_eq!(names(store).await, ["x/y/2"]);
}

#[tokio::test]
async fn a_failed_put_leaves_nothing_and_names_the_file() {
    let (dir, storage) = opened();
    // A file where a directory is needed.
    std::fs::write(dir.path().join("a/b/blocked"), b"").unwrap();
    let error = create(storage.objects().as_ref(), "blocked/1", b"x").await.unwrap_err();
    assert!(error.to_string().contains("blocked"), "{error}");
    assert_eq!(names(storage.objects().as_ref()).await, ["blocked"]);
}
