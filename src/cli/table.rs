//! `highwater table list|describe`: tables by their name, rows and columns.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ServerArg;
use super::sql::{self, OutputFormat};
use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    /// List tables.
    List(Flags),
    /// Show a table's columns.
    Describe {
        /// Table.
        table: String,
        #[command(flatten)]
        flags: Flags,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: OutputFormat,
    #[command(flatten)]
    server: ServerArg,
}

pub(super) async fn run(command: TableCommand) -> Result<ExitCode, Error> {
    match command {
        TableCommand::List(flags) => {
            let query = "SELECT table_name FROM information_schema.tables \
                         WHERE table_schema <> 'information_schema' ORDER BY 1";
            sql::ask(&flags.server, query, flags.output).await
        }
        TableCommand::Describe { table, flags } => {
            let query = format!(
                "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
                 WHERE table_name = '{}' ORDER BY ordinal_position",
                table.replace('\'', "''")
            );
            sql::ask(&flags.server, &query, flags.output).await
        }
    }
}
