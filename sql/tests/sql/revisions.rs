//! A window of a rollup that is closed again: queries see its newest revision, whether the earlier one is in the table or in the log.

use highwater_pipeline::data::Control;
use highwater_pipeline::tables::TableSpec;

use crate::fixture::{Fixture, rollup_row, sample_tables, small};

const TOPIC: &str = "rollup.requests_1m";
/// 2026-01-02T03:00:00Z, where the fixture's rollup begins.
const BEGIN_US: i64 = 1_767_322_800_000_000;

fn rollup() -> TableSpec {
    sample_tables().into_iter().find(|table| table.name == "requests_1m").unwrap()
}

async fn close(fixture: &Fixture, partition: i32, minute: i64, revision: i32, groups: &[(&str, i64)]) {
    if revision > 0 {
        let window_start_us = BEGIN_US + minute * 60_000_000;
        let source = format!("requests_1m/{partition}");
        fixture.append(TOPIC, partition, Control::Superseded { source, window_start_us, revision }.to_record()).await;
    }
    for (service, requests) in groups {
        fixture.append_rows(TOPIC, partition, &rollup_row(service, minute, *requests, 0)).await;
    }
}

/// The same questions of every fixture.
async fn check(fixture: &Fixture, expected: &[&str]) {
    let all = "SELECT service, date_part('minute', window_start) AS minute, requests FROM requests_1m ORDER BY 1, 2, 3";
    assert_eq!(fixture.rows(all).await.unwrap(), expected);
    let count = expected.len().to_string();
    assert_eq!(fixture.one("SELECT count(*) FROM requests_1m").await, count);
    assert_eq!(fixture.one("SELECT count(*) FROM (SELECT requests FROM requests_1m LIMIT 1000)").await, count);
    let sum: i64 = expected.iter().map(|row| row.rsplit(',').next().unwrap().parse::<i64>().unwrap()).sum();
    assert_eq!(fixture.one("SELECT sum(requests) FROM requests_1m").await, sum.to_string());
    for limit in 1..=expected.len() {
        let limited = format!("SELECT _offset FROM requests_1m LIMIT {limit}");
        assert_eq!(fixture.rows(&limited).await.unwrap().len(), limit, "a limit counts rows that hold");
    }
    assert!(fixture.rows_of("acme", "SELECT * FROM requests_1m").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_revision_is_seen_across_files_and_tail() {
    let stored = Fixture::with(small(), sample_tables()).await;
    let live = Fixture::with(small(), sample_tables()).await;
    for fixture in [&stored, &live] {
        close(fixture, 0, 0, 0, &[("a", 10), ("b", 5)]).await;
        close(fixture, 0, 1, 0, &[("a", 7)]).await;
        close(fixture, 1, 0, 0, &[("c", 3)]).await;
    }
    stored.commit(&rollup()).await;
    for fixture in [&stored, &live] {
        check(fixture, &["a,0,10", "a,1,7", "b,0,5", "c,0,3"]).await;
        // One group counts more, one vanishes; the other window and the other partition stay.
        close(fixture, 0, 0, 1, &[("a", 11)]).await;
        check(fixture, &["a,0,11", "a,1,7", "c,0,3"]).await;
        close(fixture, 0, 0, 2, &[("a", 12), ("d", 1)]).await;
        close(fixture, 1, 0, 1, &[("c", 4)]).await;
        check(fixture, &["a,0,12", "a,1,7", "c,0,4", "d,0,1"]).await;
        // Nothing may be left of a window.
        close(fixture, 0, 1, 1, &[]).await;
        check(fixture, &["a,0,12", "c,0,4", "d,0,1"]).await;
        let pruned = "SELECT requests FROM requests_1m WHERE window_start >= TIMESTAMP '2026-01-02T03:01:00Z'";
        assert!(fixture.rows(pruned).await.unwrap().is_empty());
    }
}
