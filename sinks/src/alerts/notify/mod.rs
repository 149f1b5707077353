//! Notifiers: what is in topic `alerts`, told to people and their tools.
//!
//! A receiver is a consumer of the topic with its own progress, in the consumer group `__highwater.notify.<name>`. It takes transitions in their order,
//! tells those that its matchers choose, and tries again until each is taken, with growing pauses; nobody else waits for it. After a crash it
//! begins where it had committed, so a transition may be told twice: every one carries a key that says which it is (fingerprint, state and offset).
//! A new receiver begins with what fires now, not with the history.
//!
//! | kind | protocol |
//! |---|---|
//! | [`alertmanager`] | `POST /api/v2/alerts`, again each `resend_delay` while an alert fires |
//! | [`webhook`] | Alertmanager's webhook payload, version 4 |
//! | [`slack`] | incoming webhooks |
//! | [`pagerduty`] | Events API v2 |
//! | [`email`] | SMTP |

mod alertmanager;
mod channel;
mod config;
mod data;
mod email;
mod error;
mod follow;
mod http;
mod matchers;
mod pagerduty;
mod secret;
mod slack;
mod webhook;

pub use config::NotifyConfig;
pub use error::NotifyError;
pub use follow::{Receiver, receivers, runs};

#[cfg(test)]
mod tests;
