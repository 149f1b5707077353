//! How far a file has been read, and which file that was.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

/// How many bytes of a file's head tell it from another with the same inode number.
pub(crate) const HEAD_SIZE_BYTES: usize = 256;

/// A file as the kernel knows it. A rename keeps it; a new file may be given the number of a deleted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct FileId {
    /// Device number.
    pub(crate) device: u64,
    /// Inode number.
    pub(crate) inode: u64,
}

impl FileId {
    /// Of a file's metadata.
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A place in a file: everything before `offset` is in a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The path it was read under (not its identity: it may have been renamed since).
    pub(crate) path: String,
    /// Where.
    #[serde(flatten)]
    pub(crate) place: Place,
}

/// A [`Position`] without the path, of which a full spool holds very many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Which file.
    #[serde(flatten)]
    pub(crate) file: FileId,
    /// The first byte that is in no batch yet: one past the newline of the last line shipped.
    pub(crate) offset: u64,
    /// What its first bytes were.
    pub(crate) head: Head,
}

/// The first bytes of a file as a length and a hash (xxh64, seed 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// How many bytes, at most [`HEAD_SIZE_BYTES`] and never past the offset.
    pub(crate) size_bytes: usize,
    /// Their hash.
    pub xxh64: u64,
}

impl Head {
    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let bytes = bytes.get(..HEAD_SIZE_BYTES).unwrap_or(bytes);
        Self { size_bytes: bytes.len(), xxh64: XxHash64::oneshot(0, bytes) }
    }

    /// Whether `file` begins with these bytes.
    pub(crate) fn matches(&self, file: &File) -> std::io::Result<bool> {
        let mut bytes = vec![0; self.size_bytes.min(HEAD_SIZE_BYTES)];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Self::of(&bytes) == *self),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}
