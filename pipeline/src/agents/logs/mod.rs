//! The agent that ships log files or standard input.
//!
//! ```text
//!  files ──> Follower ─> TailedFile ─┐            Feed: LineSplitter -> Unwrapper -> Joiner -> Filters -> Detector -> EntryWriter -> Batch
//!  stdin ──> StdinSource ────────────┴──> Feed ──> batches ──> spool ──> delivery
//! ```
//! Each row's `message` is the full original line (or joined lines); time and level are found by [`formats`]. A line
//! without a time takes that of the line before it in the same file, where that was read within the last 5 s, else the
//! time it was read.

mod containers;
mod entry;
mod feed;
mod filters;
mod follower;
pub(crate) mod formats;
mod lines;
mod multiline;
mod options;
mod patterns;
mod rotated;
mod run;
mod stdin;
mod tailed;
#[cfg(test)]
mod tests;

pub use containers::Wrapping;
pub use filters::{FilterOptions, Redaction};
pub use options::{Dates, Input, LogsOptions, Multiline, MultilineLimits, StartAt};
pub use run::run;
