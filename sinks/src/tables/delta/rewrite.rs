//! Commits that change no rows' right to be there, or take away rows whose time is over: compaction, retention, cleaning of the history.
//!
//! They move no offset, so there is nothing to stand at. What may not happen is that a file is taken out which another commit has taken out
//! already: a correction that rewrote it, another compactor, retention. So such a commit is made on a version at which all its files are there,
//! and after every lost race the commits in between are read: where one of them removes one of our files, ours is void.

use std::collections::{HashMap, HashSet};

use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, Add, CommitInfo, Remove};
use deltalake_core::logstore::get_actions;
use highwater_pipeline::tables::COMMIT_ID_KEY;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ActiveFile, DeltaLog, MAX_STEPS, commit_info, partition_values};
use crate::SinkError;

/// A data file that lies in the store, durable, and that no commit names yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// Path relative to the table's directory.
    pub path: String,
    /// Tenant of all its rows.
    pub tenant: Option<String>,
    /// Day of all its rows, `yyyy-mm-dd`.
    pub date: Option<String>,
    /// Number of rows.
    pub rows: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Delta's statistics, JSON.
    pub stats: String,
}

/// A commit that replaces or removes files.
#[derive(Debug, Clone)]
pub(crate) struct Rewrite {
    id: Uuid,
    operation: &'static str,
    /// What stands in `commitInfo` beside the usual.
    info: Vec<(&'static str, Value)>,
    removed: Vec<ActiveFile>,
    added: Vec<WrittenFile>,
    data_change: bool,
}

impl Rewrite {
    /// `data_change`: whether the table has other rows afterwards.
    pub(crate) fn new(operation: &'static str, data_change: bool) -> Self {
        Self { id: Uuid::new_v4(), operation, info: Vec::new(), removed: Vec::new(), added: Vec::new(), data_change }
    }

    pub(crate) fn info(mut self, key: &'static str, value: Value) -> Self {
        self.info.push((key, value));
        self
    }

    pub(crate) fn remove(mut self, files: impl IntoIterator<Item = ActiveFile>) -> Self {
        self.removed.extend(files);
        self
    }

    pub(crate) fn add(mut self, files: impl IntoIterator<Item = WrittenFile>) -> Self {
        self.added.extend(files);
        self
    }

    fn actions(&self, version: u64, now_ms: i64) -> Vec<Action> {
        let mut info: HashMap<String, Value> =
            self.info.iter().map(|(key, value)| ((*key).to_string(), value.clone())).collect();
        info.insert(COMMIT_ID_KEY.to_string(), json!(self.id.to_string()));
        let mut info = commit_info(self.operation, version, now_ms, info);
        info.is_blind_append = Some(false);
        let mut actions = vec![Action::CommitInfo(info)];
        actions.extend(self.removed.iter().map(|file| Action::Remove(removal(file, self.data_change, now_ms))));
        actions.extend(self.added.iter().map(|file| Action::Add(addition(file, self.data_change, now_ms))));
        actions
    }
}

/// Why a single attempt at a rewrite did not end it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RewriteAttempt {
    /// It is in the log, at this version.
    Done(u64),
    /// The version was taken, or the put failed; nothing stands in the way of another attempt.
    Again {
        /// Another commit took the version.
        conflict: bool,
        /// What the store said.
        reason: String,
    },
    /// One of its files is not in the table any more: it may never go in.
    Void {
        /// The file.
        path: String,
    },
}

impl DeltaLog {
    /// Reads the table anew: its version, from which a rewrite is tried, and its files.
    pub(crate) async fn refresh_files(&mut self, now_ms: i64) -> Result<Vec<ActiveFile>, SinkError> {
        let (version, files) = self.active_files().await?;
        (self.version, self.known_ms) = (version, now_ms);
        Ok(files)
    }

