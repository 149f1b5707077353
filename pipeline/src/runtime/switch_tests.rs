//! Definitions that change while tasks run, crash and start again: what is written is what one run over the whole log writes, to the byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::Array;
use bytes::Bytes;
use highwater_broker::{Broker, BrokerConfig, Clock, ManualClock, RealFs, TopicConfig};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::snapshot::{StateReader, StateWriter};
use super::{
    At, DriverConfig, Effects, Input, InputKind, Processor, ProcessorError, RecordedVersions, TaskCore, TaskSpec,
    TaskState, Tasks,
};
use crate::data::{RowKind, content_type};
use crate::definitions::{ConfigRecord, Definitions, TOPIC};
use crate::log::{Append, EmbeddedLog, Guard, Log, Record, StoredRecord, TopicPartition};

const NOW_MS: i64 = 1_714_996_800_000;
const PARTITIONS: i32 = 2;

/// Counts rows by several names, each with a step. A count goes on where the next version has the same name and step, and starts anew where not:
/// what rollups do, small enough to see through. An output says which version wrote it, so that one record too early or too late shows.
struct Counts {
    version: u32,
    out: Arc<str>,
    partition: i32,
    counts: BTreeMap<String, (u64, u64)>,
}

impl Counts {
    fn new(version: u32, definitions: &Value, input: &TopicPartition) -> Self {
        let steps = definitions.as_object().unwrap().iter();
        let counts = steps.map(|(name, step)| (name.clone(), (step.as_u64().unwrap(), 0))).collect();
        Self { version, out: "out".into(), partition: input.partition, counts }
    }
}

impl Processor for Counts {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Rows(rows) => {
                for (step, count) in self.counts.values_mut() {
                    *count += *step * rows.batch.column(0).len() as u64;
                }
                let counts: BTreeMap<_, _> = self.counts.iter().map(|(name, (_, count))| (name, count)).collect();
                let text = format!("{} v{} {}", at.position, self.version, json!(counts));
                effects.push_value(&self.out, self.partition, None, content_type::header(content_type::TEXT), text);
            }
            Input::Barrier(writer) => {
                for (name, (step, count)) in &self.counts {
                    writer.put(name.clone(), *step, count.to_le_bytes().to_vec());
                }
            }
            Input::Control(_) | Input::Stage(_) | Input::Slice(..) => {}
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        for (name, (step, count)) in &mut self.counts {
            if let Some(body) = state.get(name, *step) {
                *count = u64::from_le_bytes(body[..].try_into().unwrap());
            }
        }
        Ok(())
    }
}

fn specs(definitions: &Arc<Definitions>) -> Vec<TaskSpec> {
    let make = |version: &crate::definitions::Version, input: &TopicPartition| {
        Ok(Box::new(Counts::new(version.number, &version.definitions, input)) as Box<dyn Processor>)
    };
    let versions = Arc::new(RecordedVersions::new(Arc::clone(definitions), Arc::new(make)));
    (0..PARTITIONS)
        .map(|partition| {
            let input = TopicPartition { topic: "logs".into(), partition };
            TaskSpec::versioned(input, InputKind::Table(RowKind::Logs), Arc::<RecordedVersions>::clone(&versions))
        })
        .collect()
}

struct House {
    _directory: tempfile::TempDir,
    log: Arc<dyn Log>,
    storage: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
}

