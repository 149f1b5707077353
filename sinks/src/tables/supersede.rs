//! Rows that no longer hold: a rollup's table has the newest revision of each row only.
//!
//! A window that was closed again is in the topic whole, behind a marker ([`Superseded`]). The commit that takes the marker in removes what it
//! supersedes, in three places: rows of the same batch are not written at all; files that hold such rows are written anew without them, and the
//! commit removes the old file and adds the new one. So no reader, whatever engine it is, ever sees both.
//!
//! Which files: those of the window's day whose statistics do not rule out its partition, its start and an offset below the marker's. Another
//! writer (of other partitions) may replace one of them meanwhile. Then the commit fails on the version, and the plan is made again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::DateTime;
use deltalake_core::kernel::Remove;
use highwater_pipeline::data::identity;
use highwater_pipeline::tables::{Superseded, TableSpec, WINDOW_START_COLUMN, date_of_us, date_text};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::TablesConfig;
use super::delta::{ActiveFile, Commit, DeltaLog, removal};
use super::encode::{EncodedFile, encode};
use super::read::read_file;
use crate::SinkError;

/// A time in a file's statistics may be cut to milliseconds.
const CUT_US: i64 = 999;

/// What a commit replaces, planned on one version of the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Replacement {
    /// The version it was planned on; `None` where nothing was planned.
    pub(super) version: Option<u64>,
    /// All files of that version.
    seen: HashSet<String>,
    pub(super) replaced: Vec<Replaced>,
}

/// A file that holds superseded rows, and its other rows.
#[derive(Debug, Clone)]
pub(super) struct Replaced {
    pub(super) remove: Remove,
    /// None where nothing is left of it.
    pub(super) files: Vec<EncodedFile>,
}

impl Replacement {
    /// What is put in place of the files it replaces.
    pub(super) fn files(&self) -> impl Iterator<Item = &EncodedFile> {
        self.replaced.iter().flat_map(|replaced| &replaced.files)
    }

    /// The same, to be renamed.
    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = &mut EncodedFile> {
        self.replaced.iter_mut().flat_map(|replaced| &mut replaced.files)
    }
}

/// Rewrites files.
pub(super) struct Rewriter<'a> {
    pub(super) spec: &'a Arc<TableSpec>,
    pub(super) config: &'a Arc<TablesConfig>,
    /// The store, paths relative to the table's directory.
    pub(super) store: &'a Arc<dyn ObjectStore>,
}

impl Rewriter<'_> {
    /// Plans what a commit replaces, unless it was planned on this version of the table. What was planned before stays, unless another writer has
    /// replaced one of the files meanwhile. True where the plan is another one.
    pub(super) async fn bring_up_to_date(
        &self,
        commit: &mut Commit,
        delta: &DeltaLog,
        superseded: &Superseded,
        now_ms: i64,
    ) -> Result<bool, SinkError> {
        if commit.replacement().version == Some(delta.version()) {
            return Ok(false);
        }
        let (version, active) = delta.active_files().await?;
        let paths: HashSet<String> = active.iter().map(|file| file.path.clone()).collect();
        let before = commit.replacement();
        let still = before.replaced.iter().all(|replaced| paths.contains(&replaced.remove.path));
        let mut plan = if still { before.clone() } else { Replacement::default() };
        let planned = plan.replaced.len();
        let markers = by_date(superseded);
        for file in active.iter().filter(|file| !plan.seen.contains(&file.path)) {
            if !file.date.as_ref().is_some_and(|date| markers.get(date).is_some_and(|m| may_hold(file, m))) {
                continue;
            }
            if let Some(files) = self.rest_of(file, superseded).await? {
                plan.replaced.push(Replaced { remove: removal(file, true, now_ms), files });
            }
        }
        let changed = !still || plan.replaced.len() > planned;
        (plan.seen, plan.version) = (paths, Some(version));
        commit.set_replacement(plan);
        Ok(changed)
    }

    /// What is left of a file, encoded; `None` where all of it holds.
    async fn rest_of(&self, file: &ActiveFile, superseded: &Superseded) -> Result<Option<Vec<EncodedFile>>, SinkError> {
        let object = |source| SinkError::Object { table: self.spec.name.clone(), path: file.path.clone(), source };
        let path = Path::parse(&file.path).map_err(|e| object(e.into()))?;
        let bytes = self.store.get(&path).await.map_err(object)?.bytes().await.map_err(object)?;
        let (spec, config) = (Arc::clone(self.spec), Arc::clone(self.config));
        let (file, superseded) = (file.clone(), superseded.clone());
        let rewritten = tokio::task::spawn_blocking(move || {
            let rows = read_file(&spec, file.tenant.as_deref(), file.date.as_deref(), bytes)?;
            let before: usize = rows.iter().map(RecordBatch::num_rows).sum();
            let mut kept = Vec::with_capacity(rows.len());
            for batch in &rows {
                kept.push(superseded.filter(&spec.name, batch)?);
            }
            kept.retain(|batch| batch.num_rows() > 0);
            if kept.iter().map(RecordBatch::num_rows).sum::<usize>() == before {
                return Ok(None);
            }
            encode(&spec, &config, &kept).map(Some)
        });
        let broken =
            |e: tokio::task::JoinError| SinkError::Broken { table: self.spec.name.clone(), reason: e.to_string() };
        rewritten.await.map_err(broken)?
    }
}

