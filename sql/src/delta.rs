//! The stored half of a table: its Delta snapshot, kept and brought up to date.
//!
//! A snapshot is a version, the data files of that version with what is known of their rows, and the offset per partition that
//! the table stands at. Files never change, so what was read of one is kept for as long as the table has it. A new version is
//! noticed by the existence of the next commit file, one look-up, not a listing. Old commits are cleaned away, but never the newest: where the commit of the
//! version known is gone as well, the table has moved on for longer than its history goes back, and is read anew.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, commit_uri_from_version, default_logstore};
use deltalake_core::{DeltaTable, DeltaTableError, ObjectStoreError};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::is_data_file_path;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::stats;

/// A data file of a table.
#[derive(Debug)]
pub(crate) struct DataFile {
    /// The tenant whose rows it holds; files never mix them.
    pub(crate) tenant: Option<String>,
    /// Whether one of our writers made it, which sort.
    pub(crate) is_sorted: bool,
    /// Where it lies (under the storage root), its partition values and its statistics.
    pub(crate) file: PartitionedFile,
}

/// One version of a table.
#[derive(Debug)]
pub(crate) struct TableSnapshot {
    /// The Delta version.
    pub(crate) version: u64,
    /// Its files, of all tenants.
    pub(crate) files: Vec<Arc<DataFile>>,
    /// Per Delta application id (`<topic id>/<partition>`): one past the last offset it holds. `None` where it holds nothing of it.
    ends: HashMap<String, Option<i64>>,
}

impl TableSnapshot {
    /// One past the last offset the version holds of this application id.
    pub(crate) fn end(&self, app_id: &str) -> Option<i64> {
        self.ends.get(app_id).copied().flatten()
    }
}

/// Reads one table's Delta log.
pub(crate) struct DeltaReader {
    log_store: LogStoreRef,
    /// The table's directory under the storage root.
    directory: Path,
    /// The columns that lie in the files.
    file_schema: SchemaRef,
    state: Mutex<State>,
}

/// What comes after a version.
enum After {
    Nothing,
    Commits,
    /// The version is gone itself.
    Unknown,
}

#[derive(Default)]
struct State {
    table: Option<DeltaTable>,
    files: HashMap<String, Arc<DataFile>>,
    current: Option<Arc<TableSnapshot>>,
}

impl DeltaReader {
    /// A reader of the table of this name. Touches nothing yet.
    pub(crate) fn new(storage: &Storage, name: &str, file_schema: SchemaRef) -> Self {
        let directory = highwater_pipeline::tables::table_path(name);
        let files = PrefixStore::new(Arc::clone(storage.objects()), directory.clone());
        let (origin, url) = (Arc::clone(storage.origin()), storage.table_url(name));
        let log_store = default_logstore(Arc::new(files), origin, &url, &StorageConfig::default());
        Self { log_store, directory, file_schema, state: Mutex::default() }
    }

    /// The newest version, with the offsets of these application ids; `None` where there is no table yet.
    pub(crate) async fn latest(&self, app_ids: &[String]) -> Result<Option<Arc<TableSnapshot>>, DeltaTableError> {
        let mut state = self.state.lock().await;
        let fresh = match state.current.as_ref().map(|c| c.version) {
            Some(version) => match self.after(version).await? {
                After::Nothing => true,
                After::Commits => {
                    self.advance(&mut state, version, app_ids).await?;
                    false
                }
                After::Unknown => {
                    (state.table, state.current) = (None, None);
                    self.load(&mut state, app_ids).await?;
                    false
                }
            },
            None if self.log_store.is_delta_table_location().await? => {
                self.load(&mut state, app_ids).await?;
                false
            }
            None => return Ok(None),
        };
        // A topic made since: ask for it once.
        if fresh && let Some(current) = state.current.as_ref().map(Arc::clone) {
            let missing: Vec<String> = app_ids.iter().filter(|id| !current.ends.contains_key(*id)).cloned().collect();
            if let (false, Some(table)) = (missing.is_empty(), state.table.as_ref()) {
                let mut ends = current.ends.clone();
                ends.extend(self.ask_ends(table, &missing).await?);
                let version = current.version;
                let files = current.files.clone();
                state.current = Some(Arc::new(TableSnapshot { version, files, ends }));
            }
        }
        Ok(state.current.as_ref().map(Arc::clone))
    }

    /// What comes after a version.
    async fn after(&self, version: u64) -> Result<After, DeltaTableError> {
        Ok(match futures::try_join!(self.exists(version), self.exists(version + 1))? {
            (_, true) => After::Commits,
            (true, false) => After::Nothing,
            (false, false) => After::Unknown,
        })
    }

