//! Definitions: configuration that changes effects, as records of topic `__highwater.config`.
//!
//! What a task makes of a record depends on the record, on the state before it, and on the rollups and rules that apply. The first two are in the
//! log; this module puts the third there. Every version of the definitions is a record, and so is the offset of each input partition from which it
//! applies, so a replay applies the same definitions at the same offsets as the first run did, and so does every worker.
//!
//! A version takes two records, because offset and definitions cannot be written at one moment:
//!
//! ```text
//! __highwater.config/0:   ... definitions (version 7) ...... start (version 7, from: logs/0 -> 120, ...) ...
//!                                      │                        ▲
//!                                      └── high watermarks ─────┘   read after the first is durable, before the second is written
//! ```
//!
//! Invariants:
//! - **A reader that finds nothing new may go on.** A task reads records of its input, *then* reads the config topic to its end. Definitions it does
//!   not find there are appended later, their offsets are read later still, and so lie behind every record it holds.
//! - **A reader that finds definitions without a start waits**, and writes the start itself where nobody else does. The first start counts.
//! - **What a version has emitted lies behind its `from`** on every topic that another task reads, because nobody applies it before its start is written.
//! - Which version applies at an offset ([`History::version_at`]) is a function of the topic's content alone.
//!
//! The argument in full is in `docs/decisions/0007-configuration-as-records.md`, the format in `docs/formats/config.md`. To this crate the definitions are JSON and no more.

mod error;
mod history;
mod record;
mod store;

pub use error::DefinitionsError;
pub use history::{Folded, History, Version};
pub use record::{ConfigRecord, FORMAT, Unreadable, content_hash};
pub use store::Definitions;

/// The topic: one partition, kept for ever.
pub const TOPIC: &str = "__highwater.config";

#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
mod tests;
