//! The Postgres door: SQL over Postgres's wire protocol (version 3.0), for psql, JDBC, Grafana and BI tools.
//!
//! A connection is a session of one tenant: it logs in with an API key as its password, has settings, prepared statements, portals and cursors, and
//! sees the tables, `pg_catalog` and `information_schema`. Each statement is a query of the engine like any other: it passes the same guard, waits for
//! its turn, and has the same limits of time and memory. Rows are sent as they come, and the query waits for a client that reads slowly.
//!
//! Invariants:
//! - no statement runs that the guard has not let through;
//! - a connection holds at most one message of the client and [`wire::SEND_AT_BYTES`] of rows, besides what the query itself may use;
//! - what runs ends with its connection, at a cancel request, and at the time limit, whatever the client does.

mod as_text;
mod cancel;
mod casts;
pub(crate) mod catalog;
mod command;
mod connection;
mod copy;
mod decode;
mod encode;
mod error;
mod explain;
mod in_zone;
mod interval;
mod login;
pub(crate) mod names;
mod portal;
mod records;
mod rewrite;
mod server;
mod settings;
mod statement;
mod types;
mod wire;

pub use server::{Acceptor, PostgresServer, PostgresSettings};
