//! Definitions on Kafka: several processes write, help each other, and agree.

use std::sync::Arc;

use highwater_pipeline::definitions::{ConfigRecord, Definitions, TOPIC};
use highwater_pipeline::log::kafka::KafkaLog;
use highwater_pipeline::log::{Append, Guard, Log, TopicPartition};
use serde_json::json;

use crate::world::{World, write};

async fn definitions(log: &Arc<KafkaLog>, input: &Arc<str>) -> Arc<Definitions> {
    let log: Arc<dyn Log> = Arc::clone(log) as Arc<dyn Log>;
    Definitions::open(log, [Arc::clone(input)]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_agree_where_each_version_begins() {
    let Some(world) = World::new() else { return };
    // The topic is the cluster's, and this the only test that uses it here.
    if world.log.topic(TOPIC).await.unwrap().is_some() {
        world.log.delete_topic(TOPIC).await.unwrap();
    }
    let input = world.topic(1).await;
    let (here_log, there_log) = (&world.log, &world.another());
    let here = definitions(here_log, &input).await;
    here.propose(&json!("a")).await.unwrap();
    write(here_log, &input, &["1", "2"]).await.unwrap();

    // A writer that dies between its two records: whoever looks next finishes.
    let half = ConfigRecord::definitions(&json!("b")).to_record().unwrap();
    let append = Append { topic: TOPIC.into(), partition: 0, records: vec![half], guard: Guard::None };
    here_log.append(append).await.unwrap();
    let there = definitions(there_log, &input).await;
    assert_eq!(there.newest().unwrap().number, 2);
    here.catch_up().await.unwrap();
    let at = |definitions: &Definitions, offset| {
        let input = TopicPartition { topic: Arc::clone(&input), partition: 0 };
        definitions.version_at(&input, offset).unwrap().number
    };
    for known in [&here, &there] {
        assert_eq!((at(known, 1), at(known, 2)), (1, 2));
    }

    // Both at once, while records come: in the end everybody says the same of every offset, now and from the beginning.
    let propose = async |definitions: &Definitions, name: &str| {
        for round in 0..6 {
            definitions.propose(&json!([name, round])).await.unwrap();
        }
    };
    let writing = async {
        for round in 0..20 {
            write(there_log, &input, &[&format!("{round}")]).await.unwrap();
        }
    };
    tokio::join!(propose(&here, "here"), propose(&there, "there"), writing);
    let anew = definitions(&world.another(), &input).await;
    for known in [&here, &there] {
        known.catch_up().await.unwrap();
        assert_eq!(known.newest(), anew.newest());
        for offset in 0..22 {
            assert_eq!(at(known, offset), at(&anew, offset), "offset {offset}");
        }
    }
    assert!(anew.newest().unwrap().number > 2);
    here_log.delete_topic(TOPIC).await.unwrap();
}
