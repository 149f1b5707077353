//! The SQL room over a real log and real tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod as_of;
mod commit;
mod differential;
mod fixture;
mod hostile;
mod http;
mod limits;
mod log;
mod parameters;
mod postgres;
mod prometheus;
mod promoted;
mod pruning;
mod revisions;
mod s3;
mod slt;
mod snapshot;
mod vacuum;
mod view;
mod views;

#[path = "../../../sinks/src/testing/fault_store.rs"]
mod fault_store;
#[path = "../../../tests/s3/proxy.rs"]
mod proxy;
#[path = "../../../tests/s3/server.rs"]
mod server;
