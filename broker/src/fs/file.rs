//! Small helpers over the seam that several formats share.

use std::path::{Path, PathBuf};

use super::{Fs, FsFile, OpenMode};
use crate::error::{BrokerError, is_disk_full};

/// Suffix of a file that is being written and does not count yet.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Puts a whole file in place of another, or of none: after a crash there is the old one or the new one, never a mixture.
pub(crate) fn write_atomically(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), BrokerError> {
    let temporary = with_suffix(path, TEMPORARY_SUFFIX);
    let written = write_synced(fs, &temporary, bytes);
    if let Err(error) = written {
        // The half-written file holds room that a full disk may need; if it cannot be removed now, the next open does.
        if let Err(error) = fs.remove_file(&temporary) {
            tracing::debug!(path = %temporary.display(), %error, "left a temporary file behind");
        }
        return Err(error);
    }
    fs.rename(&temporary, path).map_err(|e| BrokerError::io("rename to", path, &e))?;
    sync_parent(fs, path)
}

fn write_synced(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), BrokerError> {
    let full_or = |action: &'static str, error: std::io::Error| {
        if is_disk_full(&error) {
            BrokerError::DiskFull { path: path.to_owned(), needed_bytes: bytes.len() as u64 }
        } else {
            BrokerError::io(action, path, &error)
        }
    };
    let file = fs.open(path, OpenMode::Create).map_err(|e| full_or("create", e))?;
    file.allocate(bytes.len() as u64).map_err(|e| full_or("reserve room in", e))?;
    file.write_all_at(bytes, 0).map_err(|e| full_or("write", e))?;
    file.sync_data().map_err(|e| BrokerError::io("sync", path, &e))
}

/// Makes the name of a file durable.
pub(crate) fn sync_parent(fs: &dyn Fs, path: &Path) -> Result<(), BrokerError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs.sync_dir(parent).map_err(|e| BrokerError::io("sync the directory", parent, &e))
}

/// Reads a whole file; `None` where there is none.
pub(crate) fn read_all(fs: &dyn Fs, path: &Path) -> Result<Option<Vec<u8>>, BrokerError> {
    let file = match fs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BrokerError::io("open", path, &error)),
    };
    let read = |file: &dyn FsFile| {
        let mut bytes = vec![0; file.size_bytes()? as usize];
        let n = file.read_at(&mut bytes, 0)?;
        bytes.truncate(n);
        Ok(bytes)
    };
    read(file.as_ref()).map(Some).map_err(|e: std::io::Error| BrokerError::io("read", path, &e))
}

/// Creates a directory and its parents down from the first missing one, each durable in its own parent.
pub(crate) fn create_dir_durably(fs: &dyn Fs, path: &Path) -> Result<(), BrokerError> {
    let exists = |p: &Path| fs.exists(p).map_err(|e| BrokerError::io("look for", p, &e));
    let mut missing = Vec::new();
    let mut at = path;
    while !exists(at)? {
        missing.push(at);
        match at.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => at = parent,
            _ => break,
        }
    }
    fs.create_dir_all(path).map_err(|e| BrokerError::io("create the directory", path, &e))?;
    for created in missing.iter().rev() {
        let parent = created.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs.sync_dir(parent).map_err(|e| BrokerError::io("sync the directory", parent, &e))?;
    }
    Ok(())
}

/// The path with a suffix put behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Bytes that [`rewrite`] handles at a time.
const REWRITE_CHUNK_SIZE_BYTES: u64 = 1 << 20;

/// Writes the bytes of a range over themselves, so that the next sync really writes them: after a sync that failed, the page
/// cache may hold bytes that the disk does not and take them for clean.
pub(crate) fn rewrite(file: &dyn FsFile, from: u64, to: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; REWRITE_CHUNK_SIZE_BYTES.min(to.saturating_sub(from)) as usize];
    let mut at = from;
    while at < to {
        let size = buffer.len().min((to - at) as usize);
        let read = file.read_at(&mut buffer[..size], at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
    Ok(())
}

/// Removes what [`write_atomically`] left half done in this directory when it was interrupted.
pub(crate) fn sweep_temporary_files(fs: &dyn Fs, dir: &Path) -> Result<(), BrokerError> {
    for entry in fs.read_dir(dir).map_err(|e| BrokerError::io("list", dir, &e))? {
        if entry.name.ends_with(TEMPORARY_SUFFIX) {
            let path = dir.join(&entry.name);
            fs.remove_file(&path).map_err(|e| BrokerError::io("remove", &path, &e))?;
        }
    }
    Ok(())
}
