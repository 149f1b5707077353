//! `highwater topic list|describe|create|delete`: topics of a running server, or of a Kafka cluster with `--brokers`.

mod kafka;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ServerArg;
use super::text_table::TextTable;
use crate::client::Client;
use crate::config::parse_duration;
use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// List topics with their partitions and records.
    List(Where),
    /// Show a topic's settings and the offsets of its partitions.
    Describe {
        /// Topic.
        topic: String,
        #[command(flatten)]
        at: Where,
    },
    /// Create a topic.
    Create {
        /// Topic: letters, digits, `.`, `_` and `-`.
        topic: String,
        /// Number of partitions.
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// Records older than this leave, e.g. 7d [default: kept].
        #[arg(long, value_parser = parse_duration)]
        retention: Option<Duration>,
        #[command(flatten)]
        at: Where,
    },
    /// Delete a topic and its records. Highwater's own topics are refused.
    Delete {
        /// Topic.
        topic: String,
        #[command(flatten)]
        at: Where,
    },
}

/// Whose topics.
#[derive(Debug, Clone, Args)]
pub(crate) struct Where {
    /// A Kafka or Redpanda cluster instead of a Highwater server.
    #[arg(long, value_name = "HOST:PORT,...", conflicts_with = "server")]
    brokers: Option<String>,
    #[command(flatten)]
    server: ServerArg,
}

/// A topic as `/api/v1/topics` and a Kafka cluster describe it.
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
    /// One past the last offset.
    pub(crate) high_watermark: i64,
}

impl TopicDescription {
    fn records(&self) -> i64 {
        self.partitions.iter().map(|p| p.high_watermark - p.log_start).sum()
    }
}

pub(super) async fn run(command: TopicCommand) -> Result<ExitCode, Error> {
    match command {
        TopicCommand::List(at) => {
            let topics: Vec<TopicDescription> = match &at.brokers {
                Some(brokers) => kafka::topics(brokers.clone(), None).await?,
                None => Client::new(&at.server.server)?.get("/api/v1/topics").await?,
            };
            let mut table = TextTable::new(&["topic", "partitions", "records"]);
            for topic in &topics {
                table.row([topic.name.clone(), topic.partitions.len().to_string(), topic.records().to_string()]);
            }
            table.print();
        }
        TopicCommand::Describe { topic, at } => {
            let described: TopicDescription = match &at.brokers {
                Some(brokers) => kafka::topics(brokers.clone(), Some(topic.clone()))
                    .await?
                    .pop()
                    .ok_or_else(|| Error::Failed(format!("no topic `{topic}` at {brokers}")))?,
                None => Client::new(&at.server.server)?.get(&format!("/api/v1/topics/{topic}")).await?,
            };
            println!("topic: {}", described.name);
            for (name, value) in &described.settings {
                println!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
            let mut table = TextTable::new(&["partition", "log start", "high watermark", "records"]);
            for p in &described.partitions {
                table.row([
                    p.partition.to_string(),
                    p.log_start.to_string(),
                    p.high_watermark.to_string(),
                    (p.high_watermark - p.log_start).to_string(),
                ]);
            }
            table.print();
        }
        TopicCommand::Create { topic, partitions, retention, at } => {
            if let Some(brokers) = at.brokers {
                kafka::create(brokers, topic.clone(), partitions, retention).await?;
            } else {
                let retention_ms = retention.map(|d| d.as_millis() as u64);
                let body = json!({"name": topic, "partitions": partitions, "retention_ms": retention_ms});
                Client::new(&at.server.server)?.post("/api/v1/topics", &body).await?;
            }
            println!("created {topic}");
        }
        TopicCommand::Delete { topic, at } => {
            match at.brokers {
                Some(brokers) => kafka::delete(brokers, topic.clone()).await?,
                None => Client::new(&at.server.server)?.delete(&format!("/api/v1/topics/{topic}")).await?,
            }
            println!("deleted {topic}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
