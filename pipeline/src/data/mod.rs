//! The data model: what a record of a topic holds, and how it becomes rows.
//!
//! On the wire (a record's value) rows are an Arrow IPC stream with payload columns and `tenant`. Behind [`Decoder`] they
//! are a [`RecordBatch`](arrow::record_batch::RecordBatch) of the table schema: payload, `tenant`, and the row's
//! [`identity`]. Foreign producers may write JSON or text instead; they go through the same JSON reader as the HTTP doors.
//!
//! Invariants:
//! - a decoded batch has exactly the schema that [`Decoder::schema`] names, columns in that order;
//! - decoding is a pure function of (partition, record): no clock, no configuration that changes at run time;
//! - no input bytes make it panic, and none make it allocate beyond its caps;
//! - every row of a record is in the batch or among the refused, with its index and a reason.
//!
//! Columns, content types and aliases are listed in `docs/formats/records.md`.

pub mod alerts;
mod columns;
pub mod content_type;
pub mod control;
pub mod dead_letter;
mod decoder;
pub(crate) mod histogram;
pub mod identity;
pub mod ipc;
pub mod json;
pub mod labels;
pub mod level;
pub mod logs;
pub mod metric_metadata;
pub mod metrics;
pub(crate) mod otlp;
pub mod partitioner;
pub(crate) mod protobuf;
mod refusal;
pub(crate) mod signal;
pub mod spans;
mod tenant;
pub mod time;

pub use control::Control;
pub use decoder::{Decoded, Decoder, Refused, RowKind};
pub use refusal::Refusal;
pub use tenant::{FORCED_TENANT, InvalidTenant, Tenant};
