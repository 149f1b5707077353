#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use highwater_broker::fs::{Crash, SimFs};
use highwater_broker::{Broker, BrokerConfig, ManualClock};
use highwater_pipeline::log::{
    Append, CommittedOffset, EFFECT_HEADER, EffectMark, EmbeddedLog, Guard, Header, Log, Record, TASKS_GROUP,
    TopicConfig, TopicPartition,
};
use highwater_pipeline::runtime::snapshot::{SnapshotName, SnapshotStore, StateWriter};
use highwater_pipeline::storage::{Storage, open};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;
use crate::testing::MemoryLog;

fn storage() -> (tempfile::TempDir, Storage) {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path().to_str().unwrap()).unwrap();
    (dir, storage)
}

const CHECKS: TopicChecks<'_> = TopicChecks { guards: None, dense: &|_| true, chosen: &|_| true };

fn effect(task: &str, epoch: i32, position: i64, index: i32) -> Record {
    let header = Header::new(EFFECT_HEADER, format!("{task}\0{epoch}\0{position}\0{index}"));
    Record { value: Some(Bytes::from_static(b"v")), headers: vec![header], ..Record::default() }
}

async fn findings(log: &dyn Log, checks: &TopicChecks<'_>) -> Vec<String> {
    let (_dir, storage) = storage();
    let report = verify_topics(log, &storage, checks).await.unwrap();
    report.findings.iter().map(ToString::to_string).collect()
}

struct Bench {
    fs: SimFs,
    broker: Arc<Broker>,
    log: EmbeddedLog,
}

impl Bench {
    fn open(fs: SimFs) -> Self {
        let config = BrokerConfig { segment_size_bytes: 1 << 20, ..BrokerConfig::new("/data") };
        let broker = Arc::new(Broker::open(config, Arc::new(fs.clone()), Arc::new(ManualClock::new(0))).unwrap());
        Self { fs, log: EmbeddedLog::new(Arc::clone(&broker)), broker }
    }

    /// Effects of a task at these positions, one append each.
    async fn written(positions: i64) -> Self {
        let bench = Self::open(SimFs::new());
        bench.log.ensure_topic("out", TopicConfig::default()).await.unwrap();
        let epoch = bench.log.begin_task("in/0").await.unwrap();
        for position in 0..positions {
            let marks = (0..2).map(|index| EffectMark { position, index }).collect();
            let record = Record { value: Some(Bytes::from(vec![b'x'; 4 << 10])), ..Record::default() };
            let guard = Guard::Effects { task: "in/0".into(), epoch, marks };
            let records = vec![record.clone(), record];
            bench.log.append(Append { topic: "out".into(), partition: 0, records, guard }).await.unwrap();
        }
        bench
    }

    async fn report(&self) -> TopicsReport {
        let (_dir, storage) = storage();
        let mut guards = Guards::new();
        for topic in self.broker.topics() {
            for partition in 0..topic.config.partitions {
                let tasks = self.broker.recovered_tasks(&topic.name, partition).await.unwrap();
                let tasks = tasks.into_iter().map(|(task, state)| (task, state.mark)).collect();
                guards.insert(TopicPartition { topic: Arc::clone(&topic.name), partition }, tasks);
            }
        }
        let checks = TopicChecks { guards: Some(&guards), dense: &|_| true, chosen: &|_| true };
        verify_topics(&self.log, &storage, &checks).await.unwrap()
    }
}

#[tokio::test]
async fn a_log_with_effects_over_many_segments_is_clean() {
    let bench = Bench::written(300).await;
    assert!(bench.broker.describe_topic("out").unwrap()[0].segments > 2);
    let report = bench.report().await;
    assert!(report.is_clean(), "{report}");
    let out = report.partitions.iter().find(|p| p.topic == "out").unwrap();
    assert_eq!((out.from, out.to, out.records, out.effects), (0, 600, 600, 600));
    assert!(report.to_string().ends_with("clean: 1 partitions, 600 records, 0 tasks, 0 snapshots"), "{report}");
    // After a crash the same, and also where retention has taken the first segments.
    let fs = bench.fs.clone();
    drop(bench);
    fs.crash(Crash::LoseUnsynced);
    let bench = Bench::open(fs);
    bench.broker.delete_records("out", 0, 400).await.unwrap();
    let report = bench.report().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.partitions[0].records, 200);
}

