//! `highwater status`: what a running server is doing.

use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::ServerArg;
use super::out::say;
use super::text_table::TextTable;
use crate::client::Client;
use crate::error::Error;

/// Flags of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The whole answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

/// The answer of `GET /api/v1/status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Version of the server.
    pub(crate) version: String,
    /// Seconds since it started.
    pub(crate) uptime_s: f64,
    /// Where the log is reached over Kafka; `None` where it is not.
    #[serde(default)]
    pub(crate) kafka: Option<String>,
    /// The newest version of the definitions (rollups and rules) in the log; 0 where there is none.
    #[serde(default)]
    pub(crate) definitions_version: u32,
    /// The processes that work on this log.
    pub(crate) members: Vec<MemberLine>,
    /// Stateful tasks, one per input partition.
    pub(crate) tasks: Vec<TaskLine>,
    /// Tables and how far they have come.
    pub(crate) tables: Vec<TableLine>,
}

/// One process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemberLine {
    /// Its name: host and address.
    pub(crate) name: String,
    /// Its roles, with commas between.
    pub(crate) roles: String,
    /// Its version.
    pub(crate) version: String,
    /// Seconds since it started.
    pub(crate) uptime_s: f64,
    /// Whether it is ready.
    pub(crate) ready: bool,
}

/// One stateful task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TaskLine {
    /// Task name: `topic/partition`.
    pub(crate) task: String,
    /// The process that runs it.
    pub(crate) owner: String,
    /// `running`, `restoring`, `failed: ...`.
    pub(crate) state: String,
    /// Its epoch.
    pub(crate) epoch: i32,
    /// The version of the definitions it applies: that of the last record it read.
    #[serde(default)]
    pub(crate) definitions_version: u32,
    /// Next input offset.
    pub(crate) offset: i64,
    /// Records behind the high watermark.
    pub(crate) lag: i64,
    /// Event-time watermark, RFC 3339.
    pub(crate) watermark: Option<String>,
    /// Whether the input is idle.
    pub(crate) idle: bool,
    /// Seconds since the newest snapshot.
    pub(crate) snapshot_age_s: Option<f64>,
}

/// One table's progress in one partition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TableLine {
    /// Table.
    pub(crate) table: String,
    /// The process that writes it.
    pub(crate) owner: String,
    /// Topic it reads.
    pub(crate) topic: String,
    /// Partition.
    pub(crate) partition: i32,
    /// Offset up to which the table is committed.
    pub(crate) committed: i64,
    /// Records behind the high watermark.
    pub(crate) lag: i64,
    /// `running` or `failed: ...`.
    pub(crate) state: String,
}

pub(super) async fn run(args: StatusArgs) -> Result<ExitCode, Error> {
    let status: Status = Client::new(&args.server)?.get("/api/v1/status").await?;
    if args.json {
        let text =
            serde_json::to_string_pretty(&status).map_err(|error| Error::failed("printing the status", error))?;
        say!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let (version, definitions) = (status.version, status.definitions_version);
    say!("highwater {version} up {:.0} s, definitions version {definitions}", status.uptime_s);
    if let Some(kafka) = &status.kafka {
        say!("kafka on {kafka}");
    }
    say!();
    // Alone, there is no need to say who does what.
    let several = status.members.len() > 1;
    if several {
        let mut table = TextTable::new(&["process", "roles", "version", "up s", "ready"]);
        for m in status.members {
            let ready = if m.ready { "yes" } else { "no" };
            table.row([m.name, m.roles, m.version, format!("{:.0}", m.uptime_s), ready.into()]);
        }
        table.print();
        say!();
    }
    let owner = |name: String| if several { name } else { "this process".to_owned() };
    let mut table = TextTable::new(&[
        "task",
        "owner",
        "state",
        "epoch",
        "definitions",
        "offset",
        "lag",
        "watermark",
        "idle",
        "snapshot age",
    ]);
    for t in status.tasks {
        table.row([
            t.task,
            owner(t.owner),
            t.state,
            t.epoch.to_string(),
            t.definitions_version.to_string(),
            t.offset.to_string(),
            t.lag.to_string(),
            t.watermark.unwrap_or_else(|| "-".into()),
            if t.idle { "idle".into() } else { "-".into() },
            t.snapshot_age_s.map_or_else(|| "-".into(), |s| format!("{s:.0}")),
        ]);
    }
    table.print();
    say!();
    let mut table = TextTable::new(&["table", "owner", "topic", "partition", "committed", "lag", "state"]);
    for t in status.tables {
        table.row([
            t.table,
            owner(t.owner),
            t.topic,
            t.partition.to_string(),
            t.committed.to_string(),
            t.lag.to_string(),
            t.state,
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}
