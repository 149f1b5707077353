//! `highwater api-key new`: a secret for a program, and the line that the server needs to know it by.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use highwater_pipeline::data::Tenant;

use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKeyCommand {
    /// Make a key: the secret goes to stdout, once; the line for the server's configuration, which holds its hash, to stderr.
    New(NewArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// What it is called; the user name of a Kafka client.
    name: String,
    /// Whose data it reads and writes.
    #[arg(long, default_value = Tenant::DEFAULT)]
    tenant: String,
}

pub(super) fn run(command: ApiKeyCommand) -> Result<ExitCode, Error> {
    let ApiKeyCommand::New(NewArgs { name, tenant }) = command;
    let tenant = Tenant::new(&tenant).map_err(|error| Error::Usage(error.to_string()))?;
    let (secret, hash) = crate::api_keys::generate()?;
    let quoted = serde_json::Value::from(name);
    eprintln!("add to api_keys:\n  - {{ name: {quoted}, tenant: {tenant}, sha256: {hash} }}");
    println!("{secret}");
    Ok(ExitCode::SUCCESS)
}
