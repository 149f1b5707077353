//! Records as people read them.
//!
//! A value is what its `content-type` says. Without one, or where it does not hold: an Arrow stream by its first bytes, else JSON if it is,
//! else text if it is, else hexadecimal.

use std::fmt::Write as _;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use highwater_pipeline::data::content_type::{self, Content};
use highwater_pipeline::data::ipc;
use highwater_sql::output::{Encoder, Format};
use serde_json::{Value, json};

use crate::error::Error;

/// A record as it came.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Vec<(String, Option<Bytes>)>,
    pub(super) value: Option<Bytes>,
}

/// What a value turned out to be.
#[derive(Debug, PartialEq)]
enum Reading {
    Null,
    Json(Value),
    Text(String),
    /// Rows, each a JSON object.
    Rows(Vec<Value>),
    Bytes(String),
}

impl Shown {
    /// Lines for eyes: place, time, key, headers, value; a line per row where the value holds rows.
    pub(super) fn lines(&self) -> Result<String, Error> {
        let time = self.timestamp_ms.and_then(DateTime::from_timestamp_millis);
        let time = time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
        let key = self.key.as_deref().map_or_else(|| "-".to_owned(), printable);
        let mut about = format!("{}/{}  {time}  {key}", self.partition, self.offset);
        for (name, value) in self.headers.iter().filter(|(name, _)| name != content_type::HEADER) {
            // Writing to a String does not fail.
            write!(about, "  {name}={}", value.as_deref().map_or_else(|| "null".to_owned(), printable))
                .unwrap_or_default();
        }
        let mut lines = String::new();
        let mut line = |value: &str| {
            lines.push_str(&format!("{about}  {value}\n"));
        };
        match self.read()? {
            Reading::Null => line("(no value)"),
            Reading::Json(value) => line(&value.to_string()),
            Reading::Text(text) => line(&text),
            Reading::Rows(rows) if rows.is_empty() => line("(no rows)"),
            Reading::Rows(rows) => rows.iter().for_each(|row| line(&row.to_string())),
            Reading::Bytes(hex) => line(&format!("0x{hex}")),
        }
        Ok(lines)
    }

    /// One JSON object.
    pub(super) fn json(&self) -> Result<Value, Error> {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| json!({name: value.as_deref().map(lossless)})).collect();
        let mut record = json!({
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp_ms": self.timestamp_ms,
            "key": self.key.as_deref().map(lossless),
            "headers": headers,
        });
        let (name, value) = match self.read()? {
            Reading::Null => ("value", Value::Null),
            Reading::Json(value) => ("value", value),
            Reading::Text(text) => ("value", text.into()),
            Reading::Rows(rows) => ("rows", rows.into()),
            Reading::Bytes(hex) => ("value", json!({"hex": hex})),
        };
        record[name] = value;
        Ok(record)
    }

    fn read(&self) -> Result<Reading, Error> {
        let Some(value) = &self.value else { return Ok(Reading::Null) };
        let declared = self.headers.iter().find(|(name, _)| name == content_type::HEADER);
        let declared = declared.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok());
        let content = declared.and_then(Content::parse);
        let is_arrow = content == Some(Content::Arrow) || (declared.is_none() && value.starts_with(&[0xff; 4]));
        if is_arrow && let Ok(batches) = ipc::decode(value) {
            return rows(&batches).map(Reading::Rows);
        }
        if content != Some(Content::Text)
            && let Ok(json) = serde_json::from_slice(value)
        {
            return Ok(Reading::Json(json));
        }
        Ok(match std::str::from_utf8(value) {
            Ok(text) => Reading::Text(text.to_owned()),
            Err(_) => Reading::Bytes(hex(value)),
        })
    }
}

