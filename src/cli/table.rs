//! `highwater table list|describe|compact|history`: what tables there are, how they are stored, and what was done to them.
//!
//! `list` and `describe` ask a server. `compact` and `history` go to the storage itself, beside a server or without one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use highwater_broker::SystemClock;
use highwater_pipeline::storage::{Access, Storage};
use highwater_sinks::SinkError;
use highwater_sinks::tables::inspect::{self, CommitLine};
use highwater_sinks::tables::maintenance::{Compacted, Eagerness, Maintainer, Upkeep};
use highwater_sinks::verify::{stored_tables, table_names};

use super::ServerArg;
use super::sql::{self, OutputFormat};
use super::text_table::TextTable;
use crate::config::{Config, DEFAULT_DATA_DIR};
use crate::error::Error;
use crate::serve::offline;

#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    /// List tables, with their files, rows and sizes.
    List(Flags),
    /// Show a table's columns.
    Describe {
        /// Table.
        table: String,
        /// Show how it is stored, day by day, in place of its columns.
        #[arg(long)]
        storage: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Merge small files into large ones now. Safe beside a running server.
    Compact {
        /// Tables; all of them where none is named.
        tables: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Show what was done to a table, the latest first.
    History {
        /// Table.
        table: String,
        /// How many commits.
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: usize,
        /// Print JSON, one commit a line, with the offsets each took in.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
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

/// Where tables lie.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The data directory; a server may be running on it.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR, env = "HIGHWATER_DATA_DIR")]
    data_dir: PathBuf,
    /// A config file: tables are where it says, and written as it says.
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
}

impl Place {
    async fn open(&self, access: Access) -> Result<(Config, Storage), Error> {
        let Some(file) = &self.config else {
            return Ok((Config::default(), offline::open_storage(&self.data_dir)?));
        };
        let config = Config::load(Some(file.as_path()))?;
        config.check()?;
        let storage = crate::serve::open_storage(&config, access).await?;
        Ok((config, storage))
    }
}

pub(super) async fn run(command: TableCommand) -> Result<ExitCode, Error> {
    match command {
        TableCommand::List(flags) => {
            let query = "SELECT t.table_name, coalesce(max(s.version), 0) AS version, coalesce(sum(s.files), 0) AS files, \
                         coalesce(sum(s.rows), 0) AS stored_rows, coalesce(sum(s.size_bytes), 0) AS size_bytes, \
                         min(s.date) AS first_date, max(s.date) AS last_date \
                         FROM information_schema.tables t LEFT JOIN table_storage s ON s.table_name = t.table_name \
                         WHERE t.table_type = 'BASE TABLE' AND t.table_schema <> 'information_schema' GROUP BY t.table_name ORDER BY t.table_name";
            sql::ask(&flags.server, query, flags.output).await
        }
        TableCommand::Describe { table, storage: true, flags } => {
            let query = format!(
                "SELECT date, files, rows, size_bytes FROM table_storage WHERE table_name = '{}' ORDER BY date",
                table.replace('\'', "''")
            );
            sql::ask(&flags.server, &query, flags.output).await
        }
        TableCommand::Describe { table, storage: false, flags } => {
            let query = format!(
                "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
                 WHERE table_name = '{}' ORDER BY ordinal_position",
                table.replace('\'', "''")
            );
            sql::ask(&flags.server, &query, flags.output).await
        }
        TableCommand::Compact { tables, place } => compact(tables, &place).await,
        TableCommand::History { table, limit, json, place } => {
            let (_, storage) = place.open(Access::Read).await?;
            check_tables(&storage, std::slice::from_ref(&table)).await?;
            let failed = |error: SinkError| Error::failed(&format!("reading the history of {table}"), error);
            let lines = inspect::history(&storage, &table, limit).await.map_err(failed)?;
            print_history(&lines, json)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Every table named has to be there.
async fn check_tables(storage: &Storage, tables: &[String]) -> Result<Vec<String>, Error> {
    let there = table_names(storage).await.map_err(|error| Error::failed("listing the tables", error))?;
    match tables.iter().find(|table| !there.contains(table)) {
        Some(missing) => {
            let names = if there.is_empty() {
                "there are none yet".to_owned()
            } else {
                format!("there are {}", there.join(", "))
            };
            Err(Error::Failed(format!("no stored table {missing}: {names}")))
        }
        None if tables.is_empty() => Ok(there),
        None => Ok(tables.to_vec()),
    }
}

async fn compact(tables: Vec<String>, place: &Place) -> Result<ExitCode, Error> {
    let (config, storage) = place.open(Access::Write).await?;
    let tables = check_tables(&storage, &tables).await?;
    let specs = stored_tables(&storage).await.map_err(|error| Error::failed("describing the tables", error))?;
    let settings = Arc::new(config.tables.settings());
    for spec in specs.into_iter().filter(|spec| tables.contains(&spec.name)) {
        let name = spec.name.clone();
        let failed = |error: SinkError| Error::failed(&format!("compacting {name}"), error);
        // As fast as it goes: somebody is waiting for it.
        let opened =
            Maintainer::open(Arc::new(spec), &storage, Arc::clone(&settings), Arc::new(SystemClock), Upkeep::new(0));
        let compacted = opened.await.map_err(failed)?.compact(Eagerness::Everything).await.map_err(failed)?;
        println!("{name}: {}", told(&compacted));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(compacted: &Compacted) -> String {
    let Compacted { merged_files, merged_bytes, files, bytes, rows, overtaken } = compacted;
    let overtaken = match overtaken {
        0 => String::new(),
        n => format!("; {n} merges were overtaken by other commits"),
    };
    if *merged_files == 0 {
        return format!("nothing to merge{overtaken}");
    }
    format!("{merged_files} files of {merged_bytes} bytes merged into {files} of {bytes} bytes, {rows} rows{overtaken}")
}

fn print_history(lines: &[CommitLine], json: bool) -> Result<(), Error> {
    if json {
        for line in lines {
            let text = serde_json::to_string(line).map_err(|error| Error::failed("printing a commit", error))?;
            println!("{text}");
        }
        return Ok(());
    }
    let header =
        ["version", "time", "operation", "files added", "rows", "bytes", "files removed", "rows expired", "offsets"];
    let mut table = TextTable::new(&header);
    for line in lines {
        let covers: Vec<String> = line
            .covers
            .iter()
            .map(|c| format!("{}/{} {}..{}{}", c.topic, c.partition, c.from, c.to, if c.gap { " lost" } else { "" }))
            .collect();
        let counts = [line.added_files, line.added_rows, line.added_bytes, line.removed_files, line.expired_rows];
        let cells = [line.version.to_string(), line.time.clone(), line.operation.clone()].into_iter();
        table.row(cells.chain(counts.iter().map(u64::to_string)).chain([covers.join(", ")]));
    }
    table.print();
    Ok(())
}
