//! Topics, appends, offsets.

use std::time::Duration;

use bytes::Bytes;
use highwater_broker::TopicConfig;
use highwater_pipeline::log::{Append, Guard, Header, Log, LogError, Record};

use crate::fixture::unique;
use crate::world::{World, append, read_to_end, record, values, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_comes_back_as_it_went_in() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(2).await;
    let whole = Record {
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(b"\0value\xff")),
        headers: vec![Header::new("content-type", "text/plain"), Header { name: "none".into(), value: None }],
        timestamp_ms: None,
    };
    let empty = Record { value: Some(Bytes::new()), ..Record::default() };
    let tombstone = Record { key: Some(Bytes::from_static(b"k")), ..Record::default() };
    let records = vec![whole.clone(), empty.clone(), tombstone.clone()];
    let appended = world
        .log
        .append(Append { topic: topic.clone(), partition: 1, records: records.clone(), guard: Guard::None })
        .await
        .unwrap();
    assert_eq!((appended.base_offset, appended.last_offset), (0, 2));
    assert!(!appended.duplicate);
    let fetched = world.log.read(&topic, 1, 0, 1 << 20, Duration::from_secs(10)).await.unwrap();
    assert_eq!((fetched.next_offset, fetched.high_watermark, fetched.log_start), (3, 3, 0));
    for (i, (stored, sent)) in fetched.records.iter().zip(&records).enumerate() {
        assert_eq!(stored.offset, i as i64);
        assert_eq!((&stored.key, &stored.value, &stored.headers), (&sent.key, &sent.value, &sent.headers));
        assert_eq!(stored.timestamp_ms, appended.append_time_ms, "the broker's time, not ours");
    }
    assert_eq!(fetched.records.len(), 3);
    let other = world.log.offsets(&topic, 0).await.unwrap();
    assert_eq!((other.log_start, other.high_watermark), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_side_by_side_keep_their_records_together() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let writers = (0..20).map(|w| {
        let (log, topic) = (world.log.clone(), topic.clone());
        tokio::spawn(async move {
            let names: Vec<_> = (0..10).map(|i| format!("{w} {i}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let appended = write(&log, &topic, &names).await.unwrap();
            (w, appended)
        })
    });
    let appended = futures::future::join_all(writers).await;
    let (records, next) = read_to_end(&world.log, &topic, 0, 0).await;
    assert_eq!((records.len(), next), (200, 200));
    for result in appended {
        let (w, appended) = result.unwrap();
        assert_eq!(appended.last_offset, appended.base_offset + 9);
        for i in 0..10 {
            let (offset, value) = &records[appended.base_offset as usize + i];
            assert_eq!((*offset, value), (appended.base_offset + i as i64, &format!("{w} {i}")));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_have_our_settings() {
    let Some(world) = World::new() else { return };
    let name = unique("settings");
    assert_eq!(world.log.topic(&name).await.unwrap(), None);
    let config = TopicConfig {
        partitions: 3,
        retention_ms: None,
        retention_bytes: Some(1 << 30),
        segment_size_bytes: Some(2 << 20),
        ..TopicConfig::default()
    };
    let made = world.log.ensure_topic(&name, config.clone()).await.unwrap();
    assert_eq!((&*made.name, &made.config), (&*name, &config));
    // Again, and with other wishes, by another process: it is as it is.
    let other = world.another();
    let same = other.ensure_topic(&name, TopicConfig::with_partitions(9)).await.unwrap();
    assert_eq!(same, made, "and its id is the same for everybody");
    let listed = world.log.topics().await.unwrap();
    assert!(listed.contains(&made), "{listed:?}");
    assert!(listed.iter().all(|t| !t.name.starts_with("__consumer")), "Kafka's own are not ours");
    assert!(listed.is_sorted_by_key(|t| &t.name));
    let other_topic = world.log.ensure_topic(&unique("settings"), TopicConfig::default()).await.unwrap();
    assert_ne!(other_topic.id, made.id);

    world.log.delete_topic(&name).await.unwrap();
    assert_eq!(world.log.topic(&name).await.unwrap(), None);
    let again = world.log.delete_topic(&name).await;
    assert!(matches!(again, Err(LogError::UnknownTopicOrPartition { .. })), "{again:?}");
    let bad = world.log.ensure_topic("a b", TopicConfig::default()).await.unwrap_err();
    assert!(!bad.is_retryable() && bad.to_string().contains("a b"), "{bad}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_topics_and_partitions_are_named() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let nowhere: std::sync::Arc<str> = unique("nowhere").into();
    for (topic, partition) in [(&topic, 1), (&topic, -1), (&nowhere, 0)] {
        let wait = Duration::ZERO;
        let errors = [
            world.log.append(append(topic, partition, &["x"], Guard::None)).await.unwrap_err(),
            world.log.read(topic, partition, 0, 1, wait).await.unwrap_err(),
            world.log.offsets(topic, partition).await.unwrap_err(),
            world.log.offset_for_time(topic, partition, 0).await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(&error, LogError::UnknownTopicOrPartition { topic: t, partition: p } if **t == **topic && *p == partition),
                "{error:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_found_by_append_time() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let first = write(&world.log, &topic, &["a"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = write(&world.log, &topic, &["b"]).await.unwrap();
    assert!(second.append_time_ms > first.append_time_ms);
    let at = async |ms: i64| world.log.offset_for_time(&topic, 0, ms).await.unwrap();
    assert_eq!(at(i64::MIN).await, Some(0));
    assert_eq!(at(first.append_time_ms).await, Some(0));
    assert_eq!(at(first.append_time_ms + 1).await, Some(1));
    assert_eq!(at(second.append_time_ms).await, Some(1));
    assert_eq!(at(second.append_time_ms + 1).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_pass_and_too_large_ones_are_refused_for_good() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let large = "x".repeat(20 << 20);
    write(&world.log, &topic, &[&large]).await.unwrap();
    write(&world.log, &topic, &["small"]).await.unwrap();
    let found = values(&world.log, &topic).await;
    assert_eq!((found[0].len(), found[1].as_str()), (20 << 20, "small"));
    let too_large = "x".repeat((32 << 20) + (1 << 20));
    let error = write(&world.log, &topic, &[&too_large]).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("max_record_size_bytes"), "{error}");
    // And it broke nothing.
    write(&world.log, &topic, &["after"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_make_no_sense_are_refused() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let empty = Append { topic: topic.clone(), partition: 0, records: vec![], guard: Guard::None };
    assert!(!world.log.append(empty).await.unwrap_err().is_retryable());
    let guard = Guard::Effects { task: "logs/0".into(), epoch: 1, marks: vec![] };
    let effects = Append { topic, partition: 0, records: vec![record("x")], guard };
    let error = world.log.append(effects).await.unwrap_err();
    assert!(error.to_string().contains("commit_task"), "{error}");
}
