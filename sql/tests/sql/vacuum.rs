//! Vacuums that die after any number of deletions, beside readers of every version there was: an answer is right, or there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_broker::ManualClock;
use highwater_pipeline::storage::{self, Storage};
use highwater_pipeline::tables::{TableSpec, built_in_tables};
use highwater_sinks::tables::TablesConfig;
use highwater_sinks::tables::maintenance::{Eagerness, Maintainer, Upkeep};
use highwater_sql::SqlError;
use serde_json::json;

use crate::fault_store::FaultStore;
use crate::fixture::{Fixture, small};
use crate::log::MemoryLog;

/// Commits, and so files before they are merged.
const COMMITS: u64 = 8;
/// Rows of each.
const ROWS: u64 = 5;

fn logs() -> TableSpec {
    built_in_tables().into_iter().find(|table| table.name == "logs").unwrap()
}

async fn maintainer(storage: &Storage, clock: &Arc<ManualClock>) -> Maintainer {
    let (spec, config) = (Arc::new(logs()), Arc::new(TablesConfig::default()));
    let clock: Arc<ManualClock> = Arc::clone(clock);
    Maintainer::open(spec, storage, config, clock, Upkeep::new(0)).await.unwrap()
}

/// Asks for the rows of a version, or of now: the count, which has to be right, or that it was refused.
async fn ask(fixture: &Fixture, version: Option<u64>, expected: u64) -> Option<()> {
    let at = version.map_or_else(String::new, |version| format!(" AS OF VERSION {version}"));
    let sql = format!("SELECT count(*), count(DISTINCT message) FROM logs{at}");
    match (fixture.rows(&sql).await, version) {
        (Ok(rows), _) => {
            assert_eq!(rows, [format!("{expected},{expected}")], "{sql}");
            Some(())
        }
        (Err(SqlError::Invalid { message, .. }), Some(_)) => {
            assert!(message.contains("are deleted"), "{sql}: {message}");
            None
        }
        // A file went after the query had looked for it, while the query ran. It ends, and says so.
        (Err(SqlError::Storage { .. } | SqlError::File { .. } | SqlError::Execution { .. }), Some(_)) => None,
        (Err(error), _) => panic!("{sql}: {error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacuum_killed_anywhere_leaves_right_answers_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let plain = storage::open(directory.path().join("storage").to_str().unwrap()).unwrap();
    let store = Arc::new(FaultStore::new(Arc::clone(plain.origin())));
    let mortal: Arc<FaultStore> = Arc::clone(&store);
    let storage = Storage::new(mortal, plain.url().clone()).unwrap();
    let log = Arc::new(MemoryLog::default());
    let fixture = Arc::new(Fixture::on(storage.clone(), directory, log, small(), built_in_tables()).await);
    for commit in 0..COMMITS {
        let rows: Vec<_> = (0..ROWS)
            .map(|row| json!({"timestamp": "2026-01-02T03:00:00Z", "message": format!("{commit}/{row}")}))
            .collect();
        fixture.append_json("logs", 0, &json!(rows)).await;
        fixture.commit(&logs()).await;
    }
    let lines = highwater_sinks::tables::inspect::history(&fixture.storage, "logs", 100).await.unwrap();
    let mut versions: Vec<u64> = lines.iter().filter(|line| line.added_rows > 0).map(|line| line.version).collect();
    versions.sort_unstable();
    assert_eq!(versions.len() as u64, COMMITS);
    // The Delta log measures the age of what was taken out by the real time.
    let clock = Arc::new(ManualClock::new(chrono::Utc::now().timestamp_millis()));
    let merged = maintainer(&storage, &clock).await.compact(Eagerness::Everything).await.unwrap();
    assert_eq!((merged.merged_files, merged.files), (COMMITS, 1));
    assert_eq!(maintainer(&storage, &clock).await.vacuum().await.unwrap().removed, 0, "somebody may still read them");

    // One that asks all the while, whatever is going on.
    let working = Arc::new(AtomicBool::new(true));
    let asking = tokio::spawn({
        let (fixture, versions, working) = (Arc::clone(&fixture), versions.clone(), Arc::clone(&working));
        async move {
            let mut at = 0;
            while working.load(Ordering::SeqCst) {
                let place = at % versions.len();
                ask(&fixture, Some(versions[place]), (place as u64 + 1) * ROWS).await;
                ask(&fixture, None, COMMITS * ROWS).await.unwrap();
                at += 1;
            }
            at
        }
    });
    clock.advance_ms(i64::try_from(TablesConfig::default().vacuum_after_ms).unwrap() + 1);
    let mut deleted = 0;
    for deletions in [0, 1, 1, 2, 1, usize::MAX] {
        store.stop_after_deletions(deletions);
        let mut maintainer = maintainer(&storage, &clock).await;
        let mut vacuum = tokio::spawn(async move { maintainer.vacuum().await });
        if deletions == usize::MAX {
            deleted += vacuum.await.unwrap().unwrap().removed;
        } else {
            // Killed where it stands still.
            tokio::select! {
                () = store.stopped() => {}
                ended = &mut vacuum => panic!("after {deleted} deletions it had nothing to do: {ended:?}"),
            }
            vacuum.abort();
            deleted += deletions as u64;
        }
        let mut there = 0;
        for (place, version) in versions.iter().enumerate() {
            there += u64::from(ask(&fixture, Some(*version), (place as u64 + 1) * ROWS).await.is_some());
        }
        // A version goes with the first of its files: those that were not yet written then are all that the younger ones have more.
        assert!(there <= COMMITS - deleted, "{there} versions answer after {deleted} deletions");
        ask(&fixture, None, COMMITS * ROWS).await.unwrap();
    }
    assert_eq!(deleted, COMMITS);
    working.store(false, Ordering::SeqCst);
    assert!(asking.await.unwrap() > 0);
    for version in versions {
        assert_eq!(ask(&fixture, Some(version), 0).await, None, "version {version} is gone");
    }
}
