//! What senders send: rows of every kind there is trouble with.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use bytes::Bytes;
use highwater_pipeline::data::{content_type, ipc, metrics, spans};
use highwater_pipeline::log::{Header, Record};

use crate::random::Random;

/// One request.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its number in the history; names its rows and its key.
    pub number: usize,
    /// How it comes.
    pub door: Door,
    /// True where a retry carries the same idempotency key.
    pub keyed: bool,
    /// How often it is tried at most.
    pub tries: u32,
    /// How long its sender waits for an answer, in milliseconds.
    pub patience_ms: i64,
    /// True where it is sent again although it was answered.
    pub again: bool,
    rows: Vec<Row>,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `POST /logs`.
    Logs,
    /// `POST /metrics`.
    Metrics,
    /// A foreign producer that appends to this topic itself.
    Foreign(Foreign),
}

/// What a foreign producer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Logs as JSON, one entry of them unreadable.
    Json,
    /// Bytes that are nothing.
    Garbage,
    /// A text line that is not UTF-8.
    BadText,
    /// No value at all.
    Tombstone,
    /// A staleness marker.
    Stale,
    /// Spans, one of them at no possible time now and then.
    Spans,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// Event time behind the wall clock at the first try, in milliseconds; `None` for none.
    behind_ms: Option<i64>,
    service: usize,
    level: usize,
    value: usize,
    refused: bool,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const VALUES: [&str; 7] = ["1", "2.5", "-0.0", "1e300", "\"NaN\"", "\"+Inf\"", "-7"];

impl Batch {
    /// A request by chance.
    pub fn random(number: usize, random: &mut Random) -> Self {
        let door = match random.below(20) {
            0..10 => Door::Logs,
            10..17 => Door::Metrics,
            _ => Door::Foreign(*random.pick(&[
                Foreign::Json,
                Foreign::Garbage,
                Foreign::BadText,
                Foreign::Tombstone,
                Foreign::Stale,
                Foreign::Spans,
                Foreign::Spans,
            ])),
        };
        let rows = (0..=random.below(6)).map(|_| Row::random(random)).collect();
        Self {
            number,
            door,
            keyed: random.chance(600) && !matches!(door, Door::Foreign(_)),
            tries: random.between(1, 9) as u32,
            patience_ms: *random.pick(&[300, 5_000, 40_000]),
            again: random.chance(100),
            rows,
        }
    }

    /// The names of the rows that a door must take.
    pub fn good_rows(&self) -> Vec<String> {
        let good = self.rows.iter().enumerate().filter(|(_, row)| !row.refused);
        match self.door {
            Door::Logs | Door::Metrics | Door::Foreign(Foreign::Json | Foreign::Spans) => {
                good.map(|(index, _)| format!("b{}r{index}", self.number)).collect()
            }
            Door::Foreign(Foreign::Stale) => vec![format!("b{}r0", self.number)],
            Door::Foreign(_) => Vec::new(),
        }
    }

    /// How many rows a door must refuse.
    pub fn refused_rows(&self) -> u64 {
        self.rows.iter().filter(|row| row.refused).count() as u64
    }

    /// The body, as of the first try.
    pub fn body(&self, now_ms: i64) -> Bytes {
        let entries: Vec<String> =
            self.rows.iter().enumerate().map(|(index, row)| row.json(self, index, now_ms)).collect();
        Bytes::from(format!("[{}]", entries.join(",")))
    }

    /// The record that a foreign producer appends.
    pub fn foreign_record(&self, foreign: Foreign, now_ms: i64) -> Record {
        let (value, content_type): (Option<Bytes>, _) = match foreign {
            Foreign::Json => (Some(self.body(now_ms)), None),
            Foreign::Garbage => (Some(Bytes::from_static(b"\x00\x01{not json")), None),
            Foreign::BadText => (Some(Bytes::from_static(b"caf\xe9 \xff")), Some(content_type::TEXT)),
            Foreign::Tombstone => (None, None),
            Foreign::Stale => (Some(self.stale(now_ms)), Some(content_type::ARROW)),
            Foreign::Spans => (Some(self.spans(now_ms)), Some(content_type::ARROW)),
        };
        let headers = content_type.map(|c| Header::new(content_type::HEADER, c.as_bytes())).into_iter().collect();
        Record { value, headers, ..Record::default() }
    }

