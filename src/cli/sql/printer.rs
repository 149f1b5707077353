//! Rows onto stdout or into a file.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use highwater_sql::output::{Encoder, Format};

use super::expanded;
use crate::error::Error;

/// Where rows go.
pub(super) enum Output {
    Stdout,
    File(File),
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self::Stdout
    }

    pub(super) fn file(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|error| Error::failed(&format!("opening {}", path.display()), error))?;
        Ok(Self::File(file))
    }

    /// Writes. A closed pipe (`| head`) is the reader's choice: nothing more is wanted, and that is no failure.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = match self {
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Self::File(file) => file.write_all(bytes),
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            written => written.map_err(|error| Error::failed("printing the answer", error)),
        }
    }
}

/// Prints one answer.
pub(super) struct Printer {
    kind: Kind,
    rows: usize,
}

enum Kind {
    Encoded(Box<Encoder>),
    /// A line per value.
    Expanded,
}

impl Printer {
    pub(super) fn new(format: Format, is_expanded: bool, schema: SchemaRef) -> Result<Self, Error> {
        let kind = match is_expanded && format == Format::Table {
            true => Kind::Expanded,
            false => Kind::Encoded(Box::new(Encoder::new(format, schema).map_err(not_printable)?)),
        };
        Ok(Self { kind, rows: 0 })
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<(), Error> {
        let bytes = match &mut self.kind {
            Kind::Encoded(encoder) => encoder.batch(batch).map_err(not_printable)?,
            Kind::Expanded => expanded::write(batch, self.rows).map_err(not_printable)?.into_bytes(),
        };
        self.rows += batch.num_rows();
        out.put(&bytes)
    }

    /// Ends it. Gives the number of rows.
    pub(super) fn finish(self, out: &mut Output) -> Result<usize, Error> {
        if let Kind::Encoded(encoder) = self.kind {
            out.put(&encoder.finish().map_err(not_printable)?)?;
        }
        Ok(self.rows)
    }
}

fn not_printable(error: arrow::error::ArrowError) -> Error {
    Error::failed("printing the answer", error)
}
