//! `highwater groups reset`: another place for a group whose members have stopped.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::progress::{self, Place};
use crate::cli::kafka::{Kafka, KafkaArgs, Position, Reader, TIMEOUT, patiently};
use crate::cli::out::say;
use crate::cli::text_table::TextTable;
use crate::error::Error;

/// Flags of `reset`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("topics").required(true).args(["topic", "all_topics"]))]
#[command(group = ArgGroup::new("place").required(true).args(["to", "shift"]))]
pub(crate) struct ResetArgs {
    /// Group.
    group: String,
    /// A topic, or some of its partitions; may repeat. The group need not have read it yet.
    #[arg(long, value_name = "TOPIC[:N,...]", value_parser = topic)]
    topic: Vec<(String, Vec<i32>)>,
    /// Every partition that the group has committed an offset of.
    #[arg(long)]
    all_topics: bool,
    /// Where to: earliest, latest, an offset, -N (so many before the end), a time (2026-03-01T12:00:00Z) or an age (15m).
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: Option<Position>,
    /// So many offsets on (or back, with a minus) from where it is.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift: Option<i64>,
    /// Do it; without this, say what would be done.
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    at: KafkaArgs,
}

fn topic(text: &str) -> Result<(String, Vec<i32>), String> {
    let (topic, partitions) = text.split_once(':').unwrap_or((text, ""));
    let partitions =
        partitions.split(',').filter(|number| !number.is_empty()).map(str::parse).collect::<Result<_, _>>();
    let partitions =
        partitions.map_err(|_| format!("`{text}` is not a topic, or a topic and partitions as in orders:0,2"))?;
    Ok((topic.to_owned(), partitions))
}

pub(super) async fn run(args: ResetArgs) -> Result<ExitCode, Error> {
    let kafka = args.at.find().await?;
    let execute = args.execute;
    let moves = kafka.blocking(move |kafka| reset(kafka, &args)).await?;
    let mut table = TextTable::new(&["topic", "partition", "from", "to"]);
    for ((topic, partition), (from, to)) in moves {
        table.row([
            topic,
            partition.to_string(),
            from.map_or_else(|| "-".into(), |from| from.to_string()),
            to.to_string(),
        ]);
    }
    table.print();
    if !execute {
        say!("nothing was changed; --execute does it");
    }
    Ok(ExitCode::SUCCESS)
}

type Moves = BTreeMap<Place, (Option<i64>, i64)>;

fn reset(kafka: &Kafka, args: &ResetArgs) -> Result<Moves, Error> {
    let name = args.group.as_str();
    // A group nobody has heard of may be given a place to begin at. Of one that is known, members would overwrite what is set here.
    let known = super::groups(kafka, Some(name))?.into_iter().find(|group| group.name == name);
    if let Some(group) = known.filter(|group| !matches!(group.state.as_str(), "Empty" | "Dead")) {
        return Err(Error::Failed(format!(
            "group `{name}` is {} with {} members; stop them first: they would go on from where they are",
            group.state,
            group.members.len()
        )));
    }
    let consumer = progress::speaker(kafka, name)?;
    let failed = |error| kafka.failed(&format!("resetting group {name}"), &error);
    let places = places(&consumer, args).map_err(|error| match error {
        Missing::Kafka(error) => failed(error),
        Missing::Place(what) => Error::Failed(what),
    })?;
    let committed = progress::committed(&consumer, &places).map_err(failed)?;
    let mut moves = Moves::new();
    for place in places {
        let from = committed.get(&place).copied();
        let to = match (args.to, args.shift, from) {
            (Some(to), _, _) => to.resolve(&consumer, &place.0, place.1).map_err(failed)?,
            (None, Some(by), Some(from)) => {
                let (start, end) = consumer.fetch_watermarks(&place.0, place.1, TIMEOUT).map_err(failed)?;
                from.saturating_add(by).clamp(start, end.max(start))
            }
            (None, _, _) => continue,
        };
        moves.insert(place, (from, to));
    }
    if args.execute && !moves.is_empty() {
        commit(&consumer, &moves).map_err(failed)?;
    }
    Ok(moves)
}

enum Missing {
    Kafka(KafkaError),
    Place(String),
}

impl From<KafkaError> for Missing {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

/// The partitions that are meant.
fn places(consumer: &Reader, args: &ResetArgs) -> Result<Vec<Place>, Missing> {
    if args.all_topics {
        let all = progress::places(consumer, None)?;
        return Ok(progress::committed(consumer, &all)?.into_keys().collect());
    }
    let mut places = Vec::new();
    for (topic, wanted) in &args.topic {
        let there = progress::places(consumer, Some(topic))?;
        if there.is_empty() {
            return Err(Missing::Place(format!("no topic `{topic}`")));
        }
        match wanted.iter().find(|wanted| !there.iter().any(|(_, partition)| partition == *wanted)) {
            Some(missing) => {
                return Err(Missing::Place(format!("{topic} has partitions 0..{}, not {missing}", there.len())));
            }
            None => places
                .extend(there.into_iter().filter(|(_, partition)| wanted.is_empty() || wanted.contains(partition))),
        }
    }
    Ok(places)
}

fn commit(consumer: &Reader, moves: &Moves) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::with_capacity(moves.len());
    for ((topic, partition), (_, to)) in moves {
        list.add_partition_offset(topic, *partition, Offset::Offset(*to))?;
    }
    patiently(|| consumer.commit(&list, CommitMode::Sync))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ResetArgs,
    }

    fn parse(line: &str) -> Result<ResetArgs, String> {
        let words = ["reset"].into_iter().chain(line.split(' '));
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn what_and_where_to_must_be_said() {
        let args = parse("g --topic a --topic b:0,2 --to -5").unwrap();
        assert_eq!(args.topic, [("a".to_owned(), vec![]), ("b".to_owned(), vec![0, 2])]);
        assert_eq!((args.to, args.execute), (Some(Position::BeforeEnd(5)), false));
        assert_eq!(parse("g --all-topics --shift -100").unwrap().shift, Some(-100));
        for line in
            ["g --topic a", "g --to earliest", "g --topic a --to 0 --shift 1", "g --topic a --all-topics --to 0"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("g --topic a:x --to 0").unwrap_err().contains("orders:0,2"));
    }
}
