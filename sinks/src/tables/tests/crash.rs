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
async fn two_writers_of_the_same_partitions_write_everything_once() {
    let world = World::new(2);
    let (a, b) = (world.start(), world.start());
    for _ in 0..5 {
        world.append(0, 10);
        world.append(1, 10);
        let (first, second) = tokio::join!(a.flush(), b.flush());
        assert_eq!((first.unwrap().state, second.unwrap().state), (TableState::Running, TableState::Running));
    }
    assert_eq!(world.assert_clean().await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_wakes_up_changes_nothing_and_goes_on_from_where_the_table_stands() {
    let mut world = World::new(2);
    world.config.commit_interval_ms = 10;
    world.append(0, 10);
    world.append(1, 10);
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject("00000000000000000001.json", 1, Fault::Hold(Arc::clone(&gate)));
    let zombie = world.start();
    eventually("it is about to commit", async || world.faults.puts("00000000000000000001.json") == 1).await;

    let heir = world.start_idle(logs_table());
    heir.assign(&partitions("logs", 0..1));
    heir.flush().await.unwrap();
    world.append(0, 10);
    assert_eq!(heir.flush().await.unwrap().version, Some(2));
    heir.abort();

    gate.add_permits(1);
    let status = zombie.flush().await.unwrap();
    assert_eq!(status.positions, [("logs".to_string(), 0, 2), ("logs".to_string(), 1, 1)]);
    assert_eq!(status.version, Some(3), "of its partitions only the one that nobody took was left to write");
    world.append(0, 10);
    zombie.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_found_after_the_next_owner_went_on_from_it_counts() {
    let mut world = World::new(2);
    world.config.commit_interval_ms = 10;
    world.append(0, 10);
    world.append(1, 10);
    // The put gets through; its reply comes late, and says that it failed.
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject("00000000000000000001.json", 1, Fault::LateLostReply(Arc::clone(&gate)));
    let slow = world.start();
    let first = world.dir.path().join("tables/logs/_delta_log/00000000000000000001.json");
    eventually("it is there", async || first.exists()).await;
    let heir = world.start_idle(logs_table());
    heir.assign(&partitions("logs", 0..1));
    world.append(0, 10);
    assert_eq!(heir.flush().await.unwrap().version, Some(2));
    slow.lose(&partitions("logs", 0..1));
    gate.add_permits(1);
    let status = slow.flush().await.unwrap();
    assert_eq!((status.version, status.positions), (Some(1), vec![("logs".to_string(), 1, 1)]));
    assert_eq!(world.assert_clean().await, 30);
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
    let mut other = delta::DeltaLog::open(&logs_table(), &world.storage, now_ms()).await.unwrap();
    assert!(other.try_fence(now_ms()).await.unwrap());
    gate.add_permits(1);
    assert_eq!(writer.flush().await.unwrap().version, Some(2));
    assert_eq!(world.faults.puts(".parquet"), 1, "its file was young and is still there");
    assert!(!other.try_fence(now_ms()).await.unwrap(), "its version was taken");
    assert!(other.try_fence(now_ms()).await.unwrap(), "it has read which one is free");
    assert_eq!(world.assert_clean().await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_nobody_committed_are_swept_once_they_are_old() {
    let world = World::new(1);
    world.append(0, 10);
    let young = world.start();
    young.flush().await.unwrap();
    let day = parquet_files(&world).remove(0);
    let orphan = day.with_file_name(format!("{}.parquet", uuid::Uuid::new_v4()));
    let foreign = day.with_file_name("part-00000.parquet");
    std::fs::copy(&day, &orphan).unwrap();
    std::fs::copy(&day, &foreign).unwrap();
    world.start().flush().await.unwrap();
    world.append(0, 10);
    young.flush().await.unwrap();
    assert!(orphan.exists(), "too young");

    world.clock.advance_ms(3 * 3_600_000);
    let writer = world.start();
    eventually("it is swept", async || !orphan.exists()).await;
    assert!(foreign.exists(), "not a name of ours");
    world.append(0, 10);
    writer.flush().await.unwrap();
    // The sweep took a version, and the partition went on without the first writer: it steps over both.
    young.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_takes_nothing_that_a_slow_writer_is_about_to_commit() {
    let mut world = World::new(2);
    world.config.commit_interval_ms = 10;
    world.append(1, 10);
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject("00000000000000000001.json", 1, Fault::Hold(Arc::clone(&gate)));
    let slow = world.start_idle(logs_table());
    slow.assign(&partitions("logs", 1..2));
    eventually("it is about to commit", async || world.faults.puts("00000000000000000001.json") == 1).await;
    let files = parquet_files(&world);
    assert_eq!(files.len(), 1);

    world.clock.advance_ms(3 * 3_600_000);
    let sweeper = world.start_idle(logs_table());
    sweeper.assign(&partitions("logs", 0..1));
    eventually("what is old and in no commit is swept", async || !files[0].exists()).await;

    gate.add_permits(1);
    assert_eq!(slow.flush().await.unwrap().version, Some(2), "after the sweep's commit");
    assert_ne!(parquet_files(&world), files, "under a new name");
    world.append(0, 10);
    sweeper.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 20);
}

fn parquet_files(world: &World) -> Vec<std::path::PathBuf> {
    let all = walk(&world.dir.path().join("tables/logs")).into_iter();
    all.filter(|p| p.extension().is_some_and(|e| e == "parquet")).collect()
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
