//! The filesystem seam: everything the broker does to a disk goes through [`Fs`], so that a simulation can lose, tear and refuse.
//!
//! - [`RealFs`]: the machine's.
//! - [`SimFs`]: in memory; forgets what was not synced when it crashes, and fails on request.
//!
//! What callers may rely on: file content is durable after [`FsFile::sync_data`]; a created, renamed or removed name is
//! durable after [`Fs::sync_dir`] of its directory; nothing else is.

use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) mod file;
mod real;
mod sim;
#[cfg(test)]
mod tests;

pub use real::RealFs;
pub use sim::{Crash, SimFs};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; an existing one of that name is emptied.
    Create,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Its name in the directory; names that are not UTF-8 are left out of listings.
    pub name: String,
    /// True where it is a directory.
    pub is_dir: bool,
}

/// A filesystem.
pub trait Fs: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>>;
    /// Creates a directory and its missing parents. Durable once every parent is synced.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, sorted by name.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// True where the path exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of this file, creating it; held until the guard is dropped. `WouldBlock` where another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>>;
}

/// An open file. Positioned calls only: there is no cursor to share.
pub trait FsFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`. On an error some of them may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content and length durable. After an error nobody knows what is; callers must not try again.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the file at least `size_bytes` long with room on the disk behind every byte; new bytes read as zero.
    fn allocate(&self, size_bytes: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, size_bytes: u64) -> io::Result<()>;
    /// Its length in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
}

/// A held lock; dropping it releases it.
pub trait FsLock: Send + Sync {}
