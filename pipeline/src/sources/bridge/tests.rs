//! Bridges between two real brokers: one plays the foreign cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use highwater_broker::fs::{Crash, SimFs};
use highwater_broker::{Broker, BrokerConfig, ManualClock, SystemClock};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use super::*;
use crate::data::dead_letter;
use crate::ledger::{Ledger, LedgerRow};
use crate::log::{Append, EmbeddedLog, Guard, Header, Record, StoredRecord};
use crate::runtime::{TASKS_GROUP, TaskState, TaskStatus};
use crate::sources::IngestConfig;
use crate::sources::testing::World;

/// The foreign cluster's time; ours is another.
const FOREIGN_MS: i64 = 1_600_000_000_000;
const TOPIC: &str = "app-logs";

struct Bench {
    world: World,
    foreign: Arc<Broker>,
    input: Arc<dyn Log>,
    source: Arc<KafkaSourceConfig>,
    times: BridgeTimes,
}

impl Bench {
    async fn new(yaml: &str) -> Self {
        let foreign = Broker::open(
            BrokerConfig { segment_size_bytes: 1 << 20, ..BrokerConfig::new("/foreign") },
            Arc::new(SimFs::new()),
            Arc::new(ManualClock::new(FOREIGN_MS)),
        );
        let foreign = Arc::new(foreign.unwrap());
        foreign.ensure_topic(TOPIC, TopicConfig::with_partitions(2)).await.unwrap();
        let input: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::clone(&foreign)));
        let mut config = serde_json::json!({"brokers": "k:9092", "topics": [TOPIC]});
        let more: serde_json::Value = serde_json::from_str(yaml).unwrap();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let source: KafkaSourceConfig = serde_json::from_value(config).unwrap();
        source.validate().unwrap();
        let times =
            BridgeTimes { max_wait_ms: 20, commit_interval_ms: 0, look_interval_ms: 20, ..BridgeTimes::default() };
        let bench = Self { world: World::new().await, foreign, input, source: Arc::new(source), times };
        bench.dead_letter_topic().await;
        bench
    }

    async fn dead_letter_topic(&self) {
        self.world.log.ensure_topic(dead_letter::TOPIC, TopicConfig::with_partitions(1)).await.unwrap();
    }

    /// The process is killed, and all that was not synced is gone.
    async fn crash(&mut self) {
        let fs = self.world.fs.clone();
        let old = std::mem::replace(&mut self.world, World::new().await);
        drop(old);
        fs.crash(Crash::LoseUnsynced);
        self.world = World::on(fs, IngestConfig::default()).await;
        self.dead_letter_topic().await;
    }

    async fn produce(&self, partition: i32, value: impl Into<Bytes>, content_type: Option<&str>) {
        let header = |text: &str| Header::new("content-type", text.as_bytes().to_vec());
        let record = Record {
            value: Some(value.into()),
            headers: content_type.map(header).into_iter().collect(),
            ..Record::default()
        };
        let append = Append { topic: TOPIC.into(), partition, records: vec![record], guard: Guard::None };
        self.foreign.append(append).await.unwrap();
    }

    fn output(&self) -> Arc<dyn Log> {
        Arc::clone(&self.world.log) as Arc<dyn Log>
    }

    async fn specs(&self) -> Vec<BridgeSpec> {
        claims(&self.source, &*self.input, &*self.output()).await.unwrap()
    }

    async fn start(&self, partition: usize) -> (JoinHandle<()>, Arc<Mutex<TaskStatus>>, CancellationToken) {
        let spec = self.specs().await.swap_remove(partition);
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock);
        let task = BridgeTask::new(spec, Arc::clone(&self.input), self.output(), clock, self.times, stop.clone());
        let status = task.status();
        (tokio::spawn(async move { drop(task.run().await) }), status, stop)
    }

    /// Runs the bridge of a partition until all there is has been read, or it fails.
    async fn run(&self, partition: i32) -> TaskStatus {
        let end = self.foreign.offsets(TOPIC, partition).unwrap().high_watermark;
        let (task, status, stop) = self.start(partition as usize).await;
        for _ in 0..2_000 {
            let now = status.lock().clone();
            if now.committed_offset >= end && now.state == TaskState::Running || !now.state.is_healthy() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        task.await.unwrap();
        status.lock().clone()
    }

    async fn dead_letters(&self) -> Vec<StoredRecord> {
        let end = self.world.log.offsets(dead_letter::TOPIC, 0).await.unwrap().high_watermark;
        let mut letters = Vec::new();
        while (letters.len() as i64) < end {
            let from = letters.len() as i64;
            let fetched = self.world.log.read(dead_letter::TOPIC, 0, from, 1 << 20, Duration::ZERO).await.unwrap();
            letters.extend(fetched.records);
        }
        letters
    }

    async fn ledger(&self) -> Vec<LedgerRow> {
        let ledger = Ledger::new(self.output(), Arc::new(ManualClock::new(0)), None);
        ledger.rows().await.unwrap()
    }
}

