//! Files that no commit names: left by a writer that died between its files and its commit.
//!
//! A file is removed where its name is one that only our writers give, no commit refers to it (nor did, until vacuum), and it is older
//! than the safe age. Before anything is removed a commit without content is written: a writer that is not dead but slow then
//! fails on its old version, looks again, and puts back what is missing.

use std::collections::HashSet;

use futures::StreamExt;
use highwater_pipeline::tables::is_data_file_path;
use object_store::ObjectStoreExt;

use super::flush::Flusher;
use super::metrics;
use crate::SinkError;

impl Flusher {
    /// Removes what no commit names; the number of files removed.
    pub(super) async fn sweep(&mut self) -> Result<usize, SinkError> {
        let object = |source| SinkError::Object { table: self.spec.name.clone(), path: String::new(), source };
        let now_ms = self.clock.now_ms();
        let safe_age_ms = i64::try_from(self.config.sweep_age_ms).unwrap_or(i64::MAX);
        // Listed before the commits are read: a file committed in between is then among the referenced ones.
        let mut old = Vec::new();
        let mut listing = self.files.list(None);
        while let Some(file) = listing.next().await {
            let file = file.map_err(object)?;
            let age_ms = now_ms.saturating_sub(file.last_modified.timestamp_millis());
            if age_ms > safe_age_ms && is_data_file_path(file.location.as_ref()) {
                old.push(file.location);
            }
        }
        if old.is_empty() {
            return Ok(0);
        }
        let referenced: HashSet<String> = self.delta.referenced_files().await?.into_iter().collect();
        old.retain(|path| !referenced.contains(path.as_ref()));
        if old.is_empty() {
            return Ok(0);
        }
        self.delta.fence(now_ms).await?;
        let referenced: HashSet<String> = self.delta.referenced_files().await?.into_iter().collect();
        old.retain(|path| !referenced.contains(path.as_ref()));
        for path in &old {
            match self.files.delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(object(e)),
            }
        }
        metrics::swept(&self.spec.name, old.len());
        tracing::info!(table = %self.spec.name, files = old.len(), "removed files that no commit names");
        Ok(old.len())
    }
}
