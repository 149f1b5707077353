#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::append::{EFFECT_HEADER, EffectMark, Guard, IDEMPOTENCY_HEADER};
use crate::clock::ManualClock;
use crate::config::{Durability, TimestampType};
use crate::fs::{Crash, RealFs, SimFs};
use crate::record::{Header, Record};

pub(super) const NOW: i64 = 1_700_000_000_000;

pub(super) struct Rig {
    pub(super) fs: SimFs,
    pub(super) clock: Arc<ManualClock>,
    pub(super) config: BrokerConfig,
}

impl Rig {
    pub(super) fn new() -> Self {
        let config = BrokerConfig { segment_size_bytes: 64 << 10, ..BrokerConfig::new("/data") };
        Self { fs: SimFs::new(), clock: Arc::new(ManualClock::new(NOW)), config }
    }

    pub(super) fn open(&self) -> Broker {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Broker, BrokerError> {
        Broker::open(self.config.clone(), Arc::new(self.fs.clone()), Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    pub(super) fn look(&self) -> Broker {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Broker::open_read_only("/data", Arc::new(self.fs.clone()), clock).unwrap()
    }
}

fn record(value: impl Into<String>) -> Record {
    Record { value: Some(Bytes::from(value.into())), ..Record::default() }
}

pub(super) fn plain(topic: &str, partition: i32, value: impl Into<String>) -> Append {
    Append { topic: Arc::from(topic), partition, records: vec![record(value)], guard: Guard::None }
}

fn effect(topic: &str, task: &str, epoch: i32, position: i64) -> Append {
    let marks = vec![EffectMark { position, index: 0 }];
    let guard = Guard::Effects { task: Arc::from(task), epoch, marks };
    Append { guard, ..plain(topic, 0, format!("{task} {position}")) }
}

pub(super) async fn values(broker: &Broker, topic: &str, partition: i32) -> Vec<String> {
    let PartitionOffsets { log_start, high_watermark } = broker.offsets(topic, partition).unwrap();
    let (mut at, mut values) = (log_start, Vec::new());
    while at < high_watermark {
        let fetched = broker.read(topic, partition, at, 1 << 20, Duration::ZERO).await.unwrap();
        values.extend(fetched.records.iter().map(|r| String::from_utf8(r.value.as_ref().unwrap().to_vec()).unwrap()));
        at = fetched.next_offset;
    }
    values
}

pub(super) fn offset(topic: &str, partition: i32, offset: i64) -> GroupOffset {
    GroupOffset { topic: Arc::from(topic), partition, offset, metadata: "note".into() }
}

#[tokio::test]
async fn what_is_appended_is_read_also_after_a_restart() {
    let rig = Rig::new();
    let broker = rig.open();
    let info = broker.ensure_topic("logs", TopicConfig::with_partitions(2)).await.unwrap();
    assert_eq!(broker.topic("logs").unwrap(), info);
    let appended = broker.append(plain("logs", 1, "one")).await.unwrap();
    assert_eq!((appended.base_offset, appended.last_offset, appended.append_time_ms), (0, 0, NOW));
    broker.append(plain("logs", 1, "two")).await.unwrap();
    assert_eq!(values(&broker, "logs", 1).await, ["one", "two"]);
    assert_eq!(values(&broker, "logs", 0).await, Vec::<String>::new());
    for crash in [Crash::Kill, Crash::LoseUnsynced] {
        rig.fs.crash(crash);
        let broker = rig.open();
        assert_eq!(broker.topics(), std::slice::from_ref(&info));
        assert_eq!(values(&broker, "logs", 1).await, ["one", "two"]);
        assert_eq!(broker.offsets("logs", 1).unwrap(), PartitionOffsets { log_start: 0, high_watermark: 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_share_syncs_and_none_is_lost() {
    let rig = Rig::new();
    let broker = Arc::new(rig.open());
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    let before = rig.fs.sync_count();
    let appends = (0..500).map(|i| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.append(plain("logs", 0, format!("v{i}"))).await.unwrap().base_offset })
    });
    let handles: Vec<_> = appends.collect();
    let mut offsets = Vec::new();
    for (i, handle) in handles.into_iter().enumerate() {
        offsets.push((handle.await.unwrap(), format!("v{i}")));
    }
    let syncs = rig.fs.sync_count() - before;
    assert!((1..500).contains(&syncs), "{syncs} syncs for 500 appends");
    offsets.sort();
    assert!(offsets.iter().enumerate().all(|(i, (offset, _))| *offset == i as i64));
    rig.fs.crash(Crash::LoseUnsynced);
    let expected: Vec<String> = offsets.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values(&rig.open(), "logs", 0).await, expected, "an ack means synced");
}

#[tokio::test]
async fn a_read_waits_for_records() {
    let rig = Rig::new();
    let broker = Arc::new(rig.open());
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    let empty = broker.read("logs", 0, 0, 1000, Duration::from_millis(10)).await.unwrap();
    assert_eq!((empty.records.len(), empty.next_offset, empty.high_watermark), (0, 0, 0));
    let reader = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.read("logs", 0, 0, 1000, Duration::from_secs(60)).await.unwrap() }
    });
    tokio::task::yield_now().await;
    broker.append(plain("logs", 0, "one")).await.unwrap();
    assert_eq!(reader.await.unwrap().records.len(), 1);
    let error = broker.read("logs", 0, 5, 1000, Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(error, BrokerError::OffsetOutOfRange { offset: 5, .. }), "{error}");
}

