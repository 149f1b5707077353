//! The checkpoint file: positions behind all batches that have left the spool.
//!
//! `checkpoint.json` is one JSON object, replaced whole:
//! `{"version":1,"positions":[{"batch":17,"path":..,"device":..,"inode":..,
//! "offset":..,"head":{"size_bytes":256,"xxh64":..}}]}`. `batch` is the number of the batch that put the position
//! there. A batch still in the spool with a higher number for the same file overrules it.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;
use super::position::{FileId, Position};
use crate::agents::AgentError;

const VERSION: u32 = 1;

/// Positions by file, each with the number of the batch that set it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    positions: HashMap<FileId, Marked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marked {
    batch: u64,
    #[serde(flatten)]
    position: Position,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    positions: Vec<Marked>,
}

impl Checkpoint {
    /// Reads the file; an absent one is an empty checkpoint, an unreadable one an error (to start over would double
    /// every line).
    pub(crate) fn read(path: &Path) -> Result<Self, AgentError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(AgentError::io("read", path)(error)),
        };
        let damaged = |reason: String| AgentError::State { path: path.to_path_buf(), reason };
        let document: Document = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if document.version != VERSION {
            return Err(damaged(format!("version {} is not {VERSION}", document.version)));
        }
        Ok(Self {
            positions: document.positions.into_iter().map(|marked| (marked.position.place.file, marked)).collect(),
        })
    }

    /// Replaces the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), AgentError> {
        let mut positions: Vec<Marked> = self.positions.values().cloned().collect();
        positions.sort_by(|a, b| (&a.position.path, a.batch).cmp(&(&b.position.path, b.batch)));
        let bytes = serde_json::to_vec(&Document { version: VERSION, positions })
            .map_err(|error| AgentError::State { path: path.to_path_buf(), reason: error.to_string() })?;
        files::write_durably(path, &bytes)
    }

    /// Takes the position of batch `batch`, unless a later batch of the file has set one.
    pub(crate) fn advance(&mut self, batch: u64, position: &Position) {
        let file = position.place.file;
        let newer = self.positions.get(&file).is_none_or(|old| old.batch < batch);
        if newer {
            self.positions.insert(file, Marked { batch, position: position.clone() });
        }
    }

    /// Forgets a file that is gone. True where it was known.
    pub(crate) fn forget(&mut self, file: FileId) -> bool {
        self.positions.remove(&file).is_some()
    }

    /// All positions.
    pub(crate) fn positions(&self) -> Vec<Position> {
        self.positions.values().map(|marked| marked.position.clone()).collect()
    }

    /// The highest batch number it knows.
    pub(crate) fn last_batch(&self) -> u64 {
        self.positions.values().map(|marked| marked.batch).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::shipping::position::{Head, Place};

    fn position(inode: u64, offset: u64) -> Position {
        let place = Place { file: FileId { device: 1, inode }, offset, head: Head::of(b"x") };
        Position { path: "/a".into(), place }
    }

    #[test]
    fn survives_the_disk_and_knows_its_last_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.json");
        let mut checkpoint = Checkpoint::default();
        checkpoint.advance(4, &position(u64::MAX, 10));
        checkpoint.advance(9, &position(2, 20));
        checkpoint.write(&path).unwrap();
        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read, checkpoint);
        assert_eq!(read.last_batch(), 9);
    }

    #[test]
    fn a_later_batch_counts_even_where_its_offset_is_smaller() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.advance(5, &position(1, 500));
        checkpoint.advance(6, &position(1, 20)); // the file was truncated between the two
        checkpoint.advance(4, &position(1, 400)); // settled late
        assert_eq!(checkpoint.positions(), [position(1, 20)]);
    }

    #[test]
    fn damage_is_an_error_and_not_a_new_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.json");
        std::fs::write(&path, b"{\"version\":1,\"posi").unwrap();
        assert!(matches!(Checkpoint::read(&path), Err(AgentError::State { .. })));
        assert_eq!(Checkpoint::read(&dir.path().join("none")).unwrap(), Checkpoint::default());
    }
}
