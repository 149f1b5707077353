//! The Kafka door: the embedded log, its groups and its transactions, over the Kafka protocol, for clients none of us wrote.
//!
//! ```text
//! socket ─▶ frame: size against a cap, shape against a table ─▶ kafka-protocol decodes ─▶ handler ─▶ answer as a list of `Bytes`
//! ```
//!
//! What holds here:
//! - **Nothing is allocated for a length nobody checked.** [`frame`] proves every length and count of a request to fit the bytes that are
//!   there, before `kafka-protocol`, which allocates what the wire says, sees it.
//! - **Bounded.** Connections, bytes on their way, time to send a request and time to take an answer all have limits.
//! - **In order.** The requests of one connection are answered in the order they came.
//! - **One connection's trouble is its own.** A malformed frame, a failed login or a panic of a handler closes that connection only.
//!
//! Where to look: `apis` is the table of what is served, `handlers` has one file per API, `server` and `connection` have the sockets,
//! `security` has TLS and logins, [`DoorSettings`] every limit.

mod apis;
mod broker_settings;
mod config_source;
mod connection;
mod context;
mod errors;
mod frame;
mod handlers;
mod meter;
mod readers;
mod refusal;
mod security;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod turns;

pub use server::{DoorError, KafkaServer};
pub use settings::{Advertised, DoorSettings, MayWrite};

pub(in crate::kafka) use context::Context;

/// Reads a frame (without its size) as a connection does, up to the decoded request, and says whether it was one. For fuzzing: whatever the
/// bytes are, this neither panics nor allocates much more than their size.
#[doc(hidden)]
pub fn probe(frame: bytes::Bytes) -> bool {
    apis::probe(&frame).is_ok()
}
