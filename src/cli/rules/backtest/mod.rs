//! `highwater rules backtest FILE... --from --to`: what rules would have said over what is stored, and what an edit changes.

mod show;
mod stored;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use highwater_broker::{Clock, SystemClock};
use highwater_pipeline::data::alerts::Transition;
use highwater_processors::ProcessorsConfig;
use highwater_processors::backtest::Backtest;

use super::{files, glob_escape};
use crate::cli::ServerArg;
use crate::cli::out::say;
use crate::cli::promql::read_time;
use crate::cli::sql::Source;
use crate::config::Config;
use crate::error::Error;
use show::Timeline;
use stored::Stored;

/// How the timeline is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A line per transition.
    Table,
    /// One object with all transitions, as they would be in topic `alerts`.
    Json,
    /// A bar per alert, drawn in the terminal.
    Graph,
}

/// Flags of `rules backtest`. Times are RFC 3339, Unix seconds, `now`, or a time ago such as `now-1d`. Exit codes: 0 done, and with --diff nothing
/// differs; 1 something differs, or it failed.
#[derive(Debug, Args)]
pub(crate) struct BacktestArgs {
    /// Rule files, or patterns with `*`: all that belong together.
    #[arg(required = true)]
    files: Vec<String>,
    /// Show what is said from this time on.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// Show what is said up to this time.
    #[arg(long, value_name = "TIME", default_value = "now")]
    to: String,
    /// Show only what these rule files would have said otherwise, and end with 1 where there is any of that.
    #[arg(long, value_name = "FILE")]
    diff: Vec<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Config file with the rollups that the rules read.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
    /// Read this data directory itself instead of asking a server; also works while a server runs on it.
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArg,
}

pub(super) async fn run(args: BacktestArgs) -> Result<ExitCode, Error> {
    let now_ms = SystemClock.now_ms();
    let from_us = read_time(&args.from, now_ms)?.saturating_mul(1_000);
    let to_us = read_time(&args.to, now_ms)?.saturating_mul(1_000);
    if from_us > to_us {
        return Err(Error::Usage(format!("--from {} is after --to {}", args.from, args.to)));
    }
    let mut tests = vec![backtest(&args.config, &args.files)?];
    if !args.diff.is_empty() {
        tests.push(backtest(&args.config, &args.diff)?);
    }
    let source = match &args.data_dir {
        None => Source::server(&args.server)?,
        Some(dir) => Source::data_dir(dir, args.server.tenant.as_deref()).await?,
    };
    Stored::new(&source, &tests).play(&mut tests, from_us, to_us).await?;
    let mut told = tests.iter_mut().map(|test| {
        let transitions: Vec<Transition> = test.take_transitions();
        Timeline::new(transitions, from_us, to_us)
    });
    let (new, old) = (told.next().unwrap_or_default(), told.next());
    match (args.output, &old) {
        (Output::Table, None) => new.table(),
        (Output::Table, Some(old)) => new.difference(old).table(),
        (Output::Json, old) => say!("{}", show::json(&new, old.as_ref())?),
        (Output::Graph, old) => show::graph(&new, old.as_ref()),
    }
    match old.as_ref().map(|old| new.difference(old)) {
        Some(difference) => {
            eprintln!("{}", difference.summary());
            Ok(if difference.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        None => {
            eprintln!("{}", new.summary());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The tasks of the config file with these rule files in place of its own.
fn backtest(config: &Option<PathBuf>, patterns: &[String]) -> Result<Backtest, Error> {
    let mut config = Config::load(config.as_deref())?;
    config.rule_files = files(patterns)?.iter().map(|file| glob_escape(&file.display().to_string())).collect();
    let processors: ProcessorsConfig = crate::serve::topology::processors(&config)?;
    Backtest::new(&processors).map_err(|error| Error::Failed(error.to_string()))
}
