//! A table's history: what its commits say of the log, and the files it has now.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::Action;
use deltalake_core::{DeltaTable, DeltaTableError};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{COVER_KEY, Cover, covers_from_json};

use super::report::{FindingKind, TableReport};
use crate::SinkError;
use crate::tables::delta::{ActiveFile, DeltaLog, Expired, expired_of, info_of, log_store, summary_of};

/// A part of the log that the table holds, and the commit that says so.
#[derive(Debug, Clone)]
pub(super) struct Covered {
    pub(super) version: u64,
    pub(super) cover: Cover,
}

/// All that is known of a table without reading its rows.
pub(super) struct History {
    pub(super) schema: SchemaRef,
    /// In the order of their commits.
    pub(super) covers: Vec<Covered>,
    /// What retention took.
    pub(super) expired: Vec<Expired>,
    /// The files of the newest version.
    pub(super) files: Vec<ActiveFile>,
    /// Whether the covers are all there ever were.
    pub(super) is_whole: bool,
}

impl History {
    /// Reads the history and checks what can be checked without reading files: step 1 of [`super`].
    pub(super) async fn read(name: &str, storage: &Storage, report: &mut TableReport) -> Result<Self, SinkError> {
        let delta = |source: DeltaTableError| SinkError::Delta { table: name.to_string(), source: Box::new(source) };
        let store = log_store(name, storage);
        let mut table = DeltaTable::new(Arc::clone(&store));
        table.load().await.map_err(delta)?;
        let state = table.snapshot().map_err(delta)?;
        report.version = state.version();
        let mut history = Self {
            schema: state.snapshot().arrow_schema(),
            covers: Vec::new(),
            expired: Vec::new(),
            files: state.log_data().iter().map(|file| ActiveFile::new(&file)).collect(),
            is_whole: true,
        };
        history.files.sort_by(|a, b| a.path.cmp(&b.path));
        let ends = history.read_commits(&DeltaLog::attach(name, storage, 0).await?, report).await?;
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

    /// Reads what is left of the commits, up to the report's version, and what is written down of those that are gone. The last cover of each
    /// partition.
    async fn read_commits(
        &mut self,
        log: &DeltaLog,
        report: &mut TableReport,
    ) -> Result<BTreeMap<String, Cover>, SinkError> {
        let objects = log.log_objects().await?;
        let versions: Vec<u64> = objects.commits.range(..=report.version).map(|(version, _)| *version).collect();
        let mut ends: BTreeMap<String, Cover> = BTreeMap::new();
        let first = versions.first().copied().unwrap_or(0);
        let mut after = None;
        if first > 0 {
            match log.written_summary(&objects).await? {
                Some(summary) => {
                    report.commits += summary.commits;
                    self.expired.extend(summary.expired);
                    after = Some(summary.to_version);
                    self.check_covers(summary.to_version, summary.covers, &mut ends, report);
                }
                None => {
                    self.is_whole = false;
                    report.note(format!("its history before version {first} is gone: covers are checked from there"));
                }
            }
        }
        for version in versions.into_iter().filter(|version| after.is_none_or(|after| *version > after)) {
            let Some(actions) = log.actions(version).await? else { continue };
            self.check_commit(version, &actions, &mut ends, report)?;
        }
        Ok(ends)
    }

    /// One commit's covers against those before, and against its own transactions.
    fn check_commit(
        &mut self,
        version: u64,
        actions: &[Action],
        ends: &mut BTreeMap<String, Cover>,
        report: &mut TableReport,
    ) -> Result<(), SinkError> {
        let mut transactions = BTreeMap::new();
        let mut files = 0;
        for action in actions {
            match action {
                Action::Add(add) if add.data_change => files += 1,
                Action::Txn(txn) => drop(transactions.insert(txn.app_id.clone(), txn.version)),
                _ => {}
            }
        }
        let mut covers = Vec::new();
        if let Some(info) = info_of(actions) {
            if let Some(value) = info.info.get(COVER_KEY) {
                covers = covers_from_json(&report.table, version, value)?;
            }
            self.expired.extend(expired_of(info));
            debug_assert!(summary_of(info).is_none_or(|summary| summary.to_version < version));
        }
        if covers.is_empty() {
            if files > 0 {
                let message = format!("{files} files were added by a commit that covers nothing");
                report.find_in_commit(FindingKind::Mismatch, version, message);
            }
            return Ok(());
        }
        report.commits += 1;
        let mut commit_ends: BTreeMap<String, Cover> = BTreeMap::new();
        for cover in &covers {
            commit_ends.insert(cover.app_id(), cover.clone());
        }
        self.check_covers(version, covers, ends, report);
        for (app, end) in commit_ends {
            match transactions.get(&app) {
                Some(at) if *at == end.to => {}
                Some(at) => report.find(FindingKind::Mismatch, version, &end, format!("its transaction says {at}")),
                None => report.find(FindingKind::Mismatch, version, &end, "it has no transaction"),
            }
        }
        Ok(())
    }

    fn check_covers(
        &mut self,
        version: u64,
        covers: Vec<Cover>,
        ends: &mut BTreeMap<String, Cover>,
        report: &mut TableReport,
    ) {
        for cover in covers {
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
                let message = "the log had lost these before the table read them";
                report.find(FindingKind::RecordedGap, version, &cover, message);
            }
            let partition = report.partition(&cover);
            partition.to = partition.to.max(cover.to);
            partition.rows += cover.rows;
            ends.insert(app, cover.clone());
            self.covers.push(Covered { version, cover });
        }
    }
}
