//! A table's Delta log: where the table stands, and the one way to move it.
//!
//! The library's own retry is not used. It refuses a *concurrent* transaction of the same `appId`, but not one already in the snapshot
//! it loaded, and so may write a range twice after a lost reply. Here a commit is one conditional put of version `n + 1`. Whatever else
//! than success comes back, the log is read again, and there are three cases:
//!
//! | the table stands, for every partition of the commit | then |
//! |---|---|
//! | at the commit's end, and a commit with our id is there | it was written; done |
//! | at the commit's start | somebody else's unrelated commit won, or the put failed; try again |
//! | anywhere else | another writer is at work; stop |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, Add, CommitInfo, MetadataExt, Protocol, StructType, Transaction, new_metadata};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, get_actions, logstore_with};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::TryStreamExt;
use highwater_pipeline::log::TopicInfo;
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{
    COMMIT_ID_KEY, COVER_KEY, Cover, PARTITION_COLUMNS, TableSpec, app_id, covers_to_json,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::encode::EncodedFile;
use crate::SinkError;

/// The Delta protocol of our tables: what every reader can read.
const READER_VERSION: i32 = 1;
const WRITER_VERSION: i32 = 2;

/// A table's Delta log, as its writer sees it.
pub struct DeltaLog {
    table: String,
    store: LogStoreRef,
    /// Latest version this writer knows.
    version: u64,
    /// Where the table stands, by application id, as of `version`. Partitions never committed are absent.
    positions: BTreeMap<String, i64>,
}

/// A commit on its way: the same through all its attempts.
#[derive(Debug)]
pub struct Commit {
    id: Uuid,
    base_version: u64,
    covers: Vec<Cover>,
    files: Vec<EncodedFile>,
    /// Where each partition has to stand for it to go in, by application id; `None`: never committed.
    from: BTreeMap<String, Option<i64>>,
    /// Where each stands once it is in.
    to: BTreeMap<String, i64>,
}

impl Commit {
    /// What it covers.
    pub fn covers(&self) -> &[Cover] {
        &self.covers
    }

    /// The files it adds.
    pub fn files(&self) -> &[EncodedFile] {
        &self.files
    }
}

/// Where a table stands in relation to a commit.
enum Stands {
    AtStart,
    AtEnd,
    Elsewhere,
}

/// What came of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Written at this version; the store said so.
    Written(u64),
    /// The reply was lost or was an error, but the commit is there, at this version.
    Found(u64),
}

impl Committed {
    /// The commit's Delta version.
    pub fn version(self) -> u64 {
        match self {
            Self::Written(version) | Self::Found(version) => version,
        }
    }
}

/// Why a single attempt at a commit did not end it.
#[derive(Debug)]
pub enum Attempt {
    /// It is in the log.
    Done(Committed),
    /// The table still stands where the commit begins. `conflict` where the version was taken by somebody else, `error` where the put failed.
    Again {
        /// Another commit took the version.
        conflict: bool,
        /// What the store said.
        reason: String,
    },
}

impl std::fmt::Debug for DeltaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeltaLog").field("table", &self.table).field("version", &self.version).finish_non_exhaustive()
    }
}

