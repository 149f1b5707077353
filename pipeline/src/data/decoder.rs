//! From a record to rows.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_broker::StoredRecord;

use super::{Control, alerts, dead_letter, logs, metrics};

/// Whose rows a topic holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKind {
    /// Logs.
    Logs,
    /// Metric samples.
    Metrics,
    /// Alert transitions, JSON.
    Alerts,
    /// Dead letters: opaque bytes.
    DeadLetter,
    /// Arrow rows of this table schema, identity included (rollups).
    Arrow(SchemaRef),
}

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Rows, possibly none, of [`Decoder::schema`]; and the rows that were refused.
    Rows {
        /// The rows with their identity.
        batch: RecordBatch,
        /// Those that are not in it.
        refused: Vec<Refused>,
    },
    /// A control record.
    Control(Control),
    /// Nothing in it could be read.
    Undecodable(Refused),
}

/// Something that could not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its index in the record; -1 for the whole record.
    pub row: i32,
    /// Why, for people.
    pub reason: String,
    /// Its bytes as they were.
    pub bytes: Bytes,
}

/// Turns records of one topic into rows with identity, or control.
#[derive(Debug, Clone)]
pub struct Decoder {
    kind: RowKind,
    schema: SchemaRef,
}

impl Decoder {
    /// A decoder for records of a topic of this kind.
    pub fn new(kind: RowKind) -> Self {
        let schema = match &kind {
            RowKind::Logs => logs::schema(),
            RowKind::Metrics => metrics::schema(),
            RowKind::Alerts => alerts::schema(),
            RowKind::DeadLetter => dead_letter::schema(),
            RowKind::Arrow(schema) => SchemaRef::clone(schema),
        };
        Self { kind, schema }
    }

    /// The schema of every batch it makes: the table's, identity included.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Decodes a record of this partition.
    pub fn decode(&self, partition: i32, record: &StoredRecord) -> Decoded {
        let _ = (partition, &self.kind);
        Decoded::Undecodable(Refused {
            row: -1,
            reason: "not decoded yet".to_owned(),
            bytes: record.value.clone().unwrap_or_default(),
        })
    }
}
