//! All tasks on a real broker in a directory, stopped and started in between, against the same records with nobody stopping.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use highwater_broker::{Broker, BrokerConfig, Clock, ManualClock, RealFs};
use highwater_pipeline::data::ipc;
use highwater_pipeline::log::{Append, EmbeddedLog, Guard, Log, Record, StoredRecord};
use highwater_pipeline::runtime::{DriverConfig, TaskState, Tasks};
use highwater_processors::rollups::RollupConfig;
use highwater_processors::rules::RuleFile;
use highwater_processors::{PARTIALS_TOPIC, ProcessorsConfig, RULES_TOPIC, Topology, topology};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use support::House;

const START_MS: i64 = 1_714_996_800_000;
const PARTITIONS: i32 = 2;

fn configured() -> Topology {
    let rollup = RollupConfig::new(
        "requests",
        "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, count(*) AS n,
                count(*) FILTER (WHERE level = 'ERROR') AS errors, avg(severity_number) AS severity
         FROM logs GROUP BY 1, 2",
    );
    let rules = "groups:
  - name: web
    rules:
      - {alert: Errors, sql: 'SELECT service, errors FROM requests WHERE errors > 0', for: 10s}
      - {alert: Busy, sql: 'SELECT service, n FROM requests WHERE n >= 6', keep_firing_for: 20s}
";
    let rule_files = vec![RuleFile::parse("rules.yaml", rules).unwrap()];
    topology(&ProcessorsConfig {
        rollups: vec![rollup],
        rule_files,
        partitions: PARTITIONS,
        ..ProcessorsConfig::default()
    })
    .unwrap()
}

