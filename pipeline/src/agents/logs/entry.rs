//! Events to the NDJSON entries of `POST /logs`.

use std::collections::BTreeMap;
use std::io::Write;

use super::containers::{Envelope, Stream, attributes_of};
use super::formats::{Found, json::JsonLine};
use super::multiline::Event;

/// Writes the entries of one source.
#[derive(Debug)]
pub(crate) struct EntryWriter {
    service: Vec<u8>,
    host: Vec<u8>,
    /// Members that are the same in every entry, each with a comma before it: the file's path, the user's labels.
    common: Vec<u8>,
}

/// When an event happened and was read, Unix microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) event_us: i64,
    pub(crate) observed_us: i64,
}

impl EntryWriter {
    /// `path` is the file's, if it is one.
    pub(crate) fn new(service: &str, host: &str, path: Option<&str>, labels: &BTreeMap<String, String>) -> Self {
        let mut common = Vec::new();
        if let Some(path) = path {
            member(&mut common, "log.file.path", path);
            attributes_of(path).into_iter().for_each(|(name, value)| member(&mut common, name, value));
        }
        if !labels.is_empty() {
            common.extend_from_slice(b",\"labels\":{");
            let mut members = Vec::new();
            labels.iter().for_each(|(name, value)| member(&mut members, name, value));
            common.extend_from_slice(&members[1..]);
            common.push(b'}');
        }
        let (mut service_member, mut host_member) = (Vec::new(), Vec::new());
        member(&mut service_member, "service", service);
        member(&mut host_member, "host", host);
        Self { service: service_member, host: host_member, common }
    }

    /// An event of any format: its whole text is the message.
    pub(crate) fn text(&self, out: &mut Vec<u8>, event: &Event<'_>, found: &Found<'_>, times: Times) {
        out.extend_from_slice(b"{\"message\":");
        string(out, event.text);
        instant(out, "timestamp", times.event_us);
        instant(out, "observed_timestamp", times.observed_us);
        if let Some(level) = found.level {
            member(out, "level", level);
        }
        out.extend_from_slice(&self.service);
        out.extend_from_slice(&self.host);
        if event.cut_size_bytes > 0 {
            member(out, "log.truncated", "true");
            member(out, "log.truncated_size_bytes", &event.cut_size_bytes.to_string());
        }
        self.end(out, event.envelope);
    }

    /// A JSON object: as it is, with what it lacks.
    pub(crate) fn object(&self, out: &mut Vec<u8>, text: &str, line: &JsonLine, times: Times, envelope: Envelope) {
        let text = text.trim_ascii_end();
        out.extend_from_slice(text.strip_suffix('}').unwrap_or(text).as_bytes());
        if !line.has_message {
            member(out, "message", text);
        }
        if line.timestamp_us.is_none() {
            instant(out, "timestamp", times.event_us);
        }
        if !line.has_observed_timestamp {
            instant(out, "observed_timestamp", times.observed_us);
        }
        if !line.has_service {
            out.extend_from_slice(&self.service);
        }
        if !line.has_host {
            out.extend_from_slice(&self.host);
        }
        self.end(out, envelope);
    }

    fn end(&self, out: &mut Vec<u8>, envelope: Envelope) {
        out.extend_from_slice(&self.common);
        if let Some(stream) = envelope.stream.map(Stream::name) {
            member(out, "log.iostream", stream);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b',');
    string(out, name);
    out.push(b':');
    string(out, value);
}

/// Microseconds as a number where the server cannot take them for milliseconds (before March 1973), else RFC 3339.
fn instant(out: &mut Vec<u8>, name: &str, instant_us: i64) {
    if instant_us >= 100_000_000_000_000 {
        // Writing to memory does not fail.
        drop(write!(out, ",\"{name}\":{instant_us}"));
    } else {
        member(out, name, &crate::data::time::format(instant_us));
    }
}

/// A JSON string.
fn string(out: &mut Vec<u8>, text: &str) {
    // Writing text to memory does not fail.
    drop(serde_json::to_writer(out, text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::logs::formats::json;

    fn writer() -> EntryWriter {
        let labels = BTreeMap::from([("env".to_owned(), "test".to_owned()), ("zone".to_owned(), "\"a\"".to_owned())]);
        EntryWriter::new("web", "h1", Some("/var/log/a.log"), &labels)
    }

    const TIMES: Times = Times { event_us: 1_700_000_000_000_001, observed_us: 1_800_000_000_000_000 };

    #[test]
    fn a_text_line() {
        let mut out = Vec::new();
        let event = Event { text: "say \"hi\"\u{0}\n\tat x", end: 9, cut_size_bytes: 0, envelope: Envelope::default() };
        writer().text(&mut out, &event, &Found { timestamp_us: None, level: Some("WARN") }, TIMES);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"message":"say \"hi\"\u0000\n\tat x","timestamp":1700000000000001,"observed_timestamp":1800000000000000,"#,
                r#""level":"WARN","service":"web","host":"h1","log.file.path":"/var/log/a.log","labels":{"env":"test","zone":"\"a\""}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_line_that_was_cut_says_so() {
        let mut out = Vec::new();
        let event = Event { text: "x", end: 9, cut_size_bytes: 42, envelope: Envelope::default() };
        let times = Times { event_us: 1_000_000, ..TIMES };
        EntryWriter::new("s", "h", None, &BTreeMap::new()).text(&mut out, &event, &Found::default(), times);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"message":"x","timestamp":"1970-01-01T00:00:01.000000Z","observed_timestamp":1800000000000000,"#,
                r#""service":"s","host":"h","log.truncated":"true","log.truncated_size_bytes":"42"}"#,
                "\n"
            )
        );
    }

    fn object(line: &str) -> Option<String> {
        let parsed = json::parse(line)?;
        let mut out = Vec::new();
        EntryWriter::new("web", "h1", None, &BTreeMap::new()).object(
            &mut out,
            line,
            &parsed,
            TIMES,
            Envelope::default(),
        );
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_object_is_shipped_as_it_is_with_what_it_lacks() {
        assert_eq!(
            object(r#"{"ts":1700000001.5,"level":30,"msg":"m","hostname":"own","n":{"a":[1]}}  "#).unwrap(),
            concat!(
                r#"{"ts":1700000001.5,"level":30,"msg":"m","hostname":"own","n":{"a":[1]},"#,
                r#""observed_timestamp":1800000000000000,"service":"web"}"#,
                "\n"
            )
        );
        assert_eq!(
            object(r#"{"event":"start"}"#).unwrap(),
            concat!(
                r#"{"event":"start","message":"{\"event\":\"start\"}","timestamp":1700000000000001,"#,
                r#""observed_timestamp":1800000000000000,"service":"web","host":"h1"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_the_server_would_refuse_or_misread_is_text() {
        for line in [
            r#"{"message":"#,
            r#"{"message":5}"#,
            "{}",
            r#"{"message":"a","logs":[]}"#,
            "{brace} text",
            r#"{"message":"a"} b"#,
        ] {
            assert_eq!(object(line), None, "{line}");
        }
    }
}