#[tokio::test]
async fn a_waiting_reader_learns_that_the_topic_is_deleted_or_the_broker_shut_down() {
    let rig = Rig::new();
    let broker = Arc::new(rig.open());
    for stop in ["delete", "shutdown"] {
        broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
        let reader = tokio::spawn({
            let broker = Arc::clone(&broker);
            async move { broker.read("logs", 0, 0, 1000, Duration::from_secs(60)).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        if stop == "delete" {
            broker.delete_topic("logs").await.unwrap();
            assert!(matches!(reader.await.unwrap(), Err(BrokerError::UnknownTopicOrPartition { .. })));
        } else {
            broker.shutdown().await;
            assert!(matches!(reader.await.unwrap(), Err(BrokerError::Closed)));
        }
    }
}

#[tokio::test]
async fn topics_are_created_once_and_deleted_with_all_they_had() {
    let rig = Rig::new();
    let broker = rig.open();
    let config = TopicConfig {
        partitions: 3,
        retention_ms: Some(5),
        timestamp_type: TimestampType::CreateTime,
        ..TopicConfig::default()
    };
    let first = broker.ensure_topic("a.b-c_d", config.clone()).await.unwrap();
    assert_eq!(broker.ensure_topic("a.b-c_d", TopicConfig::default()).await.unwrap(), first);
    assert_eq!(first.config, config);
    broker.ensure_topic("other", TopicConfig::default()).await.unwrap();
    broker.append(plain("a.b-c_d", 2, "x")).await.unwrap();
    broker.commit_offsets("g", vec![offset("a.b-c_d", 2, 1), offset("other", 0, 0)], None).await.unwrap();
    broker.delete_topic("a.b-c_d").await.unwrap();
    assert_eq!(broker.topics().iter().map(|t| t.name.to_string()).collect::<Vec<_>>(), ["other"]);
    assert_eq!(broker.committed("g"), [offset("other", 0, 0)]);
    let error = broker.append(plain("a.b-c_d", 0, "x")).await.unwrap_err();
    assert!(matches!(error, BrokerError::UnknownTopicOrPartition { .. }), "{error}");
    assert!(matches!(broker.delete_topic("a.b-c_d").await, Err(BrokerError::UnknownTopicOrPartition { .. })));
    drop(broker);
    rig.fs.crash(Crash::LoseUnsynced);
    let broker = rig.open();
    assert_eq!(broker.topics().len(), 1);
    let again = broker.ensure_topic("a.b-c_d", TopicConfig::default()).await.unwrap();
    assert_ne!(again.id, first.id);
    assert_eq!(broker.offsets("a.b-c_d", 0).unwrap(), PartitionOffsets { log_start: 0, high_watermark: 0 });
    assert_eq!(broker.committed("g"), [offset("other", 0, 0)]);
    let names: Vec<String> = rig.fs.read_dir(Path::new("/data/topics")).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["a.b-c_d", "other"], "nothing is left lying about");
}

#[tokio::test]
async fn names_that_are_no_names_are_refused() {
    let rig = Rig::new();
    let broker = rig.open();
    for name in ["", ".", "..", "a/b", "../etc", "a\0", "ü", "a b", "~deleted~", &"x".repeat(250)] {
        let error = broker.ensure_topic(name, TopicConfig::default()).await.unwrap_err();
        assert!(matches!(error, BrokerError::InvalidTopicName { .. }), "{name:?}: {error}");
    }
    broker.ensure_topic(&"x".repeat(249), TopicConfig::default()).await.unwrap();
    let error = broker.ensure_topic("t", TopicConfig::with_partitions(0)).await.unwrap_err();
    assert!(matches!(error, BrokerError::InvalidConfig { .. }), "{error}");
}

#[tokio::test]
async fn a_topic_is_there_whole_or_not_at_all_after_any_power_loss() {
    for seed in 0..40 {
        let rig = Rig::new();
        let broker = rig.open();
        broker.ensure_topic("kept", TopicConfig::with_partitions(2)).await.unwrap();
        broker.append(plain("kept", 1, "x")).await.unwrap();
        rig.fs.fail_next_sync(["/data/topics", "topic.json", "~creating~"][seed as usize % 3]);
        broker.ensure_topic("doubtful", TopicConfig::with_partitions(3)).await.unwrap_err();
        rig.fs.crash(Crash::Tear(seed));
        drop(broker);
        let broker = rig.open();
        assert_eq!(values(&broker, "kept", 1).await, ["x"]);
        let info = broker.ensure_topic("doubtful", TopicConfig::with_partitions(3)).await.unwrap();
        assert_eq!(info.config.partitions, 3);
        assert_eq!(broker.append(plain("doubtful", 2, "y")).await.unwrap().base_offset, 0);
    }
}

#[tokio::test]
async fn a_damaged_topic_file_is_named_not_guessed() {
    let rig = Rig::new();
    rig.open().ensure_topic("logs", TopicConfig::default()).await.unwrap();
    rig.fs.flip(Path::new("/data/topics/logs/topic.json"), 30, 1).unwrap();
    let error = rig.try_open().unwrap_err();
    assert!(
        matches!(error, BrokerError::Corrupt { .. }) && error.to_string().contains("topics/logs/topic.json"),
        "{error}"
    );
}

#[tokio::test]
async fn a_new_epoch_fences_appends_and_commits_of_the_old_one() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("out", TopicConfig::default()).await.unwrap();
    let first = broker.begin_task("logs/0").await.unwrap();
    assert_eq!(first, 1);
    broker.append(effect("out", "logs/0", first, 10)).await.unwrap();
    broker.commit_offsets("g", vec![offset("out", 0, 1)], Some(("logs/0", first))).await.unwrap();
    let second = broker.begin_task("logs/0").await.unwrap();
    // Fenced at once, also where the new run has written nothing yet.
    let error = broker.append(effect("out", "logs/0", first, 11)).await.unwrap_err();
    assert!(matches!(error, BrokerError::Fenced { epoch: 1, current: 2, .. }), "{error}");
    let error = broker.commit_offsets("g", vec![offset("out", 0, 9)], Some(("logs/0", first))).await.unwrap_err();
    assert!(matches!(error, BrokerError::Fenced { .. }), "{error}");
    assert_eq!(broker.append(effect("out", "logs/0", second, 10)).await.unwrap().suppressed, 1);
    assert_eq!(broker.append(effect("out", "logs/0", second, 11)).await.unwrap().suppressed, 0);
    assert_eq!(values(&broker, "out", 0).await, ["logs/0 10", "logs/0 11"]);
    let error = broker.append(effect("out", "never begun", 1, 0)).await.unwrap_err();
    assert!(matches!(error, BrokerError::Fenced { current: 0, .. }), "{error}");
    drop(broker);
    rig.fs.crash(Crash::LoseUnsynced);
    let broker = rig.open();
    assert_eq!(broker.begin_task("logs/0").await.unwrap(), 3);
    assert_eq!(broker.committed("g"), [offset("out", 0, 1)]);
}

#[tokio::test]
async fn epochs_rise_above_what_partitions_have_seen_though_their_journal_is_gone() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("out", TopicConfig::default()).await.unwrap();
    for _ in 0..4 {
        broker.begin_task("t").await.unwrap();
    }
    broker.append(effect("out", "t", 4, 1)).await.unwrap();
    drop(broker);
    rig.fs.remove_dir_all(Path::new("/data/groups")).unwrap();
    assert_eq!(rig.open().begin_task("t").await.unwrap(), 5);
}

