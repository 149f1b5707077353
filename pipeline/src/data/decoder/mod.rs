//! From a record to rows.
//!
//! | topic holds | content type | becomes |
//! |---|---|---|
//! | logs, metrics, spans | Arrow | its rows, [aligned](align) to the table schema |
//! | logs, metrics | JSON, NDJSON, none | its entries, read as the HTTP doors read them |
//! | logs | text | one row whose message is the value |
//! | logs, metrics, spans | OTLP of that signal | its log records, samples or spans |
//! | alerts | JSON, none | one row |
//! | dead letters | any | one row with the bytes as they are |
//! | Arrow rows (rollups) | Arrow | its rows, aligned |
//! | all but dead letters | control | [`Decoded::Control`] |
//!
//! A record without a value (a tombstone) is no rows. Rows that carry no tenant (all but Arrow's) have that of the record's `tenant` header,
//! else `default`. A `highwater-tenant` header wins over all of it: what a client of one tenant produces is that tenant's.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_broker::StoredRecord;

use super::content_type::Content;
use super::identity::Coordinate;
use super::json::{EntrySink, Limits, read_entries};
use super::logs::{LogColumns, LogRow, Logs};
use super::metrics::Metrics;
use super::signal::{Columnar, Signal};
use super::spans::{self, Spans};
use super::tenant::{self, Tenant};
use super::{Control, Refusal, alerts, content_type, dead_letter, ipc, logs, metrics, otlp};

mod align;
#[cfg(test)]
mod tests;

/// Whose rows a topic holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKind {
    /// Logs.
    Logs,
    /// Metric samples.
    Metrics,
    /// Spans.
    Spans,
    /// Alert transitions, JSON.
    Alerts,
    /// Dead letters: opaque bytes.
    DeadLetter,
    /// Arrow rows of this table schema, identity included (rollups).
    Arrow(SchemaRef),
}

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Rows, possibly none, of [`Decoder::schema`]; and the rows that were refused.
    Rows {
        /// The rows with their identity.
        batch: RecordBatch,
        /// Those that are not in it.
        refused: Vec<Refused>,
    },
    /// A control record.
    Control(Control),
    /// Nothing in it could be read.
    Undecodable(Refused),
}

/// Something that could not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its index in the record; -1 for the whole record.
    pub row: i32,
    /// Why, for people.
    pub reason: String,
    /// Its bytes as they were (of an Arrow row: an Arrow stream of that row alone).
    pub bytes: Bytes,
}

/// Turns records of one topic into rows with identity, or control.
#[derive(Debug, Clone)]
pub struct Decoder {
    kind: RowKind,
    schema: SchemaRef,
}

/// A record with more entries or rows to refuse than this is refused as a whole: each refusal costs far more memory than what is
/// refused may have bytes.
const MAX_REFUSED: usize = 10_000;

/// Rows and refused rows, or why there are none.
pub(crate) type Rows = Result<(RecordBatch, Vec<Refused>), String>;

impl Decoder {
    /// A decoder for records of a topic of this kind.
    pub fn new(kind: RowKind) -> Self {
        let schema = match &kind {
            RowKind::Logs => logs::schema(),
            RowKind::Metrics => metrics::schema(),
            RowKind::Spans => spans::schema(),
            RowKind::Alerts => alerts::schema(),
            RowKind::DeadLetter => dead_letter::schema(),
            RowKind::Arrow(schema) => SchemaRef::clone(schema),
        };
        Self { kind, schema }
    }

    /// The schema of every batch it makes: the table's, identity included.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Decodes a record of this partition.
    pub fn decode(&self, partition: i32, record: &StoredRecord) -> Decoded {
        let coordinate = Coordinate::of(partition, record);
        let value = record.value.clone().unwrap_or_default();
        let rows = match content_type::full(record) {
            _ if self.kind == RowKind::DeadLetter => self.dead_letter(coordinate, record),
            None => Err("its content-type header is not UTF-8".to_owned()),
            Some(full) if content_type::name(full) == content_type::CONTROL => match Control::parse(&value) {
                Ok(control) => return Decoded::Control(control),
                Err(reason) => Err(reason),
            },
            _ if record.value.is_none() => Ok((RecordBatch::new_empty(self.schema()), Vec::new())),
            Some(full) => match Content::parse(full) {
                Some(content) => tenant(record).and_then(|tenant| {
                    let forced = record.header(tenant::FORCED_TENANT).is_some();
                    if forced && content == Content::Arrow {
                        return self.arrow(coordinate, &value, Some(tenant));
                    }
                    self.rows(content, coordinate, &value, tenant)
                }),
                None => Err(not_held(content_type::name(full))),
            },
        };
        match rows {
            Ok((batch, refused)) => Decoded::Rows { batch, refused },
            Err(reason) => Decoded::Undecodable(Refused { row: -1, reason, bytes: value }),
        }
    }

