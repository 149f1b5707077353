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
//! | anywhere else, and a commit with our id is there | it was written, and somebody has gone on from there; done |
//! | anywhere else | another owner is at work in that partition: nothing of the commit goes in |
//!
//! Commits that move no offset (compaction, retention) have a rule of their own: see [`rewrite`].
//!
//! Several writers share one table, each with partitions of its own. What the others committed meanwhile is read commit by commit
//! ([`DeltaLog::catch_up`]), a few small objects; the whole log is read again only where that is too long a way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use bytes::Bytes;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, Add, CommitInfo, LogicalFileView, MetadataExt, Protocol, Transaction};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, default_logstore, get_actions};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::TryStreamExt;
use highwater_pipeline::log::TopicInfo;
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{
    ATTRIBUTE_KEY, COMMIT_ID_KEY, COVER_KEY, Cover, PARTITION_COLUMNS, TableSpec, app_id, covers_to_json, table_path,
};
use object_store::prefix::PrefixStore;
use serde_json::{Value, json};
use uuid::Uuid;

use super::encode::EncodedFile;
use super::read::FileColumns;
use super::supersede::Replacement;
use crate::SinkError;

mod history;
mod rewrite;
mod schema;

pub(crate) use history::{EXPIRED_KEY, Expired, HISTORY_KEY, LogObjects, Origin, expired_of, info_of, summary_of};
pub use rewrite::WrittenFile;
pub(super) use rewrite::removal;
pub(crate) use rewrite::{Rewrite, RewriteAttempt};
use schema::{READER_VERSION, WRITER_VERSION};

/// The operation of a commit without content, written before files are swept.
const FENCE: &str = "FENCE";
/// How many commits of others are read one by one; where there are more, the log is read anew.
const MAX_STEPS: u64 = 64;
/// A version looked at longer ago than this is looked at again before anything is put on top of it: commits are cleaned away after a while, never
/// before an hour has passed, and a version that is gone could be taken a second time. Milliseconds.
const STALE_MS: i64 = 10 * 60 * 1000;

/// A table's Delta log, as its writer sees it.
pub struct DeltaLog {
    table: String,
    store: LogStoreRef,
    /// Latest version this writer knows.
    version: u64,
    /// When that was, Unix milliseconds.
    known_ms: i64,
    /// Where the table stands, by application id, as of `version`. One that is in `asked` but not here was never committed.
    positions: BTreeMap<String, i64>,
    /// The application ids whose positions are known.
    asked: BTreeSet<String>,
}

/// A commit on its way: the same through all its attempts.
#[derive(Debug)]
pub struct Commit {
    id: Uuid,
    base_version: u64,
    covers: Vec<Cover>,
    files: Vec<EncodedFile>,
    replacement: Replacement,
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

    /// The files it adds: new rows, then what is left of the files it replaces.
    pub fn files(&self) -> impl Iterator<Item = &EncodedFile> {
        self.files.iter().chain(self.replacement.files())
    }

    /// What it replaces.
    pub(super) fn replacement(&self) -> &Replacement {
        &self.replacement
    }

    /// Gives its files new names, under which they have to be put again before the next attempt.
    pub(super) fn rename_files(&mut self) {
        for file in self.files.iter_mut().chain(self.replacement.files_mut()) {
            file.rename();
        }
    }

    /// Decides what it replaces.
    pub(super) fn set_replacement(&mut self, replacement: Replacement) {
        self.replacement = replacement;
    }
}

/// A data file of the table's newest version.
#[derive(Debug, Clone)]
pub(crate) struct ActiveFile {
    /// Path relative to the table's directory.
    pub(crate) path: String,
    pub(crate) tenant: Option<String>,
    pub(crate) date: Option<String>,
    pub(crate) size_bytes: i64,
    /// When it was added, Unix milliseconds.
    pub(crate) added_ms: i64,
    /// Delta's statistics, JSON.
    pub(crate) stats: Option<String>,
}

impl ActiveFile {
    pub(crate) fn new(file: &LogicalFileView) -> Self {
        let mut values = file.partition_values_map();
        let [tenant, date] = PARTITION_COLUMNS.map(|column| values.remove(column).flatten());
        let (size_bytes, added_ms) = (file.size(), file.modification_time());
        Self { path: file.path().to_string(), tenant, date, size_bytes, added_ms, stats: file.stats() }
    }

