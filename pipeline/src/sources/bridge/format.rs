//! What a foreign record's value is.

use super::config::{BridgedSignal, Format};
use crate::data::content_type::{self, Content};
use crate::log::StoredRecord;

/// What to read the record as; the error says why nothing fits.
pub(super) fn content(format: Format, signal: BridgedSignal, record: &StoredRecord) -> Result<Content, String> {
    let otlp = match signal {
        BridgedSignal::Logs => Content::OtlpLogs,
        BridgedSignal::Metrics => Content::OtlpMetrics,
        BridgedSignal::Spans => Content::OtlpTraces,
    };
    match format {
        Format::Json => Ok(Content::Json),
        Format::Text => Ok(Content::Text),
        Format::Otlp => Ok(otlp),
        Format::Arrow => Ok(Content::Arrow),
        Format::Auto if record.header(content_type::HEADER).is_some() => {
            let full = content_type::full(record).ok_or("its content-type header is not UTF-8")?;
            Content::parse(full).ok_or_else(|| format!("content type {full:?} is not one that a bridge reads"))
        }
        Format::Auto => Ok(by_first_bytes(record.value.as_deref().unwrap_or_default(), otlp)),
    }
}

/// JSON begins with `{`, or with `[` and `{`; an Arrow stream with four bytes of ones; an OTLP request with the tag of its first
/// field, which is a newline. Anything else is text.
fn by_first_bytes(value: &[u8], otlp: Content) -> Content {
    if value.starts_with(&[0xff; 4]) {
        return Content::Arrow;
    }
    if value.first() == Some(&b'\n') {
        return otlp;
    }
    let text = value.strip_prefix(b"\xef\xbb\xbf").unwrap_or(value).trim_ascii_start();
    match text.first() {
        Some(b'{') => Content::Json,
        // `[INFO] text` is no array.
        Some(b'[') if matches!(text[1..].trim_ascii_start().first(), Some(b'{' | b']')) => Content::Json,
        _ => Content::Text,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::log::Header;

    fn record(content_type: Option<&str>, value: &'static [u8]) -> StoredRecord {
        let header = |text: &str| Header::new(content_type::HEADER, text.as_bytes().to_vec());
        StoredRecord {
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::from_static(value)),
            headers: content_type.map(header).into_iter().collect(),
        }
    }

    #[test]
    fn without_a_header_the_first_bytes_decide() {
        for (value, expected) in [
            (&b"{\"a\":1}"[..], Content::Json),
            (b" [ {\"a\":1}]", Content::Json),
            (b"[]", Content::Json),
            (b"\xef\xbb\xbf{}", Content::Json),
            (b"[INFO] started", Content::Text),
            (b"[2024-01-02 03:04:05] x", Content::Text),
            (b"plain", Content::Text),
            (b"", Content::Text),
            (b"\n\x04\x12\x02\x12\x00", Content::OtlpLogs),
            (b"\xff\xff\xff\xff\x10", Content::Arrow),
        ] {
            let found = content(Format::Auto, BridgedSignal::Logs, &record(None, value));
            assert_eq!(found, Ok(expected), "{value:?}");
        }
    }

    #[test]
    fn a_header_goes_before_the_bytes_and_the_config_before_both() {
        let otlp = record(Some("application/x-protobuf; otlp=metrics"), b"{}");
        assert_eq!(content(Format::Auto, BridgedSignal::Metrics, &otlp), Ok(Content::OtlpMetrics));
        assert_eq!(content(Format::Json, BridgedSignal::Metrics, &otlp), Ok(Content::Json));
        let unknown = content(Format::Auto, BridgedSignal::Logs, &record(Some("image/png"), b"{}"));
        assert_eq!(unknown, Err("content type \"image/png\" is not one that a bridge reads".to_owned()));
        // Protobuf that does not say of what is not guessed at.
        assert!(content(Format::Auto, BridgedSignal::Logs, &record(Some("application/x-protobuf"), b"")).is_err());
    }
}
