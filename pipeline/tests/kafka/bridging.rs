//! A user's topic on a real Kafka, bridged.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use highwater_broker::{Broker, BrokerConfig, RealFs, SystemClock, TopicConfig};
use highwater_pipeline::data::{Decoded, Decoder, RowKind};
use highwater_pipeline::ledger::{Ledger, Originated};
use highwater_pipeline::log::{EmbeddedLog, Log};
use highwater_pipeline::runtime::{DriverConfig, TaskStatus, Tasks};
use highwater_pipeline::sources::bridge::{self, BridgeTimes, KafkaSourceConfig};
use object_store::memory::InMemory;

use crate::world::{DEADLINE, World, write};

const RECORDS: usize = 300;

fn source(topic: &str) -> Arc<KafkaSourceConfig> {
    let json = serde_json::json!({"brokers": "given", "topics": [topic]});
    Arc::new(serde_json::from_value(json).unwrap())
}

/// Starts the bridge of partition 0.
async fn start(source: &Arc<KafkaSourceConfig>, foreign: Arc<dyn Log>, log: Arc<dyn Log>) -> Tasks {
    let spec = bridge::claims(source, &*foreign, &*log).await.unwrap().remove(0);
    let tasks = Tasks::new(log.clone(), Arc::new(InMemory::new()), Arc::new(SystemClock), DriverConfig::default());
    let times = BridgeTimes { fetch_size_bytes: 700, max_wait_ms: 50, commit_interval_ms: 5, look_interval_ms: 50 };
    let (name, claim) = (spec.name.clone(), spec.claim.clone());
    tasks.start_runs(name, claim, spec.runs(foreign, log, Arc::new(SystemClock), times));
    tasks
}

fn status(tasks: &Tasks) -> TaskStatus {
    tasks.status().remove(0)
}

async fn wait_for(tasks: &Tasks, committed: i64) {
    let reaching = async {
        while status(tasks).committed_offset < committed {
            assert!(status(tasks).state.is_healthy(), "{:?}", status(tasks));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reaching).await.unwrap_or_else(|_| panic!("{:?}", status(tasks)));
}

/// The messages in `logs` that came from this source, sorted. Other tests may have theirs there.
async fn messages(log: &dyn Log, source: &str) -> Vec<String> {
    let decoder = Decoder::new(RowKind::Logs);
    let mut messages = Vec::new();
    for partition in 0..4 {
        let end = log.offsets("logs", partition).await.unwrap();
        let mut next = end.log_start;
        while next < end.high_watermark {
            let fetched = log.read("logs", partition, next, 1 << 20, Duration::from_millis(100)).await.unwrap();
            for record in &fetched.records {
                if Originated::of(record).is_none_or(|origin| origin.source != source) {
                    continue;
                }
                let Decoded::Rows { batch, .. } = decoder.decode(partition, record) else { panic!("{record:?}") };
                let column = batch.column_by_name("message").unwrap().as_string::<i32>();
                messages.extend(column.iter().flatten().map(str::to_owned));
            }
            next = fetched.next_offset;
        }
    }
    messages.sort();
    messages
}

/// Bridges a topic on a real Kafka into this log, killed again and again, and looks at what is there.
async fn every_row_once(world: &World, log: impl Fn() -> Arc<dyn Log>) {
    let topic = world.topic(1).await;
    let last = log();
    last.ensure_topic("logs", TopicConfig::with_partitions(4)).await.unwrap();
    last.ensure_topic("dead-letter", TopicConfig::default()).await.unwrap();
    let (writer, name) = (world.log.clone(), topic.clone());
    let writing = tokio::spawn(async move {
        for i in 0..RECORDS {
            let value = format!(r#"{{"message":"{i:04}","service":"s{}"}}"#, i % 5);
            write(&writer, &name, &[&value, "{broken"][..1 + usize::from(i % 50 == 0)]).await.unwrap();
        }
    });
    let source = source(&topic);
    for crash in 0..5 {
        let tasks = start(&source, world.another(), log()).await;
        wait_for(&tasks, 20 * (crash + 1)).await;
        drop(tasks);
    }
    writing.await.unwrap();
    let end = world.log.offsets(&topic, 0).await.unwrap().high_watermark;
    let tasks = start(&source, world.another(), last.clone()).await;
    wait_for(&tasks, end).await;
    tasks.stop_all().await;

    let name = format!("kafka:{topic}");
    let expected: Vec<_> = (0..RECORDS).map(|i| format!("{i:04}")).collect();
    assert_eq!(messages(&*last, &name).await, expected);
    let rows = Ledger::new(last, Arc::new(SystemClock), None).rows().await.unwrap();
    let row = rows.iter().find(|row| row.source == name).unwrap();
    assert_eq!((row.received, row.stored, row.dead_lettered, row.lost), (306, 300, 6, 0));
    assert_eq!(row.balance(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_the_log_on_kafka_in_one_transaction_with_its_place() {
    let Some(world) = World::new() else { return };
    every_row_once(&world, || world.another()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_the_embedded_log_by_the_marks_of_its_effects() {
    let Some(world) = World::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::new(directory.path());
    let broker = Arc::new(Broker::open(config, Arc::new(RealFs), Arc::new(SystemClock)).unwrap());
    every_row_once(&world, || Arc::new(EmbeddedLog::new(broker.clone()))).await;
}