#[tokio::test]
async fn a_request_repeated_with_its_key_is_applied_once() {
    let rig = Rig::new();
    let keyed = |value: &str| Append {
        guard: Guard::Idempotency { scope: Arc::from("tenant\0key") },
        ..plain("logs", 0, value)
    };
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    broker.append(plain("logs", 0, "before")).await.unwrap();
    let first = broker.append(keyed("a")).await.unwrap();
    assert_eq!(broker.append(keyed("a")).await.unwrap(), Appended { duplicate: true, ..first });
    rig.fs.crash(Crash::LoseUnsynced);
    let broker = rig.open();
    assert_eq!(broker.append(keyed("a")).await.unwrap(), Appended { duplicate: true, ..first });
    rig.clock.advance_ms(crate::IDEMPOTENCY_HORIZON_MS);
    assert!(!broker.append(keyed("a")).await.unwrap().duplicate);
    assert_eq!(values(&broker, "logs", 0).await, ["before", "a", "a"]);
}

#[tokio::test]
async fn appends_that_contradict_themselves_are_refused() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    let mark = |position| EffectMark { position, index: 0 };
    let guarded = |marks: Vec<EffectMark>| Append {
        records: vec![record("a"), record("b")],
        guard: Guard::Effects { task: Arc::from("t"), epoch: 1, marks },
        ..plain("logs", 0, "")
    };
    let with_header = |name: &str| {
        let mut append = plain("logs", 0, "x");
        append.records[0].headers.push(Header::new(name, "forged"));
        append
    };
    let bad = [
        Append { records: vec![], ..plain("logs", 0, "") },
        guarded(vec![mark(1)]),
        guarded(vec![mark(2), mark(1)]),
        guarded(vec![mark(1), mark(1)]),
        with_header(EFFECT_HEADER),
        with_header(IDEMPOTENCY_HEADER),
        Append { guard: Guard::Idempotency { scope: Arc::from("x".repeat(2000)) }, ..plain("logs", 0, "x") },
    ];
    for append in bad {
        let error = broker.append(append).await.unwrap_err();
        assert!(matches!(error, BrokerError::InvalidRequest { .. }) && !error.is_retryable(), "{error}");
    }
    for (topic, partition) in [("logs", 1), ("logs", -1), ("nope", 0)] {
        let error = broker.append(plain(topic, partition, "x")).await.unwrap_err();
        assert!(matches!(error, BrokerError::UnknownTopicOrPartition { .. }), "{error}");
    }
    let error = broker.append(plain("logs", 0, "x".repeat(33 << 20))).await.unwrap_err();
    assert!(matches!(error, BrokerError::BatchTooLarge { .. }), "{error}");
    assert_eq!(broker.offsets("logs", 0).unwrap().high_watermark, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_wait_while_too_much_is_in_flight() {
    let mut rig = Rig::new();
    rig.config.max_batch_size_bytes = 10_000;
    rig.config.max_in_flight_bytes = 10_000;
    let broker = Arc::new(rig.open());
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    let appends = (0..50).map(|i| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.append(plain("logs", 0, format!("{i}{}", "x".repeat(6000)))).await.unwrap() })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
    assert_eq!(broker.offsets("logs", 0).unwrap().high_watermark, 50);
    assert_eq!(broker.in_flight.available_permits(), 10_000, "all is given back");
}

