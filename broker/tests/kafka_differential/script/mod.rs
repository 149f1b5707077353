//! The requests, in order, by what they are about.

mod groups;
mod logs;
mod topics;
mod transactions;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{CreateTopicsRequest, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::side::{Side, Transcript, Versions};

pub async fn play(mut side: Side, versions: &Versions) -> Transcript {
    topics::play(&mut side, versions).await;
    logs::play(&mut side, versions).await;
    groups::play(&mut side, versions).await;
    transactions::play(&mut side, versions).await;
    std::mem::take(&mut side.transcript)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

fn new_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
    CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect())
}

/// Makes a topic and waits until it is known and led, which is no step.
async fn make(side: &mut Side, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let request =
        CreateTopicsRequest::default().with_topics(vec![new_topic(name, partitions, configs)]).with_timeout_ms(10_000);
    let answer = side.ask(&request, 5).await.unwrap();
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    topics::known(side, name, partitions as usize).await;
    // Kafka knows it a moment before it leads it.
    let all =
        (0..partitions).map(|index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1));
    let all = ListOffsetsTopic::default().with_name(topic(name)).with_partitions(all.collect());
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![all]);
    while side.ask(&request, 2).await.unwrap().topics[0].partitions.iter().any(|partition| partition.error_code != 0) {
        side.pause().await;
    }
}
