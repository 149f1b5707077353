//! What must be true of every history.
//!
//! - What a reader has seen stays, to the byte, whatever crashes. ([`mirror`])
//! - The outputs of every task are those of a run of its pure core over its input that nothing ever interrupted: byte for byte, in order, each
//!   once, none missing below C; C and epochs never go back. ([`replay`])
//! - What a sender was told is stored is in the log; under a key once, otherwise no more often than it was sent. ([`rows`])
//! - A table holds every record of its topic up to where it stands, once; and it stands nowhere the log does not reach. ([`tables`])

mod mirror;
mod replay;
mod rows;
mod tables;

pub use mirror::{Mirror, Partition};
pub use replay::Replays;
pub use rows::check_rows;
pub use tables::{check_reach, check_tables};
