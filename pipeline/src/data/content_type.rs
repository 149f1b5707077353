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
/// An OTLP export request; the parameter `otlp` says of what: `logs`, `metrics` or `traces`.
pub const PROTOBUF: &str = "application/x-protobuf";
/// One log line.
pub const TEXT: &str = "text/plain";
/// A control record, see [`super::Control`].
pub const CONTROL: &str = "application/vnd.highwater.control+json";

/// The header with this value.
pub fn header(content_type: &'static str) -> Header {
    Header::new(HEADER, content_type.as_bytes())
}

/// A record's content type as it is; [`JSON`] where the header is missing, `None` where it is not UTF-8.
pub fn full(record: &StoredRecord) -> Option<&str> {
    record.header(HEADER).map_or(Some(JSON), |value| std::str::from_utf8(value).ok())
}

/// A content type without its parameters.
pub fn name(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// A record's content type without its parameters; [`JSON`] where the header is missing, `None` where it is not UTF-8.
pub fn of(record: &StoredRecord) -> Option<&str> {
    full(record).map(name)
}

/// What a value is to be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An Arrow IPC stream.
    Arrow,
    /// JSON in any of the forms that the HTTP doors take.
    Json,
    /// One JSON object per line.
    JsonLines,
    /// One log line.
    Text,
    /// An OTLP export request of logs.
    OtlpLogs,
    /// An OTLP export request of metrics.
    OtlpMetrics,
    /// An OTLP export request of spans.
    OtlpTraces,
}

impl Content {
    /// What a content type with its parameters says; `None` where it is none of these.
    pub fn parse(content_type: &str) -> Option<Self> {
        let is = |known: &str| name(content_type).eq_ignore_ascii_case(known);
        if is(PROTOBUF) {
            let signal = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
            let signal = signal.filter(|(name, _)| name.trim().eq_ignore_ascii_case("otlp")).map(|(_, value)| value);
            return match signal.map(|value| value.trim().trim_matches('"')).next() {
                Some("logs") => Some(Self::OtlpLogs),
                Some("metrics") => Some(Self::OtlpMetrics),
                Some("traces") => Some(Self::OtlpTraces),
                _ => None,
            };
        }
        let known = [(ARROW, Self::Arrow), (JSON, Self::Json), (NDJSON, Self::JsonLines), (TEXT, Self::Text)];
        known.into_iter().find(|(known, _)| is(known)).map(|(_, content)| content)
    }
}
