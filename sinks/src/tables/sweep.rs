//! Files that no commit names: left by a writer that died between its files and its commit, or was displaced there.
//!
//! Several writers put files into one table, so a file without a commit may be on its way into one. A file is removed where its name is one
//! that only our writers give, no commit refers to it (nor did, until vacuum), and it is older than the safe age. No commit can
//! name it afterwards:
//!
//! - A writer whose files have waited for their commit for half that age writes them again under new names before its next attempt.
//! - Before anything is removed a commit without content is written, and the table's files are read once more. A writer that stood still since
//!   before it, with an attempt on its way, fails on its old version, looks at its files' age, and goes by the rule above.
//!
//! The writer that is given the first partition of the table's first topic sweeps: one of them, not all.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use highwater_pipeline::log::{Clock, TopicPartition};
use highwater_pipeline::tables::{TableSpec, is_data_file_path};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio_util::task::AbortOnDropHandle;

use super::delta::DeltaLog;
use super::flush::{Flusher, random};
use super::{TablesConfig, metrics};
use crate::SinkError;

/// Attempts at the commit that goes before: other writers commit all the time.
const FENCE_ATTEMPTS: usize = 20;

/// Sweeps one table, beside its writer.
struct Sweeper {
    spec: Arc<TableSpec>,
    config: Arc<TablesConfig>,
    clock: Arc<dyn Clock>,
    files: Arc<dyn ObjectStore>,
    delta: DeltaLog,
}

impl Flusher {
    /// Starts to sweep, if these partitions make it this writer's turn and the table is open.
    pub(super) fn start_sweep<'a>(
        &self,
        mut given: impl Iterator<Item = &'a TopicPartition>,
    ) -> Option<AbortOnDropHandle<()>> {
        let first = self.spec.topics.first()?;
        given.find(|key| key.partition == 0 && key.topic.as_ref() == first)?;
        let mut sweeper = Sweeper {
            spec: Arc::clone(&self.spec),
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.clock),
            files: Arc::clone(&self.files),
            delta: self.delta.as_ref()?.reader(),
        };
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = sweeper.sweep().await {
                metrics::failed(&sweeper.spec.name, "sweep");
                tracing::warn!(table = %sweeper.spec.name, %error, "files that no commit names were not removed; the next start tries again");
            }
        })))
    }
}

impl Sweeper {
    async fn sweep(&mut self) -> Result<(), SinkError> {
        let mut old = self.old_files().await?;
        if !old.is_empty() {
            self.keep_unreferenced(&mut old).await?;
        }
        if old.is_empty() {
            return Ok(());
        }
        if !self.fence().await? {
            tracing::info!(table = %self.spec.name, files = old.len(), "other writers are too busy: files that no commit names stay until the next start");
            return Ok(());
        }
        self.keep_unreferenced(&mut old).await?;
        for path in &old {
            match self.files.delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(self.object(e)),
            }
        }
        metrics::swept(&self.spec.name, old.len());
        tracing::info!(table = %self.spec.name, files = old.len(), "removed files that no commit names");
        Ok(())
    }

    /// Data files past the safe age. Listed before the commits are read: a file committed in between is then among the referenced ones.
    async fn old_files(&self) -> Result<Vec<Path>, SinkError> {
        let now_ms = self.clock.now_ms();
        let safe_age_ms = i64::try_from(self.config.sweep_age_ms).unwrap_or(i64::MAX);
        let mut old = Vec::new();
        let mut listing = self.files.list(None);
        while let Some(file) = listing.next().await {
            let file = file.map_err(|e| self.object(e))?;
            let age_ms = now_ms.saturating_sub(file.last_modified.timestamp_millis());
            if age_ms > safe_age_ms && is_data_file_path(file.location.as_ref()) {
                old.push(file.location);
            }
        }
        Ok(old)
    }

    async fn keep_unreferenced(&self, files: &mut Vec<Path>) -> Result<(), SinkError> {
        let referenced: HashSet<String> = self.delta.referenced_files().await?.into_iter().collect();
        files.retain(|path| !referenced.contains(path.as_ref()));
        Ok(())
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
