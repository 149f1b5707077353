//! Topics made, grown and removed.

use std::process::ExitCode;

use rdkafka::admin::{NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::error::KafkaError;

use crate::cli::kafka::{Kafka, admin_options};
use crate::cli::out::say;
use crate::error::Error;

/// Creates a topic with the cluster's default replication.
pub(super) async fn create(
    kafka: &Kafka,
    topic: &str,
    partitions: Option<i32>,
    settings: &[(String, String)],
) -> Result<ExitCode, Error> {
    let mut new = NewTopic::new(topic, partitions.unwrap_or(-1), TopicReplication::Fixed(-1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let results = kafka.admin()?.create_topics([&new], &admin_options()).await;
    finish(kafka, "creating", "created", results)
}

/// Gives a topic more partitions.
pub(super) async fn grow(kafka: &Kafka, topic: &str, partitions: usize) -> Result<ExitCode, Error> {
    let wanted = NewPartitions::new(topic, partitions);
    let results = kafka.admin()?.create_partitions([&wanted], &admin_options()).await;
    finish(kafka, "altering", "altered", results)
}

/// Deletes a topic.
pub(super) async fn delete(kafka: &Kafka, topic: &str) -> Result<ExitCode, Error> {
    let results = kafka.admin()?.delete_topics(&[topic], &admin_options()).await;
    finish(kafka, "deleting", "deleted", results)
}

fn finish(
    kafka: &Kafka,
    doing: &str,
    done: &str,
    results: Result<Vec<TopicResult>, KafkaError>,
) -> Result<ExitCode, Error> {
    for result in results.map_err(|error| kafka.failed(&format!("{doing} the topic"), &error))? {
        match result {
            Ok(topic) => say!("{done} {topic}"),
            Err((topic, code)) => return Err(kafka.failed(&format!("{doing} {topic}"), &KafkaError::AdminOp(code))),
        }
    }
    Ok(ExitCode::SUCCESS)
}
