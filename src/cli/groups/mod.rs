//! `highwater groups ...`: consumer groups of a running server, or of any Kafka cluster with `--brokers`.
//!
//! Highwater's own (`__highwater.*`) are the progress of its tasks and tables: they can be looked at, and are not reset.

mod describe;
mod progress;
mod reset;

use std::process::ExitCode;

use clap::Subcommand;
use rdkafka::consumer::Consumer;

use super::kafka::{Kafka, KafkaArgs, TIMEOUT};
use super::text_table::TextTable;
use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum GroupsCommand {
    /// List groups: state, protocol, members.
    List {
        #[command(flatten)]
        at: KafkaArgs,
    },
    /// Show how far a group has come in each partition, how far it is behind, and who reads it.
    Describe {
        /// Group.
        group: String,
        #[command(flatten)]
        at: KafkaArgs,
    },
    /// Move a group to another place in its topics. Its members must have stopped.
    ///
    /// Says what it would do, and does it with --execute:
    ///
    ///   highwater groups reset billing --topic orders --to earliest
    ///   highwater groups reset billing --topic orders:0,2 --to 2026-03-01T12:00:00Z --execute
    ///   highwater groups reset billing --all-topics --shift -100 --execute
    #[command(verbatim_doc_comment)]
    Reset(reset::ResetArgs),
}

pub(super) async fn run(command: GroupsCommand) -> Result<ExitCode, Error> {
    match command {
        GroupsCommand::List { at } => list(&at.find().await?).await,
        GroupsCommand::Describe { group, at } => describe::run(&at.find().await?, group).await,
        GroupsCommand::Reset(args) => reset::run(args).await,
    }
}

async fn list(kafka: &Kafka) -> Result<ExitCode, Error> {
    let groups = kafka.blocking(|kafka| groups(kafka, None)).await?;
    let mut table = TextTable::new(&["group", "state", "protocol", "members"]);
    for group in groups {
        table.row([group.name, group.state, group.protocol, group.members.len().to_string()]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// A group as the cluster describes it.
struct Group {
    name: String,
    state: String,
    /// How its members share partitions (`range`, `cooperative-sticky`).
    protocol: String,
    members: Vec<Member>,
}

struct Member {
    id: String,
    client: String,
    host: String,
    /// `None` where the assignment is not one of consumers.
    partitions: Option<Vec<(String, i32)>>,
}

/// All groups, or the one asked for, sorted by name. A group that nobody knows is not among them. Blocks.
fn groups(kafka: &Kafka, only: Option<&str>) -> Result<Vec<Group>, Error> {
    let list = kafka.consumer(&[])?.fetch_group_list(only, TIMEOUT);
    let list = list.map_err(|error| kafka.failed("listing groups", &error))?;
    let known = list.groups().iter().filter(|group| group.state() != "Dead");
    let mut groups: Vec<_> = known
        .map(|group| Group {
            name: group.name().to_owned(),
            state: group.state().to_owned(),
            protocol: group.protocol().to_owned(),
            members: group
                .members()
                .iter()
                .map(|member| Member {
                    id: member.id().to_owned(),
                    client: member.client_id().to_owned(),
                    host: member.client_host().trim_start_matches('/').to_owned(),
                    partitions: super::kafka::partitions_of_assignment(member.assignment().unwrap_or_default()),
                })
                .collect(),
        })
        .collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(groups)
}

/// The group of this name. Blocks.
fn find(kafka: &Kafka, name: &str) -> Result<Group, Error> {
    groups(kafka, Some(name))?.into_iter().find(|group| group.name == name).ok_or_else(|| {
        Error::Failed(format!("no group `{name}` at {}; `highwater groups list` shows what there is", kafka.brokers))
    })
}
