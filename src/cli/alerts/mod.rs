//! `highwater alerts tail | list | show`.

mod page;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::ServerArg;
use crate::cli::sql::{self, OutputFormat};
use crate::cli::tail::{self, FollowArgs};
use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// Print alert transitions as they happen, one JSON object a line.
    Tail(TailArgs),
    /// List alerts that are pending or firing now.
    List(ListArgs),
    /// Show one alert: what it says, its transitions so far, and its evidence.
    Show(show::ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    follow: FollowArgs,
    /// Only transitions to this state.
    #[arg(long, value_parser = ["pending", "firing", "resolved", "inactive", "corrected", "retracted"])]
    state: Option<String>,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Resolved ones too.
    #[arg(long)]
    all: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: OutputFormat,
    #[command(flatten)]
    server: ServerArg,
}

/// What an alert is, in SQL: late rows may have made something else of it than the transition's word says.
const IS_NOW: &str = "CASE WHEN state IN ('corrected', 'retracted') THEN coalesce(source -> 'correction' ->> 'now', 'inactive') ELSE state END";

/// Newest transition of every alert: one partition, so the largest offset is the newest.
fn current_alerts(all: bool) -> String {
    let filter = if all { "" } else { " AND state NOT IN ('resolved', 'inactive')" };
    format!(
        "SELECT alertname, state, value, labels, starts_at, since, fingerprint FROM (\
           SELECT alertname, {IS_NOW} AS state, value, labels, starts_at, timestamp AS since, fingerprint, \
             row_number() OVER (PARTITION BY fingerprint ORDER BY _offset DESC) AS newest FROM alerts\
         ) newest_first WHERE newest = 1{filter} ORDER BY state, alertname, labels"
    )
}

pub(crate) async fn run(command: AlertsCommand) -> Result<ExitCode, Error> {
    match command {
        AlertsCommand::Tail(args) => {
            let state = args.state.map(|state| format!("?state={state}")).unwrap_or_default();
            tail::follow(&args.server, &format!("/api/v1/alerts/stream{state}"), &args.follow).await
        }
        AlertsCommand::Show(args) => show::run(args).await,
        AlertsCommand::List(args) => sql::ask(&args.server, &current_alerts(args.all), args.output).await,
    }
}