/// Rows as JSON objects, columns without a value left out.
fn rows(batches: &[RecordBatch]) -> Result<Vec<Value>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed("printing a record's rows", error);
    let mut rows = Vec::new();
    for batch in batches {
        let mut encoder = Encoder::new(Format::Ndjson, batch.schema()).map_err(|error| failed(&error))?;
        let mut text = encoder.batch(batch).map_err(|error| failed(&error))?;
        text.extend(encoder.finish().map_err(|error| failed(&error))?);
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut row: serde_json::Map<_, _> = serde_json::from_slice(line).map_err(|error| failed(&error))?;
            row.retain(|_, value: &mut Value| !value.is_null());
            rows.push(row.into());
        }
    }
    Ok(rows)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// Text as it is, with what would move the cursor escaped; other bytes in hexadecimal.
fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
        }
        Err(_) => format!("0x{}", hex(bytes)),
    }
}

/// Text as it is; other bytes so that nobody takes them for text.
fn lossless(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"hex": hex(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn record(content: Option<&str>, value: &[u8]) -> Shown {
        Shown {
            topic: "t".into(),
            partition: 2,
            offset: 17,
            timestamp_ms: Some(1_772_366_400_500),
            key: Some(Bytes::from_static(b"k\n")),
            headers: content
                .map(|content| (content_type::HEADER.to_owned(), Some(Bytes::copy_from_slice(content.as_bytes()))))
                .into_iter()
                .chain([("h".to_owned(), Some(Bytes::from_static(b"v"))), ("n".to_owned(), None)])
                .collect(),
            value: Some(Bytes::copy_from_slice(value)),
        }
    }

    fn arrow_stream() -> Bytes {
        let columns: [(&str, ArrayRef); 2] =
            [("n", Arc::new(Int64Array::from(vec![1, 2]))), ("s", Arc::new(StringArray::from(vec![Some("a"), None])))];
        ipc::encode(&RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()).unwrap()
    }

    #[test]
    fn a_value_is_what_its_type_or_its_bytes_say() {
        let read = |content, value: &[u8]| record(content, value).read().unwrap();
        assert_eq!(read(None, br#"{"a": 1}"#), Reading::Json(json!({"a": 1})));
        assert_eq!(read(Some("text/plain"), b"17"), Reading::Text("17".into()));
        assert_eq!(read(None, b"a line"), Reading::Text("a line".into()));
        assert_eq!(read(None, &[0xc3, 0x28]), Reading::Bytes("c328".into()));
        assert_eq!(read(None, b""), Reading::Text(String::new()));
        assert_eq!(read(Some(content_type::CONTROL), br#"{"clock": 1}"#), Reading::Json(json!({"clock": 1})));
        let rows = Reading::Rows(vec![json!({"n": 1, "s": "a"}), json!({"n": 2})]);
        assert_eq!(read(Some(content_type::ARROW), &arrow_stream()), rows);
        assert_eq!(read(None, &arrow_stream()), rows);
        assert_eq!(Shown { value: None, ..record(None, b"") }.read().unwrap(), Reading::Null);
    }

    #[test]
    fn lines_say_where_when_and_what() {
        let about = "2/17  2026-03-01T12:00:00.500Z  k\\n  h=v  n=null";
        assert_eq!(record(None, b"x").lines().unwrap(), format!("{about}  x\n"));
        let rows = record(Some(content_type::ARROW), &arrow_stream()).lines().unwrap();
        assert_eq!(rows, format!("{about}  {{\"n\":1,\"s\":\"a\"}}\n{about}  {{\"n\":2}}\n"));
    }

    #[test]
    fn json_keeps_everything() {
        assert_eq!(
            record(Some("text/plain"), b"x").json().unwrap(),
            json!({
                "topic": "t", "partition": 2, "offset": 17, "timestamp_ms": 1_772_366_400_500_i64, "key": "k\n",
                "headers": [{"content-type": "text/plain"}, {"h": "v"}, {"n": null}], "value": "x",
            })
        );
        assert_eq!(record(None, &arrow_stream()).json().unwrap()["rows"][1], json!({"n": 2}));
        assert_eq!(record(None, &[0xff]).json().unwrap()["value"], json!({"hex": "ff"}));
    }
}
