//! One snapshot over files and tail: whatever commits, ingests and trims meanwhile, no row is missing and none is there twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use futures::FutureExt;
use highwater_broker::{Broker, BrokerConfig, ManualClock, SimFs};
use highwater_pipeline::log::{EmbeddedLog, Log, TopicConfig};
use highwater_pipeline::tables::{TableSpec, built_in_tables};
use serde_json::json;

use crate::fixture::{APPENDED_MS, Fixture, other_tenant, small};
use crate::log::Hook;

fn logs_table() -> TableSpec {
    built_in_tables().into_iter().find(|t| t.name == "logs").unwrap()
}

async fn append<L: Log>(fixture: &Fixture<L>, partition: i32, n: i64) {
    let record = json!({ "timestamp": 1_767_322_800_000_i64 + n, "message": n.to_string(), "service": "s" });
    fixture.append_json("logs", partition, &record).await;
}

/// Runs once at the next look at offsets.
fn once(fixture: &Fixture, hook: Hook) {
    let done = Arc::new(AtomicBool::new(false));
    *fixture.log.before_offsets.lock() =
        Some(Arc::new(move || if done.swap(true, Ordering::SeqCst) { async {}.boxed() } else { hook() }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_row_is_seen_by_the_next_query_without_any_table() {
    let fixture = Fixture::new().await;
    for n in 0..20 {
        append(&fixture, i32::try_from(n % 4).unwrap(), n).await;
        assert_eq!(fixture.one("SELECT count(*) FROM logs").await, (n + 1).to_string());
    }
    let result = fixture.engine.query("default", "SELECT * FROM logs").await.unwrap();
    assert_eq!(result.info().tables[0].delta_version, None);
    assert!(result.info().tables[0].partitions.iter().all(|p| p.stored_to == 0 && p.to == 5 && p.lost.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_the_same_before_and_after_their_commit() {
    let fixture = Fixture::new().await;
    let sql = "SELECT _partition, _offset, _row, message, date, tenant FROM logs ORDER BY message::int";
    for n in 0..8 {
        append(&fixture, i32::try_from(n % 4).unwrap(), n).await;
    }
    let live = fixture.rows(sql).await.unwrap();
    assert_eq!(live.len(), 8);
    fixture.commit(&logs_table()).await;
    assert_eq!(fixture.rows(sql).await.unwrap(), live);
    let result = fixture.engine.query("default", sql).await.unwrap();
    assert!(result.info().tables[0].partitions.iter().all(|p| p.stored_to == 2 && p.to == 2));
    assert!(result.info().tables[0].delta_version.is_some());
}

/// The look at the Delta version is over when the log is asked; here a commit, and rows after it, come exactly in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_between_the_two_looks_hides_and_repeats_nothing() {
    let fixture = Arc::new(Fixture::new().await);
    for n in 0..8 {
        append(&fixture, i32::try_from(n % 4).unwrap(), n).await;
    }
    fixture.commit(&logs_table()).await;
    for n in 8..16 {
        append(&fixture, i32::try_from(n % 4).unwrap(), n).await;
    }
    let inside = Arc::clone(&fixture);
    once(
        &fixture,
        Arc::new(move || {
            let fixture = Arc::clone(&inside);
            async move {
                append(&fixture, 0, 16).await;
                fixture.commit(&logs_table()).await;
                append(&fixture, 0, 17).await;
            }
            .boxed()
        }),
    );
    let seen = fixture.rows("SELECT message::int FROM logs ORDER BY 1").await.unwrap();
    let expected: Vec<String> = (0..18).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
}

/// Between the two looks the table commits, and retention drops what it has committed: the version looked at is too old to be continued from
/// the log, so it is looked at again.
#[tokio::test(flavor = "multi_thread")]
async fn retention_between_the_two_looks_makes_it_look_again() {
    let fixture = Arc::new(Fixture::new().await);
    for n in 0..4 {
        append(&fixture, 0, n).await;
    }
    fixture.commit(&logs_table()).await;
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "4");
    for n in 4..8 {
        append(&fixture, 0, n).await;
    }
    let inside = Arc::clone(&fixture);
    once(
        &fixture,
        Arc::new(move || {
            let fixture = Arc::clone(&inside);
            async move {
                fixture.commit(&logs_table()).await;
                fixture.log.trim("logs", 0, 7);
            }
            .boxed()
        }),
    );
    let result = fixture.engine.query("default", "SELECT count(*) FROM logs").await.unwrap();
    let partition = &result.info().tables[0].partitions[0];
    assert_eq!((partition.stored_to, partition.to, partition.lost.clone()), (8, 8, None));
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_dropped_is_in_the_table() {
    let fixture = Fixture::new().await;
    for n in 0..6 {
        append(&fixture, 0, n).await;
    }
    fixture.commit(&logs_table()).await;
    append(&fixture, 0, 6).await;
    fixture.log.trim("logs", 0, 5);
    assert_eq!(fixture.one("SELECT count(*), min(message::int), max(message::int) FROM logs").await, "7,0,6");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_was_forced_to_drop_is_named() {
    let fixture = Fixture::new().await;
    for n in 0..6 {
        append(&fixture, 0, n).await;
    }
    fixture.commit(&logs_table()).await;
    for n in 6..10 {
        append(&fixture, 0, n).await;
    }
    fixture.log.trim("logs", 0, 9);
    let result = fixture.engine.query("default", "SELECT * FROM logs").await.unwrap();
    assert_eq!(result.info().tables[0].partitions[0].lost, Some(6..9));
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_starts_at_its_own_beginning() {
    let fixture = Fixture::new().await;
    for n in 0..3 {
        append(&fixture, 0, n).await;
    }
    fixture.commit(&logs_table()).await;
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "3");
    fixture.log.delete_topic("logs").await.unwrap();
    fixture.log.ensure_topic("logs", TopicConfig { partitions: 4, ..TopicConfig::default() }).await.unwrap();
    append(&fixture, 0, 3).await;
    // The old rows are in the table, the new row is at offset 0 of another topic.
    assert_eq!(fixture.one("SELECT count(*), count(DISTINCT message) FROM logs").await, "4,4");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_other_wherever_the_rows_lie() {
    let fixture = Fixture::new().await;
    for committed in [false, true] {
        append(&fixture, 0, 1).await;
        fixture.append_rows("logs", 0, &other_tenant()).await;
        if committed {
            fixture.commit(&logs_table()).await;
        }
        let rounds = i64::from(committed) + 1;
        for sql in [
            "SELECT count(*) FROM logs",
            "SELECT count(*) FROM logs WHERE tenant = 'default' OR tenant <> 'default' OR tenant IS NULL",
            "SELECT count(*) FROM (SELECT * FROM logs UNION SELECT * FROM logs)",
            "SELECT count(*) FROM logs WHERE true OR message = ''",
        ] {
            assert_eq!(fixture.rows_of("default", sql).await.unwrap(), [rounds.to_string()], "{sql}");
            assert_eq!(fixture.rows_of("other", sql).await.unwrap(), [(2 * rounds).to_string()], "{sql}");
            assert_eq!(fixture.rows_of("nobody", sql).await.unwrap(), ["0"], "{sql}");
        }
        assert_eq!(fixture.one("SELECT count(*) FROM logs WHERE tenant = 'other'").await, "0");
        assert_eq!(fixture.one("SELECT count(*) FROM logs WHERE message LIKE '%secret%'").await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decoded_rows_are_kept_until_the_table_passes_them() {
    let fixture = Fixture::new().await;
    for n in 0..4 {
        append(&fixture, 0, n).await;
    }
    let reads = || fixture.log.reads.load(Ordering::Relaxed);
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "4");
    let before = reads();
    for _ in 0..5 {
        assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "4");
    }
    assert_eq!(reads(), before, "the same tail is not read again");
    append(&fixture, 0, 4).await;
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "5");
    assert_eq!(reads(), before + 1, "only what is new is read");
    fixture.commit(&logs_table()).await;
    let before = reads();
    append(&fixture, 0, 5).await;
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "6");
    assert_eq!(reads(), before + 1);
}

/// Each commit is a file, and its statistics say which times are in it.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_hold_a_row_asked_for_are_not_in_the_plan() {
    let fixture = Fixture::new().await;
    for n in 0..5 {
        append(&fixture, 0, n * 1_000_000).await;
        fixture.commit(&logs_table()).await;
    }
    let files = |plan: Vec<String>| plan.join("\n").matches(".parquet").count();
    for (condition, expected) in [
        ("true", 5),
        // Statistics are cut to milliseconds: the bound itself stays in.
        ("timestamp >= '2026-01-02T03:33:20Z'", 3),
        ("timestamp > '2026-01-02T03:33:20.001Z'", 2),
        ("timestamp < '2026-01-02T03:00:00Z'", 0),
        ("message = '3000000'", 1),
        ("message = '3000000' AND timestamp < '2026-01-02T03:30:00Z'", 0),
        ("_offset >= 3", 2),
        ("date = DATE '2026-01-02'", 5),
        ("date > DATE '2026-01-02'", 0),
        ("service IS NULL", 0),
    ] {
        let plan = fixture.rows(&format!("EXPLAIN FORMAT INDENT SELECT message FROM logs WHERE {condition}")).await;
        assert_eq!(files(plan.unwrap()), expected, "{condition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_larger_than_its_cache_is_read_all_the_same() {
    let config = highwater_sql::SqlConfig { tail_cache_bytes: 1000, ..small() };
    let fixture = Fixture::with(config, built_in_tables()).await;
    for n in 0..300 {
        append(&fixture, 0, n).await;
    }
    for _ in 0..2 {
        assert_eq!(fixture.one("SELECT count(*), sum(message::int) FROM logs").await, "300,44850");
    }
}

/// Over the real broker, with the real sink's parts committing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_concurrent_ingest_and_commits_every_query_is_one_snapshot() {
    let (fs, clock) = (Arc::new(SimFs::new()), Arc::new(ManualClock::new(APPENDED_MS)));
    let broker = Broker::open(BrokerConfig::new("/data"), fs, clock).unwrap();
    let log = Arc::new(EmbeddedLog::new(Arc::new(broker)));
    one_snapshot(Arc::new(Fixture::over(log, small(), built_in_tables()).await)).await;
}

/// Writers, a committer and readers at once. What a reader counts is never less than was acknowledged before it asked, never more than was begun when it
/// had its answer, never less than what it saw before, and no row is there twice.
async fn one_snapshot<L: Log>(fixture: Arc<Fixture<L>>) {
    const ROWS: i64 = 600;
    let begun = Arc::new(AtomicI64::new(0));
    let acknowledged = Arc::new(AtomicI64::new(0));
    let writing = Arc::new(AtomicBool::new(true));
    let writer = tokio::spawn({
        let (fixture, begun, acknowledged) = (Arc::clone(&fixture), Arc::clone(&begun), Arc::clone(&acknowledged));
        async move {
            for n in 0..ROWS {
                begun.store(n + 1, Ordering::SeqCst);
                append(&fixture, i32::try_from(n % 4).unwrap(), n).await;
                acknowledged.store(n + 1, Ordering::SeqCst);
                tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            }
        }
    });
    let committer = tokio::spawn({
        let (fixture, writing) = (Arc::clone(&fixture), Arc::clone(&writing));
        async move {
            let mut commits = 0;
            while writing.load(Ordering::SeqCst) {
                fixture.commit(&logs_table()).await;
                commits += 1;
            }
            commits
        }
    });
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (fixture, begun, acknowledged, writing) =
                (Arc::clone(&fixture), Arc::clone(&begun), Arc::clone(&acknowledged), Arc::clone(&writing));
            tokio::spawn(async move {
                let (mut last, mut queries) = (0, 0);
                while writing.load(Ordering::SeqCst) {
                    let at_least = acknowledged.load(Ordering::SeqCst);
                    let rows = fixture.rows("SELECT message::int FROM logs").await.unwrap();
                    let at_most = begun.load(Ordering::SeqCst);
                    let count = i64::try_from(rows.len()).unwrap();
                    let distinct: HashSet<i64> = rows.iter().map(|r| r.parse().unwrap()).collect();
                    assert_eq!(distinct.len(), rows.len(), "a row is there twice");
                    assert!((at_least..=at_most).contains(&count), "{count} rows, not {at_least}..={at_most}");
                    assert!(count >= last, "{count} rows after {last}");
                    assert!((0..at_least).all(|n| distinct.contains(&n)), "an acknowledged row is missing");
                    (last, queries) = (count, queries + 1);
                }
                queries
            })
        })
        .collect();
    writer.await.unwrap();
    writing.store(false, Ordering::SeqCst);
    let commits = committer.await.unwrap();
    assert!(commits >= 3, "only {commits} commits: nothing was tested");
    for reader in readers {
        let queries = reader.await.unwrap();
        assert!(queries >= 3, "only {queries} queries: nothing was tested");
    }
    assert_eq!(fixture.one("SELECT count(*), count(DISTINCT message) FROM logs").await, "600,600");
}
