//! What a query reads: not how long it takes, but how many files and row groups it opens.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use highwater_broker::ManualClock;
use highwater_pipeline::data::{logs, time};
use highwater_pipeline::tables::{TableSpec, built_in_tables};
use highwater_sinks::tables::TablesConfig;
use highwater_sinks::tables::maintenance::{Eagerness, Maintainer, Upkeep};

use crate::fixture::Fixture;

const DAY_US: i64 = 86_400_000_000;
/// 2025-09-01T00:00:00Z.
const BEGIN_US: i64 = 1_756_684_800_000_000;
const DAYS: i64 = 60;
/// Commits, and so files of each day.
const COMMITS: i64 = 4;
/// Rows of each file.
const ROWS: i64 = 25;

fn logs_table() -> TableSpec {
    built_in_tables().into_iter().find(|t| t.name == "logs").unwrap()
}

/// Which row of which day: unlike its neighbours', as ids are.
fn id(kind: &str, row: i64) -> String {
    let hash = (row as u64).wrapping_add(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{kind}{hash:016x}")
}

/// Rows of all days.
fn rows(commit: i64) -> RecordBatch {
    let numbers: Vec<i64> = (0..DAYS * ROWS).map(|i| commit * DAYS * ROWS + i).collect();
    let text = |make: &dyn Fn(i64) -> Option<String>| -> ArrayRef {
        Arc::new(numbers.iter().map(|n| make(*n)).collect::<StringArray>())
    };
    let schema = logs::wire_schema();
    let columns = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            "timestamp" => {
                let at = |n: &i64| {
                    let in_commit = n % (DAYS * ROWS);
                    let (day, row) = (in_commit / ROWS, in_commit % ROWS);
                    BEGIN_US + day * DAY_US + (commit * ROWS + row) * 60_000_000
                };
                Arc::new(time::array(numbers.iter().map(at).collect()))
            }
            "tenant" => text(&|_| Some("default".to_owned())),
            "service" => text(&|n| (n % 4 > 0).then(|| format!("service-{}", n % 4))),
            "message" => text(&|n| Some(format!("row {n}"))),
            "trace_id" => text(&|n| Some(id("t", n / 3))),
            "correlation_id" => text(&|n| (n % 2 == 0).then(|| id("c", n))),
            _ => new_null_array(field.data_type(), numbers.len()),
        })
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

async fn months() -> Fixture {
    let fixture = Fixture::new().await;
    for commit in 0..COMMITS {
        fixture.append_rows("logs", i32::try_from(commit).unwrap(), &rows(commit)).await;
        fixture.commit(&logs_table()).await;
    }
    fixture
}

async fn compact(fixture: &Fixture) {
    let clock = Arc::new(ManualClock::new(crate::fixture::APPENDED_MS));
    let config = Arc::new(TablesConfig::default());
    let spec = Arc::new(logs_table());
    let mut maintainer = Maintainer::open(spec, &fixture.storage, config, clock, Upkeep::new(0)).await.unwrap();
    let compacted = maintainer.compact(Eagerness::Everything).await.unwrap();
    assert_eq!((compacted.merged_files, compacted.files), ((COMMITS * DAYS) as u64, DAYS as u64));
}

/// The metric `name` of a query's scan: `N total → M matched`, as (N, M); as many times as there are scans, added up.
async fn scanned(fixture: &Fixture, sql: &str, name: &str) -> (u64, u64) {
    let plan = fixture.rows(&format!("EXPLAIN ANALYZE {sql}")).await.unwrap().join("\n");
    let (mut total, mut matched, mut seen) = (0, 0, false);
    for part in plan.split(&format!("{name}=")).skip(1) {
        let numbers: Vec<u64> =
            part.split([',', ']']).next().unwrap().split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (total, matched, seen) = (total + numbers[0], matched + numbers.get(1).unwrap_or(&numbers[0]), true);
    }
    assert!(seen, "no {name} in\n{plan}");
    (total, matched)
}

