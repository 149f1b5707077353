//! Topics that change while they are in use, and compaction by the broker's own hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;

use super::tests::{Rig, offset, plain, values};
use super::*;
use crate::append::Guard;
use crate::fs::Crash;
use crate::record::Record;
use crate::topic_config::{CleanupPolicy, SettingChange};

fn keyed(topic: &str, key: &str, value: Option<&str>) -> Append {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let record = Record { key: Some(bytes(key)), value: value.map(bytes), ..Record::default() };
    Append { topic: Arc::from(topic), partition: 0, records: vec![record], guard: Guard::None }
}

fn compacted() -> TopicConfig {
    TopicConfig {
        cleanup: CleanupPolicy::Compact,
        segment_ms: Some(1000),
        min_dirty_ratio_ppm: 0,
        delete_retention_ms: 5000,
        ..TopicConfig::default()
    }
}

#[tokio::test]
async fn altered_settings_hold_for_running_partitions_and_after_a_restart() {
    let rig = Rig::new();
    let broker = rig.open();
    let info = broker.create_topic("t", TopicConfig::kafka(2)).await.unwrap();
    let large = "x".repeat(2000);
    broker.append(plain("t", 1, large.clone())).await.unwrap();
    let changes = [SettingChange::set("max.message.bytes", "1000"), SettingChange::set("segment.ms", "50")];
    let altered = broker.alter_topic("t", &changes).await.unwrap();
    assert_eq!((altered.id, altered.config.max_batch_size_bytes), (info.id, Some(1000)));
    let refused = broker.append(plain("t", 1, large.clone())).await.unwrap_err();
    assert!(matches!(refused, BrokerError::BatchTooLarge { limit_bytes: 1000, .. }), "{refused}");
    rig.clock.advance_ms(60);
    broker.apply_retention().await.unwrap();
    assert_eq!(broker.describe_topic("t").unwrap()[1].segments, 2, "closed by its age");
    assert!(broker.alter_topic("t", &[SettingChange::set("segment.ms", "0")]).await.is_err());
    assert!(broker.alter_topic("none", &[]).await.is_err());
    drop(broker);
    rig.fs.crash(Crash::LoseUnsynced);
    let broker = rig.open();
    assert_eq!(broker.topic("t").unwrap(), altered);
    assert!(broker.append(plain("t", 0, large)).await.is_err());
}

#[tokio::test]
async fn new_partitions_are_usable_at_once_and_after_a_restart() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.create_topic("t", TopicConfig::kafka(1)).await.unwrap();
    broker.append(plain("t", 0, "old")).await.unwrap();
    assert!(broker.append(plain("t", 2, "early")).await.is_err());
    let info = broker.add_partitions("t", 3).await.unwrap();
    assert_eq!(info.config.partitions, 3);
    broker.append(plain("t", 2, "new")).await.unwrap();
    for asked in [3, 2, 10_001] {
        let refused = broker.add_partitions("t", asked).await.unwrap_err();
        assert!(matches!(refused, BrokerError::InvalidPartitions { now: 3, .. }), "{refused}");
    }
    drop(broker);
    rig.fs.crash(Crash::LoseUnsynced);
    let broker = rig.open();
    assert_eq!(broker.topic("t").unwrap(), info);
    assert_eq!(values(&broker, "t", 0).await, ["old"]);
    assert_eq!(values(&broker, "t", 2).await, ["new"]);
}

#[tokio::test]
async fn dying_at_any_step_of_a_change_leaves_it_done_or_not_done() {
    let mut step = 0;
    loop {
        let rig = Rig::new();
        let broker = rig.open();
        let before = broker.create_topic("t", TopicConfig::kafka(1)).await.unwrap();
        rig.fs.die_after(step);
        let added = broker.add_partitions("t", 3).await;
        let altered = broker.alter_topic("t", &[SettingChange::set("retention.ms", "5")]).await;
        drop(broker);
        rig.fs.crash(Crash::Tear(step));
        let broker = rig.open();
        let now = broker.topic("t").unwrap();
        assert_eq!(now.id, before.id);
        assert!(now.config.partitions == 3 || now.config.partitions == 1 && added.is_err(), "step {step}");
        assert!(now.config.retention_ms == Some(5) || altered.is_err(), "step {step}");
        for partition in 0..now.config.partitions {
            broker.append(plain("t", partition, "x")).await.unwrap();
        }
        assert_eq!(broker.describe_topic("t").unwrap().len(), now.config.partitions as usize);
        if now.config.partitions == 1 {
            broker.add_partitions("t", 3).await.unwrap();
            broker.append(plain("t", 2, "x")).await.unwrap();
        }
        if added.is_ok() && altered.is_ok() {
            break;
        }
        step += 1;
    }
    assert!(step > 10, "{step}");
}

