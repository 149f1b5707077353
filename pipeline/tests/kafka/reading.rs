//! Many readers, at offsets of their own.

use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::log::{Log, LogError};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::world::{DEADLINE, World, assert_values, commit, effects, read_to_end, text, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_one_partition_do_not_disturb_each_other() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    for i in 0..50 {
        write(&world.log, &topic, &[&format!("{i} a"), &format!("{i} b")]).await.unwrap();
    }
    // More of them than there are consumers behind the log, in small steps, from different offsets.
    let readers = (0..12_i64).map(|r| {
        let (log, topic) = (world.log.clone(), topic.clone());
        tokio::spawn(async move {
            let mut next = r * 8;
            let mut found = Vec::new();
            while next < 100 {
                let fetched = log.read(&topic, 0, next, 1, Duration::from_secs(5)).await.unwrap();
                found.extend(fetched.records.iter().map(|r| (r.offset, text(r))));
                next = fetched.next_offset;
            }
            (r * 8, found)
        })
    });
    for read in futures::future::join_all(readers).await {
        let (from, found) = read.unwrap();
        let expected: Vec<_> =
            (from..100).map(|o| (o, format!("{} {}", o / 2, if o % 2 == 0 { "a" } else { "b" }))).collect();
        assert_eq!(found, expected, "from {from}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_back_and_forth_and_sees_the_same() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    for i in 0..20 {
        write(&world.log, &topic, &[&i.to_string()]).await.unwrap();
    }
    for round in 0..10 {
        for offset in [19, 3, 17, 0, 11, 4] {
            let fetched = world.log.read(&topic, 0, offset, 1, Duration::ZERO).await.unwrap();
            assert_eq!(fetched.records.first().map(text), Some(offset.to_string()), "round {round}");
            assert_eq!(fetched.next_offset, offset + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_at_the_end_waits_for_what_comes_and_no_longer() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let empty = world.log.read(&topic, 0, 0, 1, Duration::from_millis(50)).await.unwrap();
    assert_eq!((empty.records.len(), empty.next_offset, empty.high_watermark), (0, 0, 0));
    let (log, reading) = (world.log.clone(), topic.clone());
    let waiting = tokio::spawn(async move { log.read(&reading, 0, 0, 1, Duration::from_secs(30)).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    write(&world.log, &topic, &["come"]).await.unwrap();
    let fetched = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!((text(&fetched.records[0]).as_str(), fetched.next_offset), ("come", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_read_loses_nothing() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let (log, name) = (world.log.clone(), topic.clone());
    let writer = tokio::spawn(async move {
        for i in 0..100 {
            write(&log, &name, &[&i.to_string()]).await.unwrap();
        }
    });
    let (mut next, mut found) = (0, Vec::new());
    while next < 100 {
        let read = world.log.read(&topic, 0, next, 1 << 20, Duration::from_secs(5));
        // Most of these are dropped in the middle.
        if let Ok(fetched) = tokio::time::timeout(Duration::from_millis(next as u64 % 3), read).await {
            let fetched = fetched.unwrap();
            found.extend(fetched.records.iter().map(text));
            next = fetched.next_offset;
        }
    }
    writer.await.unwrap();
    assert_eq!(found, (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_markers_and_aborted_batches_are_passed_over() {
    let Some(world) = World::new() else { return };
    let (input, output) = (world.topic(1).await, world.topic(1).await);
    let task: Arc<str> = format!("{input}/0").into();
    let epoch = world.log.begin_task(&task).await.unwrap();
    world.log.commit_task(commit(&task, epoch, vec![effects(&task, epoch, &output, 0, &["one"])], 1)).await.unwrap();
    // The record, and the marker behind it, which is what the high watermark counts and nothing is delivered for.
    until_high_watermark(&world, &output, 2).await;
    let (records, next) = read_to_end(&world.log, &output, 0, 0).await;
    assert_eq!((records, next), (vec![(0, "one".to_owned())], 2));
    let from_marker = tokio::time::timeout(Duration::from_secs(10), read_to_end(&world.log, &output, 0, 1));
    assert_eq!(from_marker.await.expect("found by the position, not by giving up"), (vec![], 2));

    abort_one(&world, &output).await;
    // An aborted record and its marker.
    until_high_watermark(&world, &output, 4).await;
    assert_eq!(read_to_end(&world.log, &output, 0, 2).await, (vec![], 4));
    world.log.commit_task(commit(&task, epoch, vec![effects(&task, epoch, &output, 1, &["two"])], 2)).await.unwrap();
    assert_values(&world.log, &output, &["one", "two"]).await;
}

/// The end of a transaction is seen a moment after it is decided.
async fn until_high_watermark(world: &World, topic: &str, expected: i64) {
    let reached = async {
        while world.log.offsets(topic, 0).await.unwrap().high_watermark < expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reached).await.expect("the transaction ends");
    assert_eq!(world.log.offsets(topic, 0).await.unwrap().high_watermark, expected);
}

/// Appends a record in a transaction and aborts it.
async fn abort_one(world: &World, topic: &str) {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let (brokers, topic, id) = (world.config.brokers.clone(), topic.to_owned(), crate::fixture::unique("aborter"));
    tokio::task::spawn_blocking(move || {
        let timeout = Duration::from_secs(10);
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("transactional.id", id).create().unwrap();
        producer.init_transactions(timeout).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload("never")).map_err(|(e, _)| e).unwrap();
        producer.flush(timeout).unwrap();
        producer.abort_transaction(timeout).unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_waits_before_an_open_transaction_and_passes_it_when_it_ends() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    write(&world.log, &topic, &["before"]).await.unwrap();
    let timeout = Duration::from_secs(10);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.config.brokers)
        .set("transactional.id", crate::fixture::unique("open"))
        .create()
        .unwrap();
    producer.init_transactions(timeout).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload("open")).map_err(|(e, _)| e).unwrap();
    producer.flush(timeout).unwrap();
    write(&world.log, &topic, &["behind"]).await.unwrap();
    // Offsets 1 (open) and 2 (behind it) are written, and nobody sees them.
    assert_eq!(world.log.offsets(&topic, 0).await.unwrap().high_watermark, 1);
    assert_eq!(read_to_end(&world.log, &topic, 0, 0).await, (vec![(0, "before".into())], 1));
    let none = world.log.read(&topic, 0, 1, 1 << 20, Duration::from_millis(300)).await.unwrap();
    assert_eq!((none.records.len(), none.next_offset, none.high_watermark), (0, 1, 1));
    producer.commit_transaction(timeout).unwrap();
    until_high_watermark(&world, &topic, 4).await;
    assert_eq!(read_to_end(&world.log, &topic, 0, 1).await, (vec![(1, "open".into()), (2, "behind".into())], 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_out_of_range_come_with_the_true_bounds() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    for i in 0..10 {
        write(&world.log, &topic, &[&i.to_string()]).await.unwrap();
    }
    // A reader that has begun, so that it is overtaken in the middle.
    let begun = world.log.read(&topic, 0, 0, 1, Duration::from_secs(5)).await.unwrap();
    assert_eq!(begun.next_offset, 1);
    delete_below(&world, &topic, 6).await;
    let out = |error: LogError, asked: i64| match error {
        LogError::OffsetOutOfRange { offset, log_start, high_watermark, .. } => {
            assert_eq!((offset, log_start, high_watermark), (asked, 6, 10));
        }
        other => panic!("{other:?}"),
    };
    out(world.log.read(&topic, 0, 2, 1, Duration::ZERO).await.unwrap_err(), 2);
    out(world.log.read(&topic, 0, 11, 1, Duration::ZERO).await.unwrap_err(), 11);
    let fetched = world.log.read(&topic, 0, 6, 1 << 20, Duration::ZERO).await.unwrap();
    assert_eq!((fetched.records.len(), fetched.log_start), (4, 6));
    // What the begun reader had fetched ahead may still be handed out; then it hears of the gap.
    let mut next = 1;
    loop {
        match world.log.read(&topic, 0, next, 1, Duration::ZERO).await {
            Ok(fetched) if next < 6 => next = fetched.next_offset,
            Ok(_) => break,
            Err(LogError::OffsetOutOfRange { log_start: 6, .. }) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn delete_below(world: &World, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &world.config.brokers).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_compression_of_foreign_producers_is_read() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let Some(world) = World::new() else { return };
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = world.topic(1).await;
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &world.config.brokers)
            .set("compression.type", codec)
            .create()
            .unwrap();
        let value = format!("{codec} ").repeat(1000);
        producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload(&value)).map_err(|(e, _)| e).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
        assert_values(&world.log, &topic, &[value]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_readers_follow_the_end() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let followers: Vec<_> = (0..60)
        .map(|_| {
            let (log, topic) = (world.log.clone(), topic.clone());
            tokio::spawn(async move {
                let (mut next, mut found) = (0, Vec::new());
                while found.len() < 10 {
                    let fetched = log.read(&topic, 0, next, 1 << 20, Duration::from_secs(30)).await.unwrap();
                    found.extend(fetched.records.iter().map(text));
                    next = fetched.next_offset;
                }
                found
            })
        })
        .collect();
    for i in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        write(&world.log, &topic, &[&i.to_string()]).await.unwrap();
    }
    // Far less than it would take if they waited for each other.
    let all = tokio::time::timeout(Duration::from_secs(20), futures::future::join_all(followers)).await.unwrap();
    for found in all {
        assert_eq!(found.unwrap(), (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_batch_whose_marker_is_out_of_sight_is_passed_all_the_same() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let timeout = Duration::from_secs(10);
    let [aborted, open] = ["aborted", "open"].map(|name| {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &world.config.brokers)
            .set("transactional.id", crate::fixture::unique(name))
            .set("transaction.timeout.ms", "120000")
            .create()
            .unwrap();
        producer.init_transactions(timeout).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload(name)).map_err(|(e, _)| e).unwrap();
        producer.flush(timeout).unwrap();
        producer
    });
    aborted.abort_transaction(timeout).unwrap();
    // Offset 0 is aborted, 1 is open, and the marker of 0 is behind it at 2: the last stable offset is 1.
    until_high_watermark(&world, &topic, 1).await;
    assert_eq!(read_to_end(&world.log, &topic, 0, 0).await, (vec![], 1));
    open.commit_transaction(timeout).unwrap();
    until_high_watermark(&world, &topic, 4).await;
    assert_eq!(read_to_end(&world.log, &topic, 0, 1).await, (vec![(1, "open".into())], 4));
}
