//! Query results as bytes: for the HTTP door, which streams, and for the command line.
//!
//! | format | |
//! |---|---|
//! | `table` | aligned text; held back until the end, since a column is as wide as its widest value |
//! | `json` | one array of row objects |
//! | `ndjson` | one row object per line |
//! | `csv` | a header line, then a line per row; NULL is empty |
//! | `arrow` | an Arrow IPC stream |
//!
//! How values read in the text formats:
//! - timestamps are RFC 3339 (`2026-01-02T03:04:05.678Z`), with as many digits of the fraction as they need: 0, 3, 6 or 9;
//! - integers are JSON numbers, whatever their size;
//! - NaN and the infinities, which JSON does not have, are `null` in JSON, and `NaN`, `inf`, `-inf` in CSV and tables;
//! - maps are JSON objects, lists JSON arrays; in CSV and tables they are that JSON as text;
//! - binary is lower-case hexadecimal.

mod csv;
mod flatten;
pub(crate) use flatten::json_text;
mod ipc;
mod json;
mod table;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Aligned text.
    Table,
    /// An array of row objects.
    #[default]
    Json,
    /// A row object per line.
    Ndjson,
    /// Comma-separated values with a header line.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// Its name, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// A name that is no format's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: choose table, json, ndjson, csv or arrow")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Table, Self::Json, Self::Ndjson, Self::Csv, Self::Arrow]
            .into_iter()
            .find(|f| f.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownFormat(name.to_string()))
    }
}

/// Writes one result: [`Encoder::batch`] for each batch, then [`Encoder::finish`]. The bytes of all calls, one after the other, are
/// the document.
pub struct Encoder(Kind);

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = match &self.0 {
            Kind::Table(_) => "table",
            Kind::Json(_) => "json",
            Kind::Csv(_) => "csv",
            Kind::Arrow(_) => "arrow",
        };
        write!(f, "Encoder({format})")
    }
}

enum Kind {
    Table(table::TableEncoder),
    Json(json::JsonEncoder),
    Csv(csv::CsvEncoder),
    Arrow(Box<ipc::IpcEncoder>),
}

impl Encoder {
    /// An encoder for batches of this schema.
    ///
    /// # Errors
    /// Where the format cannot hold a column's type.
    pub fn new(format: Format, schema: SchemaRef) -> Result<Self, ArrowError> {
        Ok(Self(match format {
            Format::Table => Kind::Table(table::TableEncoder::new(&schema)),
            Format::Json => Kind::Json(json::JsonEncoder::new(&schema, json::Frame::Array)),
            Format::Ndjson => Kind::Json(json::JsonEncoder::new(&schema, json::Frame::Lines)),
            Format::Csv => Kind::Csv(csv::CsvEncoder::new(&schema)),
            Format::Arrow => Kind::Arrow(Box::new(ipc::IpcEncoder::new(&schema)?)),
        }))
    }

    /// The bytes that this batch adds.
    ///
    /// # Errors
    /// Where a value cannot be written.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        match &mut self.0 {
            Kind::Table(e) => e.batch(batch),
            Kind::Json(e) => e.batch(batch),
            Kind::Csv(e) => e.batch(batch),
            Kind::Arrow(e) => e.batch(batch),
        }
    }

    /// The bytes that end the document. An empty result is a whole document too: `[]`, a header line, a schema.
    ///
    /// # Errors
    /// Where a value cannot be written.
    pub fn finish(self) -> Result<Vec<u8>, ArrowError> {
        match self.0 {
            Kind::Table(e) => e.finish(),
            Kind::Json(e) => Ok(e.finish()),
            Kind::Csv(e) => e.finish(),
            Kind::Arrow(e) => e.finish(),
        }
    }
}
