//! Idempotency keys.

use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::log::{Appended, Guard, Log, LogError};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use twox_hash::XxHash3_128;

use crate::fixture::unique;
use crate::world::{World, append, values};

async fn keyed(log: &dyn Log, topic: &Arc<str>, key: &str, values: &[&str]) -> Result<Appended, LogError> {
    log.append(append(topic, 0, values, Guard::Idempotency { scope: format!("tenant\0{key}").into() })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_taken_once_also_by_another_gateway_and_after_a_restart() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let key = unique("key");
    let first = keyed(&*world.log, &topic, &key, &["a", "b"]).await.unwrap();
    assert_eq!((first.base_offset, first.last_offset, first.duplicate), (0, 1, false));
    let again = keyed(&*world.log, &topic, &key, &["a", "b"]).await.unwrap();
    assert_eq!(again, Appended { duplicate: true, ..first });
    let gateway = world.another();
    assert_eq!(keyed(&*gateway, &topic, &key, &["a", "b"]).await.unwrap(), again);
    keyed(&*gateway, &topic, &unique("key"), &["c"]).await.unwrap();
    assert_eq!(values(&world.log, &topic).await, ["a", "b", "c"]);
    // The key goes with the records.
    let fetched = world.log.read(&topic, 0, 0, 1 << 20, Duration::ZERO).await.unwrap();
    assert_eq!(fetched.records[1].header("idempotency-key").unwrap(), format!("tenant\0{key}").as_bytes());
    // The same key in another partition is another key.
    let other = world.topic(1).await;
    assert!(!keyed(&*world.log, &other, &key, &["a"]).await.unwrap().duplicate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_the_same_moment_one_appends() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    let gateways = [world.log.clone(), world.another(), world.another()];
    for round in 0..5 {
        let key = unique("key");
        let tries = gateways.iter().cycle().take(9).map(|gateway| {
            let (gateway, topic, key) = (gateway.clone(), topic.clone(), key.clone());
            tokio::spawn(async move { keyed(&*gateway, &topic, &key, &["once"]).await.unwrap() })
        });
        let answers: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
        let first = answers.iter().find(|a| !a.duplicate).expect("one of them appended");
        assert_eq!(answers.iter().filter(|a| !a.duplicate).count(), 1, "round {round}: {answers:?}");
        assert!(answers.iter().all(|a| a.base_offset == first.base_offset), "{answers:?}");
    }
    assert_eq!(values(&world.log, &topic).await, ["once"; 5]);
}

/// What a gateway leaves that is killed in the middle: an intent, and the data or not.
fn intend(world: &World, topic: &str, key: &str, data: Option<&str>) {
    let scope = format!("tenant\0{key}");
    let hash = XxHash3_128::oneshot(format!("{topic}\0{}\0{scope}", 0).as_bytes()).to_be_bytes();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &world.config.brokers).create().unwrap();
    let intent = BaseRecord::to("__highwater.keys").partition(0).key(&hash[..]).payload(&[1_u8][..]);
    producer.send(intent).map_err(|(e, _)| e).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    if let Some(data) = data {
        let header = Header { key: "idempotency-key", value: Some(scope.as_bytes()) };
        let headers = OwnedHeaders::new().insert(header);
        let record = BaseRecord::<(), str>::to(topic).partition(0).payload(data).headers(headers);
        producer.send(record).map_err(|(e, _)| e).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_behind_its_data_is_not_repeated_and_one_killed_before_is() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(1).await;
    // The keys topic is there once a key was used.
    keyed(&*world.log, &topic, &unique("key"), &["first"]).await.unwrap();
    let (behind, before) = (unique("key"), unique("key"));
    intend(&world, &topic, &behind, Some("data"));
    intend(&world, &topic, &before, None);

    let retried = keyed(&*world.log, &topic, &behind, &["data"]).await.unwrap();
    assert_eq!((retried.duplicate, retried.base_offset, retried.last_offset), (true, 1, 1));
    let retried = keyed(&*world.log, &topic, &before, &["lost"]).await.unwrap();
    assert_eq!((retried.duplicate, retried.base_offset), (false, 2));
    // What was found out holds for everybody, and at once.
    let gateway = world.another();
    assert!(keyed(&*gateway, &topic, &behind, &["data"]).await.unwrap().duplicate);
    assert!(keyed(&*gateway, &topic, &before, &["lost"]).await.unwrap().duplicate);
    assert_eq!(values(&world.log, &topic).await, ["first", "data", "lost"]);
}
