//! What the tests share: a place with a configuration and data ([`Site`]), the server and other processes run in it, and
//! ways to ask and to wait.

mod agent;
pub mod bombs;
mod command;
pub mod doors;
mod duckdb;
mod load;
mod ports;
mod server;
mod site;
mod small_disk;
mod sse;
mod wait;
pub mod wire;
mod workers;

pub use agent::Agent;
pub use command::{Ran, command, signal};
pub use duckdb::DuckDb;
pub use load::{Load, Progress};
pub use ports::free_address;
pub use server::{Addresses, Reply, Server};
pub use site::Site;
pub use small_disk::SmallDisk;
pub use sse::EventStream;
pub use wait::{DEADLINE, eventually, within};

/// Says on stderr, whatever the test runner captures, that something was not tested, and why.
pub fn skipped(what: &str, why: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "\nSKIPPED: {what}: {why}"));
}
