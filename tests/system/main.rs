//! Tests of the whole: the real `highwater` binary as a process, spoken to over HTTP, signals, files and its command
//! line, as its users do. One module per promise; `support` starts, kills and asks.
//!
//! A test that needs something this machine lacks (DuckDB, the loghub files, the right to mount, Kafka, an S3 server) prints `SKIPPED: ...`
//! on stderr, past the test runner's capture, and passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod support;

mod access;
mod agents;
mod alertmanager;
mod alerts_shown;
mod cli;
mod definitions;
mod deployments;
mod door;
mod duckdb;
mod end_to_end;
mod hostile;
mod kill;
mod late;
mod ledger;
mod loghub;
mod mapped;
mod notify;
mod rollup_state;
mod rollups;
mod rules;
mod scraping;
mod second;
mod senders;
mod slos;
mod subscribers;
mod topics;
mod upkeep;
