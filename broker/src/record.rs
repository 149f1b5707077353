//! Records: what is appended and what is read back. One record is one Kafka record; batches of them are
//! Kafka RecordBatch v2 on disk (see [`crate::batch`]).

use bytes::Bytes;

/// A header of a record: UTF-8 name, opaque value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub name: String,
    /// The header's value; Kafka allows null, which is `None`.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// A record to append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Kafka's record key; `None` is a null key.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order; names may repeat.
    pub headers: Vec<Header>,
    /// Create time in Unix milliseconds; ignored where the topic forces LogAppendTime.
    pub timestamp_ms: Option<i64>,
}

/// A record as read back from a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset in the partition.
    pub offset: i64,
    /// Append time (LogAppendTime topics) or create time, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The payload.
    pub value: Option<Bytes>,
    /// The headers, guard headers included.
    pub headers: Vec<Header>,
}

impl StoredRecord {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|h| h.name == name).and_then(|h| h.value.as_ref())
    }
}
