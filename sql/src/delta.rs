//! The stored half of a table: its Delta snapshot, kept and brought up to date.
//!
//! A snapshot is a version, the data files of that version with what is known of their rows, and the offset per partition that
//! the table stands at. Files never change, so what was read of one is kept for as long as the table has it. A new version is
//! noticed by the existence of the next commit file, one look-up, not a listing. Old commits are cleaned away, but never the newest: where the commit of the
//! version known is gone as well, the table has moved on for longer than its history goes back, and is read anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, commit_uri_from_version, default_logstore};
use deltalake_core::{DeltaTable, DeltaTableError, ObjectStoreError};
use futures::StreamExt;
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{TableSpec, is_data_file_path};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
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
    /// The storage root.
    objects: Arc<dyn ObjectStore>,
    /// The table's directory under the storage root.
    directory: Path,
    /// The columns that lie in the files.
    file_schema: SchemaRef,
    /// Which of them hold promoted attributes.
    promoted: Vec<usize>,
    state: Mutex<State>,
    /// Earlier versions, the latest asked for last.
    past: Mutex<Vec<Arc<TableSnapshot>>>,
}

/// What comes after a version.
enum After {
    Nothing,
    Commits,
    /// The version is gone itself.
    Unknown,
}

/// What there is of an earlier version.
pub(crate) enum Past {
    /// The version, all its files where they were.
    Found(Arc<TableSnapshot>),
    /// There is no table.
    NoTable,
    /// The table has not come to it.
    NotYet {
        /// Its newest version.
        newest: u64,
    },
    /// Its commit is cleaned away.
    Forgotten {
        /// The oldest version whose commit is there.
        oldest: u64,
    },
    /// A file that it had is deleted.
    Vacuumed {
        /// Which.
        file: String,
    },
}

/// The version of a table at some time.
pub(crate) enum VersionAt {
    /// This one.
    Is(u64),
    /// There was no table yet.
    BeforeTheFirst,
    /// Nobody knows: the commits of that time are cleaned away.
    Forgotten {
        /// The oldest version whose commit is there.
        oldest: u64,
    },
}

/// Earlier versions that are kept in memory.
const KEPT_PAST: usize = 4;
/// How many files are asked for at once.
const LOOK_AHEAD: usize = 16;

#[derive(Default)]
struct State {
    table: Option<DeltaTable>,
    files: HashMap<String, Arc<DataFile>>,
    current: Option<Arc<TableSnapshot>>,
}