    /// Decodes a record of this partition as this, whatever its headers say.
    pub(crate) fn decode_as(&self, content: Content, partition: i32, record: &StoredRecord) -> Decoded {
        let value = record.value.clone().unwrap_or_default();
        match self.rows(content, Coordinate::of(partition, record), &value, Tenant::DEFAULT) {
            Ok((batch, refused)) => Decoded::Rows { batch, refused },
            Err(reason) => Decoded::Undecodable(Refused { row: -1, reason, bytes: value }),
        }
    }

    /// Rows of the wire schema as rows with identity; what cannot stay is refused.
    pub(crate) fn align(&self, partition: i32, record: &StoredRecord, batch: &RecordBatch) -> Rows {
        let mut aligned = align::Aligned::new(self.schema(), Coordinate::of(partition, record));
        aligned.add(batch)?;
        aligned.finish()
    }

    fn rows(&self, content: Content, coordinate: Coordinate, value: &Bytes, tenant: &str) -> Rows {
        let lines = content == Content::JsonLines;
        match (&self.kind, content) {
            (RowKind::Logs | RowKind::Metrics | RowKind::Spans | RowKind::Arrow(_), Content::Arrow) => {
                self.arrow(coordinate, value, None)
            }
            (RowKind::Logs, Content::Json | Content::JsonLines) => self.json::<Logs>(coordinate, value, lines, tenant),
            (RowKind::Metrics, Content::Json | Content::JsonLines) => {
                self.json::<Metrics>(coordinate, value, lines, tenant)
            }
            (RowKind::Logs, Content::Text) => self.text(coordinate, value, tenant),
            (RowKind::Logs, Content::OtlpLogs) => {
                let mut rows = otlp::OtlpRows::default();
                otlp::read_logs(value, otlp::Encoding::Protobuf, &Limits::default(), &mut rows)
                    .map_err(|error| error.to_string())?;
                self.otlp::<Logs>(coordinate, rows, tenant)
            }
            (RowKind::Metrics, Content::OtlpMetrics) => {
                let mut rows = otlp::OtlpRows::default();
                otlp::read_metrics(value, otlp::Encoding::Protobuf, &Limits::default(), &mut rows)
                    .map_err(|error| error.to_string())?;
                self.otlp::<Metrics>(coordinate, rows, tenant)
            }
            (RowKind::Spans, Content::OtlpTraces) => {
                let mut rows = otlp::OtlpRows::default();
                otlp::read_spans(value, otlp::Encoding::Protobuf, &Limits::default(), &mut rows)
                    .map_err(|error| error.to_string())?;
                self.otlp::<Spans>(coordinate, rows, tenant)
            }
            (RowKind::Alerts, Content::Json) => self.alert(coordinate, value),
            (_, Content::OtlpLogs | Content::OtlpMetrics | Content::OtlpTraces) => {
                Err("it holds OTLP of another signal".to_owned())
            }
            (_, Content::Arrow) => Err(not_held(content_type::ARROW)),
            (_, Content::Json) => Err(not_held(content_type::JSON)),
            (_, Content::JsonLines) => Err(not_held(content_type::NDJSON)),
            (_, Content::Text) => Err(not_held(content_type::TEXT)),
        }
    }

    fn otlp<S: Columnar>(&self, coordinate: Coordinate, rows: otlp::OtlpRows<S::Columns>, tenant: &str) -> Rows {
        let otlp::OtlpRows { mut columns, indexes, refused } = rows;
        if refused.len() > MAX_REFUSED {
            return Err(too_many_refused("entries", refused.first().map(|refused| refused.refusal.to_string())));
        }
        let batch = S::finish(&mut columns, tenant).map_err(|error| error.to_string())?;
        let mut aligned = align::Aligned::new(self.schema(), coordinate);
        aligned.add_numbered(&batch, Int32Array::from(indexes))?;
        let (batch, more) = aligned.finish()?;
        let refused = refused.into_iter().map(|otlp::OtlpRefused { index, refusal, bytes }| Refused {
            row: index,
            reason: refusal.to_string(),
            bytes,
        });
        Ok((batch, refused.chain(more).collect()))
    }

    /// Arrow rows, all of this tenant where there is one, else of whom they say.
    fn arrow(&self, coordinate: Coordinate, value: &Bytes, tenant: Option<&str>) -> Rows {
        let mut aligned = align::Aligned::new(self.schema(), coordinate);
        for batch in ipc::decode(value).map_err(|error| error.to_string())? {
            match tenant {
                Some(tenant) => aligned.add(&of_tenant(&batch, tenant)?)?,
                None => aligned.add(&batch)?,
            }
        }
        aligned.finish()
    }