    fn stale(&self, now_ms: i64) -> Bytes {
        let schema = metrics::wire_schema();
        let text = |text: String| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "timestamp" => Arc::new(TimestampMicrosecondArray::from(vec![now_ms * 1_000]).with_timezone("UTC")),
                "name" => text("up".to_owned()),
                "stale" => Arc::new(BooleanArray::from(vec![true])),
                "labels" => text(format!("{{\"row\":\"b{}r0\"}}", self.number)),
                "series_id" => Arc::new(Int64Array::from(vec![self.number as i64])),
                "tenant" => text("default".to_owned()),
                _ => new_null_array(field.data_type(), 1),
            }
        });
        let columns = columns.collect();
        let batch = RecordBatch::try_new(schema, columns).expect("the columns are those of the schema");
        ipc::encode(&batch).expect("one small row")
    }

    /// A span for each row. One that is refused begins after the year 9999.
    fn spans(&self, now_ms: i64) -> Bytes {
        let schema = spans::wire_schema();
        let texts = |text: &dyn Fn(usize, &Row) -> String| -> ArrayRef {
            Arc::new(self.rows.iter().enumerate().map(|(index, row)| Some(text(index, row))).collect::<StringArray>())
        };
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "timestamp" => {
                    let at_us = |row: &Row| match row.refused {
                        true => Some(i64::MAX),
                        false => row.behind_ms.map(|behind_ms| (now_ms - behind_ms) * 1_000),
                    };
                    let times: TimestampMicrosecondArray = self.rows.iter().map(at_us).collect();
                    Arc::new(times.with_timezone("UTC"))
                }
                "duration_ns" => {
                    Arc::new(self.rows.iter().map(|row| Some(row.value as i64 * 1_000)).collect::<Int64Array>())
                }
                "name" => texts(&|index, _| format!("b{}r{index}", self.number)),
                "service" => texts(&|_, row| format!("s{}", row.service)),
                "trace_id" => texts(&|index, _| format!("{:032x}", self.number * 100 + index + 1)),
                "span_id" => texts(&|index, _| format!("{:016x}", index + 1)),
                "tenant" => texts(&|_, _| "default".to_owned()),
                _ => new_null_array(field.data_type(), self.rows.len()),
            }
        });
        let columns = columns.collect();
        let batch = RecordBatch::try_new(schema, columns).expect("the columns are those of the schema");
        ipc::encode(&batch).expect("a few small rows")
    }
}

impl Row {
    fn random(random: &mut Random) -> Self {
        let behind_ms = match random.below(20) {
            0 => None,
            // Late, very old, and not yet.
            1 => Some(random.between(10_000, 100_000)),
            2 => Some(19 * 365 * DAY_MS + random.between(0, 3_000)),
            3 => Some(-random.between(61_000, DAY_MS)),
            4 => Some(-random.between(0, 30_000)),
            _ => Some(random.between(0, 3_000)),
        };
        Self {
            behind_ms,
            service: random.below(3),
            level: random.below(4),
            value: random.below(VALUES.len()),
            refused: random.chance(30),
        }
    }

    fn json(self, batch: &Batch, index: usize, now_ms: i64) -> String {
        let number = batch.number;
        let at = self.behind_ms.map_or(String::new(), |behind_ms| format!(r#""timestamp":{},"#, now_ms - behind_ms));
        let service = self.service;
        if batch.door == Door::Metrics {
            let name = if self.refused { "no good" } else { ["up", "load"][service % 2] };
            let value = VALUES[self.value];
            return format!(
                r#"{{{at}"name":"{name}","value":{value},"labels":{{"row":"b{number}r{index}","service":"s{service}"}}}}"#
            );
        }
        let message = if self.refused { String::new() } else { format!("b{number}r{index}") };
        let level = ["INFO", "ERROR", "DEBUG", "ERROR"][self.level];
        format!(r#"{{{at}"message":"{message}","service":"s{service}","level":"{level}"}}"#)
    }
}