    async fn exists(&self, version: u64) -> Result<bool, DeltaTableError> {
        match self.log_store.object_store(None).head(&commit_uri_from_version(Some(version))).await {
            Ok(_) => Ok(true),
            Err(ObjectStoreError::NotFound { .. }) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads the table from its newest checkpoint on.
    async fn load(&self, state: &mut State, app_ids: &[String]) -> Result<(), DeltaTableError> {
        let mut table = DeltaTable::new(Arc::clone(&self.log_store));
        table.load().await?;
        let ends = self.ask_ends(&table, app_ids).await?;
        self.install(state, table, ends)
    }

    /// From version `from` to the newest. The offsets come from the commits in between, each read once.
    async fn advance(&self, state: &mut State, from: u64, app_ids: &[String]) -> Result<(), DeltaTableError> {
        // Taken out while it changes: after an error in between it is loaded anew rather than left half-way.
        let (Some(mut table), Some(current)) = (state.table.take(), state.current.take()) else {
            return Err(DeltaTableError::NotInitialized);
        };
        table.update_state().await?;
        let to = table.version().unwrap_or(from);
        let mut ends = current.ends.clone();
        for version in from + 1..=to {
            let Some(commit) = self.log_store.read_commit_entry(version).await? else {
                // Cleaned away after a checkpoint: ask for all of them again.
                ends.clear();
                break;
            };
            for (app_id, end) in transactions(&commit)? {
                ends.insert(app_id, Some(end));
            }
        }
        let missing: Vec<String> = app_ids.iter().filter(|id| !ends.contains_key(*id)).cloned().collect();
        ends.extend(self.ask_ends(&table, &missing).await?);
        self.install(state, table, ends)
    }

    /// Asks the Delta log for the offsets of these application ids, by replay.
    async fn ask_ends(
        &self,
        table: &DeltaTable,
        app_ids: &[String],
    ) -> Result<HashMap<String, Option<i64>>, DeltaTableError> {
        let mut ends = HashMap::with_capacity(app_ids.len());
        for app_id in app_ids {
            let end = table.snapshot()?.transaction_version(self.log_store.as_ref(), app_id).await?;
            ends.insert(app_id.clone(), end);
        }
        Ok(ends)
    }

    fn install(
        &self,
        state: &mut State,
        table: DeltaTable,
        ends: HashMap<String, Option<i64>>,
    ) -> Result<(), DeltaTableError> {
        let snapshot = table.snapshot()?;
        let mut kept = HashMap::with_capacity(state.files.len());
        let mut files = Vec::with_capacity(state.files.len());
        for view in snapshot.log_data().iter() {
            let path = view.path().into_owned();
            let file = match state.files.get(&path) {
                Some(file) => Arc::clone(file),
                None => Arc::new(self.data_file(&view)?),
            };
            files.push(Arc::clone(&file));
            kept.insert(path, file);
        }
        let version = snapshot.version();
        state.files = kept;
        state.current = Some(Arc::new(TableSnapshot { version, files, ends }));
        state.table = Some(table);
        Ok(())
    }

    fn data_file(&self, view: &deltalake_core::kernel::LogicalFileView) -> Result<DataFile, DeltaTableError> {
        let partition = view.partition_values_map();
        let value = |column: &str| partition.get(column).cloned().flatten();
        let tenant = value(highwater_pipeline::tables::TENANT_COLUMN);
        let date = value(highwater_pipeline::tables::DATE_COLUMN);
        let size = u64::try_from(view.size()).map_err(|_| bad_file(view, "its size is negative"))?;
        let location = self.directory.parts().chain(view.object_store_path().parts()).collect();
        let meta =
            ObjectMeta { location, last_modified: view.modification_datetime()?, size, e_tag: None, version: None };
        let values = stats::partition_values(tenant.as_deref(), date.as_deref())
            .ok_or_else(|| bad_file(view, "its date partition is not a date"))?;
        let ours = is_data_file_path(&view.path());
        let statistics = stats::file_statistics(&self.file_schema, size, view.stats().as_deref(), ours);
        Ok(DataFile {
            tenant,
            is_sorted: ours,
            file: PartitionedFile::new_from_meta(meta)
                .with_partition_values(values)
                .with_statistics(Arc::new(statistics)),
        })
    }
}

fn bad_file(view: &deltalake_core::kernel::LogicalFileView, reason: &str) -> DeltaTableError {
    DeltaTableError::Generic(format!("data file {}: {reason}", view.path()))
}

/// The application transactions of one commit, `(appId, version)`.
fn transactions(commit: &[u8]) -> Result<Vec<(String, i64)>, DeltaTableError> {
    #[derive(Deserialize)]
    struct Line {
        txn: Option<Txn>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Txn {
        app_id: String,
        version: i64,
    }
    let mut found = Vec::new();
    for line in serde_json::Deserializer::from_slice(commit).into_iter::<Line>() {
        let line = line.map_err(|e| DeltaTableError::Generic(format!("a commit is not JSON lines: {e}")))?;
        found.extend(line.txn.map(|t| (t.app_id, t.version)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_found_among_other_actions() {
        let commit = concat!(
            r#"{"commitInfo":{"operation":"WRITE","txn":null}}"#,
            "\n",
            r#"{"txn":{"appId":"t/0","version":7,"lastUpdated":1}}"#,
            "\n",
            r#"{"add":{"path":"a","stats":"{\"txn\":1}"}}"#,
            "\n",
            r#"{"txn":{"appId":"t/1","version":9}}"#,
        );
        assert_eq!(transactions(commit.as_bytes()).unwrap(), [("t/0".to_string(), 7), ("t/1".to_string(), 9)]);
    }

    #[test]
    fn a_torn_commit_is_an_error() {
        assert!(transactions(br#"{"txn":{"appId":"t/0","ver"#).is_err());
    }
}
