//! `highwater topic produce`: lines as records.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rdkafka::ClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::cli::kafka::{Kafka, KafkaArgs, TIMEOUT};
use crate::error::Error;

/// Longest wait for what is on its way once the input has ended.
const FLUSH: Duration = Duration::from_secs(60);

/// Flags of `produce`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProduceArgs {
    /// Topic; it must exist unless `--create` is given.
    topic: String,
    /// Read lines from this file instead of stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What stands before this in a line is the record's key.
    #[arg(short = 'K', long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// With a key separator: a line with nothing behind it is a record without a value (a tombstone: it deletes its key
    /// from a compacted topic).
    #[arg(long, requires = "key_separator")]
    tombstones: bool,
    /// A header of every record; may repeat.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Write to this partition; otherwise the key decides, and without a key chance.
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// How batches are compressed on their way and in the log.
    #[arg(long, value_enum, default_value = "none")]
    compression: Compression,
    /// Whose word to wait for: `all` is synced by every replica in sync, `0` nobody.
    #[arg(long, value_parser = ["all", "1", "0"], default_value = "all")]
    acks: String,
    /// Let the cluster make the topic if it does so for those who ask.
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    at: KafkaArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

pub(super) async fn run(args: ProduceArgs) -> Result<ExitCode, Error> {
    let kafka = args.at.find().await?;
    kafka.blocking(move |kafka| produce(kafka, &args)).await
}

/// Counts what arrived, and keeps the first refusal.
#[derive(Default)]
struct Outcome {
    delivered: AtomicU64,
    refused: AtomicU64,
    why: OnceLock<KafkaError>,
}

#[derive(Clone, Default)]
struct Counting(Arc<Outcome>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.0.delivered.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => {
                // The first one says what is wrong; the rest are the same.
                self.0.why.get_or_init(|| error.clone());
                self.0.refused.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

fn produce(kafka: &Kafka, args: &ProduceArgs) -> Result<ExitCode, Error> {
    let doing = format!("writing to {}", args.topic);
    if !args.create {
        require(kafka, &args.topic)?;
    }
    let mut input: Box<dyn BufRead> = match &args.file {
        None => Box::new(stdin().lock()),
        Some(file) => {
            let place = format!("opening {}", file.display());
            Box::new(BufReader::new(File::open(file).map_err(|error| Error::failed(&place, error))?))
        }
    };
    let outcome = Counting::default();
    let idempotence = if args.acks == "all" { "true" } else { "false" };
    let properties = [
        ("acks", args.acks.as_str()),
        ("enable.idempotence", idempotence),
        ("compression.codec", args.compression.name()),
        ("linger.ms", "5"),
    ];
    let producer: ThreadedProducer<Counting> = kafka.client_with(&properties, outcome.clone())?;
    let headers = args
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (name, value)| headers.insert(Header { key: name, value: Some(value) }));
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(|error| Error::failed("reading lines", error))? == 0 {
            break;
        }
        number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let (key, value) = args.split(&line).ok_or_else(|| {
            Error::Failed(format!(
                "line {number} has no {:?} to end its key",
                args.key_separator.as_deref().unwrap_or("")
            ))
        })?;
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&args.topic);
        (record.key, record.payload, record.partition) = (key, value, args.partition);
        if !args.headers.is_empty() {
            record.headers = Some(headers.clone());
        }
        loop {
            match producer.send(record) {
                Ok(()) => break,
                // The producer's own thread makes room.
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(kafka.failed(&format!("{doing}, line {number}"), &error)),
            }
        }
    }
    producer.flush(FLUSH).map_err(|error| kafka.failed(&doing, &error))?;
    let Outcome { delivered, refused, why } = &*outcome.0;
    let (delivered, refused) = (delivered.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    eprintln!("{delivered} records written to {}", args.topic);
    match why.get() {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(kafka.failed(&format!("{doing}: {refused} records refused"), error)),
    }
}

/// A key or a value, where there is one.
type Bytes<'l> = Option<&'l [u8]>;

impl ProduceArgs {
    /// Key and value of a line; `None` where a key is missing.
    fn split<'l>(&self, line: &'l [u8]) -> Option<(Bytes<'l>, Bytes<'l>)> {
        let Some(separator) = self.key_separator.as_deref().map(str::as_bytes) else { return Some((None, Some(line))) };
        let at = line.windows(separator.len().max(1)).position(|window| window == separator)?;
        let (key, rest) = line.split_at(at);
        let value = &rest[separator.len()..];
        Some((Some(key), Some(value).filter(|value| !(self.tombstones && value.is_empty()))))
    }
}

/// A topic that is not there is said at once; a producer would wait for it to appear.
fn require(kafka: &Kafka, topic: &str) -> Result<(), Error> {
    let metadata = kafka.consumer(&[])?.fetch_metadata(Some(topic), TIMEOUT);
    let metadata = metadata.map_err(|error| kafka.failed(&format!("looking for {topic}"), &error))?;
    match metadata.topics().iter().any(|found| found.name() == topic && found.error().is_none()) {
        true => Ok(()),
        false => Err(Error::Failed(format!(
            "no topic `{topic}` at {}; make it with `highwater topic create {topic}`, or let --create do so",
            kafka.brokers
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ProduceArgs,
    }

    fn args(more: &[&str]) -> ProduceArgs {
        Line::parse_from([["produce", "t"].as_slice(), more].concat()).args
    }

    #[test]
    fn a_line_is_a_value_or_a_key_and_a_value() {
        assert_eq!(args(&[]).split(b"a:b"), Some((None, Some(&b"a:b"[..]))));
        let keyed = args(&["-K", ":"]);
        assert_eq!(keyed.split(b"a:b:c"), Some((Some(&b"a"[..]), Some(&b"b:c"[..]))));
        assert_eq!(keyed.split(b":b"), Some((Some(&b""[..]), Some(&b"b"[..]))));
        assert_eq!(keyed.split(b"a:"), Some((Some(&b"a"[..]), Some(&b""[..]))));
        assert_eq!(keyed.split(b"ab"), None);
        assert_eq!(args(&["-K", "::"]).split(b"a:b::c"), Some((Some(&b"a:b"[..]), Some(&b"c"[..]))));
        assert_eq!(args(&["-K", ":", "--tombstones"]).split(b"a:"), Some((Some(&b"a"[..]), None)));
    }
}
