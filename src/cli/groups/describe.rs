//! `highwater groups describe`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use rdkafka::consumer::Consumer;

use super::progress::{self, Place};
use super::{Group, Member};
use crate::cli::kafka::{Kafka, TIMEOUT};
use crate::cli::out::say;
use crate::cli::text_table::TextTable;
use crate::error::Error;

/// One partition that the group has come to, or that a member of it reads.
struct Line {
    place: Place,
    committed: Option<i64>,
    end: i64,
}

pub(super) async fn run(kafka: &Kafka, name: String) -> Result<ExitCode, Error> {
    let (group, lines) = kafka.blocking(move |kafka| look(kafka, &name)).await?;
    say!("group: {}\nstate: {}\nmembers: {}", group.name, group.state, group.members.len());
    if !group.protocol.is_empty() {
        say!("protocol: {}", group.protocol);
    }
    let owners = owners(&group.members);
    let mut table = TextTable::new(&["topic", "partition", "committed", "end", "lag", "member", "client", "host"]);
    for line in lines {
        let owner = owners.get(&line.place);
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let text = |of: fn(&Member) -> &str| owner.map_or("-", |member| of(member)).to_owned();
        let (topic, partition) = line.place;
        table.row([
            topic,
            partition.to_string(),
            number(line.committed),
            line.end.to_string(),
            number(line.committed.map(|committed| (line.end - committed).max(0))),
            text(|member| &member.id),
            text(|member| &member.client),
            text(|member| &member.host),
        ]);
    }
    table.print();
    for idle in group.members.iter().filter(|member| member.partitions.as_ref().is_none_or(Vec::is_empty)) {
        say!("{} ({}, {}) has no partitions", idle.id, idle.client, idle.host);
    }
    Ok(ExitCode::SUCCESS)
}

fn look(kafka: &Kafka, name: &str) -> Result<(Group, Vec<Line>), Error> {
    let group = super::find(kafka, name)?;
    let consumer = progress::speaker(kafka, name)?;
    let failed = |error| kafka.failed(&format!("describing group {name}"), &error);
    let all = progress::places(&consumer, None).map_err(failed)?;
    let committed = progress::committed(&consumer, &all).map_err(failed)?;
    let assigned = group.members.iter().filter_map(|member| member.partitions.as_ref()).flatten().cloned();
    let places: BTreeSet<Place> = committed.keys().cloned().chain(assigned).collect();
    let mut lines = Vec::with_capacity(places.len());
    for place in places {
        let (_, end) = consumer.fetch_watermarks(&place.0, place.1, TIMEOUT).map_err(failed)?;
        lines.push(Line { committed: committed.get(&place).copied(), place, end });
    }
    Ok((group, lines))
}

/// Who reads each partition.
fn owners(members: &[Member]) -> BTreeMap<Place, &Member> {
    let of = |member| move |place: &Place| (place.clone(), member);
    members.iter().flat_map(|member| member.partitions.iter().flatten().map(of(member))).collect()
}
