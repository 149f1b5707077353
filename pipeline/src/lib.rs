//! What flows through Highwater and what moves it: the data model (Arrow schemas), sources, the log client, the task
//! runtime, watermarks, snapshots and agents. Knows the broker; knows no processor, sink or query engine.

pub mod access;
pub mod agents;
pub mod data;
pub mod definitions;
pub mod functions;
pub mod ledger;
pub mod log;
pub mod runtime;
pub mod server;
pub mod sources;
pub mod storage;
pub mod tables;