    /// Its values of the partition columns, as the Delta log has them.
    pub(super) fn partition_values(&self) -> HashMap<String, Option<String>> {
        partition_values(&self.tenant, &self.date)
    }
}

/// Where a table stands in relation to a commit.
enum Stands {
    /// Where the commit begins, in all its partitions.
    AtStart,
    /// Not there, in one of them at least: by this commit or by another.
    Moved,
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
        let store = log_store(&spec.name, storage);
        let (positions, asked) = (BTreeMap::new(), BTreeSet::new());
        let mut log = Self { table: spec.name.clone(), store, version: 0, known_ms: now_ms, positions, asked };
        let wanted = schema::of(spec)?;
        loop {
            if !log.store.is_delta_table_location().await.map_err(|e| log.delta(e))? {
                match log.put(0, log.to_json(&schema::create(&log.table, &wanted, now_ms)?)?).await {
                    // Made by us or by another writer a moment ago: read it, whosever it is.
                    Ok(()) | Err(TransactionError::VersionAlreadyExists(_)) => {}
                    Err(e) => return Err(log.delta(e.into())),
                }
            }
            let state = log.load().await.map_err(|e| log.delta(e))?;
            let snapshot = state.snapshot().map_err(|e| log.delta(e))?;
            log.check_protocol(snapshot.protocol())?;
            log.version = snapshot.version();
            let Some(evolved) = schema::evolve(&log.table, snapshot.schema().as_ref(), &wanted)? else {
                return Ok(log);
            };
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

    /// Reads where the table stands now in all partitions of these topics: in commits since the last look, where they were asked for before.
    ///
    /// # Errors
    /// Where the Delta log cannot be read.
    pub async fn load_positions(&mut self, topics: &[TopicInfo]) -> Result<(), SinkError> {
        let mut asked = self.asked.clone();
        asked.extend(topics.iter().flat_map(|t| (0..t.config.partitions).map(|p| app_id(t.id, p))));
        if asked == self.asked { self.catch_up().await } else { self.reload(asked).await }
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
        let (id, base_version, replacement) = (Uuid::new_v4(), self.version, Replacement::default());
        let commit = Commit { id, base_version, covers, files, replacement, from, to };
        match self.stands(&commit) {
            Stands::AtStart => Ok(commit),
            Stands::Moved => Err(self.another_owner(&commit)),
        }
    }

    /// Tries once to write the commit.
    ///
    /// # Errors
    /// [`SinkError::AnotherOwner`] where the table stands neither at the commit's start nor, by this very commit, at its end; otherwise
    /// only where the log cannot be read back (retryable: call again with the same commit).
    pub async fn try_commit(&mut self, commit: &Commit, now_ms: i64) -> Result<Attempt, SinkError> {
        if self.is_stale(now_ms) {
            self.reload(self.asked.clone()).await?;
            self.known_ms = now_ms;
        }
        if !matches!(self.stands(commit), Stands::AtStart) {
            // The call before this one read where the table stands and then failed.
            return self.resolve(commit, false, String::new()).await;
        }
        let next = self.version + 1;
        let mut info = HashMap::new();
        info.insert(COVER_KEY.to_string(), covers_to_json(&commit.covers));
        info.insert(COMMIT_ID_KEY.to_string(), json!(commit.id.to_string()));
        let replaced = &commit.replacement.replaced;
        let mut info = commit_info("STREAMING UPDATE", self.version, now_ms, info);
        info.is_blind_append = Some(replaced.is_empty());
        let mut actions = vec![Action::CommitInfo(info)];
        actions.extend(
            commit.to.iter().map(|(app, to)| Action::Txn(Transaction::new_with_last_update(app, *to, Some(now_ms)))),
        );
        actions.extend(replaced.iter().map(|replaced| Action::Remove(replaced.remove.clone())));
        actions.extend(commit.files().map(|file| Action::Add(add(file, now_ms))));
        let error = match self.put(next, self.to_json(&actions)?).await {
            Ok(()) => {
                (self.version, self.known_ms) = (next, now_ms);
                self.positions.extend(commit.to.clone());
                return Ok(Attempt::Done(Committed::Written(next)));
            }
            Err(e) => e,
        };
        let conflict = matches!(error, TransactionError::VersionAlreadyExists(_));
        self.catch_up().await?;
        if conflict && self.version < next {
            // Taken, and yet not to be found: the store refused two at once, or the commits in between were cleaned away.
            self.reload(self.asked.clone()).await?;
        }
        self.known_ms = now_ms;
        self.resolve(commit, conflict, error.to_string()).await
    }

    /// True where the version known may have been cleaned away by now.
    fn is_stale(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.known_ms) > STALE_MS
    }

