//! The agent that ships this host's metrics.
//!
//! | name | kind | labels besides `host`, `service` |
//! |---|---|---|
//! | `system.cpu.usage_percent` | gauge | `cpu`: `all`, and with `per_core` each core's number |
//! | `system.cpu.seconds_total` | counter | `cpu`, `mode` |
//! | `system.cpu.cores`, `system.load_1m`, `_5m`, `_15m`, `system.uptime_seconds` | gauge | |
//! | `system.memory.{total,used,available,free}_bytes`, `.used_percent` | gauge | |
//! | `system.swap.{total,used,free}_bytes`, `.used_percent` | gauge | |
//! | `system.disk.{total,available,used}_bytes`, `.used_percent` | gauge | `mount`, `device`, `filesystem` |
//! | `system.disk.{read,written}_bytes_total` | counter | `device` |
//! | `system.disk.{read,written}_bytes_per_second` | gauge | `device` |
//! | `system.network.{received,transmitted}_{bytes,packets,errors}_total` | counter | `interface` |
//! | `system.network.{received,transmitted}_{bytes,packets}_per_second` | gauge | `interface` |
//!
//! Shares and rates are of the time since the last collection; the first has none.

mod collector;
mod cpu;
mod disk;
mod memory;
mod network;
mod options;
mod rates;
mod run;
mod sample;
#[cfg(test)]
mod tests;

pub use collector::{Collection, Collector};
pub use options::{CollectOptions, MetricsOptions};
pub use run::run;