impl DeltaLog {
    /// Opens the table of this description; makes it where it is missing, adds nullable columns where it lacks them.
    ///
    /// # Errors
    /// Where storage fails (retryable), or the table there cannot take these rows: another protocol, another type of column.
    pub async fn open(spec: &TableSpec, storage: &Storage, now_ms: i64) -> Result<Self, SinkError> {
        let store = log_store(&spec.name, storage)?;
        let mut log = Self { table: spec.name.clone(), store, version: 0, positions: BTreeMap::new() };
        let wanted = delta_schema(spec)?;
        loop {
            if !log.store.is_delta_table_location().await.map_err(|e| log.delta(e))? {
                match log.put(0, log.create(&wanted, now_ms)?).await {
                    // Made by us or by another writer a moment ago: read it, whosever it is.
                    Ok(()) | Err(TransactionError::VersionAlreadyExists(_)) => {}
                    Err(e) => return Err(log.delta(e.into())),
                }
            }
            let state = log.load().await.map_err(|e| log.delta(e))?;
            let snapshot = state.snapshot().map_err(|e| log.delta(e))?;
            log.check_protocol(snapshot.protocol())?;
            log.version = snapshot.version();
            let Some(evolved) = evolve(&log.table, snapshot.schema().as_ref(), &wanted)? else { return Ok(log) };
            tracing::info!(table = %log.table, version = log.version + 1, "adding columns to the table");
            let metadata = snapshot.metadata().clone().with_schema(&evolved).map_err(|e| log.delta(e.into()))?;
            let info = commit_info("ADD COLUMNS", log.version, now_ms, HashMap::new());
            let bytes = log.to_json(&[Action::CommitInfo(info), Action::Metadata(metadata)])?;
            match log.put(log.version + 1, bytes).await {
                // Either way the table is read again, and has to fit then.
                Ok(()) | Err(TransactionError::VersionAlreadyExists(_)) => {}
                Err(e) => return Err(log.delta(e.into())),
            }
        }
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Latest version known.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where the table stands in a partition: the next offset it needs. `None` where it never committed any.
    pub fn position(&self, topic_id: Uuid, partition: i32) -> Option<i64> {
        self.positions.get(&app_id(topic_id, partition)).copied()
    }

    /// Reads where the table stands in all partitions of these topics.
    ///
    /// # Errors
    /// Where the Delta log cannot be read.
    pub async fn load_positions(&mut self, topics: &[TopicInfo]) -> Result<(), SinkError> {
        let ids: Vec<String> = topics.iter().flat_map(|t| (0..t.config.partitions).map(|p| app_id(t.id, p))).collect();
        self.reload(&ids).await
    }

    /// Prepares a commit of these covers and files on top of where the table stands now.
    ///
    /// # Errors
    /// [`SinkError::AnotherOwner`] where the covers do not begin where the table stands.
    pub fn begin(&self, covers: Vec<Cover>, files: Vec<EncodedFile>) -> Result<Commit, SinkError> {
        let mut from = BTreeMap::new();
        let mut to = BTreeMap::new();
        for cover in &covers {
            let app = cover.app_id();
            // A partition that was never committed begins wherever its log began.
            from.entry(app.clone()).or_insert_with(|| self.positions.contains_key(&app).then_some(cover.from));
            to.insert(app, cover.to);
        }
        let commit = Commit { id: Uuid::new_v4(), base_version: self.version, covers, files, from, to };
        match self.stands(&commit) {
            Stands::AtStart => Ok(commit),
            Stands::AtEnd | Stands::Elsewhere => Err(self.another_owner(&commit)),
        }
    }

    /// Tries once to write the commit.
    ///
    /// # Errors
    /// [`SinkError::AnotherOwner`] where the table stands neither at the commit's start nor, by this very commit, at its end; otherwise
    /// only where the log cannot be read back (retryable: call again with the same commit).
    pub async fn try_commit(&mut self, commit: &Commit, now_ms: i64) -> Result<Attempt, SinkError> {
        if !matches!(self.stands(commit), Stands::AtStart) {
            // The call before this one read where the table stands and then failed.
            return self.resolve(commit, false, String::new()).await;
        }
        let next = self.version + 1;
        let mut info = HashMap::new();
        info.insert(COVER_KEY.to_string(), covers_to_json(&commit.covers));
        info.insert(COMMIT_ID_KEY.to_string(), json!(commit.id.to_string()));
        let mut actions = vec![Action::CommitInfo(commit_info("STREAMING UPDATE", self.version, now_ms, info))];
        actions.extend(
            commit.to.iter().map(|(app, to)| Action::Txn(Transaction::new_with_last_update(app, *to, Some(now_ms)))),
        );
        actions.extend(commit.files.iter().map(|file| Action::Add(add(file, now_ms))));
        let error = match self.put(next, self.to_json(&actions)?).await {
            Ok(()) => {
                self.version = next;
                self.positions.extend(commit.to.clone());
                return Ok(Attempt::Done(Committed::Written(next)));
            }
            Err(e) => e,
        };
        let apps: Vec<String> = commit.to.keys().cloned().collect();
        self.reload(&apps).await?;
        self.resolve(commit, matches!(error, TransactionError::VersionAlreadyExists(_)), error.to_string()).await
    }

    /// After anything but success: what the table, as just read, says became of the commit.
    async fn resolve(&self, commit: &Commit, conflict: bool, reason: String) -> Result<Attempt, SinkError> {
        match self.stands(commit) {
            Stands::AtStart => Ok(Attempt::Again { conflict, reason }),
            Stands::AtEnd => match self.find_commit(commit).await? {
                Some(version) => Ok(Attempt::Done(Committed::Found(version))),
                None => Err(self.another_owner(commit)),
            },
            Stands::Elsewhere => Err(self.another_owner(commit)),
        }
    }

    fn stands(&self, commit: &Commit) -> Stands {
        let at = |app: &String| self.positions.get(app).copied();
        if commit.from.iter().all(|(app, from)| at(app) == *from) {
            Stands::AtStart
        } else if commit.to.iter().all(|(app, to)| at(app) == Some(*to)) {
            Stands::AtEnd
        } else {
            Stands::Elsewhere
        }
    }

    fn another_owner(&self, commit: &Commit) -> SinkError {
        let text = |at: Option<i64>| at.map_or_else(|| "nothing".to_string(), |at| at.to_string());
        let off = commit.from.iter().find(|(app, from)| self.positions.get(*app) != from.as_ref());
        let (app, from) = off.map_or((String::new(), None), |(app, from)| (app.clone(), *from));
        let of = commit.covers.iter().find(|c| c.app_id() == app);
        SinkError::AnotherOwner {
            table: self.table.clone(),
            topic: of.map_or_else(|| app.clone(), |c| c.topic.clone()),
            partition: of.map_or(-1, |c| c.partition),
            expected: text(from),
            found: text(self.positions.get(&app).copied()),
            version: self.version,
        }
    }

    /// Writes a commit without content, so that any other writer's commit on an older version fails. Before files are swept.
    ///
    /// # Errors
    /// Where the put fails or another writer was faster.
    pub(super) async fn fence(&mut self, now_ms: i64) -> Result<(), SinkError> {
        let info = commit_info("FENCE", self.version, now_ms, HashMap::new());
        let bytes = self.to_json(&[Action::CommitInfo(info)])?;
        self.put(self.version + 1, bytes).await.map_err(|e| self.delta(e.into()))?;
        self.version += 1;
        Ok(())
    }

    /// Every data file that the table refers to, or did until it was replaced and not yet vacuumed: paths relative to the table.
    pub(super) async fn referenced_files(&self) -> Result<Vec<String>, SinkError> {
        let table = self.load().await.map_err(|e| self.delta(e))?;
        let state = table.snapshot().map_err(|e| self.delta(e))?;
        let mut paths: Vec<String> = state.log_data().iter().map(|f| f.path().to_string()).collect();
        let removed: Vec<_> = state.all_tombstones(&self.store).try_collect().await.map_err(|e| self.delta(e))?;
        paths.extend(removed.iter().map(|f| f.path().to_string()));
        Ok(paths)
    }

    /// Writes a checkpoint of the latest version.
    ///
    /// # Errors
    /// Where the log cannot be read or the checkpoint not written. The table is as good without it, only slower to open.
    pub(super) async fn checkpoint(&self) -> Result<(), SinkError> {
        let table = self.load().await.map_err(|e| self.delta(e))?;
        deltalake_core::checkpoints::create_checkpoint(&table, None).await.map_err(|e| self.delta(e))
    }

    /// A second view of the same log, for work beside the writer's.
    pub(super) fn reader(&self) -> Self {
        Self {
            table: self.table.clone(),
            store: Arc::clone(&self.store),
            version: self.version,
            positions: BTreeMap::new(),
        }
    }

    async fn load(&self) -> Result<DeltaTable, DeltaTableError> {
        let mut table = DeltaTable::new(Arc::clone(&self.store));
        table.load().await?;
        Ok(table)
    }

    async fn reload(&mut self, apps: &[String]) -> Result<(), SinkError> {
        let table = self.load().await.map_err(|e| self.delta(e))?;
        let state = table.snapshot().map_err(|e| self.delta(e))?;
        self.check_protocol(state.protocol())?;
        let mut positions = self.positions.clone();
        for app in apps {
            let position = state.transaction_version(self.store.as_ref(), app).await;
            match position.map_err(|e| self.delta(e))? {
                Some(offset) => positions.insert(app.clone(), offset),
                None => positions.remove(app),
            };
        }
        self.positions = positions;
        self.version = state.version();
        Ok(())
    }

    /// The version of this commit, if it is in the log.
    async fn find_commit(&self, commit: &Commit) -> Result<Option<u64>, SinkError> {
        let id = commit.id.to_string();
        for version in commit.base_version + 1..=self.version {
            let Some(bytes) = self.store.read_commit_entry(version).await.map_err(|e| self.delta(e))? else { continue };
            let actions = get_actions(version, &bytes).map_err(|e| self.delta(e))?;
            let ours = actions.iter().any(|action| match action {
                Action::CommitInfo(info) => info.info.get(COMMIT_ID_KEY).and_then(Value::as_str) == Some(id.as_str()),
                _ => false,
            });
            if ours {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    fn create(&self, schema: &StructType, now_ms: i64) -> Result<Bytes, SinkError> {
        let protocol: Protocol = serde_json::from_value(json!({
            "minReaderVersion": READER_VERSION, "minWriterVersion": WRITER_VERSION,
        }))
        .map_err(|e| self.delta(e.into()))?;
        let metadata = new_metadata(schema, PARTITION_COLUMNS, std::iter::empty::<(&str, &str)>())
            .map_err(|e| self.delta(e.into()))?
            .with_name(self.table.clone())
            .map_err(|e| self.delta(e.into()))?;
        let info = CommitInfo { read_version: None, ..commit_info("CREATE TABLE", 0, now_ms, HashMap::new()) };
        self.to_json(&[Action::CommitInfo(info), Action::Protocol(protocol), Action::Metadata(metadata)])
    }

    fn check_protocol(&self, protocol: &Protocol) -> Result<(), SinkError> {
        let (reader, writer) = (protocol.min_reader_version(), protocol.min_writer_version());
        if reader > READER_VERSION || writer > WRITER_VERSION {
            return Err(SinkError::Protocol { table: self.table.clone(), reader, writer });
        }
        Ok(())
    }

    async fn put(&self, version: u64, commit: Bytes) -> Result<(), TransactionError> {
        self.store.write_commit_entry(version, CommitOrBytes::LogBytes(commit), Uuid::new_v4()).await
    }

    fn to_json(&self, actions: &[Action]) -> Result<Bytes, SinkError> {
        let mut lines = Vec::new();
        for action in actions {
            serde_json::to_writer(&mut lines, action)
                .map_err(|json_err| self.delta(DeltaTableError::SerializeLogJson { json_err }))?;
            lines.push(b'\n');
        }
        Ok(Bytes::from(lines))
    }

    fn delta(&self, source: DeltaTableError) -> SinkError {
        SinkError::Delta { table: self.table.clone(), source: Box::new(source) }
    }
}

/// Delta's view of a table's directory on this storage.
pub(crate) fn log_store(table: &str, storage: &Storage) -> Result<LogStoreRef, SinkError> {
    logstore_with(Arc::clone(storage.origin()), &storage.table_url(table), StorageConfig::default())
        .map_err(|source| SinkError::Delta { table: table.to_string(), source: Box::new(source) })
}

fn commit_info(operation: &str, read_version: u64, now_ms: i64, info: HashMap<String, Value>) -> CommitInfo {
    CommitInfo {
        timestamp: Some(now_ms),
        operation: Some(operation.to_string()),
        operation_parameters: Some(HashMap::new()),
        read_version: Some(read_version),
        is_blind_append: Some(true),
        engine_info: Some(concat!("highwater/", env!("CARGO_PKG_VERSION")).to_string()),
        info,
        ..CommitInfo::default()
    }
}

fn add(file: &EncodedFile, now_ms: i64) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: HashMap::from([
            (PARTITION_COLUMNS[0].to_string(), file.tenant.clone()),
            (PARTITION_COLUMNS[1].to_string(), file.date.clone()),
        ]),
        size: i64::try_from(file.bytes.len()).unwrap_or(i64::MAX),
        modification_time: now_ms,
        data_change: true,
        stats: Some(file.stats.clone()),
        ..Add::default()
    }
}

fn delta_schema(spec: &TableSpec) -> Result<StructType, SinkError> {
    let schema: StructType = spec
        .table_schema()
        .as_ref()
        .try_into_kernel()
        .map_err(|source| SinkError::Arrow { table: spec.name.clone(), source })?;
    Ok(schema)
}

/// The table's schema with the columns it lacks, or `None` where it lacks none.
fn evolve(table: &str, have: &StructType, want: &StructType) -> Result<Option<StructType>, SinkError> {
    let conflict = |column: &str, in_table: String, wanted: String| SinkError::SchemaConflict {
        table: table.to_string(),
        column: column.to_string(),
        in_table,
        wanted,
    };
    let describe = |field: &deltalake_core::kernel::StructField| {
        format!("{}{}", field.data_type(), if field.is_nullable() { "" } else { " not null" })
    };
    let mut new = Vec::new();
    for field in want.fields() {
        match have.field(field.name()) {
            Some(there) if there.data_type() != field.data_type() || (field.is_nullable() && !there.is_nullable()) => {
                return Err(conflict(field.name(), describe(there), describe(field)));
            }
            Some(_) => {}
            None if field.is_nullable() => new.push(field.clone()),
            None => return Err(conflict(field.name(), "missing".to_string(), describe(field))),
        }
    }
    // A column that is no longer written reads as NULL, so it has to be nullable.
    if let Some(orphan) = have.fields().find(|f| !f.is_nullable() && want.field(f.name()).is_none()) {
        return Err(conflict(orphan.name(), describe(orphan), "missing".to_string()));
    }
    if new.is_empty() {
        return Ok(None);
    }
    StructType::try_new(have.fields().cloned().chain(new))
        .map(Some)
        .map_err(|e| SinkError::Delta { table: table.to_string(), source: Box::new(e.into()) })
}