    /// After anything but success: what the table, as just read, says became of the commit.
    async fn resolve(&self, commit: &Commit, conflict: bool, reason: String) -> Result<Attempt, SinkError> {
        match self.stands(commit) {
            Stands::AtStart => Ok(Attempt::Again { conflict, reason }),
            // Beyond its end as well: the next owner of a partition may have gone on from what was written.
            Stands::Moved => match self.find_commit(commit).await? {
                Some(version) => Ok(Attempt::Done(Committed::Found(version))),
                None => Err(self.another_owner(commit)),
            },
        }
    }

    fn stands(&self, commit: &Commit) -> Stands {
        let at = |app: &String| self.positions.get(app).copied();
        if commit.from.iter().all(|(app, from)| at(app) == *from) { Stands::AtStart } else { Stands::Moved }
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
    /// False where another commit took the version.
    ///
    /// # Errors
    /// Where the put fails, or what took the version cannot be read.
    pub(super) async fn try_fence(&mut self, now_ms: i64) -> Result<bool, SinkError> {
        if self.is_stale(now_ms) {
            self.refresh_files(now_ms).await?;
        }
        let info = commit_info(FENCE, self.version, now_ms, HashMap::new());
        let bytes = self.to_json(&[Action::CommitInfo(info)])?;
        match self.put(self.version + 1, bytes).await {
            Ok(()) => {
                self.version += 1;
                Ok(true)
            }
            Err(TransactionError::VersionAlreadyExists(_)) => {
                self.catch_up().await?;
                Ok(false)
            }
            Err(e) => Err(self.delta(e.into())),
        }
    }

    /// Reads the table anew, as [`Self::refresh_files`] does; with the columns of its files: all that the table has, in the types of its description
    /// where that knows them.
    pub(crate) async fn refresh_table(
        &mut self,
        spec: &TableSpec,
        now_ms: i64,
    ) -> Result<(Vec<ActiveFile>, FileColumns), SinkError> {
        let table = self.load().await.map_err(|e| self.delta(e))?;
        let state = table.snapshot().map_err(|e| self.delta(e))?;
        self.check_protocol(state.protocol())?;
        let described = spec.table_schema();
        let stored = state.snapshot().arrow_schema();
        let fields: Vec<FieldRef> = stored
            .fields()
            .iter()
            .filter(|field| !PARTITION_COLUMNS.contains(&field.name().as_str()))
            .map(|field| match described.fields().find(field.name()) {
                Some((_, described)) => Arc::clone(described),
                None => Arc::new(field.as_ref().clone().with_metadata(HashMap::new())),
            })
            .collect();
        // Also those that are no longer promoted: a file that has the column has it whole.
        let is_promoted = |field: &&FieldRef| field.metadata().get(ATTRIBUTE_KEY) == Some(field.name());
        let promoted = stored.fields().iter().filter(is_promoted).map(|field| field.name().clone()).collect();
        (self.version, self.known_ms) = (state.version(), now_ms);
        let files = state.log_data().iter().map(|file| ActiveFile::new(&file)).collect();
        Ok((files, FileColumns { schema: Arc::new(Schema::new(fields)), promoted }))
    }

    /// The table's newest version and the files that make it up.
    pub(super) async fn active_files(&self) -> Result<(u64, Vec<ActiveFile>), SinkError> {
        let table = self.load().await.map_err(|e| self.delta(e))?;
        let state = table.snapshot().map_err(|e| self.delta(e))?;
        Ok((state.version(), state.log_data().iter().map(|file| ActiveFile::new(&file)).collect()))
    }

    /// Every data file that the table refers to, or did until it was replaced and the log forgot it: paths relative to the table, and when it was
    /// taken out (Unix milliseconds), unless it is in.
    pub(super) async fn referenced_files(&self) -> Result<HashMap<String, Option<i64>>, SinkError> {
        let table = self.load().await.map_err(|e| self.delta(e))?;
        let state = table.snapshot().map_err(|e| self.delta(e))?;
        let removed: Vec<_> = state.all_tombstones(&self.store).try_collect().await.map_err(|e| self.delta(e))?;
        let gone = |ms: Option<i64>| Some(ms.unwrap_or(i64::MIN));
        let mut paths: HashMap<String, Option<i64>> =
            removed.iter().map(|f| (f.path().to_string(), gone(f.deletion_timestamp()))).collect();
        paths.extend(state.log_data().iter().map(|f| (f.path().to_string(), None)));
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
            known_ms: self.known_ms,
            positions: BTreeMap::new(),
            asked: BTreeSet::new(),
        }
    }

