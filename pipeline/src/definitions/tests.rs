//! Records, the fold over them, and several processes over one real log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Broker, BrokerConfig, RealFs, SystemClock, TopicConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{ConfigRecord, Definitions, DefinitionsError, Folded, History, TOPIC, Unreadable, content_hash};
use crate::log::{Append, EmbeddedLog, Guard, Log, Record, StoredRecord, TopicPartition};

fn stored(offset: i64, value: impl Into<String>) -> StoredRecord {
    StoredRecord { offset, timestamp_ms: 0, key: None, value: Some(value.into().into()), headers: Vec::new() }
}

fn written(offset: i64, record: &ConfigRecord) -> StoredRecord {
    let Record { value, headers, .. } = record.to_record().unwrap();
    StoredRecord { offset, timestamp_ms: 0, key: None, value, headers }
}

fn input(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

fn start(version: u32, from: &[(&str, i64)]) -> ConfigRecord {
    ConfigRecord::Start { version, from: from.iter().map(|&(name, offset)| (name.to_owned(), offset)).collect() }
}

/// A history of these records, and what each of them did.
fn folded(records: &[ConfigRecord]) -> (History, Vec<Folded>) {
    let mut history = History::default();
    let done = (0..).zip(records).map(|(offset, record)| history.fold(&written(offset, record)).unwrap()).collect();
    (history, done)
}

fn definitions(text: &str) -> ConfigRecord {
    ConfigRecord::definitions(&json!(text))
}

#[test]
fn a_record_is_as_the_format_says() {
    let record = ConfigRecord::definitions(&json!({"b": [1, "x"], "a": null}));
    let value: Value = serde_json::from_slice(&record.to_record().unwrap().value.unwrap()).unwrap();
    assert_eq!(
        value,
        json!({"format": 1, "kind": "definitions", "hash": content_hash(&json!({"a": null, "b": [1, "x"]})), "definitions": {"a": null, "b": [1, "x"]}})
    );
    assert_eq!(ConfigRecord::parse(&written(0, &record)), Ok(record));
    let start = start(3, &[("__highwater.partials/1", 42)]);
    let value: Value = serde_json::from_slice(&start.to_record().unwrap().value.unwrap()).unwrap();
    assert_eq!(value, json!({"format": 1, "kind": "start", "version": 3, "from": {"__highwater.partials/1": 42}}));
    assert_eq!(ConfigRecord::parse(&written(0, &start)), Ok(start));
}

#[test]
fn unknown_fields_are_passed_over_and_newer_formats_refused() {
    let record = r#"{"format":1,"kind":"start","version":2,"from":{"logs/0":7},"why":"because"}"#;
    assert_eq!(ConfigRecord::parse(&stored(0, record)), Ok(start(2, &[("logs/0", 7)])));
    assert_eq!(ConfigRecord::parse(&stored(0, r#"{"format":2,"kind":"other"}"#)), Err(Unreadable::Newer(2)));
    for foreign in
        ["", "no json", "{}", r#"{"format":1}"#, r#"{"format":1,"kind":"poem"}"#, r#"{"format":1,"kind":"start"}"#]
    {
        let parsed = ConfigRecord::parse(&stored(0, foreign));
        assert!(matches!(parsed, Err(Unreadable::Foreign(_))), "{foreign}: {parsed:?}");
        let mut history = History::default();
        assert!(matches!(history.fold(&stored(0, foreign)), Ok(Folded::Void(_))), "{foreign}");
    }
    let mut history = History::default();
    let error = history.fold(&stored(5, r#"{"format":9}"#)).unwrap_err();
    assert!(matches!(error, DefinitionsError::Newer { offset: 5, format: 9 }), "{error}");
    assert_eq!(history.next_offset(), 0, "nobody gets past it");
}

#[test]
fn the_hash_does_not_depend_on_the_order_of_keys() {
    let (a, b): (Value, Value) = (
        serde_json::from_str(r#"{"x":{"b":1,"a":"é\""},"y":[2,1]}"#).unwrap(),
        json!({"y": [2, 1], "x": {"a": "é\"", "b": 1}}),
    );
    assert_eq!(content_hash(&a), content_hash(&b));
    assert_ne!(content_hash(&a), content_hash(&json!({"y": [1, 2], "x": {"a": "é\"", "b": 1}})));
    assert_eq!(content_hash(&json!({})), format!("{:016x}", twox_hash::XxHash64::oneshot(0, b"{}")));
}

#[test]
fn a_version_applies_from_its_offsets_on() {
    let (history, done) = folded(&[
        definitions("a"),
        start(1, &[("logs/0", 100)]),
        definitions("b"),
        definitions("b"),
        start(2, &[("logs/0", 120), ("logs/1", 7)]),
        start(2, &[("logs/0", 500)]),
    ]);
    assert_eq!(done[..3], [Folded::Proposed(1), Folded::Started(1), Folded::Proposed(2)]);
    assert!(matches!(&done[3], Folded::Void(reason) if reason.contains("version 2")), "{done:?}");
    assert_eq!(done[4], Folded::Started(2));
    assert!(matches!(done[5], Folded::Void(_)), "the first start counts");
    let at = |topic, partition, offset| history.version_at(&input(topic, partition), offset).unwrap().number;
    assert_eq!((at("logs", 0, 0), at("logs", 0, 119), at("logs", 0, 120), at("logs", 0, 121)), (1, 1, 2, 2));
    assert_eq!((at("logs", 1, 6), at("logs", 1, 7)), (1, 2));
    assert_eq!(at("made.later", 0, 0), 2, "a partition that was not there has no records of before");
    assert_eq!(*history.newest().unwrap().definitions, json!("b"));
}

#[test]
fn a_version_without_a_start_is_skipped_once_a_newer_one_has_started() {
    let (history, done) = folded(&[
        definitions("a"),
        start(1, &[]),
        definitions("b"),
        definitions("c"),
        start(3, &[("logs/0", 10)]),
        start(2, &[("logs/0", 12)]),
        start(4, &[]),
        start(0, &[]),
    ]);
    assert_eq!(done[4], Folded::Started(3));
    assert!(done[5..].iter().all(|d| matches!(d, Folded::Void(_))), "{done:?}");
    assert_eq!(history.pending(), None);
    assert!(history.version(2).is_none());
    assert_eq!(history.version_at(&input("logs", 0), 12).unwrap().number, 3);
}

#[test]
fn a_version_never_starts_before_the_one_before_it() {
    // Whoever started the second read the end of logs/0 later than whoever started the third.
    let (history, _) = folded(&[
        definitions("a"),
        start(1, &[]),
        definitions("b"),
        definitions("c"),
        start(2, &[("logs/0", 12), ("logs/1", 3)]),
        start(3, &[("logs/0", 10), ("logs/1", 4)]),
    ]);
    let at = |partition, offset| history.version_at(&input("logs", partition), offset).unwrap().number;
    assert_eq!((at(0, 9), at(0, 11), at(0, 12)), (1, 1, 3));
    assert_eq!((at(1, 2), at(1, 3), at(1, 4)), (1, 2, 3));
}

async fn broker() -> (tempfile::TempDir, Arc<dyn Log>) {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::new(directory.path());
    let broker = Broker::open(config, Arc::new(RealFs), Arc::new(SystemClock)).unwrap();
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::new(broker)));
    log.ensure_topic("logs", TopicConfig::with_partitions(2)).await.unwrap();
    (directory, log)
}

async fn open(log: &Arc<dyn Log>) -> Arc<Definitions> {
    Definitions::open(Arc::clone(log), ["logs".into(), "not.there".into()]).await.unwrap()
}

async fn append(log: &Arc<dyn Log>, topic: &str, partition: i32, record: Record) {
    let append = Append { topic: topic.into(), partition, records: vec![record], guard: Guard::None };
    log.append(append).await.unwrap();
}

async fn config_records(log: &Arc<dyn Log>) -> Vec<ConfigRecord> {
    let fetched = log.read(TOPIC, 0, 0, 1 << 20, Duration::ZERO).await.unwrap();
    fetched.records.iter().map(|record| ConfigRecord::parse(record).unwrap()).collect()
}

fn row() -> Record {
    Record { value: Some(r#"{"message":"m"}"#.into()), ..Record::default() }
}

#[tokio::test]
async fn proposing_writes_definitions_and_their_start_once() {
    let (_directory, log) = broker().await;
    let here = open(&log).await;
    assert!(here.newest().is_none());
    assert_eq!(here.propose(&json!("a")).await.unwrap().unwrap().number, 1);
    append(&log, "logs", 1, row()).await;
    assert_eq!(here.propose(&json!("a")).await.unwrap().unwrap().number, 1);
    assert_eq!(here.propose(&json!("b")).await.unwrap().unwrap().number, 2);
    assert_eq!(
        config_records(&log).await,
        [
            definitions("a"),
            start(1, &[("logs/0", 0), ("logs/1", 0)]),
            definitions("b"),
            start(2, &[("logs/0", 0), ("logs/1", 1)]),
        ]
    );
    let there = open(&log).await;
    assert_eq!(there.newest(), here.newest());
    assert!(there.knows(&json!("a")) && !there.is_newest(&json!("a")) && there.is_newest(&json!("b")));
    assert_eq!(there.version_at(&input("logs", 1), 0).unwrap().number, 1);
}

#[tokio::test]
async fn definitions_whose_writer_has_died_are_started_by_whoever_meets_them() {
    let (_directory, log) = broker().await;
    let here = open(&log).await;
    here.propose(&json!("a")).await.unwrap();
    append(&log, TOPIC, 0, definitions("b").to_record().unwrap()).await;
    append(&log, "logs", 0, row()).await;
    here.catch_up().await.unwrap();
    assert_eq!(here.newest().unwrap().number, 2);
    assert_eq!(config_records(&log).await[3], start(2, &[("logs/0", 1), ("logs/1", 0)]));
}

#[tokio::test]
async fn processes_that_write_and_help_at_once_agree() {
    let (_directory, log) = broker().await;
    let processes = [open(&log).await, open(&log).await, open(&log).await];
    let writing = processes.iter().enumerate().map(|(index, process)| async move {
        for round in 0..20 {
            process.propose(&json!([index, round / 2])).await.unwrap().unwrap();
            process.catch_up().await.unwrap();
        }
    });
    futures::future::join_all(writing).await;
    let records = config_records(&log).await;
    let (whole, done) = folded(&records);
    for process in &processes {
        process.catch_up().await.unwrap();
        assert_eq!(process.newest().as_ref(), whole.newest());
    }
    let started = done.iter().filter(|d| matches!(d, Folded::Started(_))).count();
    let proposed = done.iter().filter(|d| matches!(d, Folded::Proposed(_))).count();
    assert!(started >= 3 && started <= proposed, "{started} of {proposed}");
}

#[tokio::test]
async fn followers_are_told() {
    let (_directory, log) = broker().await;
    let (here, there) = (open(&log).await, open(&log).await);
    let stop = CancellationToken::new();
    let following = tokio::spawn({
        let (there, stop) = (Arc::clone(&there), stop.clone());
        async move { there.follow(stop).await }
    });
    let mut changes = there.changes();
    here.propose(&json!("a")).await.unwrap();
    changes.wait_for(|&version| version == 1).await.unwrap();
    here.propose(&json!("b")).await.unwrap();
    changes.wait_for(|&version| version == 2).await.unwrap();
    assert_eq!(there.newest(), here.newest());
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn a_record_of_a_newer_version_stops_everybody() {
    let (_directory, log) = broker().await;
    let here = open(&log).await;
    here.propose(&json!("a")).await.unwrap();
    append(&log, TOPIC, 0, Record { value: Some(r#"{"format":2}"#.into()), ..Record::default() }).await;
    for _ in 0..2 {
        let error = here.catch_up().await.unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains("upgrade"), "{error}");
    }
    assert_eq!(here.newest().unwrap().number, 1);
}