const FILES: &str = "files_ranges_pruned_statistics";
const GROUPS_BY_BLOOM: &str = "row_groups_pruned_bloom_filter";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_followed_over_months_through_a_row_group() {
    let fixture = months().await;
    for compacted in [false, true] {
        if compacted {
            compact(&fixture).await;
        }
        let sql = format!("SELECT message FROM logs WHERE correlation_id = '{}'", id("c", 4_000));
        assert_eq!(fixture.rows(&sql).await.unwrap(), ["row 4000"]);
        let (_, groups) = scanned(&fixture, &sql, GROUPS_BY_BLOOM).await;
        assert!(groups <= 3, "{groups} row groups are read for one row; compacted: {compacted}");
        let sql = format!("SELECT message FROM logs WHERE trace_id = '{}' ORDER BY timestamp", id("t", 1_000));
        assert_eq!(fixture.rows(&sql).await.unwrap(), ["row 3000", "row 3001", "row 3002"]);
        let (_, groups) = scanned(&fixture, &sql, GROUPS_BY_BLOOM).await;
        assert!(groups <= 4, "{groups} row groups are read for one trace; compacted: {compacted}");
        let nowhere = "SELECT message FROM logs WHERE user_id = 'nobody'";
        assert_eq!(fixture.rows(nowhere).await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latest_rows_are_in_few_files() {
    let fixture = months().await;
    compact(&fixture).await;
    // A live row too: the files are one half of a union then.
    for live in [false, true] {
        if live {
            fixture
                .append_json("logs", 0, &serde_json::json!({"timestamp": "2025-11-20T00:00:00Z", "message": "live"}))
                .await;
        }
        let sql = "SELECT message FROM logs ORDER BY timestamp DESC LIMIT 5";
        let latest = fixture.rows(sql).await.unwrap();
        let last = COMMITS * DAYS * ROWS - 1;
        let stored: Vec<String> = (0..5).map(|i| format!("row {}", last - i)).collect();
        if live {
            assert_eq!(latest[0], "live");
            assert_eq!(latest[1..], stored[..4]);
        } else {
            assert_eq!(latest, stored);
        }
        let (files, read) = scanned(&fixture, sql, FILES).await;
        assert!(read <= 8, "{read} of {files} files are read for the five latest rows; live: {live}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_time_reads_its_days() {
    let fixture = months().await;
    let day = "timestamp >= '2025-09-10T00:00:00Z' AND timestamp < '2025-09-11T00:00:00Z'";
    let sql = format!("SELECT count(*) FROM logs WHERE {day}");
    assert_eq!(fixture.one(&sql).await, (COMMITS * ROWS).to_string());
    let sql = format!("SELECT message FROM logs WHERE {day}");
    let plan = fixture.rows(&format!("EXPLAIN {sql}")).await.unwrap().join("\n");
    let files = plan.matches(".parquet").count() as i64;
    // The plan is shown once or twice; a file of another day in it would show.
    assert!(files >= COMMITS && plan.contains("date=2025-09-10") && !plan.contains("date=2025-09-11"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declared_order_gives_the_order_of_a_sort() {
    let fixture = months().await;
    let sql =
        "SELECT coalesce(service, '-') || ' ' || message FROM logs ORDER BY service NULLS FIRST, timestamp, message";
    let before = fixture.rows(sql).await.unwrap();
    assert_eq!(before.len() as i64, COMMITS * DAYS * ROWS);
    compact(&fixture).await;
    assert_eq!(fixture.rows(sql).await.unwrap(), before);
    let first =
        "SELECT service, timestamp FROM logs WHERE timestamp < '2025-09-02' ORDER BY service NULLS FIRST, timestamp";
    let ordered = fixture.rows(first).await.unwrap();
    assert_eq!(ordered.len() as i64, COMMITS * ROWS);
    assert!(ordered.is_sorted(), "one file, and its own order: {ordered:?}");
    let grouped =
        fixture.rows("SELECT service, count(*) FROM logs GROUP BY service ORDER BY service NULLS FIRST").await.unwrap();
    assert_eq!(grouped, [",1500", "service-1,1500", "service-2,1500", "service-3,1500"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_whose_version_was_cleaned_away_reads_the_table_anew() {
    let fixture = Fixture::new().await;
    let spec = logs_table();
    let row = || serde_json::json!({"timestamp": "2025-11-20T00:00:00Z", "message": "m"});
    fixture.append_json("logs", 0, &row()).await;
    fixture.commit(&spec).await;
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "1");
    for _ in 0..3 {
        fixture.append_json("logs", 0, &row()).await;
        fixture.commit(&spec).await;
    }
    // As the cleaner leaves it: a checkpoint, and commits from there on.
    let log = fixture.directory.path().join("storage/tables/logs/_delta_log");
    let url = fixture.storage.table_url("logs");
    let table = deltalake_core::open_table(url).await.unwrap();
    deltalake_core::checkpoints::create_checkpoint(&table, None).await.unwrap();
    for version in 0..4 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "4");
    fixture.append_json("logs", 0, &row()).await;
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "5");
}