impl House {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW_MS));
        let broker = Broker::open(BrokerConfig::new(directory.path()), Arc::new(RealFs), Arc::clone(&clock)).unwrap();
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::new(broker)));
        for topic in ["logs", "out"] {
            log.ensure_topic(topic, TopicConfig::with_partitions(PARTITIONS)).await.unwrap();
        }
        Self { _directory: directory, log, storage: Arc::new(InMemory::new()), clock }
    }

    /// What a process knows of the definitions.
    async fn definitions(&self) -> Arc<Definitions> {
        Definitions::open(Arc::clone(&self.log), ["logs".into()]).await.unwrap()
    }

    fn start(&self, definitions: &Arc<Definitions>, random: &mut SmallRng) -> Tasks {
        let config = DriverConfig {
            fetch_size_bytes: [1, 400, 1 << 20][random.random_range(0..3)],
            max_wait_ms: 5,
            commit_interval_ms: [0, i64::MAX][random.random_range(0..2)],
            snapshot_records: random.random_range(1..9),
            snapshot_interval_ms: i64::MAX,
            snapshot_inline_bytes: [0, 1 << 16][random.random_range(0..2)],
        };
        let (log, storage, clock) = (Arc::clone(&self.log), Arc::clone(&self.storage), Arc::clone(&self.clock));
        let tasks = Tasks::new(log, storage, clock, config);
        specs(definitions).into_iter().for_each(|spec| tasks.start(spec));
        tasks
    }

    async fn append_rows(&self, partition: i32, rows: usize) {
        let value = format!("[{}]", vec![r#"{"message":"m"}"#; rows].join(","));
        let record = Record { value: Some(Bytes::from(value)), ..Record::default() };
        self.append("logs", partition, record).await;
    }

    async fn append(&self, topic: &str, partition: i32, record: Record) {
        let append = Append { topic: topic.into(), partition, records: vec![record], guard: Guard::None };
        self.log.append(append).await.unwrap();
    }

    async fn read_all(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        let (mut records, end) = (Vec::new(), self.log.offsets(topic, partition).await.unwrap().high_watermark);
        let mut next = 0;
        while next < end {
            let fetched = self.log.read(topic, partition, next, 1 << 20, Duration::ZERO).await.unwrap();
            next = fetched.next_offset;
            records.extend(fetched.records);
        }
        records
    }

    async fn outputs(&self) -> Vec<Vec<Bytes>> {
        let mut outputs = Vec::new();
        for partition in 0..PARTITIONS {
            let records = self.read_all("out", partition).await;
            outputs.push(records.into_iter().map(|record| record.value.unwrap()).collect());
        }
        outputs
    }

    /// What one run over the whole log writes that knows every version from the beginning.
    async fn of_one_run(&self) -> Vec<Vec<Bytes>> {
        let mut outputs = Vec::new();
        for spec in specs(&self.definitions().await) {
            let mut core = TaskCore::new(&spec, 0).unwrap();
            let mut effects = Effects::new();
            for record in self.read_all("logs", spec.input.partition).await {
                core.step(&record, &mut effects).unwrap();
            }
            outputs.push(effects.take().into_iter().map(|effect| effect.record.value.unwrap()).collect());
        }
        outputs
    }
}

/// One of a few definitions; some share a name and a step, some a name only.
fn some_definitions(random: &mut SmallRng) -> Value {
    let mut steps = serde_json::Map::new();
    for name in ["a", "b", "c"] {
        if random.random_range(0..3) > 0 {
            steps.insert(name.to_owned(), random.random_range(1..3).into());
        }
    }
    steps.into()
}

/// One life of a process: tasks run while rows come and definitions change, and end by a stop or by a crash.
async fn live(house: &House, random: &Arc<Mutex<SmallRng>>) {
    let pick = |n: u64| random.lock().random_range(0..n);
    let (here, there) = (house.definitions().await, house.definitions().await);
    let tasks = house.start(&here, &mut random.lock());
    let producing = async {
        for _ in 0..pick(40) {
            house.append_rows(pick(2) as i32, 1 + pick(3) as usize).await;
            tokio::time::sleep(Duration::from_micros(pick(300))).await;
        }
    };
    let changing = async {
        for _ in 0..pick(5) {
            tokio::time::sleep(Duration::from_micros(pick(4_000))).await;
            let definitions = some_definitions(&mut random.lock());
            match pick(4) {
                // A writer that dies half-way: the tasks that meet it finish its work.
                0 => house.append(TOPIC, 0, ConfigRecord::definitions(&definitions).to_record().unwrap()).await,
                1 => drop(there.propose(&definitions).await.unwrap()),
                _ => drop(here.propose(&definitions).await.unwrap()),
            }
        }
    };
    futures::join!(producing, changing);
    tokio::time::sleep(Duration::from_micros(pick(3_000))).await;
    if pick(3) == 0 {
        tasks.stop_all().await;
    } else {
        drop(tasks);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_history_of_changes_and_crashes_is_one_function_of_the_log() {
    let (mut switches, mut records) = (0, 0);
    for seed in 0..10 {
        let random = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)));
        let house = House::new().await;
        house.definitions().await.propose(&json!({"a": 1})).await.unwrap();
        for _ in 0..4 {
            live(&house, &random).await;
        }
        let definitions = house.definitions().await;
        let tasks = house.start(&definitions, &mut random.lock());
        for (index, partition) in (0..PARTITIONS).enumerate() {
            let end = house.log.offsets("logs", partition).await.unwrap().high_watermark;
            while tasks.status()[index].offset < end {
                assert!(tasks.status()[index].state.is_healthy(), "seed {seed}: {:?}", tasks.status());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let ended = tasks.stop_all().await;
        assert!(ended.iter().all(|s| s.state == TaskState::Stopped), "seed {seed}: {ended:?}");
        let (outputs, expected) = (house.outputs().await, house.of_one_run().await);
        assert_eq!(outputs, expected, "seed {seed}");
        records += outputs.iter().map(Vec::len).sum::<usize>();
        for output in &outputs {
            let version = |line: &Bytes| String::from_utf8_lossy(line).split(' ').nth(1).unwrap().to_owned();
            switches += output.windows(2).filter(|pair| version(&pair[0]) != version(&pair[1])).count();
        }
    }
    assert!(switches >= 10 && records >= 400, "{switches} switches in {records} records");
}

#[test]
fn state_is_handed_over_at_the_switch_and_the_same_after_a_restart() {
    let before = json!({"kept": 1, "edited": 1, "removed": 1});
    let after = json!({"kept": 1, "edited": 2, "added": 1});
    let input = TopicPartition { topic: "logs".into(), partition: 0 };
    let spec = TaskSpec::versioned(
        input.clone(),
        InputKind::Table(RowKind::Logs),
        Arc::new(TwoVersions { before, after, offset: 5 }),
    );
    let record = |offset| StoredRecord {
        offset,
        timestamp_ms: NOW_MS,
        key: None,
        value: Some(r#"{"message":"m"}"#.into()),
        headers: Vec::new(),
    };
    let mut effects = Effects::new();
    let mut core = TaskCore::new(&spec, 0).unwrap();
    let mut snapshots = Vec::new();
    for offset in 0..7 {
        snapshots.push(core.snapshot(1).unwrap());
        core.step(&record(offset), &mut effects).unwrap();
    }
    let outputs = effects.take();
    let last = |index: usize| String::from_utf8_lossy(outputs[index].record.value.as_ref().unwrap()).into_owned();
    assert_eq!(last(4), r#"4 v1 {"edited":5,"kept":5,"removed":5}"#);
    assert_eq!(last(5), r#"5 v2 {"added":1,"edited":2,"kept":6}"#);
    assert_eq!(core.version(), 2);
    for (start, snapshot) in snapshots.iter().enumerate() {
        let mut again = TaskCore::new(&spec, 0).unwrap();
        again.restore(&StateReader::parse(snapshot).unwrap()).unwrap();
        // The snapshot at 5 was written before the record there was seen, so by the version before.
        assert_eq!(again.version(), if start <= 5 { 1 } else { 2 }, "snapshot at {start}");
        for offset in start..7 {
            again.step(&record(offset as i64), &mut effects).unwrap();
        }
        assert_eq!(effects.take(), outputs[start..], "from the snapshot at {start}");
    }
}

#[test]
fn a_task_that_has_read_nothing_switches_whenever_it_starts() {
    // Definitions changed while the partition was empty: both versions begin at its first record.
    let versions =
        Arc::new(TwoVersions { before: json!({"kept": 1}), after: json!({"kept": 1, "added": 1}), offset: 0 });
    let input = TopicPartition { topic: "logs".into(), partition: 0 };
    let spec = TaskSpec::versioned(input, InputKind::Table(RowKind::Logs), versions);
    let mut core = TaskCore::new(&spec, 0).unwrap();
    assert_eq!(core.version(), 1);
    let value = Some(r#"{"message":"m"}"#.into());
    let record = StoredRecord { offset: 0, timestamp_ms: NOW_MS, key: None, value, headers: Vec::new() };
    core.step(&record, &mut Effects::new()).unwrap();
    assert_eq!(core.version(), 2);
    // As one that begins in the middle, where the record before was the last of the older version.
    let versions = Arc::new(TwoVersions { before: json!({}), after: json!({}), offset: 5 });
    let spec = TaskSpec { versions, ..spec };
    for (next_offset, version) in [(0, 1), (5, 1), (6, 2)] {
        assert_eq!(TaskCore::new(&spec, next_offset).unwrap().version(), version, "{next_offset}");
    }
}

#[test]
fn a_snapshot_that_names_no_version_is_of_the_one_that_applies_there() {
    let spec = TaskSpec::versioned(
        TopicPartition { topic: "logs".into(), partition: 0 },
        InputKind::Table(RowKind::Logs),
        Arc::new(TwoVersions { before: json!({}), after: json!({}), offset: 5 }),
    );
    for (offset, version) in [(4, 1), (5, 2)] {
        let mut writer = StateWriter::new();
        writer.put("runtime", 1, serde_json::to_vec(&super::watermark::PartitionWatermark::default()).unwrap());
        let mut core = TaskCore::new(&spec, 0).unwrap();
        core.restore(&writer.into_reader(offset, 1)).unwrap();
        assert_eq!((core.version(), core.next_offset()), (version, offset));
    }
}

/// Version 2 from this offset on, version 1 in front of it.
struct TwoVersions {
    before: Value,
    after: Value,
    offset: i64,
}

#[async_trait::async_trait]
impl super::Versions for TwoVersions {
    async fn catch_up(&self) -> Result<(), crate::definitions::DefinitionsError> {
        Ok(())
    }

    fn version_at(&self, _input: &TopicPartition, offset: i64) -> u32 {
        if offset < self.offset { 1 } else { 2 }
    }

    fn make(&self, version: u32, input: &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError> {
        let definitions = if version == 1 { &self.before } else { &self.after };
        Ok(Box::new(Counts::new(version, definitions, input)))
    }
}