/// Markers by the day of their window: partition, window start, offset.
fn by_date(superseded: &Superseded) -> BTreeMap<String, Vec<(i32, i64, i64)>> {
    let mut markers: BTreeMap<String, Vec<(i32, i64, i64)>> = BTreeMap::new();
    for marker in superseded.iter() {
        markers.entry(date_text(date_of_us(marker.1))).or_default().push(marker);
    }
    markers
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    min_values: Map<String, Value>,
    max_values: Map<String, Value>,
}

/// True unless the file's statistics rule out rows that one of the markers supersedes.
fn may_hold(file: &ActiveFile, markers: &[(i32, i64, i64)]) -> bool {
    let stats: Stats = file.stats.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let whole = |values: &Map<String, Value>, column: &str| values.get(column).and_then(Value::as_i64);
    let instant = |values: &Map<String, Value>| {
        let text = values.get(WINDOW_START_COLUMN)?.as_str()?;
        DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
    };
    let partitions = whole(&stats.min_values, identity::PARTITION).unwrap_or(i64::MIN)
        ..=whole(&stats.max_values, identity::PARTITION).unwrap_or(i64::MAX);
    let starts = instant(&stats.min_values).map_or(i64::MIN, |min| min.saturating_sub(CUT_US))
        ..=instant(&stats.max_values).map_or(i64::MAX, |max| max.saturating_add(CUT_US));
    let first_offset = whole(&stats.min_values, identity::OFFSET).unwrap_or(i64::MIN);
    markers.iter().any(|&(partition, start_us, offset)| {
        partitions.contains(&i64::from(partition)) && starts.contains(&start_us) && first_offset < offset
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(stats: Option<&str>) -> ActiveFile {
        ActiveFile {
            path: "tenant=t/date=1970-01-01/x.parquet".into(),
            added_ms: 0,
            tenant: Some("t".into()),
            date: Some("1970-01-01".into()),
            size_bytes: 1,
            stats: stats.map(str::to_owned),
        }
    }

    #[test]
    fn statistics_rule_files_out_and_nothing_else_does() {
        let stats = r#"{"numRecords":2,"minValues":{"window_start":"1970-01-01T00:01:00.000Z","_partition":1,"_offset":10},
                        "maxValues":{"window_start":"1970-01-01T00:02:00.000Z","_partition":2,"_offset":20}}"#;
        let marker = |partition, minutes: i64, offset| {
            may_hold(&file(Some(stats)), &[(partition, minutes * 60_000_000, offset)])
        };
        assert!(marker(1, 1, 11) && marker(2, 2, 99));
        assert!(!marker(0, 1, 99) && !marker(3, 1, 99), "another partition");
        assert!(!marker(1, 0, 99) && !marker(1, 3, 99), "another window");
        assert!(!marker(1, 1, 10), "everything in it is newer");
        for none in [None, Some("{}"), Some("not json"), Some(r#"{"minValues":{"window_start":5}}"#)] {
            assert!(may_hold(&file(none), &[(0, 0, 1)]), "{none:?}");
        }
    }

    #[test]
    fn markers_are_looked_for_in_the_files_of_their_day() {
        let mut superseded = Superseded::default();
        superseded.add(0, 0, 5);
        superseded.add(1, 86_400_000_000, 6);
        let dates: Vec<_> = by_date(&superseded).into_iter().collect();
        let expected = [("1970-01-01", vec![(0, 0, 5)]), ("1970-01-02", vec![(1, 86_400_000_000, 6)])];
        assert_eq!(dates, expected.map(|(date, markers)| (date.to_owned(), markers)));
    }
}
