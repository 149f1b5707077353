//! The records of the config topic, as JSON.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use twox_hash::XxHash64;

use super::DefinitionsError;
use crate::data::content_type;
use crate::log::{Record, StoredRecord};

/// The newest format that this version reads, and the one that it writes. Bumped when an older reader would apply a record wrongly; a new field that
/// it may pass over does not need that.
pub const FORMAT: u64 = 1;

/// A record of the config topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ConfigRecord {
    /// A version of the definitions. Its number is not in it: it is the count of such records up to here, those that repeat the one before left out.
    Definitions {
        /// [`content_hash`] of the definitions, 16 hex digits.
        hash: String,
        /// The definitions.
        definitions: Value,
    },
    /// From where a version applies.
    Start {
        /// The version.
        version: u32,
        /// `topic/partition` to the first offset to which it applies.
        from: BTreeMap<String, i64>,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    format: u64,
    #[serde(flatten)]
    record: &'a ConfigRecord,
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

/// Why a record says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It is of a newer format.
    Newer(u64),
    /// It is not one of ours; the text says why.
    Foreign(String),
}

impl ConfigRecord {
    /// The record of these definitions.
    pub fn definitions(definitions: &Value) -> Self {
        Self::Definitions { hash: content_hash(definitions), definitions: definitions.clone() }
    }

    /// The record as it is appended.
    pub fn to_record(&self) -> Result<Record, DefinitionsError> {
        let json = serde_json::to_vec(&Written { format: FORMAT, record: self }).map_err(DefinitionsError::Json)?;
        Ok(Record {
            value: Some(Bytes::from(json)),
            headers: vec![content_type::header(content_type::JSON)],
            ..Record::default()
        })
    }

    /// Reads it back. Fields it does not know are passed over.
    pub fn parse(record: &StoredRecord) -> Result<Self, Unreadable> {
        let foreign = |error: serde_json::Error| Unreadable::Foreign(error.to_string());
        let value = record.value.as_deref().unwrap_or_default();
        let Format { format } = serde_json::from_slice(value).map_err(foreign)?;
        if format > FORMAT {
            return Err(Unreadable::Newer(format));
        }
        serde_json::from_slice(value).map_err(foreign)
    }
}

/// xxh64 (seed 0) of the definitions as canonical JSON (keys sorted, no space), as 16 hex digits.
pub fn content_hash(definitions: &Value) -> String {
    let mut text = String::new();
    write_canonical(definitions, &mut text);
    format!("{:016x}", XxHash64::oneshot(0, text.as_bytes()))
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_scalar(&Value::from(key.as_str()), out);
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(value, out);
            }
            out.push(']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &Value, out: &mut String) {
    out.push_str(&value.to_string());
}
