//! Partitions that come and go, and several writers on one table.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;

use super::*;
use crate::testing::Fault;

fn positions(positions: &[(i32, i64)]) -> Vec<(String, i32, i64)> {
    positions.iter().map(|(partition, at)| ("logs".to_string(), *partition, *at)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_without_partitions_touches_nothing() {
    let world = World::new(2);
    world.append(0, 1);
    let writer = world.start_idle(logs_table());
    let status = writer.flush().await.unwrap();
    assert_eq!((status.state, status.version), (TableState::Idle, None));
    assert!(!world.dir.path().join("tables").exists());
    writer.revoke(&partitions("logs", 0..2)).await;
    writer.lose(&partitions("logs", 0..2));
    assert_eq!(writer.flush().await.unwrap().state, TableState::Idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_assigned_partitions_are_written_and_shown() {
    let world = World::new(3);
    for partition in 0..3 {
        world.append(partition, 2);
    }
    let writer = world.start_idle(logs_table());
    writer.assign(&partitions("metrics", 0..3));
    writer.assign(&partitions("logs", [0, 2]));
    writer.assign(&partitions("logs", [2]));
    let status = writer.flush().await.unwrap();
    assert_eq!((status.version, status.positions), (Some(1), positions(&[(0, 1), (2, 1)])));
    assert_eq!(world.identities("logs").await, [(0, 0, 0), (0, 0, 1), (2, 0, 0), (2, 0, 1)]);
    writer.assign(&partitions("logs", [1]));
    assert_eq!(writer.flush().await.unwrap().positions, positions(&[(0, 1), (1, 1), (2, 1)]));
    assert_eq!(world.assert_clean().await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_partition_is_committed_before_it_is_let_go() {
    let world = World::new(2);
    let (from, to) = (world.start(), world.start_idle(logs_table()));
    world.append(0, 3);
    world.append(1, 4);
    eventually("both are read", async || world.budget.used() > 0).await;
    from.flush().await.unwrap();
    world.append(0, 5);
    eventually("it is read, and not due", async || world.budget.used() > 0).await;
    from.revoke(&partitions("logs", [0])).await;
    assert_eq!(world.group(0), Some(2), "what was read is in the table");
    let status = from.status();
    assert_eq!((status.version, status.positions), (Some(2), positions(&[(1, 1)])));

    world.append(0, 6);
    world.append(1, 7);
    to.assign(&partitions("logs", [0]));
    assert_eq!(from.flush().await.unwrap().positions, positions(&[(1, 2)]), "it reads the other one on");
    assert_eq!(to.flush().await.unwrap().positions, positions(&[(0, 3)]));
    assert_eq!(world.assert_clean().await, 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_partition_is_dropped_and_read_again_by_the_next_owner() {
    let world = World::new(2);
    let (from, to) = (world.start(), world.start_idle(logs_table()));
    world.append(0, 3);
    eventually("it is read", async || world.budget.used() > 0).await;
    from.lose(&partitions("logs", [0]));
    eventually("its rows are forgotten", async || world.budget.used() == 0).await;
    to.assign(&partitions("logs", [0]));
    assert_eq!(to.flush().await.unwrap().version, Some(1));
    world.append(1, 4);
    assert_eq!(from.flush().await.unwrap().positions, positions(&[(1, 1)]));
    assert_eq!(world.assert_clean().await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_comes_back_is_read_from_where_others_left_the_table() {
    let world = World::new(1);
    let (a, b) = (world.start(), world.start_idle(logs_table()));
    for round in 0..4 {
        let (now, next) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        world.append(0, 2);
        now.flush().await.unwrap();
        world.append(0, 2);
        now.revoke(&partitions("logs", [0])).await;
        next.assign(&partitions("logs", [0]));
    }
    a.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 16);
}

fn tables(world: &World) -> Tables {
    let tables = Tables::new(
        Arc::clone(&world.log) as Arc<dyn highwater_pipeline::log::Log>,
        world.storage.clone(),
        world.config.clone(),
        Arc::clone(&world.clock) as Arc<dyn highwater_pipeline::log::Clock>,
        world.shutdown.clone(),
    );
    tables.start(logs_table());
    tables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_started_late_has_the_partitions_too() {
    let world = World::new(2);
    world.log.add_topic("metrics", 1);
    world.append(1, 2);
    let tables = tables(&world);
    tables.assign(&partitions("logs", 0..2));
    tables.assign(&partitions("metrics", 0..1));
    tables.revoke(&partitions("logs", [0])).await;
    tables.start(built_in_tables().into_iter().find(|t| t.name == "metrics").unwrap());
    let statuses = tables.flush().await.unwrap();
    assert_eq!(statuses[0].positions, positions(&[(1, 1)]));
    eventually("both run", async || tables.statuses().iter().all(|s| s.state == TableState::Running)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_storage_holds_up_ends_and_loses_nothing() {
    let mut world = World::new(2);
    world.config.revoke_timeout_ms = 100;
    world.config.commit_interval_ms = 10;
    world.append(0, 3);
    world.append(1, 4);
    // The first commit stands still on its way; whatever it has of the revoked partition is no longer waited for.
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject("00000000000000000001.json", 1, Fault::Hold(Arc::clone(&gate)));
    let (from, to) = (tables(&world), tables(&world));
    from.assign(&partitions("logs", 0..2));
    eventually("it is about to commit", async || world.faults.puts("00000000000000000001.json") == 1).await;
    from.revoke(&partitions("logs", [0])).await;
    assert_eq!(world.group(0), None, "it was not committed in time");
    to.assign(&partitions("logs", [0]));
    to.flush().await.unwrap();
    assert_eq!(world.group(0), Some(1));
    gate.add_permits(1);
    assert_eq!(from.flush().await.unwrap()[0].positions, positions(&[(1, 1)]));
    assert_eq!(world.assert_clean().await, 7);
}

/// Three writers commit at once, round after round, each its own partitions, which move between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_writers_commit_side_by_side_fairly() {
    const ROUNDS: usize = 100;
    let world = World::new(4);
    let writers = [tables(&world), tables(&world), tables(&world)];
    for (i, writer) in writers.iter().enumerate() {
        writer.assign(&partitions("logs", (0..4).filter(|p| *p as usize % 3 == i)));
    }
    for round in 0..ROUNDS {
        for partition in 0..4 {
            world.append(partition, 1 + round % 3);
        }
        let flushed = futures::future::join_all(writers.iter().map(Tables::flush)).await;
        assert!(flushed.iter().all(Result::is_ok), "{flushed:?}");
        let moving = partitions("logs", [(round % 4) as i32]);
        for writer in &writers {
            writer.revoke(&moving).await;
        }
        writers[round % 3].assign(&moving);
    }
    // Who loses does so because another has won, and then knows of it: each commit costs each of the other two one attempt at most.
    let commits = world.delta("logs").await.version().unwrap() as usize;
    let attempts = world.faults.puts("_delta_log/0000000000000000");
    // Upkeep, by its own clock, may add a few.
    assert!(commits > 2 * ROUNDS && commits <= 3 * ROUNDS + 10, "{commits} commits");
    assert!(attempts <= 3 * (commits + 1), "{attempts} attempts at {commits} commits");
    assert_eq!(world.assert_clean().await, 4 * (0..ROUNDS).map(|r| 1 + r as u64 % 3).sum::<u64>());
}

/// Partitions change hands all the time, with and without notice, owners overlap, and the store fails one put in eight.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_owners_do_the_table_is_the_log() {
    for seed in 0..4 {
        let mut world = World::new(4);
        world.config.commit_interval_ms = 2;
        world.config.checkpoint_every = 10;
        world.config.revoke_timeout_ms = 30;
        let mut random = SmallRng::seed_from_u64(seed);
        let writers = [tables(&world), tables(&world), tables(&world)];
        world.faults.chaos(seed, 0.125);
        let mut rows = 0;
        for _ in 0..150 {
            for _ in 0..random.random_range(0..4) {
                let count = random.random_range(1..5);
                world.append(random.random_range(0..4), count);
                rows += count as u64;
            }
            let moving = partitions("logs", [random.random_range(0..4)]);
            let (from, to) = (&writers[random.random_range(0..3)], &writers[random.random_range(0..3)]);
            match random.random_range(0..8) {
                0 => from.lose(&moving),
                1 => {
                    from.revoke(&moving).await;
                    to.assign(&moving);
                }
                // Two owners at once: the group has moved on, and the old one does not know yet.
                2 => to.assign(&moving),
                _ => tokio::time::sleep(Duration::from_millis(random.random_range(0..3))).await,
            }
        }
        world.faults.heal();
        for writer in &writers[1..] {
            writer.lose(&partitions("logs", 0..4));
        }
        writers[0].assign(&partitions("logs", 0..4));
        writers[0].flush().await.unwrap();
        assert_eq!(world.assert_clean().await, rows, "seed {seed}");
    }
}
