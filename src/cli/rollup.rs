//! `highwater rollup list|describe|explain|backfill`: the rollups of a running server.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ServerArg;
use super::out::say;
use super::text_table::TextTable;
use crate::client::Client;
use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum RollupCommand {
    /// List rollups.
    List(Flags),
    /// Show a rollup's query, settings and columns.
    Describe(Named),
    /// Show how a rollup is kept up to date: what is kept per group, and for how long.
    Explain(Named),
    /// Compute a rollup anew from the stored rows, and go on with what comes.
    Backfill(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Rollup.
    rollup: String,
    #[command(flatten)]
    flags: Flags,
}

/// A rollup, as `GET /api/v1/rollups` has it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RollupDescription {
    /// Its name, and its table's.
    pub(crate) name: String,
    /// Topic of its rows and their revisions.
    pub(crate) topic: String,
    /// The topic or the rollup that it reads.
    pub(crate) reads: String,
    /// Its window, e.g. `tumble 1m`.
    pub(crate) window: String,
    /// How far the watermark must be past a window's end before it closes.
    pub(crate) lateness_ms: i64,
    /// How long after its last closing a window can be corrected.
    pub(crate) correction_horizon_ms: i64,
    /// What becomes of late rows: `correct` or `drop`.
    pub(crate) late: String,
    /// Whether it takes in stored rows when it is new or edited.
    pub(crate) backfill: bool,
    /// Whether it came with Highwater.
    pub(crate) built_in: bool,
    /// Hash of what gives its state a meaning.
    pub(crate) definition: String,
    /// The query.
    pub(crate) sql: String,
    /// Name and type of its columns.
    pub(crate) columns: Vec<(String, String)>,
    /// How it is kept up to date, a line each.
    pub(crate) explanation: Vec<String>,
}

pub(super) async fn run(command: RollupCommand) -> Result<ExitCode, Error> {
    match command {
        RollupCommand::List(flags) => list(&flags).await?,
        RollupCommand::Describe(named) => describe(&named).await?,
        RollupCommand::Explain(named) => {
            let found = find(&named).await?;
            found.explanation.iter().for_each(|line| say!("{line}"));
        }
        RollupCommand::Backfill(Named { rollup, flags }) => {
            let path = format!("/api/v1/rollups/{rollup}/backfill");
            Client::new(&flags.server)?.post(&path, &json!({})).await?;
            say!("{rollup} begins anew; its windows are replaced one by one as the stored rows are read");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(flags: &Flags) -> Result<(), Error> {
    let all: Vec<RollupDescription> = Client::new(&flags.server)?.get("/api/v1/rollups").await?;
    if flags.json {
        return print(&all);
    }
    let mut table = TextTable::new(&["ROLLUP", "READS", "WINDOW", "LATENESS", "LATE ROWS", "BUILT IN"]);
    for rollup in all {
        table.row(vec![
            rollup.name,
            rollup.reads,
            rollup.window,
            duration(rollup.lateness_ms),
            rollup.late,
            if rollup.built_in { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.print();
    Ok(())
}

async fn find(named: &Named) -> Result<RollupDescription, Error> {
    Client::new(&named.flags.server)?.get(&format!("/api/v1/rollups/{}", named.rollup)).await
}

async fn describe(named: &Named) -> Result<(), Error> {
    let found = find(named).await?;
    if named.flags.json {
        return print(&found);
    }
    say!("rollup              {}", found.name);
    say!("reads               {}", found.reads);
    say!("topic               {}", found.topic);
    say!("window              {}", found.window);
    say!("lateness            {}", duration(found.lateness_ms));
    say!("correction horizon  {}", duration(found.correction_horizon_ms));
    say!("late rows           {}", found.late);
    say!("backfill            {}", found.backfill);
    say!("definition          {}", found.definition);
    say!();
    say!("{}", found.sql);
    say!();
    let mut table = TextTable::new(&["COLUMN", "TYPE"]);
    for (name, data_type) in found.columns {
        table.row(vec![name, data_type]);
    }
    table.print();
    Ok(())
}

fn print<T: Serialize>(what: &T) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(what).map_err(|error| Error::failed("printing rollups", error))?;
    say!("{text}");
    Ok(())
}

fn duration(ms: i64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(ms.unsigned_abs())).to_string()
}
