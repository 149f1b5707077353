//! Highwater: a streaming processor for observability data built on an embedded log broker.
//!
//! This binary is wiring: the command line ([`cli`]), the config file ([`config`]) and the server that puts the rooms together
//! ([`serve`]). What the rooms do lives in their crates; arrows between those point one way.

mod cli;
mod client;
mod config;
mod error;
mod logging;
mod serve;

use std::process::ExitCode;

use clap::Parser;

/// Many threads allocate and free Arrow buffers of all sizes; this allocator does it for less CPU (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("highwater: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
