//! Rows as JSON objects.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};

/// What stands around the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// `[`, commas, `]`.
    Array,
    /// A line each.
    Lines,
}

/// Writes row objects. Every column is in every object, NULLs too. Where two columns have the same name (a join's `SELECT *`), the second
/// is `name_2`, since an object with two keys of one name loses one of them in most readers.
pub(super) struct JsonEncoder {
    frame: Frame,
    /// Per column: its quoted name and the colon.
    keys: Vec<Vec<u8>>,
    fields: Vec<FieldRef>,
    options: EncoderOptions,
    began: bool,
}

impl JsonEncoder {
    pub(super) fn new(schema: &Schema, frame: Frame) -> Self {
        let keys = unique_names(schema)
            .into_iter()
            .map(|name| {
                let mut key = serde_json::Value::String(name).to_string().into_bytes();
                key.push(b':');
                key
            })
            .collect();
        Self {
            frame,
            keys,
            fields: schema.fields().iter().map(Arc::clone).collect(),
            options: EncoderOptions::default().with_explicit_nulls(true),
            began: false,
        }
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let mut out = Vec::with_capacity(batch.num_rows().saturating_mul(64));
        let mut columns: Vec<NullableEncoder<'_>> = self
            .fields
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| make_encoder(field, column, &self.options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            if self.frame == Frame::Array {
                out.extend_from_slice(if self.began { b",\n " } else { b"[" });
                self.began = true;
            }
            out.push(b'{');
            for (i, (key, column)) in self.keys.iter().zip(&mut columns).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(key);
                if column.is_null(row) {
                    out.extend_from_slice(b"null");
                } else {
                    column.encode(row, &mut out);
                }
            }
            out.push(b'}');
            if self.frame == Frame::Lines {
                out.push(b'\n');
            }
        }
        Ok(out)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match (self.frame, self.began) {
            (Frame::Array, true) => b"]\n".to_vec(),
            (Frame::Array, false) => b"[]\n".to_vec(),
            (Frame::Lines, _) => Vec::new(),
        }
    }
}

/// Column names, each once.
fn unique_names(schema: &Schema) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut n = 2;
        while names.contains(&name) {
            name = format!("{}_{n}", field.name());
            n += 1;
        }
        names.push(name);
    }
    names
}
