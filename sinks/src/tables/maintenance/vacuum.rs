//! Files that nobody reads any more. Two kinds:
//!
//! - A file that a commit has taken out of the table, longer ago than any query runs: a query that began before keeps its files.
//! - A file that no commit names: left by a process that died between its files and its commit, or was displaced there. Several writers put files into
//!   one table, so such a file may be on its way into a commit. It is removed where its name is one that only our writers give, and it is older than the
//!   safe age. No commit can name it afterwards:
//!   - A writer whose files have waited for their commit for half that age writes them again under new names before its next attempt.
//!   - Before anything is removed a commit without content is written, and the table's files are read once more. A writer that stood still since
//!     before it, with an attempt on its way, fails on its old version, looks at its files' age, and goes by the rule above. A merge that takes longer
//!     than that is given up.

use std::collections::HashMap;

use futures::StreamExt;
use highwater_pipeline::tables::is_data_file_path;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::Maintainer;
use crate::SinkError;
use crate::tables::flush::random;
use crate::tables::metrics;

/// Attempts at the commit that goes before: other writers commit all the time.
const FENCE_ATTEMPTS: usize = 20;

/// What a vacuum has deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files that a commit had taken out of the table.
    pub removed: u64,
    /// Files that no commit named.
    pub unnamed: u64,
}

/// A data file that lies in the store.
struct Listed {
    path: Path,
    age_ms: i64,
}

impl Maintainer {
    /// Deletes the files that nobody reads any more.
    ///
    /// # Errors
    /// Where the store or the Delta log cannot be read, or a file cannot be deleted.
    pub async fn vacuum(&mut self) -> Result<Vacuumed, SinkError> {
        let now_ms = self.clock.now_ms();
        // Listed before the commits are read: a file committed in between is then among the referenced ones.
        let listed = self.listed(now_ms).await?;
        let referenced = self.delta.referenced_files().await?;
        let grace_ms = i64::try_from(self.config.vacuum_after_ms).unwrap_or(i64::MAX);
        let mut vacuumed = Vacuumed::default();
        for file in &listed {
            let taken_out_ms = referenced.get(file.path.as_ref()).copied().flatten();
            if taken_out_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) > grace_ms) {
                self.delete(&file.path).await?;
                vacuumed.removed += 1;
            }
        }
        vacuumed.unnamed = self.sweep(listed, &referenced).await?;
        if vacuumed != Vacuumed::default() {
            metrics::vacuumed(&self.spec.name, vacuumed.removed);
            metrics::swept(&self.spec.name, vacuumed.unnamed);
            tracing::info!(table = %self.spec.name, replaced = vacuumed.removed, unnamed = vacuumed.unnamed, "deleted files that nobody reads");
        }
        Ok(vacuumed)
    }

    /// Deletes files that no commit names; how many.
    async fn sweep(
        &mut self,
        listed: Vec<Listed>,
        referenced: &HashMap<String, Option<i64>>,
    ) -> Result<u64, SinkError> {
        let safe_age_ms = i64::try_from(self.config.sweep_age_ms).unwrap_or(i64::MAX);
        let mut old: Vec<Path> = listed.into_iter().filter(|file| file.age_ms > safe_age_ms).map(|f| f.path).collect();
        old.retain(|path| !referenced.contains_key(path.as_ref()));
        if old.is_empty() {
            return Ok(0);
        }
        if !self.fence().await? {
            tracing::info!(table = %self.spec.name, files = old.len(), "other writers are too busy: files that no commit names stay until the next turn");
            return Ok(0);
        }
        let referenced = self.delta.referenced_files().await?;
        old.retain(|path| !referenced.contains_key(path.as_ref()));
        for path in &old {
            self.delete(path).await?;
        }
        Ok(old.len() as u64)
    }

    async fn listed(&self, now_ms: i64) -> Result<Vec<Listed>, SinkError> {
        let mut found = Vec::new();
        let mut listing = self.files.list(None);
        while let Some(file) = listing.next().await {
            let file = file.map_err(|e| self.object(e))?;
            if is_data_file_path(file.location.as_ref()) {
                let age_ms = now_ms.saturating_sub(file.last_modified.timestamp_millis());
                found.push(Listed { path: file.location, age_ms });
            }
        }
        Ok(found)
    }

    async fn delete(&self, path: &Path) -> Result<(), SinkError> {
        match self.files.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.object(e)),
        }
    }

    async fn fence(&mut self) -> Result<bool, SinkError> {
        for _ in 0..FENCE_ATTEMPTS {
            if self.delta.try_fence(self.clock.now_ms()).await? {
                return Ok(true);
            }
            tokio::time::sleep(self.config.conflict_wait(random())).await;
        }
        Ok(false)
    }

    fn object(&self, source: object_store::Error) -> SinkError {
        SinkError::Object { table: self.spec.name.clone(), path: String::new(), source }
    }
}