#[tokio::test]
async fn a_full_disk_is_a_retryable_refusal_and_reads_go_on() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    broker.append(plain("logs", 0, "one")).await.unwrap();
    rig.fs.set_capacity(Some(rig.fs.used_bytes()));
    let big = || plain("logs", 0, "x".repeat(100_000));
    assert!(broker.append(big()).await.unwrap_err().is_retryable());
    rig.fs.set_capacity(Some(rig.fs.used_bytes()));
    assert!(broker.ensure_topic("more", TopicConfig::default()).await.unwrap_err().is_retryable());
    assert_eq!(values(&broker, "logs", 0).await, ["one"]);
    rig.fs.set_capacity(None);
    assert_eq!(broker.append(big()).await.unwrap().base_offset, 1);
    broker.ensure_topic("more", TopicConfig::default()).await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_is_answered_as_a_failure_and_stops_only_its_partition() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::with_partitions(2)).await.unwrap();
    broker.append(plain("logs", 0, "one")).await.unwrap();
    rig.fs.fail_next_sync("logs/0/");
    for _ in 0..2 {
        let error = broker.append(plain("logs", 0, "two")).await.unwrap_err();
        assert!(matches!(error, BrokerError::Stopped { .. }) && !error.is_retryable(), "{error}");
    }
    assert_eq!(values(&broker, "logs", 0).await, ["one"]);
    broker.append(plain("logs", 1, "other")).await.unwrap();
    let described = broker.describe_topic("logs").unwrap();
    assert!(described[0].stopped.as_ref().unwrap().contains("injected"));
    assert_eq!(described[1].stopped, None);
}

