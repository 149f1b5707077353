//! Sources: the doors through which telemetry enters, and the one path behind them.
//!
//! Every door turns what it received into columns, one set per partition, and hands them to [`Ingest`], which encodes and appends them.
//! Invariants:
//! - a door answers success only after the append is durable;
//! - received = stored + duplicate + rejected (by reason), counted per door; what a sender is not told about was not rejected
//!   (see [`crate::ledger`]);
//! - the tenant comes from the door, never from the body;
//! - a request with an idempotency key leaves its rows in the log once, however often it is sent within 24 h;
//! - memory is bounded: bodies by size before and after decompression, all requests together by a budget.

mod batcher;
pub mod bridge;
mod budget;
mod config;
mod encoding;
mod error;
pub mod http;
mod ingest;
mod key;
mod loki;
pub mod mapped;
mod metadata;
mod meter;
pub mod otlp;
mod probe;
mod remote_write;
mod report;
pub mod scrape;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use axum::Router;

pub use config::IngestConfig;
pub use error::IngestError;
pub use ingest::Ingest;
pub use key::IdempotencyKey;
pub use probe::{Probe, probe, probe_encoding};
pub use report::{EntryError, IngestReport};

/// All doors over HTTP.
pub fn router(ingest: &Arc<Ingest>) -> Router {
    http::router(Arc::clone(ingest))
        .merge(remote_write::router(Arc::clone(ingest)))
        .merge(loki::router(Arc::clone(ingest)))
        .merge(otlp::http::router(Arc::clone(ingest)))
}
