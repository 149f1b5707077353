//! The writer when nothing fails.

use std::sync::atomic::Ordering;

use deltalake_core::kernel::Action;
use highwater_pipeline::log::Log;

use super::*;
use crate::testing::{clock_record, json_record};
use crate::verify::FindingKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_all_partitions_arrive_once_and_the_log_may_forget_them() {
    let world = World::new(4);
    for partition in 0..4 {
        for _ in 0..3 {
            world.append(partition, 10);
        }
    }
    let writer = world.start();
    let status = writer.flush().await.unwrap();
    assert_eq!(status.state, TableState::Running);
    assert_eq!(status.version, Some(1), "one commit for all partitions");
    assert_eq!(status.positions, (0..4).map(|p| ("logs".to_string(), p, 3)).collect::<Vec<_>>());
    assert_eq!(world.assert_clean().await, 120);
    let identities = world.identities("logs").await;
    let expected: Vec<_> = (0..4).flat_map(|p| (0..3_i64).flat_map(move |o| (0..10).map(move |r| (p, o, r)))).collect();
    assert_eq!(identities, expected);
    for partition in 0..4 {
        assert_eq!(world.group(partition), Some(3));
    }
    world.append(2, 1);
    assert_eq!(writer.flush().await.unwrap().version, Some(2));
    assert_eq!(world.assert_clean().await, 121);
    assert_eq!(writer.flush().await.unwrap().version, Some(2), "nothing new, no commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_comes_by_itself_after_the_interval_and_by_size() {
    let mut world = World::new(1);
    world.config.commit_interval_ms = 50;
    let writer = world.start();
    world.append(0, 5);
    eventually("a commit by time", async || writer.status().version == Some(1)).await;
    world.shutdown.cancel();
    writer.join().await.unwrap();

    let mut world = World::new(1);
    world.config.commit_size_bytes = 10_000;
    let writer = world.start();
    for _ in 0..20 {
        world.append(0, 100);
    }
    eventually("commits by size", async || writer.status().version.is_some_and(|v| v >= 1)).await;
    writer.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_commits_what_was_read() {
    let world = World::new(1);
    let writer = world.start();
    world.append(0, 5);
    eventually("the row is read", async || writer.status().version == Some(0)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.shutdown.cancel();
    writer.join().await.unwrap();
    assert_eq!(world.assert_clean().await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_and_undecodable_records_are_covered_but_give_no_rows() {
    let world = World::new(1);
    world.log.push("logs", 0, clock_record());
    world.append(0, 2);
    world.log.push("logs", 0, json_record(&serde_json::json!({"no": "message"})));
    world.log.push("logs", 0, json_record(&serde_json::json!({"message": "hello", "service": "s"})));
    world.log.push("logs", 0, clock_record());
    let writer = world.start();
    writer.flush().await.unwrap();
    assert_eq!(world.group(0), Some(5));
    assert_eq!(world.assert_clean().await, 3);
    assert_eq!(world.identities("logs").await, [(0, 1, 0), (0, 1, 1), (0, 3, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_without_rows_waits_for_its_own_interval() {
    let mut world = World::new(1);
    world.config.commit_interval_ms = 10;
    let writer = world.start();
    for _ in 0..5 {
        world.log.push("logs", 0, clock_record());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(writer.status().version, Some(0), "clock records alone make no commit yet");
    world.append(0, 1);
    eventually("they go with the next row", async || writer.status().version == Some(1)).await;
    assert_eq!(world.group(0), Some(6));
    world.shutdown.cancel();
    writer.join().await.unwrap();

    let mut world = World::new(1);
    world.config.empty_commit_interval_ms = 50;
    let writer = world.start();
    world.log.push("logs", 0, clock_record());
    eventually("a commit without rows", async || world.group(0) == Some(1)).await;
    assert_eq!(world.parquet_files(), 0);
    assert_eq!(writer.status().version, Some(1));
    assert_eq!(world.assert_clean().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_forgot_too_early_leaves_a_gap_that_says_so() {
    let world = World::new(1);
    for _ in 0..3 {
        world.append(0, 1);
    }
    let writer = world.start();
    writer.flush().await.unwrap();
    writer.abort();
    for _ in 0..4 {
        world.append(0, 1);
    }
    world.log.trim("logs", 0, 5);
    let writer = world.start();
    writer.flush().await.unwrap();
    let report = world.verify().await;
    let findings: Vec<_> = report.findings().collect();
    assert_eq!(findings.len(), 1, "{report}");
    assert_eq!((findings[0].kind, findings[0].from, findings[0].to), (FindingKind::RecordedGap, 3, 5));
    assert_eq!(report.exit_code(), 1);
    let offsets: Vec<i64> = world.identities("logs").await.iter().map(|i| i.1).collect();
    assert_eq!(offsets, [0, 1, 2, 5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_ranges_of_the_log_are_recorded_as_gaps() {
    let world = World::new(1);
    for _ in 0..6 {
        world.append(0, 1);
    }
    world.log.damage("logs", 0, 2, 4);
    let writer = world.start();
    writer.flush().await.unwrap();
    let report = world.verify().await;
    let found: Vec<_> = report.findings().map(|f| (f.kind, f.from, f.to)).collect();
    assert_eq!(found, [(FindingKind::RecordedGap, 2, 4)], "{report}");
    assert_eq!(world.identities("logs").await.iter().map(|i| i.1).collect::<Vec<_>>(), [0, 1, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_new_to_a_trimmed_log_begins_where_the_log_does() {
    let world = World::new(1);
    for _ in 0..5 {
        world.append(0, 1);
    }
    world.log.trim("logs", 0, 3);
    let writer = world.start();
    writer.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_ahead_of_its_log_stops_with_a_reason() {
    let world = World::new(1);
    for _ in 0..5 {
        world.append(0, 1);
    }
    let writer = world.start();
    writer.flush().await.unwrap();
    writer.abort();
    // The log loses its end: the same topic id, fewer records.
    let id = world.log.topic("logs").await.unwrap().unwrap().id;
    let shorter = crate::testing::MemoryLog::with_topic("logs", 1);
    shorter.set_topic_id("logs", id);
    let world = World { log: shorter, ..world };
    let error = world.start().join().await.unwrap_err();
    assert!(matches!(error, crate::SinkError::AheadOfLog { stands_at: 5, high_watermark: 0, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_waits_for_its_topic() {
    let mut world = World::new(1);
    world.log = std::sync::Arc::new(crate::testing::MemoryLog::default());
    let writer = world.start();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(writer.flush().await.unwrap().state, TableState::Starting, "there is nothing to flush");
    world.log.add_topic("logs", 1);
    world.append(0, 1);
    eventually("it begins", async || writer.status().state == TableState::Running).await;
    writer.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 1);

    let mut world = World::new(1);
    world.log = std::sync::Arc::new(crate::testing::MemoryLog::default());
    let writer = world.start();
    world.shutdown.cancel();
    writer.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_past_the_memory_budget_stop_reading_until_they_have_written() {
    let mut world = World::new(2);
    world.budget = MemoryBudget::new(20_000);
    world.config.fetch_size_bytes = 1;
    for partition in 0..2 {
        for _ in 0..30 {
            world.append(partition, 50);
        }
    }
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    world.faults.inject(
        "_delta_log/00000000000000000001.json",
        1,
        crate::testing::Fault::Hold(std::sync::Arc::clone(&gate)),
    );
    let writer = world.start();
    eventually("the first commit is under way", async || world.faults.puts("00000000000000000001.json") == 1).await;
    // Whatever it reads beside the commit in flight stays within the limit and what was in flight when it was reached.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.budget.used() < 3 * 20_000, "{}", world.budget.used());
    gate.add_permits(1);
    writer.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, 3_000);
    assert_eq!(world.budget.used(), 0);
    assert!(writer.status().version.unwrap() > 3, "several commits, each small");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_written_and_the_table_opens_from_them() {
    let mut world = World::new(1);
    world.config.checkpoint_every = 5;
    let writer = world.start();
    for _ in 0..12 {
        world.append(0, 2);
        writer.flush().await.unwrap();
    }
    // Of version 5 or 10, or of one that came while it was being written.
    let checkpoint = world.dir.path().join("tables/logs/_delta_log/_last_checkpoint");
    eventually("a checkpoint", async || checkpoint.exists()).await;
    writer.abort();
    let writer = world.start();
    world.append(0, 2);
    assert_eq!(writer.flush().await.unwrap().version, Some(13));
    assert_eq!(world.assert_clean().await, 26);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_says_what_it_covers_in_delta_terms() {
    let world = World::new(2);
    world.append(0, 3);
    world.append(1, 4);
    world.append(1, 5);
    let writer = world.start();
    writer.flush().await.unwrap();
    let delta = world.delta("logs").await;
    let snapshot = delta.snapshot().unwrap();
    assert_eq!((snapshot.protocol().min_reader_version(), snapshot.protocol().min_writer_version()), (1, 2));
    assert_eq!(snapshot.metadata().partition_columns(), &["tenant", "date"]);
    let bytes = delta.log_store().read_commit_entry(1).await.unwrap().unwrap();
    let actions = deltalake_core::logstore::get_actions(1, &bytes).unwrap();
    let id = world.log.topic("logs").await.unwrap().unwrap().id;
    let mut txns: Vec<_> = actions
        .iter()
        .filter_map(|a| if let Action::Txn(t) = a { Some((t.app_id.clone(), t.version)) } else { None })
        .collect();
    txns.sort();
    assert_eq!(txns, [(format!("{id}/0"), 1), (format!("{id}/1"), 2)]);
    let info = actions.iter().find_map(|a| if let Action::CommitInfo(i) = a { Some(i) } else { None }).unwrap();
    let covers = highwater_pipeline::tables::covers_from_json("logs", 1, &info.info["highwater.cover"]).unwrap();
    assert_eq!(
        covers.iter().map(|c| (c.partition, c.from, c.to, c.rows)).collect::<Vec<_>>(),
        [(0, 0, 1, 3), (1, 0, 2, 9)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tables_run_flush_and_stop_together() {
    let world = World::new(1);
    world.log.add_topic("metrics", 1);
    let tables = Tables::new(
        Arc::clone(&world.log) as Arc<dyn Log>,
        world.storage.clone(),
        world.config.clone(),
        Arc::new(ManualClock::new(now_ms())),
        world.shutdown.clone(),
    );
    for spec in built_in_tables().into_iter().filter(|t| ["logs", "metrics"].contains(&t.name.as_str())) {
        tables.assign(&partitions(&spec.topics[0], 0..1));
        tables.start(spec.clone());
        tables.start(spec);
    }
    world.append(0, 3);
    world.log.push("metrics", 0, json_record(&serde_json::json!({"name": "up", "value": 1.0})));
    let statuses = tables.flush().await.unwrap();
    assert_eq!(statuses.iter().map(|s| s.table.as_str()).collect::<Vec<_>>(), ["logs", "metrics"]);
    assert_eq!(world.assert_clean().await, 4);
    world.shutdown.cancel();
    tables.join().await.unwrap();
    assert!(!world.log.refuse_offsets.load(Ordering::SeqCst));
}
