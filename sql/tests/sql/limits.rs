//! Concurrency, cancellation, and what a client sees of both.

use std::time::Duration;

use futures::StreamExt;
use highwater_pipeline::tables::built_in_tables;
use highwater_sql::{SqlConfig, SqlError};

use crate::fixture::{Fixture, small};

const ENDLESS: &str = "SELECT * FROM generate_series(1, 1000000000000)";

#[tokio::test(flavor = "multi_thread")]
async fn queries_above_the_limit_are_told_to_come_back() {
    let fixture = Fixture::with(SqlConfig { max_concurrent_queries: 2, ..small() }, built_in_tables()).await;
    let first = fixture.engine.query("default", ENDLESS).await.unwrap();
    let second = fixture.engine.query("default", ENDLESS).await.unwrap();
    let error = fixture.error("SELECT 1").await;
    assert!(matches!(error, SqlError::Busy { limit: 2 }), "{error}");
    assert!(error.is_retryable());
    drop(first);
    // The place is free once the work has stopped, which takes a moment.
    let mut answer = fixture.rows("SELECT 1").await;
    for _ in 0..200 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = fixture.rows("SELECT 1").await;
    }
    assert_eq!(answer.unwrap(), ["1"]);
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_nobody_reads_waits_and_ends_with_its_reader() {
    let fixture = Fixture::with(SqlConfig { max_concurrent_queries: 1, ..small() }, built_in_tables()).await;
    let mut result = fixture.engine.query("default", ENDLESS).await.unwrap();
    assert!(result.next().await.unwrap().unwrap().num_rows() > 0);
    drop(result);
    let mut answer = fixture.rows("SELECT 1").await;
    for _ in 0..200 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = fixture.rows("SELECT 1").await;
    }
    assert_eq!(answer.unwrap(), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_ends_after_its_error() {
    let config = SqlConfig { timeout: Duration::from_millis(300), ..small() };
    let fixture = Fixture::with(config, built_in_tables()).await;
    let mut result = fixture.engine.query("default", ENDLESS).await.unwrap();
    let mut error = None;
    while let Some(batch) = result.next().await {
        match batch {
            Ok(_) => assert!(error.is_none(), "rows after an error"),
            Err(e) => assert!(error.replace(e).is_none(), "two errors"),
        }
    }
    assert!(matches!(error, Some(SqlError::Timeout { .. })), "{error:?}");
    assert!(result.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_outlives_the_engine_and_keeps_its_limits() {
    let fixture = Fixture::with(SqlConfig { timeout: Duration::from_millis(500), ..small() }, built_in_tables()).await;
    let mut result = fixture.engine.query("default", ENDLESS).await.unwrap();
    assert!(result.next().await.unwrap().is_ok());
    drop(fixture);
    let end = async {
        while let Some(batch) = result.next().await {
            if let Err(error) = batch {
                return error;
            }
        }
        panic!("an endless query ended well");
    };
    let end = tokio::time::timeout(Duration::from_secs(30), end).await.unwrap();
    assert!(matches!(end, SqlError::Timeout { .. }), "{end}");
}
