//! A table's Delta history: every commit's cover, files and transactions.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::{Action, Add};
use deltalake_core::logstore::get_actions;
use deltalake_core::{DeltaTable, DeltaTableError};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{COVER_KEY, Cover, covers_from_json};

use super::report::{FindingKind, TableReport};
use crate::SinkError;
use crate::tables::delta::log_store;

/// One commit that holds rows or progress.
pub(super) struct Commit {
    pub(super) version: u64,
    pub(super) covers: Vec<Cover>,
    pub(super) files: Vec<Add>,
}

/// All of a table's history that is still there.
pub(super) struct History {
    pub(super) schema: SchemaRef,
    pub(super) commits: Vec<Commit>,
    /// Paths of the files that make up the table now.
    pub(super) active: HashSet<String>,
}

impl History {
    /// Reads the history and checks what can be checked without reading files: steps 1 of [`super`].
    pub(super) async fn read(name: &str, storage: &Storage, report: &mut TableReport) -> Result<Self, SinkError> {
        let delta = |source: DeltaTableError| SinkError::Delta { table: name.to_string(), source: Box::new(source) };
        let store = log_store(name, storage);
        let mut table = DeltaTable::new(Arc::clone(&store));
        table.load().await.map_err(delta)?;
        let state = table.snapshot().map_err(delta)?;
        report.version = state.version();
        let mut history = Self {
            schema: state.snapshot().arrow_schema(),
            commits: Vec::new(),
            active: state.log_data().iter().map(|f| f.path().to_string()).collect(),
        };
        let mut first_version = None;
        let mut ends: BTreeMap<String, Cover> = BTreeMap::new();
        for version in 0..=report.version {
            let Some(bytes) = store.read_commit_entry(version).await.map_err(delta)? else { continue };
            first_version.get_or_insert(version);
            let actions = get_actions(version, &bytes).map_err(delta)?;
            if let Some(commit) = check_commit(version, actions, &mut ends, report)? {
                history.commits.push(commit);
            }
        }
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

/// One commit's covers against those before, and against its own transactions and row counts.
fn check_commit(
    version: u64,
    actions: Vec<Action>,
    ends: &mut BTreeMap<String, Cover>,
    report: &mut TableReport,
) -> Result<Option<Commit>, SinkError> {
    let mut covers = Vec::new();
    let mut files = Vec::new();
    let mut transactions = BTreeMap::new();
    for action in actions {
        match action {
            Action::CommitInfo(info) => {
                if let Some(value) = info.info.get(COVER_KEY) {
                    covers = covers_from_json(&report.table, version, value)?;
                }
            }
            Action::Add(add) if add.data_change => files.push(add),
            Action::Txn(txn) => {
                transactions.insert(txn.app_id, txn.version);
            }
            _ => {}
        }
    }
    if covers.is_empty() {
        if !files.is_empty() {
            let message = format!("{} files were added by a commit that covers nothing", files.len());
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
    Ok(Some(Commit { version, covers, files }))
}
