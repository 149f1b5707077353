//! SQL over history and the live tail.
//!
//! An [`Engine`] answers queries over the tables that the sinks write (Delta on Parquet) together with the rows that are acknowledged
//! but not yet in them, as one snapshot. [`http::router`] is its HTTP door, [`output`] writes results for it and for the command line.
//!
//! Invariants:
//! - a query sees each row once: files up to an offset, the log from exactly there ([`TableCut`] says where);
//! - a row acknowledged before the query began is in it;
//! - a query sees its own tenant's rows only: the tables are made per query, for one tenant;
//! - nothing a query says writes anything, or reads anything but the tables;
//! - a query ends: by itself, at the timeout, at the memory limit, or when nobody reads it any more.
//!
//! Each query runs on threads of its own, which give way to those of ingest, so that a runaway one takes little from ingest and from other queries. `docs/sql.md` is the user's view.

mod as_of;
mod catalog;
mod config;
mod delta;
mod engine;
mod error;
mod expressions;
mod guard;
pub mod http;
mod json;
mod json_inside;
pub mod output;
mod parameters;
pub mod postgres;
mod priority;
pub mod prometheus;
mod promoted;
mod query;
mod scan;
mod stats;
mod store;
mod table;
mod tail;
mod times;
mod view;
mod views;

pub use config::SqlConfig;
pub use engine::{Engine, QueryOptions};
pub use error::{Place, SqlError};
pub use parameters::Parameter;
pub use query::{QueryInfo, QueryResult};
pub use table::{PartitionCut, TableCut};
pub use view::View;