#[tokio::test]
async fn a_flipped_bit_is_named_with_its_offsets() {
    let bench = Bench::written(300).await;
    let segment = Path::new("/data/topics/out/0/00000000000000000000.log");
    bench.fs.flip(segment, 20_000, 4).unwrap();
    let report = bench.report().await;
    // Each batch has two records of 4 KiB, so the bit is in the third.
    let said: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["topic out/0 offsets 4..6: damaged: no valid batch is there"]);
}

#[tokio::test]
async fn guards_that_do_not_fit_the_records_are_found() {
    let bench = Bench::written(3).await;
    let with = async |position: i64, index: i32| {
        let out = TopicPartition { topic: "out".into(), partition: 0 };
        let guards = Guards::from([(out, vec![("in/0".into(), EffectMark { position, index })])]);
        findings(&bench.log, &TopicChecks { guards: Some(&guards), dense: &|_| true, chosen: &|_| true }).await
    };
    assert_eq!(with(2, 1).await, [""; 0]);
    assert_eq!(
        with(2, 0).await,
        [
            "topic out/0 offsets 0..6: task in/0 has written up to effect 2.1, but recovery holds 2.0: effects would be repeated"
        ]
    );
    assert_eq!(
        with(3, 0).await,
        [
            "topic out/0 offsets 0..6: recovery holds effect 3.0 of task in/0, which is not in the log: effects would be swallowed"
        ]
    );
}

#[tokio::test]
async fn effects_twice_and_runs_that_were_replaced_are_found() {
    let log = MemoryLog::with_topic("out", 1);
    for (task, epoch, position, index) in
        [("a/0", 1, 4, 0), ("b/0", 7, 0, 0), ("a/0", 1, 4, 1), ("a/0", 1, 4, 1), ("a/0", 2, 5, 0), ("a/0", 1, 6, 0)]
    {
        log.push("out", 0, effect(task, epoch, position, index));
    }
    assert_eq!(
        findings(&*log, &CHECKS).await,
        [
            "topic out/0 offsets 3..4: effect 4.1 of task a/0 comes after 4.1: it is there twice, or out of order",
            "topic out/0 offsets 5..6: epoch 1 of task a/0 wrote after epoch 2 had begun",
        ]
    );
}

#[tokio::test]
async fn progress_and_snapshots_out_of_bounds_are_found() {
    let (_dir, storage) = storage();
    let log = MemoryLog::with_topic("in", 2);
    for _ in 0..10 {
        log.push("in", 0, Record::default());
        log.push("in", 1, Record::default());
    }
    log.trim("in", 1, 8);
    let at = |topic: &str, partition, offset| CommittedOffset {
        topic: topic.into(),
        partition,
        offset,
        metadata: String::new(),
    };
    let claim = at("__highwater.bridge.kafka.x.0", 0, 900);
    log.commit_offsets(TASKS_GROUP, &[at("in", 0, 5), at("in", 1, 9), claim], None).await.unwrap();
    let snapshots = SnapshotStore::new(Arc::clone(storage.objects()), "in/0");
    for offset in [3, 5] {
        snapshots.save(SnapshotName { offset, epoch: 1 }, StateWriter::new()).await.unwrap();
    }
    let report = verify_topics(&*log, &storage, &CHECKS).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.tasks, report.snapshots), (2, 2));

    log.commit_offsets(TASKS_GROUP, &[at("in", 0, 4), at("in", 1, 2), at("gone", 0, 1)], None).await.unwrap();
    let path = ObjectPath::from(format!("snapshots/in/0/{:020}-2.snap", 4));
    storage.objects().put(&path, PutPayload::from_static(b"HWSNAP")).await.unwrap();
    let report = verify_topics(&*log, &storage, &CHECKS).await.unwrap();
    let said: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{report}");
    assert_eq!(said[0], "topic gone/0 offsets 0..1: task gone/0 has committed 1 of a partition that is not there");
    assert_eq!(said[1], "topic in/0 offsets 4..5: a snapshot of task in/0 is at 5, above its committed offset 4");
    assert!(
        said[2].starts_with("topic in/0 offsets 4..4: the snapshot of task in/0 at 4 cannot be read: "),
        "{}",
        said[2]
    );
    assert_eq!(said[3], "topic in/1 offsets 2..8: task in/1 has committed 2, but its input begins at 8");

    log.commit_offsets(TASKS_GROUP, &[at("in", 1, 11)], None).await.unwrap();
    let report = verify_topics(&*log, &storage, &CHECKS).await.unwrap();
    assert!(report.to_string().contains("in/1 offsets 10..11: task in/1 has committed 11, but its input ends at 10"));
    assert!(report.to_string().ends_with("4 findings"), "{report}");
}
