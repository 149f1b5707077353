#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use highwater_broker::ManualClock;
use tokio_util::sync::CancellationToken;

use super::report::Counted;
use super::*;
use crate::data::Tenant;
use crate::log::{Append, Guard, Log, Record, TopicConfig};
use crate::sources::IdempotencyKey;
use crate::sources::testing::World;

const NOW_MS: i64 = 1_000_000;

fn door(received: u64, acknowledged: u64, duplicate: u64, rejected: &[(&str, u64)]) -> DoorReport {
    let rejected = rejected.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    DoorReport { received, acknowledged, duplicate, rejected, ..DoorReport::new("http", "logs") }
}

fn run(name: &str, sequence: u64, ended: bool, door: DoorReport) -> LedgerEntry {
    LedgerEntry::Run { run: name.to_owned(), sequence, at_ms: NOW_MS, ended, doors: vec![door] }
}

fn counted(cut: i64, run: &str, entries: u64) -> LedgerEntry {
    let counted = Counted { source: "http".into(), run: run.into(), signal: "logs".into(), entries, refused: 0 };
    LedgerEntry::Counted { topic: "logs".into(), partition: 0, cut, lost: 0, counts: vec![counted] }
}

/// Received, stored, duplicate, rejected, in flight, balance of the only line.
fn line(entries: &[LedgerEntry], now_ms: i64) -> (u64, u64, u64, u64, u64, i64) {
    let mut state = LedgerState::default();
    entries.iter().cloned().for_each(|entry| state.merge(entry));
    let rows = state.rows(None, &[], now_ms);
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    (row.received, row.stored, row.duplicate, row.rejected_total(), row.in_flight, row.balance())
}

#[test]
fn a_run_that_ended_adds_up() {
    let entries = [run("a", 3, true, door(100, 80, 5, &[("missing_field", 15)])), counted(9, "a", 80)];
    assert_eq!(line(&entries, NOW_MS), (100, 80, 5, 15, 0, 0));
}

#[test]
fn acknowledged_rows_that_are_not_in_the_log_are_a_balance() {
    let entries = [run("a", 3, true, door(100, 80, 0, &[("missing_field", 20)])), counted(9, "a", 73)];
    assert_eq!(line(&entries, NOW_MS), (100, 73, 0, 20, 0, 7));
    // Nor does it help that the run is still at work.
    let entries = [run("a", 3, false, door(100, 80, 0, &[])), counted(9, "a", 73)];
    assert_eq!(line(&entries, NOW_MS), (100, 73, 0, 0, 20, 7));
}

#[test]
fn rows_on_their_way_are_in_flight_while_the_run_is_at_work_and_unanswered_after() {
    let entries = [run("a", 3, false, door(100, 80, 0, &[])), counted(9, "a", 85)];
    assert_eq!(line(&entries, NOW_MS + 60_000), (100, 85, 0, 0, 15, 0));
    assert_eq!(line(&entries, NOW_MS + 60_001), (100, 85, 0, 15, 0, 0));
}

#[test]
fn what_a_killed_run_had_not_reported_is_seen_in_the_log() {
    let entries = [run("a", 3, false, door(100, 90, 0, &[("too_long", 10)])), counted(9, "a", 140)];
    assert_eq!(line(&entries, NOW_MS + 100_000), (150, 140, 0, 10, 0, 0));
    // Killed before it reported anything.
    assert_eq!(line(&[counted(9, "a", 40)], NOW_MS), (40, 40, 0, 0, 0, 0));
}

#[test]
fn a_row_refused_for_a_lost_reply_and_stored_all_the_same_counts_as_stored() {
    let entries = [run("a", 3, true, door(10, 6, 0, &[("log", 4)])), counted(9, "a", 9)];
    assert_eq!(line(&entries, NOW_MS), (10, 9, 0, 1, 0, 0));
}

#[test]
fn merging_does_not_depend_on_order_or_repetition() {
    let mut entries = vec![
        run("a", 1, false, door(10, 10, 0, &[])),
        run("a", 2, true, door(30, 30, 0, &[])),
        run("b", 1, true, door(5, 5, 0, &[])),
        counted(4, "a", 10),
        counted(9, "a", 30),
    ];
    let mut first = LedgerState::default();
    entries.iter().cloned().for_each(|entry| first.merge(entry));
    entries.reverse();
    let mut second = LedgerState::default();
    entries.iter().cloned().chain(entries.clone()).for_each(|entry| second.merge(entry));
    assert_eq!(first, second);
}

#[test]
fn entries_are_read_back_as_they_were_written() {
    for entry in [run("a", 2, true, door(3, 2, 1, &[("x", 1)])), counted(7, "a", 3)] {
        let record = entry.to_record();
        assert_eq!(LedgerEntry::parse(record.value.as_deref().unwrap()), Ok(entry));
        assert!(record.key.is_some());
    }
    assert!(LedgerEntry::parse(b"{}").unwrap_err().starts_with("not a ledger entry: "));
}

