//! `highwater topic ...`: topics of a running server, or of any Kafka cluster with `--brokers`.

mod admin;
mod describe;
mod produce;
mod show;
mod tail;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::kafka::KafkaArgs;
use crate::config::parse_duration;
use crate::error::Error;

pub(crate) use describe::{PartitionDescription, TopicDescription};

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// List topics with their partitions and how many offsets they hold.
    List {
        #[command(flatten)]
        at: KafkaArgs,
    },
    /// Show a topic's settings and the offsets of its partitions.
    Describe {
        /// Topic.
        topic: String,
        /// Every setting, not only those that are not Kafka's defaults.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        at: KafkaArgs,
    },
    /// Create a topic.
    Create(CreateArgs),
    /// Give a topic more partitions. Its settings are altered with Kafka's own `kafka-configs.sh`.
    Alter {
        /// Topic.
        topic: String,
        /// Number of partitions it is to have; there is no way back to fewer.
        #[arg(long)]
        partitions: usize,
        #[command(flatten)]
        at: KafkaArgs,
    },
    /// Delete a topic and its records. Highwater's own topics are refused.
    Delete {
        /// Topic.
        topic: String,
        #[command(flatten)]
        at: KafkaArgs,
    },
    /// Print a topic's records as they arrive: offsets, times, keys, headers, and values as JSON or text.
    ///
    /// What Highwater writes itself (Arrow) is printed as rows. Begins behind the last record unless told otherwise:
    ///
    ///   highwater topic tail alerts
    ///   highwater topic tail logs --from 15m --no-follow
    ///   highwater topic tail orders --from -10 -o json
    #[command(verbatim_doc_comment)]
    Tail(tail::TailArgs),
    /// Write lines as records, from stdin or a file.
    ///
    ///   echo '{"message": "hello", "service": "tour"}' | highwater topic produce logs
    ///   highwater topic produce prices --file prices.txt --key-separator :
    #[command(verbatim_doc_comment)]
    Produce(produce::ProduceArgs),
}

/// Flags of `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Topic: letters, digits, `.`, `_` and `-`.
    topic: String,
    /// Number of partitions [default: the cluster's].
    #[arg(long)]
    partitions: Option<i32>,
    /// Records older than this leave, e.g. 30d.
    #[arg(long, value_parser = parse_duration)]
    retention: Option<Duration>,
    /// Keep the newest record of each key, for ever.
    #[arg(long)]
    compact: bool,
    /// Any other setting, by Kafka's name for it (`max.message.bytes=2000000`); may repeat.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    at: KafkaArgs,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl CreateArgs {
    /// All settings that were asked for.
    fn all_settings(&self) -> Vec<(String, String)> {
        let mut settings = self.settings.clone();
        settings.extend(self.retention.map(|d| ("retention.ms".to_owned(), d.as_millis().to_string())));
        settings.extend(self.compact.then(|| ("cleanup.policy".to_owned(), "compact".to_owned())));
        settings
    }
}

pub(super) async fn run(command: TopicCommand) -> Result<ExitCode, Error> {
    match command {
        TopicCommand::List { at } => describe::list(&at.find().await?).await,
        TopicCommand::Describe { topic, all, at } => describe::describe(&at.find().await?, topic, all).await,
        TopicCommand::Create(args) => {
            admin::create(&args.at.find().await?, &args.topic, args.partitions, &args.all_settings()).await
        }
        TopicCommand::Alter { topic, partitions, at } => admin::grow(&at.find().await?, &topic, partitions).await,
        TopicCommand::Delete { topic, at } => admin::delete(&at.find().await?, &topic).await,
        TopicCommand::Tail(args) => tail::run(args).await,
        TopicCommand::Produce(args) => produce::run(args).await,
    }
}
