//! Log, runtime and tasks in a simulation: time, disk, storage and the order of things come from a seed, so that a failure is had again
//! from its number alone.
//!
//! What runs is the real thing, but for what it stands on:
//!
//! ```text
//! senders ──▶ Ingest ──┐                                    ┌─▶ Table in memory, two writers each
//!                      ▼                                    │
//!            SimLog: pauses, hangs, lost answers ───────────┤
//!                      ▼                                    └─▶ TaskDriver ──▶ processors (rollups, rules)
//!            EmbeddedLog ──▶ Broker, stepped by hand             │
//!                              ▼                                 ▼
//!            SimFs: crashes, tears, fills up             SimStorage: refuses, loses answers
//! ```
//!
//! One seed is one history ([`history`]): what is configured and what happens when is drawn first ([`plan`]); then it is lived on one
//! thread, in time that passes only when nobody has anything to do ([`time`]). What must be true is checked after every event
//! ([`oracle`]). What the histories are worth is shown by the bugs they find ([`bugs`]).
//!
//! `HIGHWATER_SIM_SEED=n` runs one seed, `HIGHWATER_SIM_SEEDS=n` so many; `HIGHWATER_SIM_TRACE=1` prints every step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this is a test")]

pub mod batch;
pub mod bugs;
pub mod coverage;
pub mod history;
pub mod ledger;
pub mod log;
pub mod machine;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod senders;
pub mod setup;
pub mod storage;
pub mod stored;
pub mod table;
pub mod time;
pub mod trace;

pub use bugs::Bug;
pub use history::{Outcome, run, run_guarded};
