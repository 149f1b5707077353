//! A broker that goes away under connected clients, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_pipeline::log::{Log, LogError, TASKS_GROUP};

use crate::fixture::Kafka;
use crate::world::{DEADLINE, World, assert_values, commit, effects, progress, read_to_end, text, write};

/// Calls until it succeeds. What fails must say that trying again can help.
async fn until_ok<T, F: Future<Output = Result<T, LogError>>>(mut call: impl FnMut() -> F) -> T {
    let trying = async {
        loop {
            match call().await {
                Ok(value) => return value,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, trying).await.expect("it recovers by itself")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_and_restarted_costs_nothing_but_time() {
    let Some(kafka) = Kafka::start() else { return };
    let kafka = Arc::new(kafka);
    let world = World::on(&kafka);
    let (topic, input, output) = (world.topic(1).await, world.topic(1).await, world.topic(1).await);
    let task: Arc<str> = format!("{input}/0").into();
    let stop = Arc::new(AtomicBool::new(false));

    // A door: appends one after the other, and remembers what was acknowledged.
    let (log, name, done) = (world.log.clone(), topic.clone(), stop.clone());
    let door = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for i in 0.. {
            if done.load(Ordering::SeqCst) {
                break;
            }
            match write(&log, &name, &[&i.to_string()]).await {
                Ok(appended) => acknowledged.push((appended.base_offset, i.to_string())),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
        acknowledged
    });
    // A task: begins again where its run ends.
    let (log, of, to, done) = (world.log.clone(), task.clone(), output.clone(), stop.clone());
    let runs = tokio::spawn(async move {
        let mut runs = 0;
        while !done.load(Ordering::SeqCst) {
            let epoch = until_ok(|| log.begin_task(&of)).await;
            runs += 1;
            let committed = until_ok(|| log.committed(TASKS_GROUP)).await;
            let mut position = committed.first().map_or(0, |c| c.offset);
            while !done.load(Ordering::SeqCst) {
                let value = position.to_string();
                let next = commit(&of, epoch, vec![effects(&of, epoch, &to, position, &[&value])], position + 1);
                match log.commit_task(next).await {
                    Ok(_) => position += 1,
                    Err(LogError::Fenced { .. }) => break,
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
        }
        runs
    });
    // A reader: follows the door.
    let (log, name, done) = (world.log.clone(), topic.clone(), stop.clone());
    let reader = tokio::spawn(async move {
        let (mut next, mut found) = (0, Vec::new());
        while !done.load(Ordering::SeqCst) {
            match log.read(&name, 0, next, 1 << 20, Duration::from_millis(200)).await {
                Ok(fetched) => {
                    found.extend(fetched.records.iter().map(|r| (r.offset, text(r))));
                    next = fetched.next_offset;
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        (found, next)
    });

    tokio::time::sleep(Duration::from_secs(2)).await;
    let (killed, log, name) = (kafka.clone(), world.log.clone(), topic.clone());
    tokio::task::spawn_blocking(move || killed.kill()).await.unwrap();
    let away = tokio::time::timeout(Duration::from_secs(15), log.offsets(&name, 0)).await.expect("an answer in time");
    let away = away.unwrap_err();
    assert!(away.is_retryable() && away.to_string().contains(&world.config.brokers), "{away}");
    let restarted = kafka.clone();
    tokio::task::spawn_blocking(move || restarted.restart()).await.unwrap();
    let before = until_ok(|| log.offsets(&name, 0)).await.high_watermark;
    let moving = async {
        while until_ok(|| log.offsets(&name, 0)).await.high_watermark < before + 20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, moving).await.expect("appends go on");
    let (log, of) = (world.log.clone(), output.clone());
    let before = read_to_end(&log, &of, 0, 0).await.0.len();
    let moving = async {
        while read_to_end(&log, &of, 0, 0).await.0.len() < before + 5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, moving).await.expect("transactions go on");
    stop.store(true, Ordering::SeqCst);

    let acknowledged = door.await.unwrap();
    let (mut followed, next) = reader.await.unwrap();
    runs.await.unwrap();
    let (all, _) = read_to_end(&world.log, &topic, 0, 0).await;
    followed.extend(read_to_end(&world.log, &topic, 0, next).await.0);
    assert_eq!(followed, all, "a reader that lived through it saw what is there, once and in order");
    assert!(acknowledged.iter().all(|one| all.contains(one)), "what was acknowledged is there");

    let committed = until_ok(|| world.log.committed(TASKS_GROUP)).await;
    let [one] = &committed[..] else { panic!("{committed:?}") };
    assert_eq!(*one, progress(&task, one.offset));
    let expected: Vec<_> = (0..one.offset).map(|i| i.to_string()).collect();
    // No effect is missing, and none is there twice.
    assert_values(&world.log, &output, &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_never_there_is_not_ready_and_says_where_it_was_looked_for() {
    let config = highwater_pipeline::log::kafka::KafkaConfig::new("127.0.0.1:1");
    let log = crate::world::open(&config);
    let error = tokio::time::timeout(Duration::from_secs(30), log.topics()).await.expect("an answer").unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1") && error.to_string().contains("log.kafka.brokers"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_is_waited_for() {
    let Some(kafka) = Kafka::start() else { return };
    let world = World::on(&kafka);
    let topic = world.topic(1).await;
    write(&world.log, &topic, &["before"]).await.unwrap();
    kafka.pause();
    let (log, name) = (world.log.clone(), topic.clone());
    let hanging = tokio::spawn(async move { until_ok(|| write(&log, &name, &["during"])).await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!hanging.is_finished(), "nobody acknowledged it");
    kafka.resume();
    tokio::time::timeout(DEADLINE, hanging).await.unwrap().unwrap();
    assert_values(&world.log, &topic, &["before", "during"]).await;
}
