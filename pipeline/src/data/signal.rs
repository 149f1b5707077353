//! What kinds of telemetry have in common: rows go into columns ([`Columnar`]), and JSON entries become scratch rows on their way there ([`Signal`]).

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::json::{Limits, Reader, SyntaxError};
use super::refusal::Refusal;

/// A kind of telemetry with a topic of its own, whose rows go to records column by column.
pub(crate) trait Columnar: Send + Sync + 'static {
    /// The topic; also the name of the member that wraps JSON entries.
    const TOPIC: &'static str;
    /// Rows on their way to one record.
    type Columns: Default + Send;

    /// About how large the columns are, in bytes.
    fn size_bytes(columns: &Self::Columns) -> usize;
    /// The rows so far, in the wire schema, all of this tenant. The columns are empty afterwards.
    fn finish(columns: &mut Self::Columns, tenant: &str) -> Result<RecordBatch, ArrowError>;
}

/// Telemetry that comes as JSON entries, too.
///
/// A scratch row borrows from the body it was read from and is used for one entry after the other; nothing is copied before its
/// partition is known, and then straight into that partition's columns.
pub(crate) trait Signal: Columnar {
    /// One entry's values.
    type Row<'a>: Default;

    /// Makes the row ready for the next entry.
    fn clear(row: &mut Self::Row<'_>);
    /// Reads one entry, which is known to start with `{`. A wrong field refuses the row and the rest is still read.
    fn parse<'a>(reader: &mut Reader<'a>, limits: &Limits, row: &mut Self::Row<'a>) -> Result<(), SyntaxError>;
    /// Marks the row as refused; the first reason stays.
    fn refuse(row: &mut Self::Row<'_>, refusal: Refusal);
    /// Takes the reason why the row is refused, if it is.
    fn take_refusal(row: &mut Self::Row<'_>) -> Option<Refusal>;
    /// Appends the bytes that choose the row's partition to `key`, behind the tenant and a NUL.
    fn partition_key(row: &Self::Row<'_>, key: &mut Vec<u8>);
    /// Adds a row.
    fn append(columns: &mut Self::Columns, row: &Self::Row<'_>);
}
