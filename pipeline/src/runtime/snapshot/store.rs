//! Where snapshots are kept: `snapshots/<task>/<offset>-<epoch>.snap` in the object store.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use super::StateReader;
use crate::runtime::RuntimeError;

/// How many snapshots a task keeps: the newest and the one before it, in case the newest is corrupt.
const KEPT: usize = 2;

/// What a snapshot's file name says. Ordered by offset, then epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName {
    /// S: the next input offset to read.
    pub offset: i64,
    /// Epoch of the run that wrote it.
    pub epoch: i32,
}

impl SnapshotName {
    fn parse(file_name: &str) -> Option<Self> {
        let (offset, epoch) = file_name.strip_suffix(".snap")?.split_once('-')?;
        Some(Self { offset: offset.parse().ok()?, epoch: epoch.parse().ok()? })
    }

    fn file_name(self) -> String {
        // Padded, so that a listing by name is a listing by offset.
        format!("{:020}-{}.snap", self.offset, self.epoch)
    }
}

/// The snapshots of one task.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    store: Arc<dyn ObjectStore>,
    directory: Path,
}

impl SnapshotStore {
    /// Those of this task.
    pub fn new(store: Arc<dyn ObjectStore>, task: &str) -> Self {
        Self { store, directory: Path::from(format!("snapshots/{task}")) }
    }

    /// The names of all snapshots, newest first. Other files are passed over.
    pub async fn list(&self) -> Result<Vec<SnapshotName>, RuntimeError> {
        let listed: Vec<_> =
            self.store.list(Some(&self.directory)).try_collect().await.map_err(|e| failed(&self.directory, e))?;
        let mut names: Vec<_> =
            listed.iter().filter_map(|meta| SnapshotName::parse(meta.location.filename()?)).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    /// Reads and checks one.
    pub async fn load(&self, name: SnapshotName) -> Result<StateReader, RuntimeError> {
        let path = self.path(name);
        let got = self.store.get(&path).await.map_err(|e| failed(&path, e))?;
        let snapshot = StateReader::parse(&got.bytes().await.map_err(|e| failed(&path, e))?)?;
        if snapshot.offset() != name.offset {
            let reason = format!("{path} holds the state at offset {}", snapshot.offset());
            return Err(RuntimeError::CorruptSnapshot { reason });
        }
        Ok(snapshot)
    }

    /// Writes one. Durable when it returns, as far as the store is.
    pub async fn save(&self, name: SnapshotName, file: Bytes) -> Result<(), RuntimeError> {
        let path = self.path(name);
        self.store.put(&path, PutPayload::from_bytes(file)).await.map_err(|e| failed(&path, e))?;
        Ok(())
    }

    /// Deletes all but the newest two. Returns the oldest that is kept.
    pub async fn prune(&self) -> Result<Option<SnapshotName>, RuntimeError> {
        let names = self.list().await?;
        let (kept, old) = names.split_at(names.len().min(KEPT));
        for &name in old {
            self.delete(name).await?;
        }
        Ok(kept.last().copied())
    }

    /// Deletes one.
    pub async fn delete(&self, name: SnapshotName) -> Result<(), RuntimeError> {
        let path = self.path(name);
        self.store.delete(&path).await.map_err(|e| failed(&path, e))
    }

    fn path(&self, name: SnapshotName) -> Path {
        self.directory.clone().join(name.file_name())
    }
}

fn failed(path: &Path, source: object_store::Error) -> RuntimeError {
    RuntimeError::Storage { path: path.to_string(), source }
}
