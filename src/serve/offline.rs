//! A data directory without its server: log and tables opened to be read, and nothing written. Works beside a running server too.

use std::path::Path;
use std::sync::Arc;

use highwater_broker::{Broker, RealFs, SystemClock};
use highwater_pipeline::ledger::Ledger;
use highwater_pipeline::log::{EmbeddedLog, Log, LogError};
use highwater_pipeline::storage::{self, Storage};
use highwater_sql::{Engine, SqlConfig};
use tempfile::TempDir;

use super::consumer_lag::{self, ConsumerLag};
use super::ledger::{self, LedgerView};
use super::table_storage::{self, TableStorage};
use crate::error::Error;

/// The tables of a data directory.
pub(crate) fn open_storage(data_dir: &Path) -> Result<Storage, Error> {
    if !data_dir.join("log").is_dir() {
        return Err(Error::Failed(format!(
            "no Highwater data in {} (it has no `log` directory); name the place with --data-dir",
            data_dir.display()
        )));
    }
    storage::open_existing(&data_dir.display().to_string())
        .map_err(|error| Error::failed(&format!("opening {}", data_dir.display()), error))
}

/// The log of a data directory as it is at this moment; later appends are not seen.
pub(crate) fn open_log(data_dir: &Path) -> Result<Arc<dyn Log>, LogError> {
    Ok(Arc::new(EmbeddedLog::new(open_broker(data_dir)?)))
}

/// The same, for what only the embedded log can say.
pub(crate) fn open_broker(data_dir: &Path) -> Result<Arc<Broker>, LogError> {
    Ok(Arc::new(Broker::open_read_only(data_dir.join("log"), Arc::new(RealFs), Arc::new(SystemClock))?))
}

/// A query engine over a data directory. What queries spill goes to the directory returned with it.
pub(crate) async fn engine(data_dir: &Path) -> Result<(Engine, TempDir), Error> {
    let storage = open_storage(data_dir)?;
    let log = open_log(data_dir).map_err(|error| Error::failed("opening the log", error))?;
    let tables = highwater_sinks::verify::stored_tables(&storage)
        .await
        .map_err(|error| Error::failed("listing the tables", error))?;
    let spill = tempfile::tempdir().map_err(|error| Error::failed("making a directory for spilled rows", error))?;
    let engine = Engine::new(SqlConfig::default(), storage.clone(), Arc::clone(&log), tables, spill.path())
        .map_err(|error| Error::failed("starting the query engine", error))?;
    engine.register_view(consumer_lag::TABLE, Arc::new(ConsumerLag(Arc::clone(&log))));
    let ledger = Ledger::new(log, Arc::new(SystemClock), None);
    engine.register_view(table_storage::TABLE, Arc::new(TableStorage(storage)));
    engine.register_view(ledger::TABLE, Arc::new(LedgerView(Arc::new(ledger))));
    Ok((engine, spill))
}
