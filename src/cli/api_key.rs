//! `highwater api-key new`: a secret for a program, and the line that the server needs to know it by.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use highwater_pipeline::access::generate;
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
    /// What it may do.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ingest", "query"])]
    may: Vec<Right>,
    /// It speaks for any tenant: which one, its X-Scope-OrgID says.
    #[arg(long)]
    any_tenant: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Right {
    /// Send logs, metrics and spans; write topics.
    Ingest,
    /// Ask, and read topics.
    Query,
    /// Reload, delete, alter.
    Admin,
}

impl Right {
    fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Query => "query",
            Self::Admin => "admin",
        }
    }
}

pub(super) fn run(command: ApiKeyCommand) -> Result<ExitCode, Error> {
    let ApiKeyCommand::New(NewArgs { name, tenant, may, any_tenant }) = command;
    let tenant = Tenant::new(&tenant).map_err(|error| Error::Usage(error.to_string()))?;
    let secret = generate().map_err(|error| Error::failed("making a key", error))?;
    let quoted = serde_json::Value::from(name);
    let may: Vec<&str> = may.iter().map(|right| right.name()).collect();
    let any = if any_tenant { ", any_tenant: true" } else { "" };
    let (may, hash) = (may.join(", "), secret.sha256);
    eprintln!("add to api_keys:\n  - {{ name: {quoted}, tenant: {tenant}{any}, may: [{may}], sha256: {hash} }}");
    println!("{}", secret.text);
    Ok(ExitCode::SUCCESS)
}