fn header(record: &StoredRecord, name: &str) -> String {
    String::from_utf8(record.header(name).unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn rows_are_those_of_the_http_door_in_the_same_partitions() {
    let bench = Bench::new("{}").await;
    let entry = |i: usize| format!(r#"{{"message":"m{i}","service":"s{}","host":"h","level":"warn","k":{i}}}"#, i % 7);
    for i in 0..30 {
        bench.produce((i % 2) as i32, entry(i), None).await;
    }
    let body = (0..30).map(entry).collect::<Vec<_>>().join("\n");
    assert_eq!(bench.run(0).await.state, TaskState::Stopped);
    assert_eq!(bench.run(1).await.state, TaskState::Stopped);
    let bridged = bench.world.rows("logs", crate::data::RowKind::Logs).await;

    let direct = World::new().await;
    direct.ingest.ingest_logs(&crate::data::Tenant::default(), body.into(), None).await.unwrap();
    let posted = direct.rows("logs", crate::data::RowKind::Logs).await;
    // Partition, service, message and level of every row; times differ, as the senders gave none.
    let rows = |batches: &[arrow::record_batch::RecordBatch]| {
        let mut rows: Vec<_> = batches
            .iter()
            .flat_map(|batch| {
                let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
                let partition = batch.column_by_name("_partition").unwrap();
                let partition = partition.as_primitive::<arrow::datatypes::Int32Type>().clone();
                let (service, message, level) = (text("service"), text("message"), text("level"));
                (0..batch.num_rows())
                    .map(|i| {
                        format!("{} {} {} {}", partition.value(i), service.value(i), message.value(i), level.value(i))
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(rows(&bridged), rows(&posted));
    for batch in &bridged {
        let times = batch.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert!(times.values().iter().all(|&time| time == FOREIGN_MS * 1_000), "the foreign record's time");
    }
    // Records are shared by rows of many foreign records.
    let records: usize = bench.world.records("logs").await.iter().map(Vec::len).sum();
    assert!(records < 15, "{records} records for 30 rows");
    let ledger = bench.ledger().await;
    assert_eq!(ledger.len(), 1);
    let row = &ledger[0];
    assert_eq!((row.source.as_str(), row.signal.as_str()), ("kafka:app-logs", "logs"));
    assert_eq!((row.received, row.stored, row.dead_lettered, row.balance()), (30, 30, 0, 0));
}

#[tokio::test]
async fn text_lines_have_the_time_and_level_they_state() {
    let bench = Bench::new(r#"{"service":"legacy","tenant":"acme"}"#).await;
    bench.produce(0, "2024-05-06 07:08:09,250 ERROR [main] it broke\n", None).await;
    bench.produce(0, "no time and no level", Some("text/plain; charset=utf-8")).await;
    bench.run(0).await;
    let mut rows = Vec::new();
    for batch in bench.world.rows("logs", crate::data::RowKind::Logs).await {
        let text = |name: &str, i: usize| {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            column.is_valid(i).then(|| column.value(i).to_owned())
        };
        let times = batch.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
        for i in 0..batch.num_rows() {
            let (message, level) = (text("message", i).unwrap(), text("level", i));
            rows.push((message, level, times.value(i), text("service", i).unwrap(), text("tenant", i).unwrap()));
        }
    }
    let (service, tenant) = ("legacy".to_owned(), "acme".to_owned());
    assert_eq!(
        rows,
        [
            (
                "2024-05-06 07:08:09,250 ERROR [main] it broke".to_owned(),
                Some("ERROR".to_owned()),
                1_714_979_289_250_000,
                service.clone(),
                tenant.clone()
            ),
            ("no time and no level".to_owned(), None, FOREIGN_MS * 1_000, service, tenant),
        ]
    );
}

#[tokio::test]
async fn spans_go_where_the_doors_put_them() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;
    let bench = Bench::new(r#"{"signal": "spans", "service": "shop", "tenant": "acme"}"#).await;
    let span =
        |id: u8| Span { trace_id: vec![id; 16], span_id: vec![id; 8], name: format!("s{id}"), ..Span::default() };
    let spans = vec![span(1), span(0), span(2)];
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    bench.produce(1, ExportTraceServiceRequest { resource_spans }.encode_to_vec(), None).await;
    bench.run(1).await;
    let texts = async |column: &str| bench.world.texts("spans", crate::data::RowKind::Spans, column).await;
    assert_eq!(
        (texts("name").await, texts("service").await),
        (vec!["s1".into(), "s2".into()], vec!["shop".into(), "shop".to_owned()])
    );
    assert_eq!(texts("tenant").await, ["acme", "acme"]);
    for batch in bench.world.rows("spans", crate::data::RowKind::Spans).await {
        let traces = batch.column_by_name("trace_id").unwrap().as_string::<i32>();
        let partitions = batch.column_by_name("_partition").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
        for (trace, partition) in traces.iter().zip(partitions.values()) {
            let key = format!("acme\0{}", trace.unwrap());
            assert_eq!(crate::data::partitioner::partition(key.as_bytes(), 4), *partition);
        }
    }
    let letters = bench.dead_letters().await;
    assert!(header(&letters[0], "reason").starts_with("`trace_id` is"), "{}", header(&letters[0], "reason"));
    let row = bench.ledger().await.remove(0);
    assert_eq!(
        (row.signal.as_str(), row.received, row.stored, row.dead_lettered, row.balance()),
        ("spans", 3, 2, 1, 0)
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_with_its_coordinate_and_the_rest_goes_on() {
    let bench = Bench::new("{}").await;
    bench.produce(1, r#"{"message":"good"}"#, None).await;
    bench.produce(1, r#"[{"message":"a"},{"message":""},{"message":"b"}]"#, None).await;
    bench.produce(1, "{broken", Some("application/json")).await;
    bench.produce(1, "\n\x00", Some("application/x-protobuf; otlp=traces")).await;
    bench.produce(1, "\n\x00", Some("application/x-protobuf; otlp=metrics")).await;
    bench.produce(1, "x", Some("image/png")).await;
    bench.run(1).await;
    assert_eq!(bench.world.messages().await, ["a", "b", "good"]);
    let letters = bench.dead_letters().await;
    let said: Vec<_> = letters
        .iter()
        .map(|letter| {
            let of = |name: &str| header(letter, name);
            format!("{}/{} {} row {}: {}", of("topic"), of("partition"), of("offset"), of("row"), of("reason"))
        })
        .collect();
    assert_eq!(
        said,
        [
            "app-logs/1 1 row 1: `message` is empty",
            "app-logs/1 2 row -1: malformed JSON at line 1, column 2 (byte 1): expected a key in quotes",
            "app-logs/1 3 row -1: it holds OTLP of another signal",
            "app-logs/1 4 row -1: it holds OTLP of another signal",
            "app-logs/1 5 row -1: content type \"image/png\" is not one that a bridge reads",
        ]
    );
    assert_eq!(letters[0].value.as_deref(), Some(&br#"{"message":""}"#[..]));
    let row = bench.ledger().await.remove(0);
    assert_eq!((row.received, row.stored, row.dead_lettered, row.balance()), (8, 3, 5, 0));
}

#[tokio::test]
async fn every_row_is_there_once_however_often_the_bridge_is_killed() {
    for seed in 0..4 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut bench = Bench::new("{}").await;
        let mut produced = 0;
        for round in 0..8 {
            for _ in 0..random.random_range(1..60) {
                let value = format!(r#"{{"message":"{produced:05}","service":"s{}"}}"#, random.random_range(0..5));
                bench.produce(0, value, None).await;
                produced += 1;
            }
            bench.produce(0, "{bad", None).await;
            // Other fetches, so other records; commits of C often or never; a full disk in between.
            bench.times.fetch_size_bytes = [1, 700, 1 << 20][random.random_range(0..3)];
            bench.times.commit_interval_ms = [0, i64::MAX][random.random_range(0..2)];
            if random.random_range(0..2) == 0 {
                let partition = random.random_range(0..4);
                bench.world.fs.fail_next_write(&format!("topics/logs/{partition}/"), 10, ErrorKind::StorageFull);
            }
            let (task, ..) = bench.start(0).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
            task.abort();
            drop(task.await);
            if random.random_range(0..2) == 0 {
                bench.crash().await;
            }
            let stored = bench.world.messages().await;
            let mut once = stored.clone();
            once.dedup();
            assert_eq!(stored, once, "seed {seed}, round {round}: a row is there twice");
        }
        bench.times.commit_interval_ms = 0;
        assert_eq!(bench.run(0).await.state, TaskState::Stopped, "seed {seed}");
        let expected: Vec<_> = (0..produced).map(|i| format!("{i:05}")).collect();
        assert_eq!(bench.world.messages().await, expected, "seed {seed}");
        assert_eq!(bench.dead_letters().await.len(), 8, "seed {seed}");
        let row = bench.ledger().await.remove(0);
        assert_eq!((row.received, row.stored, row.dead_lettered), (produced + 8, produced, 8), "seed {seed}");
        assert_eq!(row.balance(), 0, "seed {seed}");
        // In the order of the foreign partition, whatever partition of ours they are in.
        for records in bench.world.records("logs").await {
            let marks: Vec<i64> = records
                .iter()
                .map(|record| header(record, "highwater-effect").split('\0').nth(2).unwrap().parse().unwrap())
                .collect();
            assert!(marks.is_sorted_by(|a, b| a < b), "seed {seed}: {marks:?}");
        }
    }
}

#[tokio::test]
async fn a_record_above_the_limit_is_cut_and_still_there_once() {
    let mut bench = Bench::new("{}").await;
    let line = "x".repeat(512 << 10);
    let rows: Vec<_> = (0..40).map(|i| format!(r#"{{"message":"{i:02}{line}","service":"s"}}"#)).collect();
    bench.produce(0, format!("[{}]", rows.join(",")), None).await;
    bench.times.commit_interval_ms = i64::MAX;
    for _ in 0..3 {
        let (task, ..) = bench.start(0).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        task.abort();
        drop(task.await);
    }
    bench.times.commit_interval_ms = 0;
    bench.run(0).await;
    let numbers: Vec<_> = bench.world.messages().await.iter().map(|message| message[..2].to_owned()).collect();
    assert_eq!(numbers, (0..40).map(|i| format!("{i:02}")).collect::<Vec<_>>());
    let records: usize = bench.world.records("logs").await.iter().map(Vec::len).sum();
    assert_eq!(records, 3, "20 MiB in records of at most 8 MiB");
}

#[tokio::test]
async fn lost_records_are_passed_over_and_told_once() {
    let bench = Bench::new("{}").await;
    for i in 0..10 {
        bench.produce(0, format!(r#"{{"message":"{i}"}}"#), None).await;
    }
    bench.run(0).await;
    for i in 10..20 {
        bench.produce(0, format!(r#"{{"message":"{i}"}}"#), None).await;
    }
    bench.foreign.delete_records(TOPIC, 0, 15).await.unwrap();
    bench.run(0).await;
    bench.run(0).await;
    assert_eq!(bench.world.messages().await.len(), 15);
    let letters = bench.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(header(&letters[0], "offset"), "10");
    assert_eq!(
        header(&letters[0], "reason"),
        "offsets 10..15 were removed from the bridged topic before they were read"
    );
    let row = bench.ledger().await.remove(0);
    assert_eq!((row.received, row.stored, row.dead_lettered, row.lost, row.balance()), (15, 15, 0, 5, 0));
}

#[tokio::test]
async fn a_topic_that_was_made_anew_stops_its_bridge_loudly() {
    let bench = Bench::new("{}").await;
    for _ in 0..5 {
        bench.produce(0, r#"{"message":"m"}"#, None).await;
    }
    bench.run(0).await;
    bench.foreign.delete_topic(TOPIC).await.unwrap();
    bench.foreign.ensure_topic(TOPIC, TopicConfig::with_partitions(1)).await.unwrap();
    bench.produce(0, r#"{"message":"m"}"#, None).await;
    let TaskState::Failed(reason) = bench.run(0).await.state else { panic!("it goes on") };
    assert!(reason.starts_with("app-logs/0 ends at 1, but"), "{reason}");
    assert!(reason.contains("Give the source another `name`"), "{reason}");
}

#[tokio::test]
async fn a_bridge_may_begin_at_the_end_and_stays_there() {
    let bench = Bench::new(r#"{"start":"latest"}"#).await;
    bench.produce(0, r#"{"message":"old"}"#, None).await;
    bench.run(0).await;
    bench.produce(0, r#"{"message":"new"}"#, None).await;
    bench.run(0).await;
    assert_eq!(bench.world.messages().await, ["new"]);
}

#[tokio::test]
async fn claims_reach_beyond_the_partitions_and_wait_for_them() {
    let bench = Bench::new("{}").await;
    let specs = bench.specs().await;
    assert_eq!(specs.len(), 16);
    assert_eq!(&*specs[3].name, "__highwater.bridge.kafka.app-logs.0/3");
    let (task, status, stop) = bench.start(3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(status.lock().state, TaskState::Waiting);
    stop.cancel();
    task.await.unwrap();
    // More partitions than one topic of ours stands for.
    bench.foreign.ensure_topic("wide", TopicConfig::with_partitions(17)).await.unwrap();
    let source = Arc::new(KafkaSourceConfig { topics: vec!["wide".into()], ..(*bench.source).clone() });
    let specs = claims(&source, &*bench.input, &*bench.output()).await.unwrap();
    assert_eq!(specs.len(), 32);
    assert_eq!(&*specs[16].name, "__highwater.bridge.kafka.wide.1/0");
    assert_eq!(specs[16].input.partition, 16);
    let committed = bench.world.log.committed(TASKS_GROUP).await.unwrap();
    assert_eq!(committed, [], "a bridge that waits commits nothing");
}

#[test]
fn configs_that_cannot_work_name_their_key() {
    let source = |yaml: &str| serde_json::from_str::<KafkaSourceConfig>(yaml).unwrap();
    let error = |yaml: &str| source(yaml).validate().unwrap_err().to_string();
    assert_eq!(error(r#"{"brokers":"","topics":["a"]}"#), "sources.kafka[kafka].brokers: name at least one host:port");
    assert!(error(r#"{"brokers":"k","topics":[]}"#).contains(".topics: "));
    assert!(error(r#"{"brokers":"k","topics":["a/b"]}"#).contains("is not a name that a topic can have"));
    assert!(error(r#"{"brokers":"k","topics":["a"],"name":"a b"}"#).contains(".name: "));
    assert!(error(r#"{"brokers":"k","topics":["a"],"tenant":".."}"#).contains(".tenant: "));
    assert!(error(r#"{"brokers":"k","topics":["a"],"signal":"metrics","format":"text"}"#).contains("no metric"));
    assert!(error(&format!(r#"{{"brokers":"k","topics":["{}"]}}"#, "t".repeat(249))).contains("249 bytes"));
    let twice = [source(r#"{"brokers":"k","topics":["a"]}"#), source(r#"{"brokers":"j","topics":["a"]}"#)];
    assert!(validate_all(&twice).unwrap_err().to_string().contains("give one of them another `name`"));
    let unknown = serde_json::from_str::<KafkaSourceConfig>(r#"{"brokers":"k","topics":["a"],"formt":"json"}"#);
    assert!(unknown.unwrap_err().to_string().contains("formt"));
}
