//! Chunks: the immutable pieces that large state is made of, each known by its content.
//!
//! A processor whose state is large keeps most of it as chunks (compressed Arrow streams, say). What follows from that they never change:
//! - one can be put aside ([`Scratch`]) where memory is short, and read back when it is needed;
//! - a snapshot names the chunks that an earlier one has written, and writes only the others ([`super::snapshot`]).
//!
//! Whether a chunk is in memory or aside changes no effect and no count of bytes: it is the same chunk.

mod scratch;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use twox_hash::XxHash3_128;

pub use scratch::ScratchDirectory;

#[cfg(test)]
mod tests;

/// What a chunk is known by: XXH3-128 (seed 0) of its bytes, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub(super) [u8; 16]);

impl ChunkId {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes).to_le_bytes())
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_le_bytes(self.0))
    }
}

/// Where state is put that memory has no room for. It lasts no longer than the process: what must outlast it is in snapshots.
///
/// Contract: what [`Self::put`] took is read back unchanged until its handle is dropped, and takes no room after that. A refusal (a full disk) leaves what
/// was there before as it was.
pub trait Scratch: Send + Sync + fmt::Debug {
    /// How much state that could be put aside one task may keep in memory, in bytes.
    fn memory_bytes(&self) -> usize;

    /// Puts bytes aside.
    fn put(&self, bytes: &Bytes) -> io::Result<Arc<dyn Aside>>;
}

/// Bytes that were put aside.
pub trait Aside: Send + Sync + fmt::Debug {
    /// Reads them.
    fn read(&self) -> io::Result<Bytes>;
}

/// One immutable piece of state.
#[derive(Debug, Clone)]
pub struct Chunk {
    id: ChunkId,
    size_bytes: usize,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Memory(Bytes),
    Aside(Arc<dyn Aside>),
}

impl Chunk {
    /// Of these bytes, in memory.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { id: ChunkId::of(&bytes), size_bytes: bytes.len(), place: Place::Memory(bytes) }
    }

    /// What it is known by.
    pub fn id(&self) -> ChunkId {
        self.id
    }

    /// How many bytes it has, wherever they are.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// How many bytes of it are in memory.
    pub fn memory_bytes(&self) -> usize {
        match self.place {
            Place::Memory(_) => self.size_bytes,
            Place::Aside(_) => 0,
        }
    }

    /// Its bytes. What was read back from aside is checked.
    pub fn read(&self) -> io::Result<Bytes> {
        let aside = match &self.place {
            Place::Memory(bytes) => return Ok(bytes.clone()),
            Place::Aside(aside) => aside,
        };
        let bytes = aside.read()?;
        if ChunkId::of(&bytes) != self.id {
            let reason = format!("{} bytes of state were put aside, and other bytes came back", self.size_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(bytes)
    }

    /// Puts it aside, unless it is. Where that fails it stays in memory.
    pub fn put_aside(&mut self, scratch: &dyn Scratch) -> io::Result<()> {
        if let Place::Memory(bytes) = &self.place {
            self.place = Place::Aside(scratch.put(bytes)?);
        }
        Ok(())
    }
}

/// The same content.
impl PartialEq for Chunk {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.size_bytes) == (other.id, other.size_bytes)
    }
}

impl Eq for Chunk {}