fn ledger(world: &World, doors: bool) -> Ledger {
    let doors = doors.then(|| Arc::clone(world.ingest.doors()));
    Ledger::new(Arc::clone(&world.log) as Arc<dyn Log>, Arc::new(ManualClock::new(NOW_MS)), doors)
}

fn body(rows: std::ops::Range<usize>) -> Bytes {
    rows.map(|i| format!("{{\"message\":\"m{i}\",\"service\":\"s{i}\"}}\n")).collect::<String>().into()
}

async fn only(ledger: &Ledger) -> LedgerRow {
    let mut rows = ledger.rows().await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

#[tokio::test]
async fn doors_and_log_add_up_at_every_moment_and_over_a_kill() {
    let mut world = World::new().await;
    let tenant = Tenant::default();
    let key = || Some(IdempotencyKey::new("k").unwrap());
    world.ingest.ingest_logs(&tenant, body(0..40), key()).await.unwrap();
    world.ingest.ingest_logs(&tenant, body(0..40), key()).await.unwrap();
    world.ingest.ingest_logs(&tenant, "{\"message\":\"a\"}\n{}\n".into(), None).await.unwrap();
    let live = ledger(&world, true);
    let row = only(&live).await;
    assert_eq!((row.received, row.stored, row.duplicate, row.rejected_total()), (82, 41, 40, 1));
    assert_eq!(row.rejected.get("missing_field"), Some(&1));
    assert_eq!((row.in_flight, row.balance()), (0, 0));
    live.report(&|_: &_| true, true, false).await.unwrap();
    // After the report, unknown to it; then the process is killed.
    world.ingest.ingest_logs(&tenant, body(40..50), None).await.unwrap();
    let fs = world.fs.clone();
    drop((live, world));
    world = World::on(fs, crate::sources::IngestConfig::default()).await;
    world.ingest.ingest_logs(&tenant, body(50..55), None).await.unwrap();
    let row = only(&ledger(&world, true)).await;
    assert_eq!((row.received, row.stored, row.duplicate, row.rejected_total()), (97, 56, 40, 1));
    assert_eq!(row.balance(), 0);
    // Seen from outside, without this run's own counts: the log alone says the same of what is stored.
    let row = only(&ledger(&world, false)).await;
    assert_eq!((row.stored, row.balance()), (56, 0));
}

#[tokio::test]
async fn what_retention_removes_stays_counted() {
    let world = World::new().await;
    let tenant = Tenant::default();
    world.ingest.ingest_logs(&tenant, body(0..40), None).await.unwrap();
    let first = ledger(&world, true);
    first
        .keep(|_| true, {
            let stop = CancellationToken::new();
            stop.cancel();
            stop
        })
        .await;
    world.ingest.ingest_logs(&tenant, body(40..50), None).await.unwrap();
    for partition in 0..4 {
        let end = world.log.offsets("logs", partition).await.unwrap().high_watermark;
        world.log.broker().delete_records("logs", partition, (end - 1).max(0)).await.unwrap();
    }
    let row = only(&ledger(&world, true)).await;
    assert_eq!((row.received, row.stored, row.lost, row.balance()), (50, 50, 0, 0));
    // A record that was never counted is lost, and said to be.
    world.ingest.ingest_logs(&tenant, "{\"message\":\"gone\"}".into(), None).await.unwrap();
    for partition in 0..4 {
        let end = world.log.offsets("logs", partition).await.unwrap().high_watermark;
        world.log.broker().delete_records("logs", partition, end).await.unwrap();
    }
    let rows = ledger(&world, true).rows().await.unwrap();
    let of = |source: &str| rows.iter().find(|row| row.source == source).unwrap();
    assert!(of("direct").lost >= 1, "{rows:?}");
    assert!(of("internal").balance() >= 1, "acknowledged and nowhere to be seen: {rows:?}");
}

#[tokio::test]
async fn those_who_write_to_a_topic_themselves_are_a_source_too() {
    let world = World::new().await;
    world.log.ensure_topic("dead-letter", TopicConfig::with_partitions(1)).await.unwrap();
    for value in [r#"[{"message":"a"},{"message":""},{"message":"b"}]"#, "{broken"] {
        let record = Record { value: Some(value.into()), ..Record::default() };
        let append = Append { topic: "logs".into(), partition: 0, records: vec![record], guard: Guard::None };
        world.log.append(append).await.unwrap();
    }
    let row = only(&ledger(&world, true)).await;
    assert_eq!((row.source.as_str(), row.signal.as_str()), ("direct", "logs"));
    assert_eq!((row.received, row.stored, row.dead_lettered, row.in_flight, row.balance()), (4, 2, 0, 2, 0));
    // The task of the topic writes what it could not read.
    let refused = crate::data::Refused { row: 1, reason: "x".into(), bytes: Bytes::new() };
    let letter = crate::data::dead_letter::record(&refused, "logs", 0, 0, "default");
    let append = Append { topic: "dead-letter".into(), partition: 0, records: vec![letter], guard: Guard::None };
    world.log.append(append).await.unwrap();
    let row = only(&ledger(&world, true)).await;
    assert_eq!((row.received, row.stored, row.dead_lettered, row.in_flight, row.balance()), (4, 2, 1, 1, 0));
}
