//! The task runtime on Kafka.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use highwater_broker::{SystemClock, TopicConfig};
use highwater_pipeline::data::{RowKind, content_type};
use highwater_pipeline::log::kafka::KafkaLog;
use highwater_pipeline::log::{Log, TopicPartition};
use highwater_pipeline::runtime::snapshot::StateReader;
use highwater_pipeline::runtime::{
    At, DriverConfig, Effects, Input, InputKind, Processor, ProcessorError, ProcessorFactory, TaskSpec, TaskStatus,
    Tasks,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::world::{DEADLINE, World, assert_values, read_to_end, write};

/// Numbers the rows it sees and writes each number: state and effects that show every row that is lost or counted twice.
struct Counter {
    out: Arc<str>,
    seen: i64,
}

impl Processor for Counter {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Rows(rows) => {
                for index in rows.batch.column_by_name("_row").unwrap().as_primitive::<Int32Type>().values() {
                    self.seen += 1;
                    let value = format!("{} {} {index}", self.seen, at.position);
                    effects.push_value(&self.out, 0, None, content_type::header(content_type::TEXT), value);
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

fn start(log: &Arc<KafkaLog>, storage: &Arc<InMemory>, input: &Arc<str>, output: &Arc<str>) -> Tasks {
    let config = DriverConfig {
        fetch_size_bytes: 256,
        max_wait_ms: 100,
        commit_interval_ms: 20,
        snapshot_records: 40,
        ..DriverConfig::default()
    };
    let (log, storage): (Arc<dyn Log>, Arc<dyn ObjectStore>) = (log.clone(), storage.clone());
    let tasks = Tasks::new(log, storage, Arc::new(SystemClock), config);
    let out = Arc::clone(output);
    let processor: ProcessorFactory = Arc::new(move || Ok(Box::new(Counter { out: Arc::clone(&out), seen: 0 })));
    let input = TopicPartition { topic: Arc::clone(input), partition: 0 };
    tasks.start(TaskSpec::new(input, InputKind::Table(RowKind::Logs), processor));
    tasks
}

fn status(tasks: &Tasks) -> TaskStatus {
    tasks.status().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_crashes_again_and_again_counts_every_row_once() {
    let Some(world) = World::new() else { return };
    let (input, output) = (world.topic(1).await, world.topic(1).await);
    world.log.ensure_topic("dead-letter", TopicConfig::default()).await.unwrap();
    let storage = Arc::new(InMemory::new());
    let (log, name) = (world.log.clone(), input.clone());
    const RECORDS: i64 = 400;
    let writer = tokio::spawn(async move {
        for i in 0..RECORDS {
            let rows = vec![r#"{"message":"m"}"#; 1 + i as usize % 3].join(",");
            write(&log, &name, &[&format!("[{rows}]")]).await.unwrap();
        }
    });
    // Crashes in the middle of whatever it is at, in a process of its own each time; the last one runs to the end.
    for crash in 0..6 {
        let process = world.another();
        let tasks = start(&process, &storage, &input, &output);
        let from = status(&tasks).committed_offset;
        let progressing = async {
            while status(&tasks).committed_offset < from + 15 {
                assert!(status(&tasks).state.is_healthy(), "{:?}", status(&tasks));
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        tokio::time::timeout(DEADLINE, progressing)
            .await
            .unwrap_or_else(|_| panic!("crash {crash}: {:?}", status(&tasks)));
        drop(tasks);
    }
    writer.await.unwrap();
    let tasks = start(&world.log, &storage, &input, &output);
    let end = world.log.offsets(&input, 0).await.unwrap().high_watermark;
    let reaching = async {
        while status(&tasks).committed_offset < end {
            assert!(status(&tasks).state.is_healthy(), "{:?}", status(&tasks));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reaching).await.unwrap_or_else(|_| panic!("{:?}", status(&tasks)));
    tasks.stop_all().await;

    // An independent replay of the input, in which the task's own clock records lie as well.
    let (records, _) = read_to_end(&world.log, &input, 0, 0).await;
    let mut expected = Vec::new();
    for (position, value) in records {
        for row in 0..value.matches("message").count() {
            expected.push(format!("{} {position} {row}", expected.len() + 1));
        }
    }
    assert_eq!(expected.len() as i64, (0..RECORDS).map(|i| 1 + i % 3).sum::<i64>());
    assert_values(&world.log, &output, &expected).await;
}
