//! One foreign record to rows of one of our topics: read, completed from the config, dealt to partitions. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use bytes::Bytes;

use super::config::{BridgedSignal, Format, KafkaSourceConfig};
use super::format::content;
use crate::agents::logs::Dates;
use crate::agents::logs::formats::{Context, Detector};
use crate::data::content_type::Content;
use crate::data::logs::{self, LogColumns, LogParts};
use crate::data::{Decoded, Decoder, Refused, RowKind, identity, labels, level, metrics, partitioner, spans, time};
use crate::log::StoredRecord;

/// Longest line taken, in bytes; as the doors have it.
const MAX_LINE_SIZE_BYTES: usize = 1 << 20;

/// Reads the records of a bridged topic.
#[derive(Debug, Clone)]
pub(super) struct RowReader {
    format: Format,
    signal: BridgedSignal,
    service: Option<Arc<str>>,
    tenant: Arc<str>,
    decoder: Decoder,
}

/// A record's rows by output partition, without identity, and what did not become a row.
#[derive(Debug, Default)]
pub(super) struct Dealt {
    pub(super) partitions: Vec<(i32, RecordBatch)>,
    pub(super) rows: u64,
    pub(super) refused: Vec<Refused>,
}

impl RowReader {
    pub(super) fn new(config: &KafkaSourceConfig) -> Self {
        let kind = match config.signal {
            BridgedSignal::Logs => RowKind::Logs,
            BridgedSignal::Metrics => RowKind::Metrics,
            BridgedSignal::Spans => RowKind::Spans,
        };
        Self {
            format: config.format,
            signal: config.signal,
            service: config.service.as_deref().filter(|service| !service.is_empty()).map(Arc::from),
            tenant: Arc::from(config.tenant.as_str()),
            decoder: Decoder::new(kind),
        }
    }

    /// The topic that the rows are for.
    pub(super) fn topic(&self) -> &'static str {
        match self.signal {
            BridgedSignal::Logs => logs::TOPIC,
            BridgedSignal::Metrics => metrics::TOPIC,
            BridgedSignal::Spans => spans::TOPIC,
        }
    }

    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Reads a record of this partition of the foreign topic and deals its rows to `partitions` of ours.
    ///
    /// # Errors
    /// Where Arrow refuses an operation; a defect.
    pub(super) fn read(&self, partition: i32, record: &StoredRecord, partitions: i32) -> Result<Dealt, ArrowError> {
        // A tombstone says that a key is gone; it is no row and nothing is wrong with it.
        if record.value.is_none() {
            return Ok(Dealt::default());
        }
        let (batch, refused) = match self.decode(partition, record) {
            Ok(rows) => rows,
            Err(reason) => {
                let refused = Refused { row: -1, reason, bytes: record.value.clone().unwrap_or_default() };
                return Ok(Dealt { refused: vec![refused], ..Dealt::default() });
            }
        };
        let batch = self.complete(&identity::strip(&batch))?;
        let rows = batch.num_rows() as u64;
        Ok(Dealt { partitions: self.deal(batch, partitions)?, rows, refused })
    }

    fn decode(&self, partition: i32, record: &StoredRecord) -> Result<(RecordBatch, Vec<Refused>), String> {
        let content = content(self.format, self.signal, record)?;
        if (self.signal, content) == (BridgedSignal::Logs, Content::Text) {
            let wire = self.line(record)?;
            return self.decoder.align(partition, record, &wire);
        }
        match self.decoder.decode_as(content, partition, record) {
            Decoded::Rows { batch, refused } => Ok((batch, refused)),
            Decoded::Undecodable(refused) => Err(refused.reason),
            // Content never names it.
            Decoded::Control(_) => Err("a control record of Highwater's own".to_owned()),
        }
    }

    /// A line of text with the time and level that it states.
    fn line(&self, record: &StoredRecord) -> Result<RecordBatch, String> {
        let bytes: Bytes = record.value.clone().unwrap_or_default();
        let line = std::str::from_utf8(&bytes).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to()))?;
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return Err("an empty line".to_owned());
        }
        if line.len() > MAX_LINE_SIZE_BYTES {
            return Err(format!("a line of {} bytes; the limit is {MAX_LINE_SIZE_BYTES}", line.len()));
        }
        // A detector remembers the line before; a record must not depend on its neighbours.
        let context = Context { now_us: record.timestamp_ms.saturating_mul(1_000), dates: Dates::default() };
        let found = Detector::default().detect(line, &context);
        let mut columns = LogColumns::default();
        columns.append_parts(&LogParts {
            timestamp_us: found.timestamp_us.filter(|&instant_us| time::in_range(instant_us)),
            observed_timestamp_us: None,
            severity_number: found.level.and_then(level::parse),
            severity_text: found.level,
            texts: [None, None, Some(line), None, None, None, None, None],
            attributes: &[],
        });
        columns.finish(&self.tenant).map_err(|error| error.to_string())
    }

    /// Puts in the tenant, which the data does not choose, and the service where there is none.
    fn complete(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let schema = batch.schema();
        let tenants = || Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&*self.tenant, batch.num_rows())));
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| -> ArrayRef {
            match (field.name().as_str(), &self.service) {
                ("tenant", _) => tenants(),
                ("service", Some(service)) if column.null_count() > 0 => {
                    let given = column.as_string::<i32>().iter();
                    Arc::new(StringArray::from_iter_values(given.map(|text| text.unwrap_or(service))))
                }
                _ => Arc::clone(column),
            }
        });
        let columns = columns.collect();
        RecordBatch::try_new(schema, columns)
    }

    /// Rows by partition, in their order, the partitions in theirs.
    fn deal(&self, batch: RecordBatch, partitions: i32) -> Result<Vec<(i32, RecordBatch)>, ArrowError> {
        let mut keys = Keys::of(self.signal, &self.tenant, &batch);
        let mut dealt: Vec<(i32, Vec<u32>)> = Vec::new();
        for row in 0..batch.num_rows() {
            let partition = keys.partition(row, partitions);
            // A record has at most a million rows.
            let row = u32::try_from(row).unwrap_or(u32::MAX);
            match dealt.iter_mut().find(|(known, _)| *known == partition) {
                Some((_, rows)) => rows.push(row),
                None => dealt.push((partition, vec![row])),
            }
        }
        dealt.sort_unstable_by_key(|(partition, _)| *partition);
        if let [(partition, _)] = dealt[..] {
            return Ok(vec![(partition, batch)]);
        }
        dealt
            .into_iter()
            .map(|(partition, rows)| Ok((partition, take_record_batch(&batch, &UInt32Array::from(rows))?)))
            .collect()
    }
}

