//! Stateful processors: rollups (windows in SQL) and rules (alerts in SQL).
//!
//! ```text
//!  logs/p, metrics/p          __highwater.partials/q          __highwater.rules/r
//!  ┌──────────────┐ partials, ┌──────────────┐ closed windows ┌──────────────┐
//!  │ rollups:     │ progress  │ rollups:     │ of rollups that│ rules: SQL   │ transitions
//!  │ Partials     ├──────────►│ Fold         ├───────────────►│ and `for`    ├────────────► alerts
//!  └──────┬───────┘           └──────┬───────┘ a rule reads   └──────────────┘
//!         ▼ dead-letter              ▼ rollup.<name>/q
//! ```
//!
//! A rollup that is new asks for the stored rows below its first record (`__highwater.backfill`), and the task behind that topic sends their partials.
//!
//! [`topology`] makes the tasks out of a configuration, [`tasks`] out of the versions of it in the log ([`definitions`]);
//! `highwater_pipeline::runtime::Tasks` runs them. Everything in here is pure:
//! a processor sees records and nothing else.

pub mod backtest;
mod config;
pub mod definitions;
mod error;
mod frames;
mod planning;
pub mod rollups;
pub mod rules;
mod topology;

pub use config::ProcessorsConfig;
pub use error::ProcessorsError;
pub use topology::{BACKFILL_TOPIC, PARTIALS_TOPIC, RULES_TOPIC, Topology, input_topics, tasks, topology};
