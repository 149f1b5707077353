//! Agents: they collect logs and metrics on a host and ship them to a Highwater server over HTTP.
//!
//! - [`logs`] tails files or reads standard input, finds time and level of each line;
//! - [`metrics`] measures this host;
//! - [`shipping`] is what both do with their rows: batches, a disk spool, delivery.
//!
//! Invariants:
//! - a row is sent only from a batch that is durable on disk together with the file position behind it, under an
//!   `Idempotency-Key` that never changes; so a killed agent, a killed server and a lost reply neither lose nor double
//!   it;
//! - batches of one file are sent one after the other, in the order of the file;
//! - nothing is dropped in silence: rows made = shipped + refused + dropped + spooled, see [`Report`];
//! - memory is bounded by the caps on line, batch and read, disk by the cap on the spool.
//!
//! The files of the state directory are drawn in `docs/formats/agent-state.md`.

mod config;
mod error;
pub mod logs;
pub mod metrics;
mod report;
pub mod shipping;
#[cfg(test)]
mod testing;

pub use config::{AgentConfig, Source};
pub use error::AgentError;
pub use report::Report;
pub use shipping::{ShippingOptions, WhenFull, default_state_dir};

/// This host's name, `localhost` where it has none.
pub fn host_name() -> String {
    sysinfo::System::host_name().filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}