/// The partition keys of rows, as the doors make them from entries.
struct Keys<'b> {
    key: Vec<u8>,
    prefix_size_bytes: usize,
    columns: KeyColumns<'b>,
}

enum KeyColumns<'b> {
    /// Service, host.
    Logs(Option<&'b StringArray>, Option<&'b StringArray>),
    /// Trace.
    Spans(Option<&'b StringArray>),
    /// Name, labels; and the partition of each series seen so far.
    Metrics(Option<&'b StringArray>, Option<&'b StringArray>, HashMap<(&'b str, &'b str), i32, ahash::RandomState>),
}

impl<'b> Keys<'b> {
    fn of(signal: BridgedSignal, tenant: &str, batch: &'b RecordBatch) -> Self {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let columns = match signal {
            BridgedSignal::Logs => KeyColumns::Logs(text("service"), text("host")),
            BridgedSignal::Spans => KeyColumns::Spans(text("trace_id")),
            BridgedSignal::Metrics => KeyColumns::Metrics(text("name"), text("labels"), HashMap::default()),
        };
        let mut key = tenant.as_bytes().to_vec();
        key.push(0);
        Self { prefix_size_bytes: key.len(), key, columns }
    }

    fn partition(&mut self, row: usize, partitions: i32) -> i32 {
        let value = |column: Option<&'b StringArray>| {
            column.filter(|column| column.is_valid(row)).map_or("", |column| column.value(row))
        };
        self.key.truncate(self.prefix_size_bytes);
        match &mut self.columns {
            KeyColumns::Logs(service, host) => {
                self.key.extend_from_slice(value(*service).as_bytes());
                self.key.push(0);
                self.key.extend_from_slice(value(*host).as_bytes());
                partitioner::partition(&self.key, partitions)
            }
            KeyColumns::Spans(trace_id) => {
                self.key.extend_from_slice(value(*trace_id).as_bytes());
                partitioner::partition(&self.key, partitions)
            }
            KeyColumns::Metrics(name, labels, known) => {
                let (name, labels) = (value(*name), value(*labels));
                *known.entry((name, labels)).or_insert_with(|| {
                    self.key.extend_from_slice(series(name, labels).as_bytes());
                    partitioner::partition(&self.key, partitions)
                })
            }
        }
    }
}

/// The canonical text of a series from its two columns. Labels that are no object of texts, which a foreign Arrow stream may hold,
/// are taken as they are: their rows still go to one partition.
fn series(name: &str, labels: &str) -> String {
    let mut text = String::with_capacity(name.len() + labels.len() + 16);
    match serde_json::from_str::<std::collections::BTreeMap<String, String>>(labels) {
        Ok(pairs) => labels::write_series(name, &pairs.into_iter().collect::<Vec<_>>(), &mut text),
        Err(_) => text.extend([name, "\0", labels]),
    }
    text
}
