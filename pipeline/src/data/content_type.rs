//! The `content-type` header of a record: what its value holds.

use highwater_broker::{Header, StoredRecord};

/// Name of the header.
pub const HEADER: &str = "content-type";
/// An Arrow IPC stream, LZ4-compressed: Highwater's own rows.
pub const ARROW: &str = "application/vnd.apache.arrow.stream";
/// One JSON object or an array of them; also what a record without the header is taken for.
pub const JSON: &str = "application/json";
/// One JSON object per line.
pub const NDJSON: &str = "application/x-ndjson";
/// One log line.
pub const TEXT: &str = "text/plain";
/// A control record, see [`super::Control`].
pub const CONTROL: &str = "application/vnd.highwater.control+json";

/// The header with this value.
pub fn header(content_type: &'static str) -> Header {
    Header::new(HEADER, content_type.as_bytes())
}

/// A record's content type without its parameters; [`JSON`] where the header is missing, `None` where it is not UTF-8.
pub fn of(record: &StoredRecord) -> Option<&str> {
    match record.header(HEADER) {
        None => Some(JSON),
        Some(value) => Some(std::str::from_utf8(value).ok()?.split(';').next().unwrap_or_default().trim()),
    }
}