    fn json<S: Signal>(&self, coordinate: Coordinate, value: &Bytes, lines: bool, tenant: &str) -> Rows {
        let mut sink = RowSink::<S>::new(value);
        read_entries::<S>(value, lines, &Limits::default(), &mut sink).map_err(|error| error.to_string())?;
        if sink.refused_count > MAX_REFUSED {
            return Err(too_many_refused("entries", sink.refused.first().map(|refused| refused.reason.clone())));
        }
        let RowSink { mut columns, rows, mut refused, .. } = sink;
        let batch = S::finish(&mut columns, tenant).map_err(|error| error.to_string())?;
        let mut aligned = align::Aligned::new(self.schema(), coordinate);
        aligned.add_numbered(&batch, Int32Array::from(rows))?;
        let (batch, more) = aligned.finish()?;
        refused.extend(more);
        Ok((batch, refused))
    }

    fn text(&self, coordinate: Coordinate, value: &Bytes, tenant: &str) -> Rows {
        let line = std::str::from_utf8(value).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to()))?;
        let line = line.strip_suffix('\n').unwrap_or(line);
        let row = LogRow::from_line(line.strip_suffix('\r').unwrap_or(line), &Limits::default());
        if let Some(refusal) = row.refusal {
            return Err(refusal.to_string());
        }
        let mut columns = LogColumns::default();
        columns.append(&row);
        let batch = columns.finish(tenant).map_err(|error| error.to_string())?;
        let mut aligned = align::Aligned::new(self.schema(), coordinate);
        aligned.add(&batch)?;
        aligned.finish()
    }

    fn alert(&self, coordinate: Coordinate, value: &Bytes) -> Rows {
        let transition = alerts::Transition::parse(value).map_err(|error| format!("not an alert: {error}"))?;
        Tenant::new(&transition.tenant).map_err(|error| error.to_string())?;
        self.single(coordinate, transition.columns())
    }

    fn dead_letter(&self, coordinate: Coordinate, record: &StoredRecord) -> Rows {
        self.single(coordinate, dead_letter::columns(record, coordinate.append_time_us))
    }

    /// One row of these payload columns.
    fn single(&self, coordinate: Coordinate, mut columns: Vec<ArrayRef>) -> Rows {
        columns.extend(coordinate.columns(Int32Array::from(vec![0]), None));
        let batch = RecordBatch::try_new(self.schema(), columns).map_err(|error: ArrowError| error.to_string())?;
        Ok((batch, Vec::new()))
    }
}

/// The same rows, all of this tenant.
fn of_tenant(batch: &RecordBatch, tenant: &str) -> Result<RecordBatch, String> {
    const COLUMN: &str = "tenant";
    let schema = batch.schema();
    let others = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| field.name() != COLUMN);
    let (mut fields, mut columns): (Vec<_>, Vec<_>) =
        others.map(|(field, column)| (Arc::clone(field), ArrayRef::clone(column))).unzip();
    fields.push(Arc::new(Field::new(COLUMN, DataType::Utf8, false)));
    columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(tenant, batch.num_rows()))));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())
}

/// Whose rows a record's are, where they do not say so themselves.
fn tenant(record: &StoredRecord) -> Result<&str, String> {
    let header = record.header(tenant::FORCED_TENANT).or_else(|| record.header(tenant::HEADER));
    let Some(name) = header else { return Ok(Tenant::DEFAULT) };
    let name = std::str::from_utf8(name).map_err(|_| "its tenant header is not UTF-8".to_owned())?;
    Tenant::check(name).map(|()| name).map_err(|error| error.to_string())
}

fn not_held(content_type: &str) -> String {
    format!("content type {:?} is not one that this topic holds", Refusal::excerpt(content_type))
}

fn too_many_refused(what: &str, example: Option<String>) -> String {
    format!("more than {MAX_REFUSED} of its {what} are refused, for example: {}", example.unwrap_or_default())
}

/// Takes entries of a foreign JSON record.
struct RowSink<'r, S: Signal> {
    value: &'r Bytes,
    columns: S::Columns,
    rows: Vec<i32>,
    refused: Vec<Refused>,
    refused_count: usize,
}

impl<'r, S: Signal> RowSink<'r, S> {
    fn new(value: &'r Bytes) -> Self {
        Self { value, columns: S::Columns::default(), rows: Vec::new(), refused: Vec::new(), refused_count: 0 }
    }
}

impl<'a, S: Signal> EntrySink<'a, S> for RowSink<'_, S> {
    fn row(&mut self, index: i32, row: &S::Row<'a>) {
        S::append(&mut self.columns, row);
        self.rows.push(index);
    }

    fn refused(&mut self, index: i32, refusal: Refusal, bytes: &'a [u8]) {
        self.refused_count += 1;
        if self.refused_count > MAX_REFUSED {
            return;
        }
        // The entry lies inside the record's value, so its bytes are shared with it.
        self.refused.push(Refused { row: index, reason: refusal.to_string(), bytes: self.value.slice_ref(bytes) });
    }
}
