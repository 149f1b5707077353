//! `highwater sql "SELECT ..."`: against a running server, or straight at a data directory.

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use clap::{Args, ValueEnum};
use futures::StreamExt;
use highwater_sql::output::{Encoder, Format};
use serde_json::json;

use super::ServerArg;
use crate::client::Client;
use crate::error::Error;

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
    /// The query; `-` reads it from stdin.
    query: String,
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
    let query = if args.query == "-" {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| Error::failed("reading the query from stdin", error))?
    } else {
        args.query
    };
    match args.data_dir {
        None => ask(&args.server, &query, args.output).await,
        Some(dir) => {
            let (engine, _spill) = crate::serve::offline::engine(&dir).await?;
            let result = engine.query("default", &query).await.map_err(|error| Error::Failed(error.to_string()))?;
            let mut printer = Printer::new(args.output, result.schema())?;
            let mut rows = result;
            while let Some(batch) = rows.next().await {
                printer.batch(&batch.map_err(|error| Error::Failed(error.to_string()))?)?;
            }
            printer.finish()
        }
    }
}

/// Asks a server and prints the answer.
pub(super) async fn ask(server: &ServerArg, query: &str, output: OutputFormat) -> Result<ExitCode, Error> {
    let client = Client::new(server)?;
    let response = client.post("/api/v1/sql", &json!({"query": query, "format": "arrow"})).await?;
    let body = response.bytes().await.map_err(|error| Error::failed("reading the answer", error))?;
    let reader = StreamReader::try_new(Cursor::new(&body[..]), None)
        .map_err(|error| Error::failed("reading the answer", error))?;
    let mut printer = Printer::new(output, reader.schema())?;
    for batch in reader {
        printer.batch(&batch.map_err(|error| Error::failed("the query failed while it ran", error))?)?;
    }
    printer.finish()
}

/// Rows onto stdout.
struct Printer(Encoder);

impl Printer {
    fn new(output: OutputFormat, schema: SchemaRef) -> Result<Self, Error> {
        Ok(Self(Encoder::new(output.into(), schema).map_err(not_printable)?))
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        put(&self.0.batch(batch).map_err(not_printable)?)
    }

    fn finish(self) -> Result<ExitCode, Error> {
        put(&self.0.finish().map_err(not_printable)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn not_printable(error: arrow::error::ArrowError) -> Error {
    Error::failed("printing the answer", error)
}

/// Writes to stdout. A closed pipe (`| head`) is the reader's choice: nothing more is wanted, and that is no failure.
fn put(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| Error::failed("printing the answer", error)),
    }
}
