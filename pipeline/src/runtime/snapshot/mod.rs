//! Snapshots: the state of a task at an offset, as bytes.
//!
//! ```text
//! offset  size
//!      0     8  magic "HWSNAP" 0x00, version 0x01
//!      8     8  i64  S: the next input offset to read
//!     16     4  i32  epoch of the run that wrote it
//!     20     4  u32  number of sections
//!     24        sections, each:
//!                 u16  length of the name   name, UTF-8
//!                 u64  definition: hash of the configuration that gives the bytes their meaning
//!                 u64  length of the body   body
//!   last     8  u64  xxh64 (seed 0) of everything before
//! ```
//! All integers are little-endian. The section `runtime` is the runtime's own; the others belong to the processor.
//! A section whose definition is not the current one is left out on restore, so an edited rollup starts anew while its neighbours go on.
//!
//! The bytes are trusted only behind the checksum, and even so every length is checked against what is there.

mod store;
mod writer;

pub use store::{SnapshotName, SnapshotStore};
pub use writer::{Section, StateReader, StateWriter};

#[cfg(test)]
mod tests;
