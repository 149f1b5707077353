//! Tables: a stateless consumer per table that turns its topics into a Delta table of Parquet, exactly once.
//!
//! ```text
//!  log ──read──► decode ──► Buffer ──every 10 s or 128 MB──► sort, split, encode ──put──► Delta commit ──► group offset
//!   ▲                         │ full: stop reading                                          │
//!   └──────── where the table stands (Delta txn per partition) ◄───────────────────────────┘
//! ```
//!
//! Invariants:
//! - A writer reads and commits only the partitions it was given ([`Tables::assign`]); which those are changes while it runs. Other
//!   processes write the same table, each its own partitions.
//! - A commit of `[a, b)` of a partition goes in only where the table stands at exactly `a` ([`delta::DeltaLog::try_commit`]). Where it stands
//!   elsewhere another owner was at work: what was read of it is dropped, and read again from where the table stands.
//! - Files are durable before the commit that names them, the commit before the group offset that lets the log forget.
//! - The offsets a commit covers include control records and records that gave no row; what the log has lost is covered
//!   too, marked as a gap, loudly.
//! - What is there is kept in shape beside the writers ([`maintenance`]): merged, aged, vacuumed. None of it changes what a reader counts.
//! - Memory is bounded: past the [`MemoryBudget`], tables stop reading; the log waits.
//! - A storage fault is retried for ever, with backoff, and shows in [`TableStatus`]; anything else stops the table's writer, with the reason there.

mod budget;
mod buffer;
mod config;
pub mod delta;
pub mod encode;
mod fetch;
mod flush;
mod handle;
pub mod inspect;
mod look;
pub mod maintenance;
mod metrics;
mod partitions;
pub(crate) mod read;
mod sort;
mod stats;
pub(crate) mod supersede;
mod writer;

#[cfg(test)]
mod tests;

pub use budget::MemoryBudget;
pub use config::{MIN_HISTORY_MS, RetentionRule, TablesConfig};
pub use handle::{TableHandle, TableState, TableStatus, Tables};
pub use writer::{TableWriter, WriterParts};
