//! `highwater validate`: is this config file good? Starts and changes nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::error::Error;

/// Flags of `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Config file.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: &ValidateArgs) -> Result<ExitCode, Error> {
    let config = Config::load(args.config.as_deref())?;
    config.check()?;
    let topology = crate::serve::topology::build(&config)?;
    let file = args.config.as_ref().map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    println!("{file}: ok, {} rollups, {} rules", config.rollups.len(), topology.rule_count());
    Ok(ExitCode::SUCCESS)
}