    /// Tries once to write a rewrite whose files were all there at the version this log knows.
    pub(crate) async fn try_rewrite(&mut self, rewrite: &Rewrite, now_ms: i64) -> Result<RewriteAttempt, SinkError> {
        if self.is_stale(now_ms) {
            return self.look_for(rewrite, now_ms, true, "the version known was old".to_string()).await;
        }
        let next = self.version + 1;
        let error = match self.put(next, self.to_json(&rewrite.actions(self.version, now_ms))?).await {
            Ok(()) => {
                (self.version, self.known_ms) = (next, now_ms);
                return Ok(RewriteAttempt::Done(next));
            }
            Err(e) => e,
        };
        let conflict = matches!(error, TransactionError::VersionAlreadyExists(_));
        self.follow(rewrite, conflict, error.to_string(), now_ms).await
    }

    /// Reads the commits since: ours may be there, or one that takes our files.
    async fn follow(
        &mut self,
        rewrite: &Rewrite,
        conflict: bool,
        reason: String,
        now_ms: i64,
    ) -> Result<RewriteAttempt, SinkError> {
        let paths: HashSet<&str> = rewrite.removed.iter().map(|file| file.path.as_str()).collect();
        let before = self.version;
        for _ in 0..MAX_STEPS {
            let bytes = self.store.read_commit_entry(self.version + 1).await.map_err(|e| self.delta(e))?;
            let Some(bytes) = bytes else {
                if conflict && self.version == before {
                    // Taken, and yet not to be found: cleaned away meanwhile.
                    return self.look_for(rewrite, now_ms, conflict, reason).await;
                }
                self.known_ms = now_ms;
                return Ok(RewriteAttempt::Again { conflict, reason });
            };
            self.version += 1;
            let actions = get_actions(self.version, &bytes).map_err(|e| self.delta(e))?;
            if actions.iter().any(|action| is_commit(action, rewrite.id)) {
                return Ok(RewriteAttempt::Done(self.version));
            }
            for action in actions {
                match action {
                    Action::Remove(remove) if paths.contains(remove.path.as_str()) => {
                        return Ok(RewriteAttempt::Void { path: remove.path });
                    }
                    Action::Protocol(protocol) => self.check_protocol(&protocol)?,
                    _ => {}
                }
            }
        }
        self.look_for(rewrite, now_ms, conflict, reason).await
    }

    /// The same from the table as it is now, where the commits in between are too many or gone.
    async fn look_for(
        &mut self,
        rewrite: &Rewrite,
        now_ms: i64,
        conflict: bool,
        reason: String,
    ) -> Result<RewriteAttempt, SinkError> {
        let active: HashSet<String> = self.refresh_files(now_ms).await?.into_iter().map(|file| file.path).collect();
        if rewrite.added.first().is_some_and(|file| active.contains(&file.path)) {
            return Ok(RewriteAttempt::Done(self.version));
        }
        match rewrite.removed.iter().find(|file| !active.contains(&file.path)) {
            Some(gone) => Ok(RewriteAttempt::Void { path: gone.path.clone() }),
            None => Ok(RewriteAttempt::Again { conflict, reason }),
        }
    }
}

/// True for the commit info of the commit of this id.
fn is_commit(action: &Action, id: Uuid) -> bool {
    let Action::CommitInfo(CommitInfo { info, .. }) = action else { return false };
    info.get(COMMIT_ID_KEY).and_then(Value::as_str) == Some(id.to_string().as_str())
}

pub(in crate::tables) fn removal(file: &ActiveFile, data_change: bool, now_ms: i64) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change,
        deletion_timestamp: Some(now_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(file.partition_values()),
        size: Some(file.size_bytes),
        ..Remove::default()
    }
}

fn addition(file: &WrittenFile, data_change: bool, now_ms: i64) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: partition_values(&file.tenant, &file.date),
        size: i64::try_from(file.size_bytes).unwrap_or(i64::MAX),
        modification_time: now_ms,
        data_change,
        stats: Some(file.stats.clone()),
        ..Add::default()
    }
}
