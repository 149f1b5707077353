//! What all agents do with their rows: batches, a bounded disk spool, delivery over HTTP or Kafka.
//!
//! ```text
//!  rows ──> Draft ──push──> spool/ (durable, with the file position) ──claim──> Delivery ──POST──> server
//!                             │ over the cap: oldest out                         │ taken: checkpoint, then the file goes
//!                             └──> counted                                       └ refused: refused/, counted
//! ```

mod batch_file;
mod checkpoint;
mod delivery;
mod door;
mod files;
mod kafka;
mod options;
mod position;
mod refused;
mod spool;

pub(crate) use delivery::{Delivery, Drain, off_thread};
pub use options::{RetryOptions, ShippingOptions, WhenFull, default_state_dir};
pub(crate) use position::{FileId, HEAD_SIZE_BYTES, Head, Place, Position};
pub(crate) use spool::{Draft, Spool};

/// The NDJSON of a batch file.
#[cfg(test)]
pub(crate) fn body_of(file: &[u8]) -> Vec<u8> {
    zstd::decode_all(batch_file::decode(file).unwrap().1).unwrap()
}
