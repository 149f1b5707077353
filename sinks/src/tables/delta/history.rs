//! What a table's commits say about the log, and how that outlives the commits.
//!
//! The Delta log grows by a commit every few seconds. Old commits are deleted behind a checkpoint, which keeps files, columns and offsets, but not
//! which part of the log the table holds. That is folded into a few lines first, and written down in a commit of its own under [`HISTORY_KEY`]:
//! covers that follow each other become one, and so does what retention took.

use std::collections::BTreeMap;

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::{Action, CommitInfo};
use deltalake_core::logstore::get_actions;
use futures::TryStreamExt;
use highwater_pipeline::tables::{COVER_KEY, Cover, covers_from_json};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::DeltaLog;
use crate::SinkError;

/// The key of `commitInfo` under which retention says what it took: a JSON array of [`Expired`].
pub(crate) const EXPIRED_KEY: &str = "highwater.expired";
/// The key of `commitInfo` under which a commit says what all commits up to some version said: a [`Summary`].
pub(crate) const HISTORY_KEY: &str = "highwater.history";

/// Rows that were removed by right, of one partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expired {
    /// Topic name.
    pub(crate) topic: String,
    /// Partition number.
    pub(crate) partition: i32,
    /// Their lowest offset.
    pub(crate) from: i64,
    /// One past their highest offset.
    pub(crate) to: i64,
    /// How many.
    pub(crate) rows: u64,
    /// Whose and of which day they all were; `None` where several were added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<Origin>,
}

/// The partition values of the files that rows were in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) tenant: Option<String>,
    pub(crate) date: Option<String>,
}

/// What the commits up to a version said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The last of these commits.
    pub(crate) to_version: u64,
    /// How many of them carried a cover.
    pub(crate) commits: u64,
    /// Their covers: those that follow each other as one, each partition's in order.
    pub(crate) covers: Vec<Cover>,
    /// What retention took, one entry per partition.
    pub(crate) expired: Vec<Expired>,
}

impl Summary {
    /// Counts the next commit.
    fn take(&mut self, table: &str, version: u64, info: Option<&CommitInfo>) -> Result<(), SinkError> {
        self.to_version = version;
        let Some(info) = info else { return Ok(()) };
        if let Some(value) = info.info.get(COVER_KEY) {
            self.commits += 1;
            for cover in covers_from_json(table, version, value)? {
                self.cover(cover);
            }
        }
        for expired in expired_of(info) {
            self.expire(expired);
        }
        Ok(())
    }

    fn cover(&mut self, cover: Cover) {
        let last =
            self.covers.iter_mut().rev().find(|c| c.topic_id == cover.topic_id && c.partition == cover.partition);
        match last {
            Some(last) if last.to == cover.from && last.gap == cover.gap => {
                last.to = cover.to;
                last.rows += cover.rows;
            }
            _ => self.covers.push(cover),
        }
    }

    fn expire(&mut self, expired: Expired) {
        let same = |e: &&mut Expired| e.topic == expired.topic && e.partition == expired.partition;
        match self.expired.iter_mut().find(same) {
            Some(sum) => {
                (sum.from, sum.to) = (sum.from.min(expired.from), sum.to.max(expired.to));
                sum.rows += expired.rows;
                sum.of = None;
            }
            None => self.expired.push(Expired { of: None, ..expired }),
        }
    }

    /// As it stands in `commitInfo`.
    pub(crate) fn to_json(&self) -> Value {
        json!(self)
    }
}

/// What a commit says retention took.
pub(crate) fn expired_of(info: &CommitInfo) -> Vec<Expired> {
    let value = info.info.get(EXPIRED_KEY);
    value.and_then(|value| Vec::deserialize(value).ok()).unwrap_or_default()
}

/// The summary in a commit, if it carries one.
pub(crate) fn summary_of(info: &CommitInfo) -> Option<Summary> {
    info.info.get(HISTORY_KEY).and_then(|value| Summary::deserialize(value).ok())
}

/// A commit's information about itself.
pub(crate) fn info_of(actions: &[Action]) -> Option<&CommitInfo> {
    actions.iter().find_map(|action| match action {
        Action::CommitInfo(info) => Some(info),
        _ => None,
    })
}

/// The objects of a Delta log, by version.
#[derive(Debug, Default)]
pub(crate) struct LogObjects {
    /// Commits: when each was written (Unix milliseconds, by the store's clock), and where it is.
    pub(crate) commits: BTreeMap<u64, (i64, Path)>,
    /// Checkpoints: the objects of each.
    pub(crate) checkpoints: BTreeMap<u64, Vec<Path>>,
}

