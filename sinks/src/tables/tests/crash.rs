//! The writer when something fails, at every step of a commit. The oracle is always the same: the table is the log.

use std::sync::atomic::Ordering;

use tokio::sync::Semaphore;

use super::*;
use crate::SinkError;
use crate::testing::Fault;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_files_and_commit() {
    let mut world = World::new(2);
    world.config.commit_interval_ms = 10;
    world.append(0, 10);
    world.append(1, 10);
    let never = Arc::new(Semaphore::new(0));
    world.faults.inject("00000000000000000001.json", 1, Fault::Hold(never));
    let writer = world.start();
    eventually("the commit is tried", async || world.faults.puts("00000000000000000001.json") == 1).await;
    assert_eq!(world.parquet_files(), 1);
    writer.abort();
    world.faults.heal();

    let writer = world.start();
    writer.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 20);
    assert_eq!(world.parquet_files(), 2, "the file nobody committed is young and stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_commit_and_group_offset() {
    let world = World::new(1);
    world.append(0, 10);
    world.log.refuse_offsets.store(true, Ordering::SeqCst);
    let writer = world.start();
    writer.flush().await.unwrap();
    assert_eq!(world.group(0), None);
    writer.abort();
    world.log.refuse_offsets.store(false, Ordering::SeqCst);

    let writer = world.start();
    eventually("the offset is told at the next start", async || world.group(0) == Some(1)).await;
    assert_eq!(writer.flush().await.unwrap().version, Some(1), "nothing is written twice");
    assert_eq!(world.assert_clean().await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_reply_is_lost_is_found() {
    let world = World::new(1);
    world.append(0, 10);
    world.faults.inject("00000000000000000001.json", 1, Fault::LostReply);
    let writer = world.start();
    assert_eq!(writer.flush().await.unwrap().version, Some(1));
    assert_eq!(world.group(0), None, "nobody has said yet that the commit is durable");
    world.append(0, 10);
    assert_eq!(writer.flush().await.unwrap().version, Some(2));
    assert_eq!(world.group(0), Some(2));
    assert_eq!(world.assert_clean().await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_to_a_file_writes_it_again_under_the_same_name() {
    let world = World::new(1);
    world.append(0, 10);
    world.faults.inject(".parquet", 1, Fault::LostReply);
    let writer = world.start();
    writer.flush().await.unwrap();
    assert_eq!(world.faults.puts(".parquet"), 2);
    assert_eq!(world.parquet_files(), 1);
    assert_eq!(world.assert_clean().await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out() {
    let world = World::new(1);
    world.append(0, 10);
    world.faults.inject("tables/logs", usize::MAX, Fault::DiskFull);
    let writer = world.start();
    eventually(
        "it says what is wrong",
        async || matches!(writer.status().state, TableState::Retrying(reason) if reason.contains("no storage space")),
    )
    .await;
    world.faults.heal();
    writer.flush().await.unwrap();
    for part in [".parquet", "00000000000000000002.json"] {
        world.append(0, 10);
        world.faults.inject(part, 5, Fault::DiskFull);
        writer.flush().await.unwrap();
    }
    assert_eq!(writer.status().state, TableState::Running);
    assert_eq!(world.assert_clean().await, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_on_a_full_disk_ends_and_loses_nothing() {
    let world = World::new(1);
    world.append(0, 10);
    let writer = world.start();
    writer.flush().await.unwrap();
    world.append(0, 10);
    eventually("it is read", async || world.budget.used() > 0).await;
    world.faults.inject("tables/logs", usize::MAX, Fault::DiskFull);
    world.shutdown.cancel();
    let error = writer.join().await.unwrap_err();
    assert!(matches!(error, SinkError::Object { .. }), "{error}");
    world.faults.heal();

    let world = World { shutdown: CancellationToken::new(), ..world };
    world.start().flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_writers_one_wins_and_the_other_stops() {
    let world = World::new(2);
    let (a, b) = (world.start(), world.start());
    eventually("both have opened the table", async || {
        a.status().state == TableState::Running && b.status().state == TableState::Running
    })
    .await;
    world.append(0, 10);
    world.append(1, 10);
    let (first, second) = tokio::join!(a.flush(), b.flush());
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let loser = if first.is_ok() { b } else { a };
    let error = loser.join().await.unwrap_err();
    assert!(matches!(&error, SinkError::AnotherOwner { table, .. } if table == "logs"), "{error}");
    assert_eq!(world.assert_clean().await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_wakes_up_stops_and_changes_nothing() {
    let mut world = World::new(1);
    world.config.commit_interval_ms = 10;
    world.append(0, 10);
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject("00000000000000000001.json", 1, Fault::Hold(Arc::clone(&gate)));
    let zombie = world.start();
    eventually("it is about to commit", async || world.faults.puts("00000000000000000001.json") == 1).await;

    let heir = world.start();
    heir.flush().await.unwrap();
    world.append(0, 10);
    heir.flush().await.unwrap();

    gate.add_permits(1);
    let error = zombie.join().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SinkError::AnotherOwner { .. }), "{text}");
    assert!(text.contains("logs/0 was at nothing") && text.contains("has it at 2"), "{text}");
    assert_eq!(world.assert_clean().await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unrelated_commit_in_between_is_stepped_over() {
    let mut world = World::new(1);
    world.config.commit_interval_ms = 10;
    world.append(0, 10);
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject("00000000000000000001.json", 1, Fault::Hold(Arc::clone(&gate)));
    let writer = world.start();
    eventually("it is about to commit", async || world.faults.puts("00000000000000000001.json") == 1).await;
    // Somebody's maintenance takes the version, and sweeps the file that no commit names yet.
    let mut other = delta::DeltaLog::open(&logs_table(), &world.storage, now_ms()).await.unwrap();
    other.fence(now_ms()).await.unwrap();
    for entry in walk(&world.dir.path().join("tables/logs")) {
        if entry.extension().is_some_and(|e| e == "parquet") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    gate.add_permits(1);
    assert_eq!(writer.flush().await.unwrap().version, Some(2));
    assert_eq!(world.assert_clean().await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_nobody_committed_are_swept_once_they_are_old() {
    let mut world = World::new(1);
    world.append(0, 10);
    world.start().flush().await.unwrap();
    let day = walk(&world.dir.path().join("tables/logs"))
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "parquet"))
        .unwrap();
    let orphan = day.with_file_name(format!("{}.parquet", uuid::Uuid::new_v4()));
    let foreign = day.with_file_name("part-00000.parquet");
    std::fs::copy(&day, &orphan).unwrap();
    std::fs::copy(&day, &foreign).unwrap();
    let young = world.start();
    young.flush().await.unwrap();
    assert!(orphan.exists(), "too young");

    world.config.sweep_age_ms = 0;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let writer = world.start();
    eventually("it is swept", async || !orphan.exists()).await;
    assert!(foreign.exists(), "not a name of ours");
    world.append(0, 10);
    writer.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 20);
    // The sweep took a version, so the writer before it has to look again, and finds another owner.
    young.flush().await.unwrap_err();
    let error = young.join().await.unwrap_err();
    assert!(matches!(error, SinkError::AnotherOwner { .. }), "{error}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
