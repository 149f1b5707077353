//! Drivers at work on a real broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use highwater_broker::{Broker, BrokerConfig, Clock, ManualClock, RealFs, TopicConfig};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::snapshot::{SnapshotStore, StateReader};
use super::{
    At, DriverConfig, Effects, Input, InputKind, Processor, ProcessorError, ProcessorFactory, TASKS_GROUP, TaskSpec,
    TaskState, TaskStatus, Tasks,
};
use crate::data::{Control, RowKind, content_type};
use crate::log::{Append, EmbeddedLog, Guard, Log, Record, StoredRecord, TopicPartition};

const NOW_MS: i64 = 1_714_996_800_000;

/// Numbers the rows it sees, and writes each number to one of two partitions: state and effects that show every row that is
/// lost or counted twice.
struct Counter {
    out: Arc<str>,
    seen: i64,
    fails_at: Arc<AtomicI64>,
}

impl Processor for Counter {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Rows(rows) => {
                match self.fails_at.load(Ordering::SeqCst) - at.position {
                    0 if at.position % 2 == 0 => return Err(ProcessorError::new("this record is not to my liking")),
                    0 => panic!("odd"),
                    _ => {}
                }
                let indexes = rows.batch.column_by_name("_row").unwrap().as_primitive::<Int32Type>();
                for index in indexes.values() {
                    self.seen += 1;
                    let value = format!("{} {} {index}", self.seen, at.position);
                    let partition = (self.seen % 2) as i32;
                    effects.push_value(&self.out, partition, None, content_type::header(content_type::TEXT), value);
                }
            }
            Input::Barrier(writer) => writer.put("counter", 1, self.seen.to_le_bytes().to_vec()),
            Input::Control(_) | Input::Stage(_) | Input::Slice(..) => {}
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        let body = state.get("counter", 1).ok_or_else(|| ProcessorError::new("no counter"))?;
        self.seen = i64::from_le_bytes(body[..].try_into().unwrap());
        Ok(())
    }
}

/// A broker in a directory, a store, a clock that stands still, and one task over `logs/0`.
struct Bench {
    _directory: tempfile::TempDir,
    broker: Arc<Broker>,
    log: Arc<dyn Log>,
    storage: Arc<dyn ObjectStore>,
    manual: Arc<ManualClock>,
    clock: Arc<dyn Clock>,
    config: DriverConfig,
    fails_at: Arc<AtomicI64>,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let manual = Arc::new(ManualClock::new(NOW_MS));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual);
        let config = BrokerConfig::new(directory.path());
        let broker = Arc::new(Broker::open(config, Arc::new(RealFs), Arc::clone(&clock)).unwrap());
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::clone(&broker)));
        for (topic, partitions) in [("logs", 1), ("out", 2), ("dead-letter", 1)] {
            log.ensure_topic(topic, TopicConfig::with_partitions(partitions)).await.unwrap();
        }
        let config = DriverConfig {
            max_wait_ms: 20,
            commit_interval_ms: 0,
            snapshot_records: 7,
            snapshot_interval_ms: i64::MAX,
            ..DriverConfig::default()
        };
        let fails_at = Arc::new(AtomicI64::new(-1));
        let storage = Arc::new(InMemory::new());
        Self { _directory: directory, broker, log, storage, manual, clock, config, fails_at }
    }

    fn spec(&self) -> TaskSpec {
        let fails_at = Arc::clone(&self.fails_at);
        let processor: ProcessorFactory =
            Arc::new(move || Ok(Box::new(Counter { out: "out".into(), seen: 0, fails_at: Arc::clone(&fails_at) })));
        TaskSpec::new(TopicPartition { topic: "logs".into(), partition: 0 }, InputKind::Table(RowKind::Logs), processor)
    }

    fn start(&self) -> Tasks {
        let (log, storage, clock) = (Arc::clone(&self.log), Arc::clone(&self.storage), Arc::clone(&self.clock));
        let tasks = Tasks::new(log, storage, clock, self.config);
        tasks.start(self.spec());
        tasks
    }

    /// Runs until the task has read everything there is, and stops it.
    async fn run_to_end(&self) -> TaskStatus {
        let handle = self.start();
        let end = self.log.offsets("logs", 0).await.unwrap().high_watermark;
        wait_for(&handle, |s| s.committed_offset >= end || !s.state.is_healthy()).await;
        handle.stop_all().await.remove(0)
    }

    /// Appends a record of this many rows.
    async fn append_rows(&self, rows: usize) {
        let value = format!("[{}]", vec![r#"{"message":"m"}"#; rows].join(","));
        self.append("logs", Record { value: Some(Bytes::from(value)), ..Record::default() }).await;
    }

    async fn append(&self, topic: &str, record: Record) {
        let append = Append { topic: topic.into(), partition: 0, records: vec![record], guard: Guard::None };
        self.log.append(append).await.unwrap();
    }

    async fn read_all(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        let mut records = Vec::new();
        let end = self.log.offsets(topic, partition).await.unwrap().high_watermark;
        while (records.len() as i64) < end {
            let from = records.len() as i64;
            let fetched = self.log.read(topic, partition, from, 1 << 20, Duration::from_secs(1)).await.unwrap();
            records.extend(fetched.records);
        }
        records
    }

    /// The numbers written, in order of number; an error if one is missing or twice.
    async fn numbers(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for partition in 0..2 {
            let records = self.read_all("out", partition).await;
            lines.extend(records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()));
        }
        lines.sort_by_key(|line| line.split(' ').next().unwrap().parse::<i64>().unwrap());
        for (number, line) in (1..).zip(&lines) {
            assert_eq!(line.split(' ').next().unwrap(), format!("{number}"), "a row is lost or twice: {lines:?}");
        }
        lines
    }

    async fn controls(&self) -> Vec<Control> {
        let records = self.read_all("logs", 0).await;
        let controls = records.iter().filter(|r| content_type::of(r) == Some(content_type::CONTROL));
        controls.map(|r| Control::parse(r.value.as_ref().unwrap()).unwrap()).collect()
    }
}

