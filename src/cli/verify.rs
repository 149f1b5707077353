//! `highwater verify`: proof, from the data alone, that every table holds exactly what the log held.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::DEFAULT_DATA_DIR;
use crate::error::Error;
use crate::serve::offline;

/// Flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The data directory; a server may be running on it.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR, env = "HIGHWATER_DATA_DIR")]
    data_dir: PathBuf,
}

pub(super) async fn run(args: VerifyArgs) -> Result<ExitCode, Error> {
    let storage = offline::open_storage(&args.data_dir)?;
    let report = highwater_sinks::verify::verify(&storage, &[], || Ok(Some(offline::open_log(&args.data_dir)?)))
        .await
        .map_err(|error| Error::failed("verifying the tables", error))?;
    println!("{report}");
    Ok(ExitCode::from(report.exit_code()))
}
