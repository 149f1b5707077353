//! Topics of a Kafka or Redpanda cluster, through librdkafka.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{PartitionDescription, TopicDescription};
use crate::error::Error;

/// Longest wait for one answer of the cluster.
const TIMEOUT: Duration = Duration::from_secs(10);

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// All topics, or the one asked for; librdkafka's calls block, so they run on a thread of their own.
pub(super) async fn topics(brokers: String, only: Option<String>) -> Result<Vec<TopicDescription>, Error> {
    tokio::task::spawn_blocking(move || {
        let failed = |error| Error::failed(&format!("asking the Kafka cluster at {brokers}"), error);
        let consumer: BaseConsumer = config(&brokers).create().map_err(failed)?;
        let metadata = consumer.fetch_metadata(only.as_deref(), TIMEOUT).map_err(failed)?;
        let mut topics = Vec::new();
        for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
            let mut partitions = Vec::new();
            for p in topic.partitions() {
                let (log_start, high_watermark) =
                    consumer.fetch_watermarks(topic.name(), p.id(), TIMEOUT).map_err(failed)?;
                partitions.push(PartitionDescription { partition: p.id(), log_start, high_watermark });
            }
            partitions.sort_by_key(|p| p.partition);
            let replicas = topic.partitions().first().map_or(0, |p| p.replicas().len());
            let mut settings = serde_json::Map::new();
            settings.insert("replicas".into(), replicas.into());
            topics.push(TopicDescription { name: topic.name().to_owned(), settings, partitions });
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    })
    .await
    .map_err(|error| Error::failed("asking the Kafka cluster", error))?
}

fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>, Error> {
    config(brokers).create().map_err(|error| Error::failed(&format!("reaching the Kafka cluster at {brokers}"), error))
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

fn outcome(doing: &str, results: Vec<rdkafka::admin::TopicResult>) -> Result<(), Error> {
    for result in results {
        result.map_err(|(topic, code)| Error::failed(&format!("{doing} {topic}"), code))?;
    }
    Ok(())
}

/// Creates a topic with the cluster's default replication.
pub(super) async fn create(
    brokers: String,
    topic: String,
    partitions: i32,
    retention: Option<Duration>,
) -> Result<(), Error> {
    let retention_ms = retention.map(|d| d.as_millis().to_string());
    let mut new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(-1));
    if let Some(ms) = &retention_ms {
        new = new.set("retention.ms", ms);
    }
    let results = admin(&brokers)?.create_topics([&new], &options()).await;
    outcome("creating", results.map_err(|error| Error::failed("creating the topic", error))?)
}

/// Deletes a topic.
pub(super) async fn delete(brokers: String, topic: String) -> Result<(), Error> {
    let results = admin(&brokers)?.delete_topics(&[&topic], &options()).await;
    outcome("deleting", results.map_err(|error| Error::failed("deleting the topic", error))?)
}
