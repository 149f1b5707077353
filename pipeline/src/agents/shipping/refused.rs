//! What the server will never take, kept for people: `refused/`.
//!
//! `<key>.ndjson` has one line per refused row, `{"reason":"...","row":{...}}`. `<number>.batch` is a damaged spool
//! file as it was found. The folder is bounded; beyond the cap rows are counted and logged, but not kept.

use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;

use super::files;
use crate::agents::AgentError;

const LIMIT_BYTES: u64 = 64 << 20;

/// A row the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedRow {
    /// Its line in the body, from 0.
    pub(crate) index: usize,
    /// The server's words.
    pub(crate) reason: String,
}

/// See the module's documentation.
pub(crate) struct RefusedFolder {
    directory: PathBuf,
    size_bytes: Mutex<u64>,
}

#[derive(Serialize)]
struct Kept<'a> {
    reason: &'a str,
    row: &'a RawValue,
}

impl RefusedFolder {
    pub(crate) fn open(directory: PathBuf) -> Result<Self, AgentError> {
        let mut size_bytes = 0;
        if directory.exists() {
            for entry in fs::read_dir(&directory).map_err(AgentError::io("list", &directory))? {
                size_bytes +=
                    entry.and_then(|entry| entry.metadata()).map_err(AgentError::io("list", &directory))?.len();
            }
        }
        Ok(Self { directory, size_bytes: Mutex::new(size_bytes) })
    }

    /// Keeps some rows of a body.
    pub(crate) fn keep(&self, key: &str, body: &[u8], rows: &[RefusedRow]) -> Result<(), AgentError> {
        let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
        let mut out = Vec::new();
        for refused in rows {
            let row = lines.get(refused.index).and_then(|line| serde_json::from_slice::<&RawValue>(line).ok());
            let kept =
                serde_json::to_writer(&mut out, &Kept { reason: &refused.reason, row: row.unwrap_or(RawValue::NULL) });
            kept.map_err(|error| AgentError::State { path: self.directory.clone(), reason: error.to_string() })?;
            out.push(b'\n');
        }
        let path = self.directory.join(format!("{key}.ndjson"));
        if !self.reserve(out.len() as u64, &path)? {
            return Ok(());
        }
        files::write_durably(&path, &out)
    }

    /// Moves a damaged spool file here.
    pub(crate) fn keep_damaged(&self, path: &Path) -> Result<(), AgentError> {
        let size_bytes = fs::metadata(path).map_err(AgentError::io("look at", path))?.len();
        let name = path.file_name().unwrap_or_default();
        if self.reserve(size_bytes, path)? {
            fs::rename(path, self.directory.join(name)).map_err(AgentError::io("move to refused/", path))
        } else {
            fs::remove_file(path).map_err(AgentError::io("remove", path))
        }
    }

    fn reserve(&self, size_bytes: u64, path: &Path) -> Result<bool, AgentError> {
        let mut total = self.size_bytes.lock();
        if *total + size_bytes > LIMIT_BYTES {
            tracing::error!(path = %path.display(), "refused/ holds {LIMIT_BYTES} bytes: not kept; empty the folder to keep more");
            return Ok(false);
        }
        files::create_directory(&self.directory)?;
        *total += size_bytes;
        Ok(true)
    }
}