async fn wait_for(handle: &Tasks, reached: impl Fn(&TaskStatus) -> bool) {
    for _ in 0..3_000 {
        if reached(&handle.status()[0]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not reached: {:?}", handle.status());
}

#[tokio::test]
async fn rows_are_counted_once_over_any_number_of_restarts() {
    let bench = Bench::new().await;
    let mut total = 0;
    for round in 0..12 {
        for rows in 0..=round {
            bench.append_rows(rows + 1).await;
            total += rows + 1;
        }
        let status = bench.run_to_end().await;
        assert_eq!(status.state, TaskState::Stopped);
        assert_eq!(status.epoch, round as i32 + 1);
    }
    assert_eq!(bench.numbers().await.len(), total);
}

#[tokio::test]
async fn a_kill_between_append_and_commit_writes_nothing_twice() {
    let mut bench = Bench::new().await;
    // No commit and no snapshot ever: each run is killed with its outputs in the log and its progress unknown.
    bench.config.commit_interval_ms = i64::MAX;
    bench.config.snapshot_records = i64::MAX;
    for _ in 0..20 {
        bench.append_rows(3).await;
    }
    for _ in 0..3 {
        let handle = bench.start();
        wait_for(&handle, |s| s.offset >= 20).await;
        drop(handle);
    }
    assert!(bench.log.committed(TASKS_GROUP).await.unwrap().is_empty(), "nothing was committed");
    assert_eq!(bench.numbers().await.len(), 60);
    bench.config.commit_interval_ms = 0;
    bench.run_to_end().await;
    assert_eq!(bench.numbers().await.len(), 60);
}

#[tokio::test]
async fn outputs_are_the_same_to_the_byte_for_any_fetch_size() {
    let mut outputs = Vec::new();
    for fetch_size_bytes in [1, 300, 1 << 20] {
        let mut bench = Bench::new().await;
        bench.config.fetch_size_bytes = fetch_size_bytes;
        for rows in 1..30 {
            bench.append_rows(rows).await;
        }
        bench.run_to_end().await;
        let out = (bench.read_all("out", 0).await, bench.read_all("out", 1).await);
        outputs.push(out);
    }
    assert_eq!(outputs[0].0.len() + outputs[0].1.len(), 435);
    assert_eq!(outputs[0], outputs[1]);
    assert_eq!(outputs[0], outputs[2]);
}

#[tokio::test]
async fn a_corrupt_snapshot_costs_a_longer_replay_and_nothing_else() {
    for damage in 0..3 {
        let mut bench = Bench::new().await;
        for _ in 0..30 {
            bench.append_rows(2).await;
        }
        bench.config.fetch_size_bytes = 1;
        bench.run_to_end().await;
        let snapshots = SnapshotStore::new(Arc::clone(&bench.storage), "logs/0");
        let names = snapshots.list().await.unwrap();
        assert_eq!(names.len(), 2, "the newest and the one before it");
        // None, the newest, or both.
        for name in &names[..damage] {
            let path = Path::from(format!("snapshots/logs/0/{:020}-{}.snap", name.offset, name.epoch));
            let mut file = bench.storage.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
            *file.last_mut().unwrap() ^= 1;
            bench.storage.put(&path, file.into()).await.unwrap();
        }
        bench.append_rows(5).await;
        let status = bench.run_to_end().await;
        assert_eq!(status.state, TaskState::Stopped, "{damage} damaged");
        assert_eq!(bench.numbers().await.len(), 65, "{damage} damaged");
    }
}

#[tokio::test]
async fn a_snapshot_ahead_of_the_commit_is_not_used() {
    let bench = Bench::new().await;
    bench.append_rows(4).await;
    bench.run_to_end().await;
    // As if a run had written a snapshot whose outputs the log has not got.
    let snapshots = SnapshotStore::new(Arc::clone(&bench.storage), "logs/0");
    let name = super::snapshot::SnapshotName { offset: 1_000, epoch: 9 };
    let mut writer = super::snapshot::StateWriter::new();
    writer.put("counter", 1, 999i64.to_le_bytes().to_vec());
    snapshots.save(name, writer).await.unwrap();
    bench.append_rows(1).await;
    bench.run_to_end().await;
    assert_eq!(bench.numbers().await.len(), 5);
}

#[tokio::test]
async fn an_error_or_a_panic_stops_the_task_in_front_of_the_record() {
    for fails_at in [10, 11] {
        let mut bench = Bench::new().await;
        bench.config.fetch_size_bytes = 1;
        for _ in 0..20 {
            bench.append_rows(1).await;
        }
        bench.fails_at.store(fails_at, Ordering::SeqCst);
        let status = bench.run_to_end().await;
        let TaskState::Failed(reason) = &status.state else { panic!("{status:?}") };
        assert!(reason.contains(&format!("logs/0 offset {fails_at}")), "{reason}");
        let expected = if fails_at == 10 { "not to my liking" } else { "panicked" };
        assert!(reason.contains(expected), "{reason}");
        assert!(status.committed_offset <= fails_at, "{status:?}");
        assert!(bench.numbers().await.len() as i64 <= fails_at);
        // Mended, it goes on where it stood.
        bench.fails_at.store(-1, Ordering::SeqCst);
        assert_eq!(bench.run_to_end().await.state, TaskState::Stopped);
        assert_eq!(bench.numbers().await.len(), 20);
    }
}

#[tokio::test]
async fn a_second_run_fences_the_first() {
    let bench = Bench::new().await;
    bench.append_rows(1).await;
    let first = bench.start();
    wait_for(&first, |s| s.committed_offset >= 1).await;
    let second = bench.start();
    wait_for(&second, |s| s.state == TaskState::Running).await;
    for _ in 0..10 {
        bench.append_rows(1).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    wait_for(&first, |s| s.state == TaskState::Fenced).await;
    let end = bench.log.offsets("logs", 0).await.unwrap().high_watermark;
    wait_for(&second, |s| s.committed_offset >= end).await;
    assert_eq!(bench.numbers().await.len(), 11);
    assert_eq!(second.status()[0].state, TaskState::Running);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_dead_letter_once() {
    let mut bench = Bench::new().await;
    let mixed = r#"[{"message":"m"},{"message":""},{"message":"m"}]"#;
    for value in [mixed, "{not json"] {
        bench.append("logs", Record { value: Some(value.into()), ..Record::default() }).await;
    }
    bench.run_to_end().await;
    bench.config.snapshot_records = i64::MAX;
    bench.run_to_end().await;
    assert_eq!(bench.numbers().await.len(), 2);
    let letters = bench.read_all("dead-letter", 0).await;
    let coordinate = |r: &StoredRecord| {
        ["topic", "partition", "offset", "row"]
            .map(|name| String::from_utf8(r.header(name).unwrap().to_vec()).unwrap())
            .join(" ")
    };
    let coordinates: Vec<_> = letters.iter().map(coordinate).collect();
    assert_eq!(coordinates, ["logs 0 0 1", "logs 0 1 -1"]);
    assert_eq!(letters[1].value.as_deref(), Some(&b"{not json"[..]));
}

#[tokio::test]
async fn the_owner_of_a_silent_partition_writes_clock_records() {
    let bench = Bench::new().await;
    let handle = bench.start();
    wait_for(&handle, |s| s.idle).await;
    let never = Control::Clock { base_offset: -1, event_time_us: None, idle: true };
    assert_eq!(bench.controls().await, [never], "a partition that never had a row is idle at once");

    bench.manual.advance_ms(2_000);
    let at = r#"{"message":"m","timestamp":"2024-05-06T11:00:00Z"}"#;
    bench.append("logs", Record { value: Some(at.into()), ..Record::default() }).await;
    wait_for(&handle, |s| !s.idle).await;
    let event_us = (NOW_MS - 3_600_000) * 1_000;
    assert_eq!(handle.status()[0].watermark_us, Some(event_us));
    bench.manual.advance_ms(1_500);
    wait_for(&handle, |s| s.watermark_us == Some(event_us + 1_500_000)).await;
    assert!(!handle.status()[0].idle);
    bench.manual.advance_ms(30_000);
    wait_for(&handle, |s| s.idle).await;
    assert_eq!(handle.status()[0].watermark_us, Some(event_us + 31_500_000), "an hour behind, and it stays so");
    handle.stop_all().await;
}

#[tokio::test]
async fn retention_waits_for_the_oldest_snapshot() {
    let mut bench = Bench::new().await;
    for _ in 0..20 {
        bench.append_rows(1).await;
    }
    bench.config.fetch_size_bytes = 1;
    bench.run_to_end().await;
    let snapshots = SnapshotStore::new(Arc::clone(&bench.storage), "logs/0");
    let oldest = snapshots.list().await.unwrap().last().unwrap().offset;
    let held = bench.broker.committed(super::SNAPSHOTS_GROUP);
    assert_eq!(held.iter().map(|o| (&*o.topic, o.offset)).collect::<Vec<_>>(), [("logs", oldest)]);
}
