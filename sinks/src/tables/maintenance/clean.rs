//! Old commits of the Delta log: deleted behind a checkpoint, what they say about the log written down first.
//!
//! The commit that says it goes in before anything is deleted, and deletion goes from the oldest on: what is left is always a run up to the newest
//! version, and the summary reaches to where it begins, or beyond.

use super::Maintainer;
use crate::SinkError;
use crate::tables::delta::{HISTORY_KEY, LogObjects, Rewrite, RewriteAttempt};
use crate::tables::metrics;

/// The operation of a commit that says what older ones said.
pub(crate) const HISTORY: &str = "HISTORY";

impl Maintainer {
    /// Deletes commits older than the table's history; how many.
    ///
    /// # Errors
    /// Where the Delta log cannot be read or written.
    pub async fn clean_history(&mut self) -> Result<u64, SinkError> {
        let now_ms = self.clock.now_ms();
        self.delta.refresh_files(now_ms).await?;
        let objects = self.delta.log_objects().await?;
        let Some(keep) = kept_from(&objects, now_ms, self.config.history_ms) else { return Ok(0) };
        let old = objects.commits.range(..keep).count() as u64;
        // A few commits are not worth one of their own.
        if old < self.config.checkpoint_every {
            return Ok(0);
        }
        let Some(summary) = self.delta.summarise(&objects, keep - 1).await? else {
            tracing::warn!(table = %self.spec.name, "the history of the table does not reach back to its beginning: no commits are deleted");
            return Ok(0);
        };
        let rewrite = Rewrite::new(HISTORY, false).info(HISTORY_KEY, summary.to_json());
        if !matches!(self.commit(&rewrite, i64::MAX).await?, RewriteAttempt::Done(_)) {
            return Ok(0);
        }
        let LogObjects { commits, checkpoints } = objects;
        let commits = commits.into_iter().filter(|(version, _)| *version < keep).map(|(_, (_, path))| path);
        let deleted = self.delta.delete_log_objects(commits).await? as u64;
        let checkpoints = checkpoints.into_iter().filter(|(version, _)| *version < keep);
        self.delta.delete_log_objects(checkpoints.flat_map(|(_, paths)| paths)).await?;
        metrics::cleaned(&self.spec.name, deleted);
        tracing::info!(table = %self.spec.name, commits = deleted, kept_from = keep, "deleted old commits");
        Ok(deleted)
    }
}

/// The version from which commits are kept: the newest checkpoint that is as old as the history has to be.
fn kept_from(objects: &LogObjects, now_ms: i64, history_ms: u64) -> Option<u64> {
    let horizon_ms = now_ms.saturating_sub(i64::try_from(history_ms).unwrap_or(i64::MAX));
    let is_old = |version: &&u64| objects.commits.get(version).is_some_and(|(written_ms, _)| *written_ms <= horizon_ms);
    objects.checkpoints.keys().rev().find(is_old).copied().filter(|version| *version > 0)
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;

    #[test]
    fn commits_are_kept_from_the_newest_checkpoint_that_is_old_enough() {
        let mut objects = LogObjects::default();
        for version in 0..50_u64 {
            objects.commits.insert(version, (version as i64 * 1_000, Path::from("x")));
        }
        assert_eq!(kept_from(&objects, 100_000, 0), None, "no checkpoint");
        for version in [10, 20, 30, 40] {
            objects.checkpoints.insert(version, Vec::new());
        }
        assert_eq!(kept_from(&objects, 100_000, 75_000), Some(20));
        assert_eq!(kept_from(&objects, 100_000, 0), Some(40));
        assert_eq!(kept_from(&objects, 100_000, 95_000), None);
        objects.commits.remove(&20);
        assert_eq!(kept_from(&objects, 100_000, 75_000), Some(10), "a checkpoint without its commit has no known age");
    }
}
