//! State that is put aside, in files of a directory of its own.
//!
//! Chunks are appended to a file until it holds [`FILE_BYTES`]; a file goes when the last chunk in it does. Nothing is synced, and the directory is emptied when it
//! is opened: what it holds is also in the log.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Aside, Scratch};

/// A file that holds this much gets no more chunks. Small, as a file stays while one of its chunks does.
const FILE_BYTES: u64 = 4 << 20;
const SUFFIX: &str = ".aside";

/// A directory for state that is put aside.
#[derive(Debug)]
pub struct ScratchDirectory {
    directory: PathBuf,
    memory_bytes: usize,
    limit_bytes: u64,
    used: Arc<AtomicU64>,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    next: u64,
    file: Option<Arc<Opened>>,
    size_bytes: u64,
}

#[derive(Debug)]
struct Opened {
    file: File,
    path: PathBuf,
    used: Arc<AtomicU64>,
    /// What it has been charged with.
    size_bytes: AtomicU64,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let size = self.size_bytes.load(Ordering::Relaxed);
        let left = self.used.fetch_sub(size, Ordering::Relaxed) - size;
        metrics::gauge!("highwater_scratch_size_bytes").set(left as f64);
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a file of state that was put aside is not removed");
        }
    }
}

#[derive(Debug)]
struct Part {
    file: Arc<Opened>,
    position: u64,
    size_bytes: usize,
}

impl ScratchDirectory {
    /// Opens this directory, making it where it is not there; what an earlier process left in it goes. Each task may keep `memory_bytes` in memory, and all
    /// together may put `limit_bytes` aside.
    pub fn open(directory: &Path, memory_bytes: usize, limit_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        let (directory, used) = (directory.to_path_buf(), Arc::default());
        Ok(Self { directory, memory_bytes, limit_bytes, used, current: Mutex::default() })
    }

    /// What is put aside now, in bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn opened(&self, current: &mut Current) -> io::Result<Arc<Opened>> {
        if let Some(file) = current.file.as_ref().filter(|_| current.size_bytes < FILE_BYTES) {
            return Ok(Arc::clone(file));
        }
        let path = self.directory.join(format!("{}{SUFFIX}", current.next));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let file = Arc::new(Opened { file, path, used: Arc::clone(&self.used), size_bytes: AtomicU64::new(0) });
        current.next += 1;
        (current.file, current.size_bytes) = (Some(Arc::clone(&file)), 0);
        Ok(file)
    }
}

impl Scratch for ScratchDirectory {
    fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn put(&self, bytes: &Bytes) -> io::Result<Arc<dyn Aside>> {
        let size = bytes.len() as u64;
        let mut current = self.current.lock();
        let used = self.used.load(Ordering::Relaxed);
        if used + size > self.limit_bytes {
            let reason = format!(
                "{used} bytes of state are put aside in {}, and {} is the most (state.disk_limit_bytes)",
                self.directory.display(),
                self.limit_bytes
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
        }
        let file = self.opened(&mut current)?;
        let position = current.size_bytes;
        // Where it fails half way, the next one is written over it.
        file.file.write_all_at(bytes, position)?;
        current.size_bytes += size;
        file.size_bytes.fetch_add(size, Ordering::Relaxed);
        self.used.fetch_add(size, Ordering::Relaxed);
        metrics::gauge!("highwater_scratch_size_bytes").set((used + size) as f64);
        Ok(Arc::new(Part { file, position, size_bytes: bytes.len() }))
    }
}

impl Aside for Part {
    fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.size_bytes];
        self.file.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes.into())
    }
}
