//! The fields of a log entry that have a column, and the names they come under.

/// A column that a field of an entry fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Message,
    Level,
    SeverityNumber,
    Timestamp,
    ObservedTimestamp,
    Service,
    Host,
    TraceId,
    SpanId,
    RequestId,
    CorrelationId,
    UserId,
}

impl Field {
    /// How many there are.
    pub(crate) const COUNT: usize = 12;
}

/// What a key of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A field with a column. Of several names for one field, the lowest rank wins and the others become attributes; rank 0 is the
    /// field's own name.
    Field(Field, u8),
    /// An object whose members are attributes.
    Attributes,
    /// An attribute.
    Other,
}

/// What this key is. The table in `docs/formats/records.md` lists the same names.
pub(crate) fn key(name: &str) -> Key {
    use Field::*;
    let (field, rank) = match name {
        "message" => (Message, 0),
        "msg" => (Message, 1),
        "body" => (Message, 2),
        "log" => (Message, 3),
        "level" => (Level, 0),
        "severity" => (Level, 1),
        "severity_text" => (Level, 2),
        "severityText" => (Level, 3),
        "lvl" => (Level, 4),
        "loglevel" => (Level, 5),
        "log_level" => (Level, 6),
        "log.level" => (Level, 7),
        "levelname" => (Level, 8),
        "severity_number" => (SeverityNumber, 0),
        "severityNumber" => (SeverityNumber, 1),
        "timestamp" => (Timestamp, 0),
        "@timestamp" => (Timestamp, 1),
        "time" => (Timestamp, 2),
        "ts" => (Timestamp, 3),
        "observed_timestamp" => (ObservedTimestamp, 0),
        "observedTimestamp" => (ObservedTimestamp, 1),
        "service" => (Service, 0),
        "service.name" => (Service, 1),
        "service_name" => (Service, 2),
        "serviceName" => (Service, 3),
        "app" => (Service, 4),
        "application" => (Service, 5),
        "host" => (Host, 0),
        "hostname" => (Host, 1),
        "host.name" => (Host, 2),
        "host_name" => (Host, 3),
        "trace_id" => (TraceId, 0),
        "traceId" => (TraceId, 1),
        "trace.id" => (TraceId, 2),
        "traceID" => (TraceId, 3),
        "span_id" => (SpanId, 0),
        "spanId" => (SpanId, 1),
        "span.id" => (SpanId, 2),
        "spanID" => (SpanId, 3),
        "request_id" => (RequestId, 0),
        "requestId" => (RequestId, 1),
        "correlation_id" => (CorrelationId, 0),
        "correlationId" => (CorrelationId, 1),
        "user_id" => (UserId, 0),
        "userId" => (UserId, 1),
        "labels" | "attributes" => return Key::Attributes,
        _ => return Key::Other,
    };
    Key::Field(field, rank)
}
