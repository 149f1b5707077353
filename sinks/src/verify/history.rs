//! A table's Delta history: every commit's cover, files and transactions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::Action;
use deltalake_core::logstore::get_actions;
use deltalake_core::{DeltaTable, DeltaTableError};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{COVER_KEY, Cover, covers_from_json};

use serde_json::Value;

use super::report::{FindingKind, TableReport};
use crate::SinkError;
use crate::tables::delta::{ActiveFile, log_store};
use crate::tables::supersede::REPLACED_KEY;

/// One commit that holds rows or progress.
pub(super) struct Commit {
    pub(super) version: u64,
    pub(super) covers: Vec<Cover>,
    /// The files of the table now that hold its rows: those it added, or what replaced them since.
    pub(super) files: Vec<ActiveFile>,
    /// How many files of its rows were removed with no word of what replaced them.
    pub(super) lost_files: usize,
}

/// All of a table's history that is still there.
pub(super) struct History {
    pub(super) schema: SchemaRef,
    pub(super) commits: Vec<Commit>,
}

/// Which commit the rows of each file came with.
#[derive(Default)]
struct Origins(HashMap<String, u64>);

impl History {
    /// Reads the history and checks what can be checked without reading files: steps 1 of [`super`].
    pub(super) async fn read(name: &str, storage: &Storage, report: &mut TableReport) -> Result<Self, SinkError> {
        let delta = |source: DeltaTableError| SinkError::Delta { table: name.to_string(), source: Box::new(source) };
        let store = log_store(name, storage);
        let mut table = DeltaTable::new(Arc::clone(&store));
        table.load().await.map_err(delta)?;
        let state = table.snapshot().map_err(delta)?;
        report.version = state.version();
        let mut history = Self { schema: state.snapshot().arrow_schema(), commits: Vec::new() };
        let mut origins = Origins::default();
        let mut first_version = None;
        let mut ends: BTreeMap<String, Cover> = BTreeMap::new();
        for version in 0..=report.version {
            let Some(bytes) = store.read_commit_entry(version).await.map_err(delta)? else { continue };
            first_version.get_or_insert(version);
            let actions = get_actions(version, &bytes).map_err(delta)?;
            origins.follow(version, &actions);
            if let Some(commit) = check_commit(version, actions, &mut ends, report)? {
                history.commits.push(commit);
            }
        }
        history.attribute(&origins, state.log_data().iter().map(|file| ActiveFile::new(&file)), report);
        if let Some(first) = first_version.filter(|v| *v > 0) {
            report.note(format!("its history before version {first} is gone: covers are checked from there"));
        }
        for (app, end) in ends {
            let at = state.transaction_version(store.as_ref(), &app).await.map_err(delta)?;
            if at != Some(end.to) {
                let message = format!(
                    "the table stands at {}, but its last commit covers up to {}",
                    at.map_or_else(|| "nothing".to_string(), |at| at.to_string()),
                    end.to
                );
                report.find(FindingKind::Mismatch, report.version, &end, message);
            }
        }
        report.partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(history)
    }
}

impl History {
    /// Gives each file of the table to the commit whose rows it holds.
    fn attribute(&mut self, origins: &Origins, active: impl Iterator<Item = ActiveFile>, report: &mut TableReport) {
        let mut files: HashMap<u64, Vec<ActiveFile>> = HashMap::new();
        let mut unknown = 0;
        for file in active {
            match origins.0.get(&file.path) {
                Some(version) => files.entry(*version).or_default().push(file),
                None => unknown += 1,
            }
        }
        if unknown > 0 {
            report.note(format!("{unknown} files were added by commits that are gone: their rows were not read"));
        }
        let mut expected: HashMap<u64, usize> = HashMap::new();
        origins.0.values().for_each(|version| *expected.entry(*version).or_default() += 1);
        for commit in &mut self.commits {
            commit.files = files.remove(&commit.version).unwrap_or_default();
            commit.files.sort_by(|a, b| a.path.cmp(&b.path));
            commit.lost_files = expected.get(&commit.version).copied().unwrap_or(0).saturating_sub(commit.files.len());
        }
    }
}

impl Origins {
    /// A file added holds rows of its commit, unless the commit says that it replaces another; then it holds rows of that one's.
    fn follow(&mut self, version: u64, actions: &[Action]) {
        let replaced = actions.iter().find_map(|action| match action {
            Action::CommitInfo(info) => info.info.get(REPLACED_KEY).and_then(Value::as_array),
            _ => None,
        });
        let mut instead: HashMap<&str, Option<u64>> = HashMap::new();
        for entry in replaced.into_iter().flatten() {
            let origin = entry["removed"].as_str().and_then(|path| self.0.remove(path));
            let by = entry["by"].as_array().into_iter().flatten().filter_map(Value::as_str);
            instead.extend(by.map(|path| (path, origin)));
        }
        for action in actions {
            let Action::Add(add) = action else { continue };
            match instead.get(add.path.as_str()) {
                Some(Some(origin)) => self.0.insert(add.path.clone(), *origin),
                Some(None) => None,
                None => self.0.insert(add.path.clone(), version),
            };
        }
    }
}

/// One commit's covers against those before, and against its own transactions and row counts.
fn check_commit(
    version: u64,
    actions: Vec<Action>,
    ends: &mut BTreeMap<String, Cover>,
    report: &mut TableReport,
) -> Result<Option<Commit>, SinkError> {
    let mut covers = Vec::new();
    let mut files = 0;
    let mut transactions = BTreeMap::new();
    for action in actions {
        match action {
            Action::CommitInfo(info) => {
                if let Some(value) = info.info.get(COVER_KEY) {
                    covers = covers_from_json(&report.table, version, value)?;
                }
            }
            Action::Add(add) if add.data_change => files += 1,
            Action::Txn(txn) => {
                transactions.insert(txn.app_id, txn.version);
            }
            _ => {}
        }
    }
    if covers.is_empty() {
        if files > 0 {
            let message = format!("{files} files were added by a commit that covers nothing");
            report.find_in_commit(FindingKind::Mismatch, version, message);
        }
        return Ok(None);
    }
    report.commits += 1;
    let mut commit_ends: BTreeMap<String, &Cover> = BTreeMap::new();
    for cover in &covers {
        let app = cover.app_id();
        if let Some(before) = ends.get(&app) {
            let between = Cover { from: before.to.min(cover.from), to: before.to.max(cover.from), ..cover.clone() };
            if cover.from > before.to {
                report.find(FindingKind::Hole, version, &between, "no commit covers these");
            } else if cover.from < before.to {
                report.find(FindingKind::Overlap, version, &between, "covered by an earlier commit too");
            }
        }
        if cover.gap {
            report.find(FindingKind::RecordedGap, version, cover, "the log had lost these before the table read them");
        }
        let partition = report.partition(cover);
        partition.to = partition.to.max(cover.to);
        partition.rows += cover.rows;
        ends.insert(app.clone(), cover.clone());
        commit_ends.insert(app, cover);
    }
    for (app, end) in commit_ends {
        match transactions.get(&app) {
            Some(at) if *at == end.to => {}
            Some(at) => report.find(FindingKind::Mismatch, version, end, format!("its transaction says {at}")),
            None => report.find(FindingKind::Mismatch, version, end, "it has no transaction"),
        }
    }
    Ok(Some(Commit { version, covers, files: Vec::new(), lost_files: 0 }))
}