    /// The Delta log of a table that exists, with no description of it: for work on its files.
    ///
    /// # Errors
    /// Where it cannot be read, or is no table.
    pub(crate) async fn attach(name: &str, storage: &Storage, now_ms: i64) -> Result<Self, SinkError> {
        let store = log_store(name, storage);
        let (positions, asked) = (BTreeMap::new(), BTreeSet::new());
        let mut log = Self { table: name.to_string(), store, version: 0, known_ms: now_ms, positions, asked };
        log.refresh_files(now_ms).await?;
        Ok(log)
    }

    async fn load(&self) -> Result<DeltaTable, DeltaTableError> {
        let mut table = DeltaTable::new(Arc::clone(&self.store));
        table.load().await?;
        Ok(table)
    }

    /// Reads the commits that others have written since.
    async fn catch_up(&mut self) -> Result<(), SinkError> {
        let (mut version, mut positions) = (self.version, self.positions.clone());
        for _ in 0..MAX_STEPS {
            let Some(bytes) = self.store.read_commit_entry(version + 1).await.map_err(|e| self.delta(e))? else {
                (self.version, self.positions) = (version, positions);
                return Ok(());
            };
            version += 1;
            for action in get_actions(version, &bytes).map_err(|e| self.delta(e))? {
                match action {
                    Action::Txn(txn) => {
                        positions.insert(txn.app_id, txn.version);
                    }
                    Action::Protocol(protocol) => self.check_protocol(&protocol)?,
                    _ => {}
                }
            }
        }
        self.reload(self.asked.clone()).await
    }

    /// Reads the whole log, and where the table stands in all of `asked`.
    async fn reload(&mut self, asked: BTreeSet<String>) -> Result<(), SinkError> {
        let table = self.load().await.map_err(|e| self.delta(e))?;
        let state = table.snapshot().map_err(|e| self.delta(e))?;
        self.check_protocol(state.protocol())?;
        let mut positions = BTreeMap::new();
        for app in &asked {
            let position = state.transaction_version(self.store.as_ref(), app).await;
            if let Some(offset) = position.map_err(|e| self.delta(e))? {
                positions.insert(app.clone(), offset);
            }
        }
        (self.version, self.positions, self.asked) = (state.version(), positions, asked);
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
pub(crate) fn log_store(table: &str, storage: &Storage) -> LogStoreRef {
    let directory = PrefixStore::new(Arc::clone(storage.objects()), table_path(table));
    let url = storage.table_url(table);
    // The store conditions every commit on its name being free: all that Delta needs, whatever the URL's scheme.
    default_logstore(Arc::new(directory), Arc::clone(storage.origin()), &url, &StorageConfig::default())
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

fn partition_values(tenant: &Option<String>, date: &Option<String>) -> HashMap<String, Option<String>> {
    let [of_tenant, of_date] = PARTITION_COLUMNS.map(str::to_string);
    HashMap::from([(of_tenant, tenant.clone()), (of_date, date.clone())])
}

fn add(file: &EncodedFile, now_ms: i64) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: partition_values(&file.tenant, &file.date),
        size: i64::try_from(file.bytes.len()).unwrap_or(i64::MAX),
        modification_time: now_ms,
        data_change: true,
        stats: Some(file.stats.clone()),
        ..Add::default()
    }
}
