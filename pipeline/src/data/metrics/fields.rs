//! The fields of a metric entry, and the names they come under.

/// What a key of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// The metric's name.
    Name,
    /// The sample.
    Value,
    /// Counter, gauge, histogram or summary.
    Kind,
    /// When it was sampled.
    Timestamp,
    /// Cumulative or delta, as received.
    Temporality,
    /// An object whose members are labels.
    Labels,
    /// A label.
    Other,
}

/// What this key is. The table in `docs/formats/records.md` lists the same names.
pub(crate) fn key(name: &str) -> Key {
    match name {
        "name" | "metric" | "__name__" => Key::Name,
        "value" => Key::Value,
        "type" | "kind" => Key::Kind,
        "timestamp" | "@timestamp" | "time" | "ts" => Key::Timestamp,
        "temporality" => Key::Temporality,
        "labels" | "tags" | "attributes" => Key::Labels,
        _ => Key::Other,
    }
}

/// The kind of a metric, case aside. `Some(None)` for a metric that says it has none.
pub(crate) fn kind(text: &str) -> Option<Option<&'static str>> {
    const KINDS: [&str; 4] = ["counter", "gauge", "histogram", "summary"];
    if text.is_empty() || ["unknown", "untyped"].iter().any(|none| text.eq_ignore_ascii_case(none)) {
        return Some(None);
    }
    KINDS.into_iter().find(|kind| text.eq_ignore_ascii_case(kind)).map(Some)
}

/// True for a name that a series may have: 1 to 255 bytes, a letter, `_` or `:` first, then no white space and no control characters.
/// Prometheus names and OpenTelemetry's dotted names both pass.
pub(crate) fn is_valid_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == ':')
        && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The value of a JSON string in place of a number: JSON has no NaN and no infinities, so they are spelled as Prometheus does.
pub(crate) fn special_value(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+Inf" | "Inf" | "+Infinity" | "Infinity" => Some(f64::INFINITY),
        "-Inf" | "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}