/// One second of logs: partition, rows.
fn second(second: i64) -> Vec<(i32, String)> {
    let at = START_MS + second * 1_000;
    // Partition 1 is silent for a while, and errors come in bursts.
    let partitions = if (40..60).contains(&second) { 0..1 } else { 0..PARTITIONS };
    partitions
        .map(|partition| {
            let level = if (20..45).contains(&second) && second % 3 == 0 { "ERROR" } else { "INFO" };
            let service = if second % 2 == 0 { "web" } else { "db" };
            (
                partition,
                format!(r#"[{{"message":"m","timestamp":{at},"service":"{service}-{partition}","level":"{level}"}}]"#),
            )
        })
        .collect()
}

/// A process: a broker on a directory, and the tasks.
struct Process {
    broker: Arc<Broker>,
    log: Arc<dyn Log>,
    tasks: Tasks,
}

impl Process {
    async fn start(directory: &Path, clock: &Arc<ManualClock>) -> Self {
        let topology = configured();
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        let config = BrokerConfig::new(directory.join("log"));
        let broker = Arc::new(Broker::open(config, Arc::new(RealFs), Arc::clone(&clock)).unwrap());
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::clone(&broker)));
        for (name, config) in topology.topics {
            log.ensure_topic(&name, config).await.unwrap();
        }
        std::fs::create_dir_all(directory.join("storage")).unwrap();
        let storage: Arc<dyn ObjectStore> =
            Arc::new(LocalFileSystem::new_with_prefix(directory.join("storage")).unwrap());
        let config = DriverConfig {
            max_wait_ms: 20,
            commit_interval_ms: 0,
            snapshot_records: 5,
            snapshot_inline_bytes: 0,
            ..DriverConfig::default()
        };
        let tasks = Tasks::new(Arc::clone(&log), storage, clock, config);
        for task in topology.tasks {
            tasks.start(task);
        }
        Self { broker, log, tasks }
    }

    /// Waits until every task has read, and committed, all there is, and nothing new comes of it.
    async fn settle(&self) {
        let mut quiet = 0;
        for _ in 0..4_000 {
            let mut behind = false;
            for status in self.tasks.status() {
                assert!(status.state.is_healthy(), "{status:?}");
                let end = self.log.offsets(&status.topic, status.partition).await.unwrap().high_watermark;
                behind |= status.committed_offset < end || status.epoch == 0;
            }
            quiet = if behind { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("does not settle: {:?}", self.tasks.status());
    }

    async fn stop(self) {
        for status in self.tasks.stop_all().await {
            assert_eq!(status.state, TaskState::Stopped, "{status:?}");
        }
        self.broker.shutdown().await;
    }

    /// As a crash leaves it: no last commit, no last snapshot.
    async fn kill(self) {
        drop(self.tasks);
        self.broker.shutdown().await;
    }

    async fn records(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        let mut records: Vec<StoredRecord> = Vec::new();
        let end = self.log.offsets(topic, partition).await.unwrap().high_watermark;
        while (records.len() as i64) < end {
            let from = records.len() as i64;
            records.extend(self.log.read(topic, partition, from, 1 << 20, Duration::ZERO).await.unwrap().records);
        }
        records
    }
}

/// What a topic says, without what depends on the run: the coordinate in the rules topic and append times.
fn alerts(records: &[StoredRecord]) -> Vec<String> {
    let show = |record: &StoredRecord| {
        let mut alert: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        alert["source"].as_object_mut().unwrap().remove("offset");
        format!("{} {alert}", String::from_utf8_lossy(record.key.as_ref().unwrap()))
    };
    records.iter().map(show).collect()
}

fn rows(records: &[StoredRecord]) -> Vec<String> {
    let batches = records.iter().flat_map(|record| ipc::decode(record.value.as_ref().unwrap()).unwrap());
    batches.map(|batch| arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string()).collect()
}

/// The numbers of a column of a rollup, over all partitions.
async fn total(process: &Process, column: &str) -> i64 {
    let mut total = 0;
    for partition in 0..PARTITIONS {
        for record in process.records("rollup.requests", partition).await {
            for batch in ipc::decode(record.value.as_ref().unwrap()).unwrap() {
                total += batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().iter().sum::<i64>();
            }
        }
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_caught_up_with_as_if_it_were_live() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(START_MS));
    let process = Process::start(directory.path(), &clock).await;
    process.settle().await;
    process.stop().await;
    // Two hours while no task runs. Partition 0 has far more to do, so without pacing partition 1 would be through before it has begun.
    let broker_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let broker = Broker::open(BrokerConfig::new(directory.path().join("log")), Arc::new(RealFs), broker_clock).unwrap();
    let mut expected = 0;
    for minute in 0..120 {
        clock.advance_ms(60_000);
        let at = START_MS + (minute + 1) * 60_000;
        for (partition, rows) in [(0, 400), (1, 1)] {
            let row = format!(r#"{{"message":"m","timestamp":{at},"service":"web"}}"#);
            let value = Bytes::from(format!("[{}]", vec![row; rows].join(",")));
            let records = vec![Record { value: Some(value), ..Record::default() }];
            broker.append(Append { topic: "logs".into(), partition, records, guard: Guard::None }).await.unwrap();
            expected += rows as i64;
        }
    }
    broker.shutdown().await;
    drop(broker);
    let process = Process::start(directory.path(), &clock).await;
    process.settle().await;
    for _ in 0..7 {
        clock.advance_ms(10_000);
        tokio::time::sleep(Duration::from_millis(50)).await;
        process.settle().await;
    }
    assert_eq!(total(&process, "n").await, expected, "no row was late");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_and_kills_leave_no_trace_in_windows_and_alerts() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(START_MS));
    let mut process = Process::start(directory.path(), &clock).await;
    for at in 0..90 {
        clock.set_ms(START_MS + at * 1_000);
        for (partition, rows) in second(at) {
            let records = vec![Record { value: Some(Bytes::from(rows)), ..Record::default() }];
            let append = Append { topic: "logs".into(), partition, records, guard: Guard::None };
            process.log.append(append).await.unwrap();
        }
        if at % 10 == 7 {
            process.stop().await;
            process = Process::start(directory.path(), &clock).await;
        } else if at % 10 == 3 {
            process.settle().await;
            process.kill().await;
            process = Process::start(directory.path(), &clock).await;
        }
        process.settle().await;
    }
    clock.advance_ms(60_000);
    process.settle().await;
    // Long enough for an idle partition's clock to come round and close what is open.
    for _ in 0..4 {
        clock.advance_ms(10_000);
        tokio::time::sleep(Duration::from_millis(100)).await;
        process.settle().await;
    }

    // The same input records, clocks included, through the same tasks in memory, with nobody stopping. Stage topics are read as they are,
    // because the order of sources in them is a matter of timing; everything behind them follows from them.
    let mut calm = House::new(&configured());
    let mut expected = BTreeMap::new();
    let inputs = [("logs", PARTITIONS), (PARTIALS_TOPIC, PARTITIONS), (RULES_TOPIC, 1)];
    for (topic, partitions) in inputs {
        for partition in 0..partitions {
            calm.topics.insert((topic.to_owned(), partition), process.records(topic, partition).await);
        }
    }
    let stage_topics: BTreeMap<_, _> = calm.topics.clone();
    calm.settle_from_inputs_only(&mut expected);
    for ((topic, partition), records) in &expected {
        if topic == PARTIALS_TOPIC {
            // Per source, the same records in the same order.
            let of = |records: &[StoredRecord], source: &str| -> Vec<Bytes> {
                let is = |r: &&StoredRecord| {
                    let header = r.header("highwater-source").map(|s| s.as_ref() == source.as_bytes());
                    header.unwrap_or_else(|| {
                        String::from_utf8_lossy(r.value.as_ref().unwrap()).contains(&format!("\"{source}\""))
                    })
                };
                records.iter().filter(is).map(|r| r.value.clone().unwrap()).collect()
            };
            let actual = &stage_topics[&(topic.clone(), *partition)];
            for source in ["logs/0", "logs/1"] {
                assert_eq!(of(actual, source), of(records, source), "{topic}/{partition} from {source}");
                assert!(of(actual, source).len() > 20, "{topic}/{partition} from {source} has records");
            }
        }
    }
    for partition in 0..PARTITIONS {
        let actual = rows(&process.records("rollup.requests", partition).await);
        assert_eq!(actual, rows(&expected[&("rollup.requests".to_owned(), partition)]));
    }
    let actual = alerts(&process.records("alerts", 0).await);
    assert_eq!(actual, alerts(&expected[&("alerts".to_owned(), 0)]));
    for state in ["pending", "firing", "resolved"] {
        assert!(
            actual.iter().any(|a| a.contains(&format!("\"state\":\"{state}\""))),
            "no alert is {state}: {actual:#?}"
        );
    }
    process.stop().await;
}
