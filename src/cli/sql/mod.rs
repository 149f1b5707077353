//! `highwater sql`: one query, a script, or a shell; against a running server, or straight at a data directory.

mod complete;
mod expanded;
mod meta;
mod printer;
mod script;
mod shell;
mod source;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use highwater_sql::output::Format;

use super::ServerArg;
use crate::error::Error;
use printer::{Output, Printer};
pub(super) use source::Source;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Aligned columns for eyes.
    Table,
    /// An array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// A header line, then rows.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Table => Self::Table,
            OutputFormat::Json => Self::Json,
            OutputFormat::Ndjson => Self::Ndjson,
            OutputFormat::Csv => Self::Csv,
            OutputFormat::Arrow => Self::Arrow,
        }
    }
}

/// Flags of `sql`.
#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The query; `-` reads it from stdin. Without one: a shell where there is a terminal, else a script from stdin.
    query: Option<String>,
    /// Run the statements of this file, one after the other, up to the first that fails.
    #[arg(short, long, value_name = "FILE", conflicts_with = "query")]
    file: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: OutputFormat,
    /// Read this data directory itself instead of asking a server; also works while a server runs on it.
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArg,
}

pub(super) async fn run(args: SqlArgs) -> Result<ExitCode, Error> {
    let source = match &args.data_dir {
        None => Source::server(&args.server)?,
        Some(dir) => Source::data_dir(dir, args.server.tenant.as_deref()).await?,
    };
    let format = args.output.into();
    if let Some(file) = &args.file {
        let script = std::fs::read_to_string(file)
            .map_err(|error| Error::failed(&format!("reading {}", file.display()), error))?;
        return script::run(&source, &script, format).await;
    }
    match args.query.as_deref() {
        None if std::io::stdin().is_terminal() => shell::run(source, format).await,
        None | Some("-") => script::run(&source, &stdin()?, format).await,
        Some(query) => one(&source, query, format).await,
    }
}

fn stdin() -> Result<String, Error> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| Error::failed("reading the query from stdin", error))?;
    Ok(text)
}

/// Asks a server and prints the answer.
pub(super) async fn ask(server: &ServerArg, query: &str, output: OutputFormat) -> Result<ExitCode, Error> {
    one(&Source::server(server)?, query, output.into()).await
}

async fn one(source: &Source, query: &str, format: Format) -> Result<ExitCode, Error> {
    let mut rows = source.ask(query).await?;
    let mut out = Output::stdout();
    let mut printer = Printer::new(format, false, rows.schema())?;
    while let Some(batch) = rows.next().await? {
        printer.batch(&batch, &mut out)?;
    }
    printer.finish(&mut out)?;
    Ok(ExitCode::SUCCESS)
}