impl DeltaReader {
    /// A reader of the table of this name. Touches nothing yet.
    pub(crate) fn new(storage: &Storage, spec: &TableSpec, file_schema: SchemaRef) -> Self {
        let name = &spec.name;
        let place = |attribute: &String| file_schema.index_of(attribute).ok();
        let promoted = spec.promoted.iter().filter_map(place).collect();
        let directory = highwater_pipeline::tables::table_path(name);
        let files = PrefixStore::new(Arc::clone(storage.objects()), directory.clone());
        let (origin, url) = (Arc::clone(storage.origin()), storage.table_url(name));
        let log_store = default_logstore(Arc::new(files), origin, &url, &StorageConfig::default());
        let objects = Arc::clone(storage.objects());
        let (state, past) = (Mutex::default(), Mutex::default());
        Self { log_store, objects, directory, file_schema, promoted, state, past }
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

    /// An earlier version, with the offsets of these application ids.
    pub(crate) async fn at(&self, version: u64, app_ids: &[String]) -> Result<Past, DeltaTableError> {
        let Some(newest) = self.latest(app_ids).await? else { return Ok(Past::NoTable) };
        if version == newest.version {
            return Ok(Past::Found(newest));
        }
        if version > newest.version {
            return Ok(Past::NotYet { newest: newest.version });
        }
        let mut past = self.past.lock().await;
        let kept = past.iter().position(|s| s.version == version && app_ids.iter().all(|id| s.ends.contains_key(id)));
        let snapshot = match kept.map(|at| past.remove(at)) {
            Some(snapshot) => snapshot,
            None => {
                let mut table = DeltaTable::new(Arc::clone(&self.log_store));
                if let Err(error) = table.load_version(version).await {
                    let oldest = self.commits().await?.into_iter().map(|(version, _)| version).min();
                    return match oldest {
                        Some(oldest) if version < oldest => Ok(Past::Forgotten { oldest }),
                        _ => Err(error),
                    };
                }
                let ends = self.ask_ends(&table, app_ids).await?;
                Arc::new(TableSnapshot { version, files: self.files_of(&table, &newest)?, ends })
            }
        };
        past.push(Arc::clone(&snapshot));
        if past.len() > KEPT_PAST {
            past.remove(0);
        }
        drop(past);
        // What the newest version has is there; of the rest a vacuum may have deleted any, at any time.
        let there: HashSet<&Path> = newest.files.iter().map(|file| file.file.path()).collect();
        let left = snapshot.files.iter().map(|file| file.file.path()).filter(|path| !there.contains(path));
        let mut looks = futures::stream::iter(left.cloned().collect::<Vec<_>>())
            .map(|path| async move {
                let found = self.objects.head(&path).await;
                (path, found)
            })
            .buffer_unordered(LOOK_AHEAD);
        while let Some((path, found)) = looks.next().await {
            match found {
                Ok(_) => {}
                Err(ObjectStoreError::NotFound { .. }) => return Ok(Past::Vacuumed { file: path.to_string() }),
                Err(error) => return Err(error.into()),
            }
        }
        drop(looks);
        Ok(Past::Found(snapshot))
    }

    /// The version that the table had at this time, Unix milliseconds.
    pub(crate) async fn version_at(&self, at_ms: i64) -> Result<VersionAt, DeltaTableError> {
        let commits = self.commits().await?;
        let Some(oldest) = commits.iter().map(|(version, _)| *version).min() else {
            return Ok(VersionAt::BeforeTheFirst);
        };
        let then = commits.iter().filter(|(_, written_ms)| *written_ms <= at_ms).map(|(version, _)| *version).max();
        Ok(match then {
            Some(version) => VersionAt::Is(version),
            None if oldest == 0 => VersionAt::BeforeTheFirst,
            None => VersionAt::Forgotten { oldest },
        })
    }

    /// The commits that are there, and when each was written, Unix milliseconds.
    async fn commits(&self) -> Result<Vec<(u64, i64)>, DeltaTableError> {
        let store = self.log_store.object_store(None);
        let mut listed = store.list(Some(self.log_store.log_path()));
        let mut commits = Vec::new();
        while let Some(object) = listed.next().await {
            let object = object?;
            let version =
                object.location.filename().and_then(|name| name.strip_suffix(".json")).filter(|n| n.len() == 20);
            if let Some(version) = version.and_then(|digits| digits.parse().ok()) {
                commits.push((version, object.last_modified.timestamp_millis()));
            }
        }
        Ok(commits)
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

    /// The files of another version, those that the newest has, too, as it has them.
    fn files_of(&self, table: &DeltaTable, newest: &TableSnapshot) -> Result<Vec<Arc<DataFile>>, DeltaTableError> {
        let known: HashMap<&Path, &Arc<DataFile>> = newest.files.iter().map(|file| (file.file.path(), file)).collect();
        let mut files = Vec::new();
        for view in table.snapshot()?.log_data().iter() {
            files.push(match known.get(&self.location(&view)) {
                Some(file) => Arc::clone(file),
                None => Arc::new(self.data_file(&view)?),
            });
        }
        Ok(files)
    }

    /// Where a file lies under the storage root.
    fn location(&self, view: &deltalake_core::kernel::LogicalFileView) -> Path {
        self.directory.parts().chain(view.object_store_path().parts()).collect()
    }

    fn data_file(&self, view: &deltalake_core::kernel::LogicalFileView) -> Result<DataFile, DeltaTableError> {
        let partition = view.partition_values_map();
        let value = |column: &str| partition.get(column).cloned().flatten();
        let tenant = value(highwater_pipeline::tables::TENANT_COLUMN);
        let date = value(highwater_pipeline::tables::DATE_COLUMN);
        let size = u64::try_from(view.size()).map_err(|_| bad_file(view, "its size is negative"))?;
        let meta = ObjectMeta {
            location: self.location(view),
            last_modified: view.modification_datetime()?,
            size,
            e_tag: None,
            version: None,
        };
        let values = stats::partition_values(tenant.as_deref(), date.as_deref())
            .ok_or_else(|| bad_file(view, "its date partition is not a date"))?;
        let ours = is_data_file_path(&view.path());
        let mut statistics = stats::file_statistics(&self.file_schema, size, view.stats().as_deref(), ours);
        for &column in &self.promoted {
            stats::keep_if_whole(&mut statistics.column_statistics[column], ours);
        }
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
