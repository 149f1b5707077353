//! `highwater topic tail`: a topic's records, from a place on, as they arrive.

use std::io::Write;
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::show::Shown;
use crate::cli::kafka::{Kafka, KafkaArgs, Position, Reader, TIMEOUT};
use crate::error::Error;

/// How long one wait for records lasts; only to look whether anything else is to be done.
const POLL: std::time::Duration = std::time::Duration::from_millis(200);

/// Flags of `tail`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TailArgs {
    /// Topic.
    topic: String,
    /// Where to begin: earliest, latest, an offset, -N (so many before the end), a time (2026-03-01T12:00:00Z) or an age (15m).
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    from: Position,
    /// Only this partition; may repeat.
    #[arg(short, long = "partition", value_name = "N")]
    partitions: Vec<i32>,
    /// Stop after so many records.
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,
    /// Stop at what is the end now, instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
    /// Records of open and aborted transactions too.
    #[arg(long)]
    uncommitted: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Look,
    #[command(flatten)]
    at: KafkaArgs,
}

/// How a record is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Look {
    /// partition/offset, time, key, headers, value; a line per row where a record holds rows.
    Table,
    /// One JSON object a record.
    Json,
    /// The value's bytes and a newline.
    Value,
}

pub(super) async fn run(args: TailArgs) -> Result<ExitCode, Error> {
    let kafka = args.at.find().await?;
    kafka.blocking(move |kafka| follow(kafka, &args)).await
}

fn follow(kafka: &Kafka, args: &TailArgs) -> Result<ExitCode, Error> {
    let failed = |error: &KafkaError| kafka.failed(&format!("reading {}", args.topic), error);
    let isolation = if args.uncommitted { "read_uncommitted" } else { "read_committed" };
    let consumer = kafka.consumer(&[
        // Named because librdkafka wants a name; nothing joins it, and nothing is committed.
        ("group.id", "highwater-cli"),
        ("isolation.level", isolation),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
        ("fetch.wait.max.ms", "250"),
    ])?;
    let partitions = partitions(kafka, &consumer, args)?;
    let mut places = TopicPartitionList::with_capacity(partitions.len());
    // Those that have not been read to what was their end.
    let mut unread = partitions.len();
    for partition in partitions {
        let offset = args.from.resolve(&consumer, &args.topic, partition).map_err(|error| failed(&error))?;
        places.add_partition_offset(&args.topic, partition, Offset::Offset(offset)).map_err(|error| failed(&error))?;
    }
    consumer.assign(&places).map_err(|error| failed(&error))?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 && !(args.no_follow && unread == 0) {
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                if !print(&shown(&message), args.output)? {
                    break;
                }
                left -= 1;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => unread = unread.saturating_sub(1),
            Some(Err(error)) => return Err(failed(&error)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The partitions to read: those asked for, or all.
fn partitions(kafka: &Kafka, consumer: &Reader, args: &TailArgs) -> Result<Vec<i32>, Error> {
    let metadata = consumer.fetch_metadata(Some(&args.topic), TIMEOUT);
    let metadata = metadata.map_err(|error| kafka.failed(&format!("looking for {}", args.topic), &error))?;
    let found = metadata.topics().iter().find(|topic| topic.name() == args.topic && topic.error().is_none());
    let there: Vec<i32> = found.map_or_else(Vec::new, |topic| topic.partitions().iter().map(|p| p.id()).collect());
    if there.is_empty() {
        return Err(Error::Failed(format!(
            "no topic `{}` at {}; `highwater topic list` shows what there is",
            args.topic, kafka.brokers
        )));
    }
    match args.partitions.iter().find(|wanted| !there.contains(wanted)) {
        Some(wanted) => Err(Error::Failed(format!("{} has partitions 0..{}, not {wanted}", args.topic, there.len()))),
        None if args.partitions.is_empty() => Ok(there),
        None => Ok(args.partitions.clone()),
    }
}

fn shown(message: &BorrowedMessage<'_>) -> Shown {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let header = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(Bytes::copy_from_slice))
        };
        headers.iter().map(header).collect()
    });
    Shown {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(Bytes::copy_from_slice),
        headers,
        value: message.payload().map(Bytes::copy_from_slice),
    }
}

/// Prints a record. False where nobody reads any more: a closed pipe (`| head`) is the reader's choice and no failure.
fn print(record: &Shown, look: Look) -> Result<bool, Error> {
    let text = match look {
        Look::Table => record.lines()?.into_bytes(),
        Look::Json => format!("{}\n", record.json()?).into_bytes(),
        Look::Value => [record.value.as_deref().unwrap_or_default(), b"\n"].concat(),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::failed("printing a record", error)),
    }
}
