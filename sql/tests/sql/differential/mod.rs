//! Generated queries over generated logs and metrics, asked of us and of DuckDB.
//!
//! DuckDB has the rows as they were sent, in a file of JSON lines. Here they are partly in the log, partly in tables; while the queries run, what is in the
//! log is committed piece by piece, and files are merged. Every answer has to be the same all the while.
//!
//! `HIGHWATER_SQL_QUERIES=n` asks so many queries (300), `HIGHWATER_SQL_SEED=n` begins with this seed; a failure names the query's.
//! DuckDB is that of `$HIGHWATER_PYTHON`; `HIGHWATER_REQUIRE_DUCKDB=1` makes its absence a failure.

mod logic;
mod queries;
mod rows;

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use futures::TryStreamExt;
use highwater_broker::ManualClock;
use highwater_pipeline::tables::{TableSpec, built_in_tables};
use highwater_sinks::tables::TablesConfig;
use highwater_sinks::tables::maintenance::{Eagerness, Maintainer, Upkeep};
use serde_json::Value;
use tokio::process::Command;

use crate::fixture::{APPENDED_MS, Fixture};

/// How far apart two floats may be, by the larger one; between two values the engine goes in a million steps.
const TOLERANCE: f64 = 1e-9;
const TOLERANCE_BETWEEN: f64 = 2e-6;
const DUCKDB: &str = include_str!("duckdb.py");

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect(variable))
}

fn spec(name: &str) -> TableSpec {
    built_in_tables().into_iter().find(|t| t.name == name).unwrap()
}

/// DuckDB's answers; `None` where there is no DuckDB.
async fn duckdb(fixture: &Fixture, queries: &[String]) -> Option<Vec<Result<Vec<Vec<Value>>, String>>> {
    let python = std::env::var("HIGHWATER_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let has = Command::new(&python).args(["-c", "import duckdb"]).stderr(Stdio::null()).status().await;
    if !has.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var("HIGHWATER_REQUIRE_DUCKDB").is_err(),
            "DuckDB is missing, and HIGHWATER_REQUIRE_DUCKDB is set"
        );
        drop(writeln!(std::io::stderr(), "\nSKIPPED: generated queries beside DuckDB: no Python with duckdb"));
        return None;
    }
    let at = |name: &str| fixture.directory.path().join(name);
    std::fs::write(at("logs.ndjson"), rows::logs_ndjson()).unwrap();
    std::fs::write(at("metrics.ndjson"), rows::metrics_ndjson()).unwrap();
    std::fs::write(at("queries.json"), serde_json::to_vec(queries).unwrap()).unwrap();
    let ran = Command::new(&python).args(["-c", DUCKDB]).arg(fixture.directory.path()).kill_on_drop(true).output();
    let ran = tokio::time::timeout(Duration::from_secs(600), ran).await.expect("DuckDB answers").unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let answers: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let answer = |answer: Value| match answer {
        Value::Array(rows) => Ok(rows.into_iter().map(|row| row.as_array().unwrap().clone()).collect()),
        error => Err(error.to_string()),
    };
    Some(answers.into_iter().map(answer).collect())
}

/// Our answer, in the shape of DuckDB's: times in microseconds.
async fn ours(fixture: &Fixture, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    let result = fixture.engine.query("default", sql).await.map_err(|e| e.to_string())?;
    let batches: Vec<_> = result.try_collect().await.map_err(|e: highwater_sql::SqlError| e.to_string())?;
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<Vec<Value>> = batch.columns().iter().map(values).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()));
    }
    Ok(rows)
}

fn values(column: &Arc<dyn Array>) -> Vec<Value> {
    let or_null = |row: usize, value: Value| if column.is_null(row) { Value::Null } else { value };
    match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            (0..values.len()).map(|row| or_null(row, values.value(row).into())).collect()
        }
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => {
            let values = cast(column, &DataType::Float64).unwrap();
            let values = values.as_primitive::<Float64Type>();
            (0..values.len()).map(|row| or_null(row, values.value(row).into())).collect()
        }
        t if t.is_integer() || matches!(t, DataType::Timestamp(..)) => {
            let values = cast(column, &DataType::Int64).unwrap();
            let per_us = match t {
                DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, _) => 1000,
                DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => 1,
                DataType::Timestamp(..) => panic!("{t}"),
                _ => 1,
            };
            let values = values.as_primitive::<Int64Type>();
            (0..values.len()).map(|row| or_null(row, (values.value(row) / per_us).into())).collect()
        }
        _ => {
            let values = cast(column, &DataType::Utf8).unwrap();
            let values = values.as_string::<i32>();
            (0..values.len()).map(|row| or_null(row, values.value(row).into())).collect()
        }
    }
}