#[tokio::test]
async fn only_one_broker_runs_on_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Broker::open(BrokerConfig::new(dir.path()), Arc::new(RealFs), Arc::new(crate::SystemClock));
    let broker = open().unwrap();
    let error = open().unwrap_err();
    assert!(matches!(error, BrokerError::Locked { .. }) && error.to_string().contains("another highwater process"));
    broker.shutdown().await;
    let again = open().unwrap();
    drop(again);
    open().unwrap();
}

#[tokio::test]
async fn shutdown_finishes_what_is_on_its_way_and_refuses_the_rest() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    broker.append(plain("logs", 0, "one")).await.unwrap();
    broker.shutdown().await;
    broker.shutdown().await;
    assert!(matches!(broker.append(plain("logs", 0, "two")).await, Err(BrokerError::Closed)));
    assert!(matches!(broker.begin_task("t").await, Err(BrokerError::Closed)));
    assert_eq!(values(&broker, "logs", 0).await, ["one"], "reads go on");
    rig.fs.crash(Crash::LoseUnsynced);
    assert_eq!(values(&rig.open(), "logs", 0).await, ["one"]);
}

#[tokio::test]
async fn the_data_directory_can_be_read_beside_a_running_broker() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::with_partitions(2)).await.unwrap();
    broker.append(plain("logs", 0, "one")).await.unwrap();
    broker.commit_offsets("g", vec![offset("logs", 0, 1)], None).await.unwrap();
    let reader = rig.look();
    broker.append(plain("logs", 0, "two")).await.unwrap();
    assert_eq!(values(&reader, "logs", 0).await, ["one"]);
    assert_eq!(reader.committed("g"), [offset("logs", 0, 1)]);
    assert_eq!(reader.topics(), broker.topics());
    assert_eq!(values(&rig.look(), "logs", 0).await, ["one", "two"]);
    let refusals = [
        reader.append(plain("logs", 0, "x")).await.err(),
        reader.ensure_topic("new", TopicConfig::default()).await.err(),
        reader.delete_topic("logs").await.err(),
        reader.begin_task("t").await.err(),
        reader.commit_offsets("g", vec![], None).await.err(),
        reader.delete_records("logs", 0, 1).await.err(),
        reader.apply_retention().await.err(),
    ];
    for error in refusals {
        assert!(matches!(error, Some(BrokerError::ReadOnly { .. })), "{error:?}");
    }
    assert_eq!(broker.append(plain("logs", 0, "three")).await.unwrap().base_offset, 2);
}

