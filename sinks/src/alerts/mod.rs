//! Alerts on their way out: the stream of transitions, and the newest state of each.
//!
//! Topic `alerts` holds one JSON object per transition, keyed by the alert's fingerprint. The topic is the subscription; what is
//! here only reads it.

pub mod current;
pub mod notify;
pub mod stream;

#[cfg(test)]
mod tests;

pub use current::{AlertRecord, current_alerts};
pub use stream::router;

/// The topic of alert transitions.
pub const TOPIC: &str = highwater_pipeline::data::alerts::TOPIC;