/// Rows in an order that does not depend on who gave them. Floats are rounded in it, as they may differ in the last digits.
fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    let key = |row: &Vec<Value>| -> Vec<String> {
        row.iter()
            .map(|value| match value.as_f64() {
                Some(number) => format!("{number:025.6}"),
                None => value.to_string(),
            })
            .collect()
    };
    rows.sort_by_cached_key(key);
    rows
}

fn same(ours: &Value, theirs: &Value, tolerance: f64) -> bool {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0),
        _ => ours == theirs,
    }
}

fn differ(sql: &str, ours: &[Vec<Value>], theirs: &[Vec<Value>]) -> Option<String> {
    let tolerance = if sql.contains("percentile_cont") { TOLERANCE_BETWEEN } else { TOLERANCE };
    if ours.len() != theirs.len() {
        return Some(format!("{} rows, and DuckDB has {}", ours.len(), theirs.len()));
    }
    let rows = ours.iter().zip(theirs);
    let differs = |(ours, theirs): &(&Vec<Value>, &Vec<Value>)| {
        ours.len() != theirs.len() || ours.iter().zip(theirs.iter()).any(|(a, b)| !same(a, b, tolerance))
    };
    rows.clone().find(differs).map(|(ours, theirs)| format!("{ours:?}, and DuckDB has {theirs:?}"))
}

/// What is wrong with our answer beside DuckDB's.
fn compared(
    sql: &str,
    ours: Result<Vec<Vec<Value>>, String>,
    theirs: Result<Vec<Vec<Value>>, String>,
) -> Option<String> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => differ(sql, &sorted(ours), &sorted(theirs)),
        (Err(error), Err(_)) => Some(format!("is no query for either: {error}")),
        (Err(error), Ok(_)) => Some(error),
        (Ok(_), Err(error)) => Some(format!("DuckDB: {error}")),
    }
}

/// Commits what is in the log, some of it at a time, and merges files, for as long as there are queries.
async fn tend(fixture: Arc<Fixture>, asking: Arc<AtomicBool>, merges: Arc<AtomicUsize>) {
    let clock = Arc::new(ManualClock::new(APPENDED_MS + 3_600_000));
    let mut turn = 0;
    while asking.load(Ordering::SeqCst) {
        for name in ["logs", "metrics"] {
            if turn % 3 == 0 {
                // A row that is nobody's here: another tenant's. Committing it makes one more small file to merge.
                fixture.append_rows("logs", 0, &crate::fixture::other_tenant()).await;
                fixture.commit(&spec(name)).await;
            }
            let (config, upkeep) = (Arc::new(TablesConfig::default()), Upkeep::new(0));
            let mut maintainer = Maintainer::open(
                Arc::new(spec(name)),
                &fixture.storage,
                config,
                Arc::<ManualClock>::clone(&clock),
                upkeep,
            )
            .await
            .unwrap();
            let compacted = maintainer.compact(Eagerness::Everything).await.unwrap();
            merges.fetch_add(usize::from(compacted.merged_files > 0), Ordering::SeqCst);
        }
        turn += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_duckdb_over_the_raw_rows() {
    let (count, seed) = (number("HIGHWATER_SQL_QUERIES", 300), number("HIGHWATER_SQL_SEED", 1));
    let fixture = Arc::new(Fixture::new().await);
    let asked: Vec<queries::Asked> = (seed..seed + count).map(queries::generate).collect();
    let of_duckdb: Vec<String> = asked.iter().map(|asked| asked.duckdb.clone()).collect();
    let Some(theirs) = duckdb(&fixture, &of_duckdb).await else { return };
    rows::append(&fixture).await;
    let (asking, merges) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let tending = tokio::spawn(tend(Arc::clone(&fixture), Arc::clone(&asking), Arc::clone(&merges)));
    let mut wrong = Vec::new();
    let mut with_rows = 0;
    for ((asked, theirs), seed) in asked.iter().zip(theirs).zip(seed..) {
        let sql = &asked.ours;
        let ours = ours(&fixture, sql).await;
        with_rows += usize::from(ours.as_ref().is_ok_and(|rows| rows.len() > 1));
        let said = compared(sql, ours, theirs);
        wrong.extend(said.map(|said| format!("seed {seed}: {sql}\n  {said}")));
    }
    asking.store(false, Ordering::SeqCst);
    tending.await.unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {count} answers differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    // Queries that never find anything would prove nothing, and merges that never happen neither.
    assert!(with_rows * 3 > usize::try_from(count).unwrap(), "{with_rows} of {count} answers have more than a row");
    assert!(merges.load(Ordering::SeqCst) > 0);
}
