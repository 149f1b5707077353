//! Snapshots: the state of a task at an offset, as bytes.
//!
//! ```text
//! offset  size
//!      0     8  magic "HWSNAP" 0x00, version 0x02
//!      8     8  i64  S: the next input offset to read
//!     16     4  i32  epoch of the run that wrote it
//!     20     4  u32  number of sections
//!     24        sections, each:
//!                 u16  length of the name   name, UTF-8
//!                 u64  definition: hash of the configuration that gives the bytes their meaning
//!                 u64  length of the body   body
//!                 u32  number of its chunks   for each: u32  its index in the list of chunks
//!               u32  number of packs, each:
//!                 i64, i32  offset and epoch of the snapshot it was written for    u32  which of that one's
//!                 u64  its size
//!               u32  number of chunks, each:
//!                 16   XXH3-128 of its bytes
//!                 u64  its length
//!                 u8   number of places, each: u32  index of the pack   u64  where it begins there
//!                 u8   1 where its bytes follow, else 0   bytes
//!   last     8  u64  xxh64 (seed 0) of everything before
//! ```
//! All integers are little-endian. The section `runtime` is the runtime's own; the others belong to the processor.
//! A section whose definition is not the current one is left out on restore, so an edited rollup starts anew while its neighbours go on.
//! Version 1 had neither chunks nor packs, and is still read.
//!
//! *Chunks* ([`super::Chunk`]) are state that does not change. A snapshot writes those that are new into *packs*, files beside it, and names where the others
//! lie. So that one damaged file costs no more than the newest snapshot, a chunk is written twice: by the first snapshot that has it, and by the next one. See [`SnapshotStore`].
//!
//! The bytes are trusted only behind the checksum, and even so every length is checked against what is there.

mod file;
mod packs;
mod store;
mod writer;

pub(super) use packs::INLINE_BYTES;
pub use store::{SnapshotName, SnapshotStore};
pub use writer::{Section, StateReader, StateWriter};

#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;