#[tokio::test]
async fn a_compacted_topic_keeps_the_newest_and_nothing_that_a_table_has_to_read() {
    let rig = Rig::new();
    let broker = rig.open();
    broker.create_topic("t", compacted()).await.unwrap();
    for i in 0..4 {
        broker.append(keyed("t", "a", Some(&format!("a{i}")))).await.unwrap();
        broker.append(keyed("t", &format!("k{i}"), Some("once"))).await.unwrap();
        rig.clock.advance_ms(1000);
        broker.apply_retention().await.unwrap();
    }
    let all = ["once", "once", "once", "a3", "once"];
    assert_eq!(values(&broker, "t", 0).await, all);
    assert!(broker.append(plain("t", 0, "no key")).await.is_err());

    let held = format!("{HOLDING_GROUP_PREFIX}tables.t");
    broker.commit_offsets(&held, vec![offset("t", 0, 8)], None).await.unwrap();
    assert_eq!(broker.held_back("t", 0), Some(8));
    broker.append(keyed("t", "a", Some("a4"))).await.unwrap();
    broker.append(keyed("t", "a", None)).await.unwrap();
    rig.clock.advance_ms(1000);
    broker.apply_retention().await.unwrap();
    assert_eq!(broker.offsets("t", 0).unwrap().high_watermark, 10);
    let read = broker.read("t", 0, 8, 1 << 20, Duration::ZERO).await.unwrap();
    assert_eq!(read.records.len(), 2, "the table has not read them");
    broker.commit_offsets(&held, vec![offset("t", 0, 10)], None).await.unwrap();
    broker.apply_retention().await.unwrap();
    let read = broker.read("t", 0, 6, 1 << 20, Duration::ZERO).await.unwrap();
    assert_eq!(
        read.records.iter().map(|r| r.offset).collect::<Vec<_>>(),
        [7, 9],
        "the value went, the tombstone stays"
    );
    drop(broker);
    rig.fs.crash(Crash::LoseUnsynced);

    let broker = rig.open();
    rig.clock.advance_ms(5001);
    broker.apply_retention().await.unwrap();
    assert_eq!(values(&broker, "t", 0).await, ["once"; 4], "the tombstone's time has come");
    let damaged: usize = broker.describe_topic("t").unwrap().iter().map(|p| p.damaged.len()).sum();
    assert_eq!(damaged, 0);
}

#[tokio::test]
async fn only_topics_that_delete_lose_segments_to_age() {
    let rig = Rig::new();
    let broker = rig.open();
    let aged = TopicConfig { retention_ms: Some(2000), ..compacted() };
    broker.create_topic("kept", aged.clone()).await.unwrap();
    let both = TopicConfig { cleanup: CleanupPolicy::CompactAndDelete, ..aged };
    broker.create_topic("aged", both).await.unwrap();
    for topic in ["kept", "aged"] {
        broker.append(keyed(topic, "a", Some("1"))).await.unwrap();
    }
    rig.clock.advance_ms(1000);
    broker.apply_retention().await.unwrap();
    rig.clock.advance_ms(1001);
    broker.apply_retention().await.unwrap();
    assert_eq!(broker.offsets("kept", 0).unwrap().log_start, 0);
    assert_eq!(broker.offsets("aged", 0).unwrap().log_start, 1);
}

#[tokio::test]
async fn the_broker_takes_on_so_many_partitions_and_no_more() {
    let mut rig = Rig::new();
    rig.config.max_partitions = 5;
    let broker = rig.open();
    broker.create_topic("a", TopicConfig::kafka(3)).await.unwrap();
    let refused = |result: Result<TopicInfo, BrokerError>| match result {
        Err(BrokerError::TooManyPartitions { asked, limit }) => (asked, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(broker.create_topic("b", TopicConfig::kafka(3)).await), (3, 5));
    assert_eq!(refused(broker.ensure_topic("b", TopicConfig::kafka(3)).await), (3, 5));
    broker.create_topic("b", TopicConfig::kafka(1)).await.unwrap();
    assert_eq!(refused(broker.add_partitions("b", 3).await), (2, 5));
    broker.add_partitions("b", 2).await.unwrap();
    broker.delete_topic("a").await.unwrap();
    broker.add_partitions("b", 5).await.unwrap();
}
