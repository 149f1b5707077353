//! Topics listed and described.

use std::process::ExitCode;

use rdkafka::admin::ResourceSpecifier;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use serde::{Deserialize, Serialize};

use crate::cli::kafka::{Kafka, Reader, TIMEOUT, admin_options};
use crate::cli::out::say;
use crate::cli::text_table::TextTable;
use crate::error::Error;

/// A topic, described.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopicDescription {
    /// Topic name.
    pub(crate) name: String,
    /// Settings worth a look, as `name: value`.
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
    /// Partitions by number.
    pub(crate) partitions: Vec<PartitionDescription>,
}

/// A partition's offsets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartitionDescription {
    /// Partition number.
    pub(crate) partition: i32,
    /// First offset held.
    pub(crate) log_start: i64,
    /// One past the last offset that readers see.
    pub(crate) high_watermark: i64,
}

impl PartitionDescription {
    /// Offsets held: as many records, or fewer where transactions or compaction left some without.
    fn offsets(&self) -> i64 {
        self.high_watermark - self.log_start
    }
}

pub(super) async fn list(kafka: &Kafka) -> Result<ExitCode, Error> {
    let mut table = TextTable::new(&["topic", "partitions", "offsets"]);
    for topic in topics(kafka, None).await? {
        let offsets: i64 = topic.partitions.iter().map(PartitionDescription::offsets).sum();
        table.row([topic.name, topic.partitions.len().to_string(), offsets.to_string()]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn describe(kafka: &Kafka, topic: String, all: bool) -> Result<ExitCode, Error> {
    let found = topics(kafka, Some(topic.clone())).await?.pop();
    let described = found.ok_or_else(|| Error::Failed(format!("no topic `{topic}` at {}", kafka.brokers)))?;
    say!("topic: {}", described.name);
    for (name, value) in settings(kafka, &topic, all).await? {
        say!("{name}: {value}");
    }
    let mut table = TextTable::new(&["partition", "log start", "high watermark", "offsets"]);
    for p in &described.partitions {
        let numbers = [p.partition.into(), p.log_start, p.high_watermark, p.offsets()];
        table.row(numbers.map(|number: i64| number.to_string()));
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// All topics, or the one asked for.
async fn topics(kafka: &Kafka, only: Option<String>) -> Result<Vec<TopicDescription>, Error> {
    kafka
        .blocking(move |kafka| {
            let consumer = kafka.consumer(&[])?;
            let failed = |error| kafka.failed("listing topics", &error);
            let metadata = consumer.fetch_metadata(only.as_deref(), TIMEOUT).map_err(failed)?;
            let mut topics = Vec::new();
            for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
                let mut numbers: Vec<_> = topic.partitions().iter().map(|p| p.id()).collect();
                numbers.sort_unstable();
                let partitions = numbers.into_iter().map(|number| partition(&consumer, topic.name(), number));
                let partitions = partitions.collect::<Result<_, _>>().map_err(failed)?;
                let name = topic.name().to_owned();
                topics.push(TopicDescription { name, settings: serde_json::Map::new(), partitions });
            }
            topics.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(topics)
        })
        .await
}

fn partition(consumer: &Reader, topic: &str, partition: i32) -> Result<PartitionDescription, KafkaError> {
    let (log_start, high_watermark) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
    Ok(PartitionDescription { partition, log_start, high_watermark })
}

/// Settings, sorted by name: those that are not what any topic has, or all.
async fn settings(kafka: &Kafka, topic: &str, all: bool) -> Result<Vec<(String, String)>, Error> {
    let failed = |error| kafka.failed(&format!("describing {topic}"), &error);
    let described = kafka.admin()?.describe_configs(&[ResourceSpecifier::Topic(topic)], &admin_options()).await;
    let mut settings = Vec::new();
    for resource in described.map_err(failed)? {
        let resource = resource.map_err(|code| failed(KafkaError::AdminOp(code)))?;
        let shown = resource.entries.into_iter().filter(|entry| all || !entry.is_default);
        settings.extend(shown.filter_map(|entry| Some((entry.name, entry.value?))));
    }
    settings.sort();
    Ok(settings)
}
