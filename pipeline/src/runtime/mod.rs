//! The task runtime: what makes processor state a function of the log.
//!
//! A task owns one input partition. It reads records, hands each to a pure [`Processor`], and appends what comes out
//! to output topics. The parts, from the inside out:
//!
//! - [`Processor`]: a `match` over [`Input`]; no clock, no randomness, no I/O. Time is an argument ([`At`]).
//! - [`TaskCore`]: decodes a record, keeps the partition's watermark, steps the processor. Pure as well, so that a
//!   simulation can drive it record by record.
//! - [`TaskDriver`]: the only part that waits. Epoch, restore, replay, append, commit, snapshot, stop.
//! - [`Tasks`]: many drivers and their status, started and stopped as partitions come and go; keeps those of one input topic at about the same append time.
//!
//! Invariants:
//! - Outputs are a function of the input records alone, to the byte: fetches are processed record by record, so
//!   neither fetch boundaries nor restarts can be seen in them.
//! - Every effect carries (task, epoch, position, index); the log refuses what it already has ([`Guard::Effects`](crate::log::Guard)).
//! - The committed input offset C advances only after all outputs caused below it are durable. On replay, effects
//!   below C are not sent at all.
//! - Large state is made of chunks ([`Chunk`]): where memory is short they are put aside ([`Scratch`]), and a snapshot writes only those that are new.
//! - A snapshot at S is written only once S <= C. The newest is kept with its predecessor, so that one corrupt file costs
//!   a longer replay and nothing else. With no usable snapshot the task replays from the log's start.
//! - Which processor steps a record follows from the log as well ([`Versions`], [`crate::definitions`]): a task switches at exactly the offset that the
//!   log names, handing its state over in the form of a snapshot. A snapshot says which version wrote it.
//! - An error or panic in a processor stops that task before anything of the failing fetch is written, and shows in its status.
//! - A task may read a table, at a cut that its input names ([`History`]).
//!
//! Formats are drawn in `docs/formats/tasks.md`.

mod alignment;
mod append;
mod chunks;
mod clock_records;
mod core;
mod driver;
mod effects;
mod error;
mod history;
mod input;
mod processor;
mod retry;
pub mod snapshot;
mod stage;
mod status;
mod tasks;
mod versions;
pub mod watermark;

pub use self::core::TaskCore;
pub(crate) use append::appends;
pub use chunks::{Aside, Chunk, ChunkId, Scratch, ScratchDirectory};
pub use clock_records::ClockSchedule;
pub use driver::{DriverConfig, TaskDriver};
pub use effects::{Effect, Effects};
pub use error::RuntimeError;
pub use history::{
    History, HistoryError, MAX_SLICE_ROWS, SeriesRequest, SeriesSelector, Slice, SliceReader, SliceRequest,
};
pub use input::InputKind;
pub use processor::{At, Input, Processor, ProcessorError, Rows};
pub(crate) use retry::{Retried, retry};
pub use stage::StageRows;
pub use status::{Snapshots, TaskState, TaskStatus};
pub use tasks::{ProcessorFactory, TaskRun, TaskSpec, Tasks};
pub use versions::{OneVersion, RecordedVersions, VersionedFactory, Versions};

#[cfg(test)]
mod switch_tests;
#[cfg(test)]
mod tests;

pub use crate::log::TASKS_GROUP;
/// Consumer group that holds the offset of the oldest snapshot a task keeps. Retention stays behind it, so that the
/// replay from that snapshot always finds its records.
pub const SNAPSHOTS_GROUP: &str = "__highwater.snapshots";