impl DeltaLog {
    /// Lists `_delta_log`.
    pub(crate) async fn log_objects(&self) -> Result<LogObjects, SinkError> {
        let object = |source| self.delta(DeltaTableError::ObjectStore { source });
        let store = self.store.object_store(None);
        let mut listed = store.list(Some(self.store.log_path()));
        let mut objects = LogObjects::default();
        while let Some(found) = listed.try_next().await.map_err(object)? {
            let Some((version, kind)) = found.location.filename().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Some(version) = (version.len() == 20).then(|| version.parse::<u64>().ok()).flatten() else { continue };
            let written_ms = found.last_modified.timestamp_millis();
            match kind {
                "json" => drop(objects.commits.insert(version, (written_ms, found.location))),
                kind if kind.starts_with("checkpoint.") && kind.ends_with("parquet") => {
                    objects.checkpoints.entry(version).or_default().push(found.location);
                }
                _ => {}
            }
        }
        Ok(objects)
    }

    /// A commit's actions; `None` where it is not there.
    pub(crate) async fn actions(&self, version: u64) -> Result<Option<Vec<Action>>, SinkError> {
        let bytes = self.store.read_commit_entry(version).await.map_err(|e| self.delta(e))?;
        bytes.map(|bytes| get_actions(version, &bytes).map_err(|e| self.delta(e))).transpose()
    }

    /// What the commits said that are gone: nothing where all are there, `None` where nobody wrote it down.
    pub(crate) async fn written_summary(&self, objects: &LogObjects) -> Result<Option<Summary>, SinkError> {
        let first = objects.commits.keys().next().copied().unwrap_or(0);
        if first == 0 {
            return Ok(Some(Summary::default()));
        }
        for version in objects.commits.keys().rev() {
            let actions = self.actions(*version).await?.unwrap_or_default();
            let summary = info_of(&actions).and_then(summary_of).filter(|summary| summary.to_version + 1 >= first);
            if summary.is_some() {
                return Ok(summary);
            }
        }
        Ok(None)
    }

    /// What all commits up to `to_version` said. `None` where that is not known back to the beginning.
    pub(crate) async fn summarise(&self, objects: &LogObjects, to_version: u64) -> Result<Option<Summary>, SinkError> {
        let Some(mut summary) = self.written_summary(objects).await? else { return Ok(None) };
        let from = if summary == Summary::default() { 0 } else { summary.to_version + 1 };
        for version in objects.commits.range(from..=to_version.max(from)).map(|(version, _)| *version) {
            if version <= to_version {
                let actions = self.actions(version).await?.unwrap_or_default();
                summary.take(self.table(), version, info_of(&actions))?;
            }
        }
        Ok(Some(summary))
    }

    /// Deletes objects of the log, in this order.
    pub(crate) async fn delete_log_objects(&self, paths: impl IntoIterator<Item = Path>) -> Result<usize, SinkError> {
        let store = self.store.object_store(None);
        let mut deleted = 0;
        for path in paths {
            match store.delete(&path).await {
                Ok(()) => deleted += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.delta(DeltaTableError::ObjectStore { source })),
            }
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use uuid::Uuid;

    use super::*;

    fn cover(partition: i32, from: i64, to: i64, rows: u64, gap: bool) -> Cover {
        Cover { topic: "logs".into(), topic_id: Uuid::nil(), partition, from, to, rows, gap }
    }

    fn info(key: &str, value: Value) -> CommitInfo {
        CommitInfo { info: HashMap::from([(key.to_string(), value)]), ..CommitInfo::default() }
    }

    #[test]
    fn covers_that_follow_each_other_become_one_and_gaps_stay() {
        let mut summary = Summary::default();
        let commits = [
            vec![cover(0, 0, 5, 10, false), cover(1, 3, 4, 1, false)],
            vec![cover(0, 5, 7, 0, true), cover(0, 7, 9, 2, false), cover(1, 4, 8, 3, false)],
            vec![cover(0, 9, 12, 4, false)],
        ];
        for (covers, version) in commits.iter().zip(1..) {
            summary.take("logs", version, Some(&info(COVER_KEY, json!(covers)))).unwrap();
        }
        let expected =
            [cover(0, 0, 5, 10, false), cover(1, 3, 8, 4, false), cover(0, 5, 7, 0, true), cover(0, 7, 12, 6, false)];
        assert_eq!((summary.covers.as_slice(), summary.commits, summary.to_version), (expected.as_slice(), 3, 3));
    }

    #[test]
    fn what_retention_took_adds_up_per_partition() {
        let mut summary = Summary::default();
        let expired = |partition, from, to, rows, date: &str| Expired {
            topic: "logs".into(),
            partition,
            from,
            to,
            rows,
            of: Some(Origin { tenant: Some("a".into()), date: Some(date.into()) }),
        };
        let taken = json!([
            expired(0, 5, 9, 3, "2025-01-01"),
            expired(0, 1, 6, 4, "2025-01-02"),
            expired(1, 0, 1, 1, "2025-01-01")
        ]);
        summary.take("logs", 7, Some(&info(EXPIRED_KEY, taken))).unwrap();
        let sum = |partition, from, to, rows| Expired { of: None, ..expired(partition, from, to, rows, "") };
        assert_eq!(summary.expired, [sum(0, 1, 9, 7), sum(1, 0, 1, 1)]);
        let read = summary_of(&info(HISTORY_KEY, summary.to_json())).unwrap();
        assert_eq!(read, summary);
    }
}
