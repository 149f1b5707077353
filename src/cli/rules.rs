//! `highwater rules check FILE...`: rule files, checked against the rollups they read, before they are deployed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Check rule files: syntax, SQL, labels and templates.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Rule files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Config file whose rollups the rules read.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) async fn run(command: RulesCommand) -> Result<ExitCode, Error> {
    let RulesCommand::Check(args) = command;
    let mut config = Config::load(args.config.as_deref())?;
    let mut failed = false;
    for file in &args.files {
        config.rule_files = vec![glob_escape(&file.display().to_string())];
        match crate::serve::topology::build(&config) {
            Ok(topology) => println!("{}: ok, {} rules", file.display(), topology.rule_count()),
            Err(error) => {
                failed = true;
                println!("{error}");
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A path given by name is that path, even where it holds a `*`.
fn glob_escape(path: &str) -> String {
    path.chars().map(|c| if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { c.to_string() }).collect()
}
