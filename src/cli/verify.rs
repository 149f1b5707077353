//! `highwater verify`: proof, from the data alone, that every table holds exactly what the log held.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use highwater_pipeline::storage::Access;

use crate::config::{Config, DEFAULT_DATA_DIR, LogKind};
use crate::error::Error;
use crate::serve::{OpenLog, offline};

/// Flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The data directory; a server may be running on it.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR, env = "HIGHWATER_DATA_DIR")]
    data_dir: PathBuf,
    /// A config file: what it says of log and storage is verified, on a Kafka log too.
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: VerifyArgs) -> Result<ExitCode, Error> {
    let config = args.config.as_deref().map(|file| Config::load(Some(file))).transpose()?;
    let verified = match config {
        Some(config) if config.log.kind == LogKind::Kafka => {
            config.check()?;
            let storage = crate::serve::open_storage(&config, Access::Read).await?;
            // Opened before the tables are read and live all the while: it ends no earlier than they do.
            let log = OpenLog::open(&config).await?;
            highwater_sinks::verify::verify(&storage, &[], || Ok(Some(Arc::clone(log.log())))).await
        }
        other => {
            let data_dir = other.map_or(args.data_dir, |config| config.data_dir);
            let storage = offline::open_storage(&data_dir)?;
            highwater_sinks::verify::verify(&storage, &[], || Ok(Some(offline::open_log(&data_dir)?))).await
        }
    };
    let report = verified.map_err(|error| Error::failed("verifying the tables", error))?;
    println!("{report}");
    Ok(ExitCode::from(report.exit_code()))
}
