//! Where topics go: Delta tables, and subscribers of alerts.
//!
//! - [`tables`]: one writer per table, from its topics to Parquet and Delta, exactly once.
//! - [`verify`]: proof that what the tables hold is what the log held.
//! - [`alerts`]: the stream of alert transitions over HTTP, and the current state of every alert.
//! - [`stream`]: what such streams have in common, and the stream of any table's topic.
//!
//! A sink is a consumer with its own progress. It stalls nobody when it is down, and starts from where it stood.

pub mod alerts;
mod error;
pub mod stream;
pub mod tables;
#[cfg(test)]
mod testing;
pub mod verify;

pub use error::SinkError;