#[tokio::test]
async fn retention_frees_what_is_old_but_not_what_a_table_still_needs() {
    let rig = Rig::new();
    let broker = rig.open();
    let config = TopicConfig { retention_ms: Some(1000), ..TopicConfig::default() };
    broker.ensure_topic("logs", config).await.unwrap();
    for i in 0..30 {
        broker.append(plain("logs", 0, format!("{i} {}", "x".repeat(10_000)))).await.unwrap();
    }
    let segments = broker.describe_topic("logs").unwrap()[0].segments;
    assert!(segments >= 4, "{segments}");
    broker.commit_offsets("__highwater.table.logs", vec![offset("logs", 0, 13)], None).await.unwrap();
    broker.commit_offsets("somebody", vec![offset("logs", 0, 0)], None).await.unwrap();
    assert_eq!(broker.apply_retention().await.unwrap(), 0);
    rig.clock.advance_ms(2000);
    assert!(broker.apply_retention().await.unwrap() > 50_000);
    let log_start = broker.offsets("logs", 0).unwrap().log_start;
    assert!((7..=13).contains(&log_start), "{log_start}");
    broker.commit_offsets("__highwater.table.logs", vec![offset("logs", 0, 30)], None).await.unwrap();
    broker.apply_retention().await.unwrap();
    assert_eq!(broker.offsets("logs", 0).unwrap(), PartitionOffsets { log_start: 30, high_watermark: 30 });
}

#[tokio::test]
async fn the_disk_limit_frees_the_oldest_even_unread() {
    let mut rig = Rig::new();
    rig.config.disk_limit_bytes = Some(200_000);
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig { retention_ms: None, ..TopicConfig::default() }).await.unwrap();
    broker.commit_offsets("__highwater.table.logs", vec![offset("logs", 0, 0)], None).await.unwrap();
    for i in 0..40 {
        broker.append(plain("logs", 0, format!("{i} {}", "x".repeat(10_000)))).await.unwrap();
    }
    let freed = broker.apply_retention().await.unwrap();
    let described = &broker.describe_topic("logs").unwrap()[0];
    assert!(freed > 0 && described.size_bytes <= 200_000, "{freed} {described:?}");
    assert!(described.offsets.log_start > 0);
    assert_eq!(broker.apply_retention().await.unwrap(), 0);
}

#[tokio::test]
async fn records_are_deleted_on_request() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    for i in 0..3 {
        broker.append(plain("logs", 0, i.to_string())).await.unwrap();
    }
    for offset in [-1, 4] {
        let error = broker.delete_records("logs", 0, offset).await.unwrap_err();
        assert!(matches!(error, BrokerError::OffsetOutOfRange { .. }), "{error}");
    }
    assert_eq!(broker.delete_records("logs", 0, 2).await.unwrap(), 2);
    assert_eq!(values(&broker, "logs", 0).await, ["2"]);
    rig.fs.crash(Crash::LoseUnsynced);
    assert_eq!(values(&rig.open(), "logs", 0).await, ["2"]);
}

