//! The SQL room over a real log and real tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod commit;
mod fixture;
mod hostile;
mod http;
mod limits;
mod log;
mod slt;
mod snapshot;