#[tokio::test]
async fn commits_for_what_is_not_there_are_refused_whole() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    let error = broker.commit_offsets("g", vec![offset("logs", 0, 1), offset("nope", 0, 1)], None).await.unwrap_err();
    assert!(matches!(error, BrokerError::UnknownTopicOrPartition { .. }), "{error}");
    assert_eq!((broker.committed("g"), broker.groups()), (vec![], vec![]));
}

#[tokio::test]
async fn relaxed_durability_acknowledges_early_but_shows_only_what_is_synced() {
    let mut rig = Rig::new();
    rig.config.durability = Durability::Relaxed;
    rig.config.relaxed_sync_interval_ms = 3_600_000;
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    let epoch = broker.begin_task("t").await.unwrap();
    assert_eq!(broker.append(plain("logs", 0, "early")).await.unwrap().base_offset, 0);
    assert_eq!(broker.offsets("logs", 0).unwrap().high_watermark, 0);
    // An effect of a task is synced, and what was written before it with it.
    broker.append(effect("logs", "t", epoch, 1)).await.unwrap();
    assert_eq!(values(&broker, "logs", 0).await, ["early", "t 1"]);
    broker.append(plain("logs", 0, "lost")).await.unwrap();
    rig.fs.crash(Crash::LoseUnsynced);
    assert_eq!(values(&rig.open(), "logs", 0).await, ["early", "t 1"]);
}

#[tokio::test]
async fn relaxed_durability_syncs_within_its_interval() {
    let mut rig = Rig::new();
    rig.config.durability = Durability::Relaxed;
    rig.config.relaxed_sync_interval_ms = 5;
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    broker.append(plain("logs", 0, "early")).await.unwrap();
    let fetched = broker.read("logs", 0, 0, 1000, Duration::from_secs(60)).await.unwrap();
    assert_eq!(fetched.records.len(), 1);
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.ensure_topic("logs", TopicConfig::default()).await.unwrap();
    for i in 0..5 {
        rig.clock.set_ms(NOW + i * 100);
        broker.append(plain("logs", 0, i.to_string())).await.unwrap();
    }
    assert_eq!(broker.offset_for_time("logs", 0, NOW + 101).await.unwrap(), Some(2));
    assert_eq!(broker.offset_for_time("logs", 0, NOW + 401).await.unwrap(), None);
}

#[tokio::test]
async fn it_works_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig { segment_size_bytes: 1 << 20, ..BrokerConfig::new(dir.path().join("data")) };
    let open = || Broker::open(config.clone(), Arc::new(RealFs), Arc::new(crate::SystemClock)).unwrap();
    let broker = open();
    broker.ensure_topic("logs", TopicConfig::with_partitions(2)).await.unwrap();
    let value = |i: usize| format!("{i} {}", "x".repeat(16 << 10));
    for i in 0..200 {
        broker.append(plain("logs", (i % 2) as i32, value(i))).await.unwrap();
    }
    broker.commit_offsets("g", vec![offset("logs", 0, 7)], None).await.unwrap();
    assert!(broker.describe_topic("logs").unwrap()[0].segments >= 2);
    drop(broker);
    let broker = open();
    for partition in 0..2 {
        let expected: Vec<String> = (0..200).filter(|i| i % 2 == partition).map(value).collect();
        assert_eq!(values(&broker, "logs", partition as i32).await, expected);
    }
    assert_eq!(broker.committed("g"), [offset("logs", 0, 7)]);
    broker.delete_topic("logs").await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("data/topics")).unwrap().count(), 0);
}
